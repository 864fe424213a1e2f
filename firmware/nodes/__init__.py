"""Node types as data. README.md has the recipe for a new one; it is registered by one line here."""

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NamedTuple

    from firmware.alarms import Rule
    from firmware.hal import Hal
    from firmware.sensors import Sensor

    class NodeType(NamedTuple):
        """``limits`` are those of protocols.wire.quality, one per series; ``settings`` the defaults by key."""

        name: str
        schema_id: int
        sensors: Callable[[Hal], Sequence[Sensor]]
        limits: Sequence[Any]
        rules: Sequence[Rule]
        settings: dict[int, int]

else:
    NodeType = namedtuple("NodeType", ("name", "schema_id", "sensors", "limits", "rules", "settings"))

# The name that minting gave the node: the module that describes it.
MODULES = {
    "river": "river_station",
}


def load(name: str) -> "NodeType | None":
    """The node type of that name, or None when this firmware has none; only the one that is needed is imported."""
    module = MODULES.get(name)
    if module is None:
        return None
    path = "firmware.nodes." + module
    __import__(path)
    import sys

    found: "NodeType" = sys.modules[path].NODE_TYPE
    return found
