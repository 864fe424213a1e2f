"""What a start needs and nothing after it: who this node is, and what a node of its type consists of.

On the heap only while a Node is made.
"""

from collections import namedtuple

from firmware import nodes
from firmware.durable import Document, documents, read_file
from firmware.modules import forget
from firmware.no_start import NoIdentity
from firmware.sampling import Sampler
from firmware.session import Identity
from firmware.settings import Settings
from protocols.wire.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NamedTuple

    from firmware.alarms import Rule
    from firmware.hal import Hal
    from firmware.watch import Watch

    class Equipment(NamedTuple):
        """What a node takes from its type."""

        name: str
        carrier: "Any"
        uplink: "Any"
        schema_id: int
        settings: Settings
        nap: "Any"
        watch: "Watch | None"
        sampler: Sampler
        checkers: "list[Any]"
        rules: "Sequence[Rule]"
        derive: "Any"

else:
    Equipment = namedtuple(
        "Equipment",
        (
            "name",
            "carrier",
            "uplink",
            "schema_id",
            "settings",
            "nap",
            "watch",
            "sampler",
            "checkers",
            "rules",
            "derive",
        ),
    )

# Written by minting, never by the node (SPEC.md section 6).
IDENTITY_PATH = "/identity"


def identity(fs: "Any") -> "Identity":
    """Who this node is, as a plain tuple: the module that reads it is not needed again."""
    from protocols.wire import identity

    data = read_file(fs, IDENTITY_PATH, 256)
    if data is None:
        raise NoIdentity("no file %s on the state partition; mint this node" % IDENTITY_PATH)
    try:
        found = identity.decode(data)
    except DecodeError as exc:
        raise NoIdentity("%s does not hold one (%s); mint this node again" % (IDENTITY_PATH, exc))
    forget("protocols.wire.identity")
    return Identity(
        found.address, found.master_secret, found.master_salt, found.node_type, found.board, found.radio
    )


def node_type(name: str) -> "nodes.NodeType":
    """What nodes of that type are made of."""
    found = nodes.load(name)
    if found is None:
        known = ", ".join(sorted(nodes.MODULES))
        raise NoIdentity("node type %s is not in this firmware (it has %s)" % (name, known))
    return found


def safe_type() -> "nodes.NodeType":
    """What a node is made of when what it should be made of does not start."""
    from firmware.nodes import safe

    forget("firmware.nodes.safe")
    return safe.NODE_TYPE


def equip(hal: "Hal", who: "Identity", is_safe: bool) -> "Equipment":
    """Make what a node of that type consists of, and let go of what described it. ``is_safe``: with no sensors."""
    hal.configure(who.board)
    # The carrier first: what stays for good had better not lie among what goes.
    of_carrier, of_uplink, defaults = carrier(hal, who)
    of_type = safe_type() if is_safe else node_type(who.node_type)
    of_checkers = [] if is_safe else checkers(of_type)
    defaults.update(of_type.settings)
    settings = Settings(Document(hal.state_fs, "settings"), defaults)
    if who.radio is not None:
        of_carrier.apply(settings)
    of_watch = watch(of_type, hal, settings)
    made = Equipment(
        of_type.name,
        of_carrier,
        of_uplink,
        of_type.schema_id,
        settings,
        of_type.sleeps(hal) if of_type.sleeps is not None else None,
        of_watch,
        Sampler(of_type.sensors(hal, of_watch), len(of_checkers), hal.clock),
        of_checkers,
        rules(of_type, settings),
        of_type.derive,
    )
    _let_go(who.node_type)
    forget("protocols.wire.schemas")
    return made


def carrier(hal: "Hal", who: "Identity") -> "tuple[Any, Any, dict[int, int]]":
    """What carries this node's frames, what paces them, and the settings that come with it."""
    if who.radio is not None:
        from firmware import on_air

        made = on_air.carrier(hal, who)
        forget("firmware.on_air")
        return made
    from firmware.carrier import SerialLine
    from firmware.uplink import Uplink

    return SerialLine(hal.link), Uplink, {}


def rules_of(name: str, settings: "Settings") -> "Sequence[Rule]":
    """The alarms of a node type under other settings."""
    made = rules(node_type(name), settings)
    _let_go(name)
    return made


def _let_go(name: str) -> None:
    """What describes the node type has done its work."""
    forget("firmware.nodes." + nodes.MODULES.get(name, ""))
    forget("firmware.nodes")
    for done in ("rules", "no_start"):
        forget("firmware." + done)


def checkers(of_type: "nodes.NodeType") -> "list[Any]":
    """The quality tests of each series; a node loads those that its type has."""
    from protocols.wire.schemas import schema

    series = [one.name for one in schema(of_type.schema_id).series]
    forget("protocols.wire.registry_table")  # one table at a time
    if of_type.limits is not None and not of_type.limits:
        from firmware.ranges import Untested

        return [Untested()] * len(series)
    return _ranges(series) if of_type.sleeps is not None else _tests(of_type)


def _tests(of_type: "nodes.NodeType") -> "list[Any]":
    from firmware.checking import Checker
    from protocols.wire import quality_limits
    from protocols.wire.schemas import schema

    limits = of_type.limits or quality_limits.limits_of(schema(of_type.schema_id))
    for one in limits:
        quality_limits.check(one)
    forget("protocols.wire.limits_table")
    forget("protocols.wire.quality_limits")
    return [Checker(one) for one in limits]


def _ranges(series: "list[str]") -> "list[Any]":
    from firmware.ranges import RangeChecker
    from protocols.wire import limits_table

    made = [RangeChecker(limits_table.LIMITS[name]) for name in series]
    forget("protocols.wire.limits_table")
    return made


def watch(of_type: "nodes.NodeType", hal: "Hal", settings: "Settings") -> "Watch | None":
    """What looks at fast sensors; each thing that it must know after a reset is a document of its own."""
    if of_type.watch is None:
        return None
    return of_type.watch(hal, settings, documents(hal.state_fs))


def rules(of_type: "nodes.NodeType", settings: "Settings") -> "Sequence[Rule]":
    """The alarms in force: some depend on the settings, and what makes them keeps its whole module on the heap."""
    made = of_type.rules
    return made(settings) if callable(made) else made


def size_of(fs: "Any") -> int:
    """Bytes of the partition."""
    found = fs.statvfs("/")
    return int(found[1] * found[2])
