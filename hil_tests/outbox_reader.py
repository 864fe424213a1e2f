"""What a node's own flash says it has kept: read from the state image, with the node's own code, on CPython."""

from __future__ import annotations

from dataclasses import dataclass

from firmware.outbox import EVENTS, READINGS, Outbox
from hil_tests.consumer import RecordId
from hil_tests.world.flash import Flash, LittleFs

# Where and how large making.py keeps it (firmware/making.py: OUTBOX_PATH, OUTBOX_BYTES).
from firmware.making import OUTBOX_BYTES, OUTBOX_PATH  # isort: skip


@dataclass(frozen=True)
class OutboxContents:
    """``kept``: every record keep() ever promised and the node still knows; ``waiting``: those not acknowledged."""

    kept: frozenset[RecordId]
    waiting: frozenset[RecordId]


def read_outbox(node: str, state_image: bytes) -> OutboxContents:
    """Open the outbox in a copy of the ``state`` partition. Records made before any epoch are left out."""
    box = Outbox(LittleFs(Flash(image=state_image)), OUTBOX_PATH, OUTBOX_BYTES)
    waiting: set[RecordId] = set()
    for lane in (READINGS, EVENTS):
        after = 0
        while (record := box.next_unacked(lane, after)) is not None:
            after = record.seq
            if record.epoch is not None:
                waiting.add((node, record.epoch, record.seq))
    kept: set[RecordId] = set()
    epoch: int | None = None
    for seq in range(box.next_seq - 1, 0, -1):
        epoch = box.epoch_of(seq) if box.has(seq) else epoch
        if epoch is not None:
            kept.add((node, epoch, seq))
    return OutboxContents(frozenset(kept), frozenset(waiting))
