"""What a start needs and nothing after it: who this node is, and what a node of its type consists of.

On the heap only while a Node is made.
"""

from firmware import nodes, records
from firmware.durable import Document, documents, read_file
from firmware.errors import NoIdentity
from firmware.maintenance import KEPT_BYTES
from firmware.modules import forget
from firmware.session import Identity
from protocols.wire.errors import DecodeError
from protocols.wire.readings import schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from firmware.alarms import Rule
    from firmware.hal import Hal
    from firmware.node import Node
    from firmware.outbox import Outbox
    from firmware.settings import Settings
    from firmware.watch import Watch

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
    return Identity(found.address, found.master_secret, found.master_salt, found.node_type, found.board)


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


def checkers(of_type: "nodes.NodeType") -> "list[Any]":
    """The quality tests of each series."""
    return _ranges(of_type) if of_type.sleeps else _tests(of_type)


def _tests(of_type: "nodes.NodeType") -> "list[Any]":
    from firmware.checking import Checker
    from protocols.wire import quality_limits

    of_schema = schema(of_type.schema_id)
    forget("protocols.wire.registry_table")  # one table at a time
    limits = of_type.limits or quality_limits.limits_of(of_schema)
    for one in limits:
        quality_limits.check(one)
    forget("protocols.wire.limits_table")
    forget("protocols.wire.quality_limits")
    return [Checker(one) for one in limits]


def _ranges(of_type: "nodes.NodeType") -> "list[Any]":
    from firmware.ranges import RangeChecker

    names = [one.name for one in schema(of_type.schema_id).series]
    forget("protocols.wire.registry_table")
    from protocols.wire import limits_table

    made = [RangeChecker(limits_table.LIMITS[name]) for name in names]
    forget("protocols.wire.limits_table")
    return made


def rules(of_type: "nodes.NodeType", settings: "Settings") -> "Sequence[Rule]":
    """The alarms in force: some depend on the settings, and what makes them keeps its whole module on the heap."""
    made = of_type.rules
    return made(settings) if callable(made) else made


def watch(of_type: "nodes.NodeType", hal: "Hal", settings: "Settings") -> "Watch | None":
    """What looks at fast sensors; each thing that it must know after a reset is a document of its own."""
    if of_type.watch is None:
        return None
    return of_type.watch(hal, settings, documents(hal.state_fs))


def alarm_state(alarm_file: "Document", outbox: "Outbox") -> bytes:
    """The alarms that are raised and the maintenance, once the event of the latest change is in the outbox."""
    kept = alarm_file.load()
    if kept is None:
        return bytes(4 + KEPT_BYTES)
    records.finish(outbox, kept[4 + KEPT_BYTES :])
    return kept


def corrections(node: "Node") -> "dict[int, tuple[int, int, int, int]]":
    """The calibrations that are in force; a node that was never calibrated loads nothing for it."""
    kept = Document(node.hal.state_fs, "calibration").load()
    if not kept:
        return {}
    from firmware import calibration

    found = calibration.restore(node, kept)
    forget("firmware.calibration")
    forget("protocols.wire.codes")
    return found


def size_of(fs: "Any") -> int:
    """Bytes of the partition."""
    found = fs.statvfs("/")
    return int(found[1] * found[2])


def disband(name: str) -> None:
    """Let go of what described the node type: the node has taken what it needs."""
    forget("firmware.nodes." + nodes.MODULES.get(name, ""))
    forget("firmware.nodes")
    forget("firmware.assembly")
