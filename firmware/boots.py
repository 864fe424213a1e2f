"""What a node knew before its start, beside its records: how often it started (a wake from deep sleep is no start), the
alarms that are raised, its calibrations. On the heap only while a Node is made.
"""

from struct import pack, unpack

from firmware import records
from firmware.durable import Document
from firmware.maintenance import KEPT_BYTES
from firmware.modules import forget

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
