"""Node types as data. README.md has the recipe for a new one; it is registered by one line here."""

import sys
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NamedTuple

    from firmware.alarms import Derive, Rules
    from firmware.hal import Hal
    from firmware.nap import Nap
    from firmware.sensors import Sensor
    from firmware.settings import Settings
    from firmware.watch import Keep, Watch
    from protocols.wire.quality import Limits

    class NodeType(NamedTuple):
        """``limits`` for local quality control: per series, None for the registry's, or () for no tests; ``settings``
        by key.

        ``rules`` may depend on the settings: then it is what makes them. ``derive`` gives them more values than
        a set has, None where single readings are enough.
        ``watch`` makes what looks at fast sensors between sets, None where there are none; ``sensors`` gets it.
        ``sleeps`` is the Nap of a node that spends its time in deep sleep, between a wake by a pin or a timer and the
        next, and None for one that is always awake: its program then has nothing of sleeping in it.
        """

        name: str
        schema_id: int
        sensors: "Callable[[Hal, Watch | None], Sequence[Sensor]]"
        limits: "Sequence[Limits] | None"
        rules: Rules
        derive: "Derive | None"
        settings: dict[int, int]
        watch: "Callable[[Hal, Settings, Keep], Watch] | None"
        sleeps: "Callable[[Hal], Nap] | None"

else:
    NodeType = namedtuple(
        "NodeType",
        ("name", "schema_id", "sensors", "limits", "rules", "derive", "settings", "watch", "sleeps"),
    )

# The name that minting gave the node: the module that describes it.
MODULES = {
    "river": "river_station",
    "river_solar": "river_solar",
    "cover": "cover",
    "cover_gas": "cover_gas",
    "cover_level": "cover_level",
    "lift": "lift",
}


def load(name: str) -> "NodeType | None":
    """The node type of that name, or None when this firmware has none; only the one that is needed is imported."""
    module = MODULES.get(name)
    if module is None:
        return None
    path = "firmware.nodes." + module
    __import__(path)
    found: "NodeType" = sys.modules[path].NODE_TYPE
    return found
