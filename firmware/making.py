"""What a node consists of, put together at its start; on the heap for that moment only."""

from firmware.durable import Document
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.health import Health
from firmware.modules import forget
from firmware.outbox import Outbox
from firmware.sampling import Schedule
from firmware.session import Session
from firmware.settings import STATUS_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from firmware.hal import Hal
    from firmware.node import Node
    from firmware.trials import Trials
    from protocols.wire.messages import Hello

OUTBOX_PATH = "/outbox"
# Half of a 512 kB state partition: about 7,000 sets, ten weeks of 15 minutes. littlefs needs room to move blocks.
OUTBOX_BYTES = 256 * 1024
# A node that sleeps reads its outbox at each wake: a year of daily sets, and an hour of alarms beside them.
SLEEPER_OUTBOX_BYTES = 32 * 1024


def make(
    node: "Node", hal: "Hal", trials: "Trials | None", hello: "Callable[[], Hello]"
) -> "tuple[int, Any, Any, Document]":
    """Give the node its parts; its schema, its checkers, what derives from its sets, and where its alarms are kept."""
    from firmware import assembly, boots  # each for its moment only

    fs = hal.state_fs
    node.hal = hal
    node.safe = safe = trials if trials is not None and trials.is_safe else None
    node.identity = assembly.identity(fs)
    count = boots.counted(fs, hal.reset_cause != CAUSE_DEEP_SLEEP)
    # First what its type consists of: what describes it is off the heap again before the outbox is looked through.
    made = assembly.equip(hal, node.identity, safe is not None)
    node.carrier = made.carrier
    node.settings = made.settings
    node.nap = made.nap
    node.watch = made.watch
    node.sampler = made.sampler
    if hal.reset_cause == CAUSE_DEEP_SLEEP and (node.nap is None or not node.nap.woke):
        count = boots.counted(fs, True)  # what it slept with is lost, and its seconds begin anew
    outbox_bytes = OUTBOX_BYTES if node.nap is None else SLEEPER_OUTBOX_BYTES
    outbox_bytes = min(outbox_bytes, assembly.size_of(fs) // 2)
    del assembly
    forget("firmware.assembly")
    node.health = Health(hal, Document(fs, "traceback"), count)
    node.outbox = Outbox(fs, OUTBOX_PATH, outbox_bytes)
    if trials is not None:
        trials.recover(node.outbox)  # before anything else is kept
    # What is not needed before comes after the outbox was looked through, which takes the most of a start.
    from firmware.alarms import Alarms
    from firmware.commands import CommandRunner
    from firmware.maintenance import Maintenance

    node.session = _session(node, hal)
    node.uplink = made.uplink(hal, node.carrier, node.outbox, node.session, node.health, hello)
    # Nodes that sleep take few sets, and on the raster a city of them would send at the same moment.
    node.schedule = Schedule(hal.clock, 0 if node.nap is None else node.identity.address * 7919)
    alarm_file = Document(fs, "raised")
    watch_bits = 0 if node.watch is None else node.watch.bits
    shape = bytes((len(made.rules), len(made.checkers)))
    raised, kept = boots.alarm_state(fs, alarm_file, node.outbox, shape)
    node.alarms = Alarms(made.rules, len(made.checkers), raised, watch_bits)
    node.maintenance = Maintenance(hal.clock, kept)
    if node.watch is not None:
        node.watch.restore(node.alarms.raised >> node.alarms.watch_bit)
    node.sampler.corrections = boots.corrections(node)
    node.commands = CommandRunner(node)
    node.status_at_s = node.settings[STATUS_S]
    if node.nap is not None:
        node.nap.take_up(node)
    if node.nap is None or not node.nap.woke:
        from firmware import reports

        hal.log(reports.greeting(node, made.name))
        forget("firmware.reports")
    forget("firmware.boots")
    return made.schema_id, made.checkers, made.derive, alarm_file


def _session(node: "Node", hal: "Hal") -> "Session":
    session = Session(hal.state_fs, node.identity, hal.clock, hal.random)
    if session.epoch is not None:
        if node.outbox.is_new:
            # The outbox is gone and the channel is not: its seqs would begin again, and name other records.
            session.forget()
        else:
            node.outbox.offer_again(session.epoch)
            node.outbox.begin_epoch(session.epoch)
    return session
