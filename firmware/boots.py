"""What a node knew before its start, beside its records: how often it started (a wake from deep sleep is no start), the
alarms that are raised, its calibrations. On the heap only while a Node is made.
"""

from struct import pack, unpack, unpack_from

from firmware import records
from firmware.durable import Document
from firmware.maintenance import KEPT_BYTES
from firmware.modules import forget

# Document "raised" = bits u32: of its rules, one of each series, of its watch | how many rules u8 and series u8 there
# were | maintenance | the event to be kept. Before it "alarms": like that, or at first without how many there were.
_ALARMS = ">IBB"
_HEAD = 6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.node import Node
    from firmware.outbox import Outbox


def counted(fs: "Any", is_start: bool) -> int:
    """How often; this one is counted, durably on return, if it ``is_start``."""
    document = Document(fs, "boots")
    data = document.load()
    count: int = unpack("<I", data[:4])[0] if data else 0
    if is_start:
        count += 1
        document.save(pack("<I", count))
    return count


def alarm_state(fs: "Any", alarm_file: "Document", outbox: "Outbox", shape: bytes) -> "tuple[int, bytes]":
    """The alarms that are raised and the maintenance, once the event of the latest change is in the outbox.

    ``shape``: how many rules and series this release has. Another one may have kept them, with more or less: those it
    had, too, are found by their place among their own; alarms of others are known to nobody any more.
    """
    kept = alarm_file.load()
    if kept is None:
        # What a release before this one kept stays where it is: that one may run again.
        kept = Document(fs, "alarms").load()
        # Behind the seq of an event stands what it is, and an array of five.
        if kept and len(kept) != _HEAD + KEPT_BYTES and kept[18:20] != b"\2\x85":
            kept = kept[:4] + shape + kept[4:]
    if not kept:
        return 0, bytes(KEPT_BYTES)
    records.finish(outbox, kept[_HEAD + KEPT_BYTES :])
    raised, its_rules, its_series = unpack_from(_ALARMS, kept)
    rules, series = shape
    # In safe mode there are none of either, and what is raised stays as it is.
    if its_rules + its_series and rules + series and (its_rules, its_series) != (rules, series):
        of_rules = raised & (1 << min(rules, its_rules)) - 1
        of_series = raised >> its_rules & (1 << min(series, its_series)) - 1
        raised = of_rules | of_series << rules | raised >> its_rules + its_series << rules + series
    return raised, kept[_HEAD:]


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
