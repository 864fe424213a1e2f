"""What one transaction of the store will hold, from the first record that joins it to the COMMIT."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.epoch import Epoch
from gateway.intervals import Intervals
from gateway.ledger import Ledger
from gateway.records import Event, Reading

if TYPE_CHECKING:
    from gateway.channels import Channel
    from gateway.ingest import Heard


@dataclass(slots=True)
class Batch:
    """What one transaction will hold. `reading_rows` and `readings` are the same records, for the disk and for us."""

    reading_rows: list[tuple[Any, ...]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    event_rows: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    # How many of `readings` came from devices, by accept.py: they leave no frame in `heard`.
    sets: int = 0
    new_epochs: list[Epoch] = field(default_factory=list)
    # Epochs of frames that leave no row: their replay windows are written as they are.
    windows: dict[int, Epoch] = field(default_factory=dict)
    # The highest "I hold nothing below" of each ledger.
    oldest: dict[Ledger, int] = field(default_factory=dict)
    # Records that had been listed as lost and came after all: (epoch, seq).
    found: list[tuple[int, int]] = field(default_factory=list)
    # Seqs of the gateway's own for which there was no room: these records will never come.
    dropped: dict[Ledger, Intervals] = field(default_factory=dict)
    # When boots of nodes began: (node, boot modulo 256): (boots, start_ms).
    boots: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    conflicts: list[tuple[int, int, int, int, bytes]] = field(default_factory=list)
    # New bounds of used downlink PIVs.
    reserve: dict[Channel, int] = field(default_factory=dict)
    jobs: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = field(default_factory=list)

    # Set when the batch is closed.
    upto: tuple[int, int] = (0, 0)  # ids of the last rows before this batch
    lost: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    swept: list[Epoch] = field(default_factory=list)
    marks: tuple[int, int] | None = None  # a sweep is complete: recovery may begin behind these rows
    progress: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)
    answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = field(default_factory=list)

    def records(self) -> Iterator[Reading | Event]:
        yield from self.readings
        yield from self.events

    def frames(self) -> int:
        """Frames of nodes and sets of devices."""
        return len(self.heard) + self.sets

    def gone(self, ledger: Ledger, seq: int) -> None:
        """List a record of the gateway's own as lost."""
        self.dropped.setdefault(ledger, Intervals()).add(seq, seq)

    def is_empty(self) -> bool:
        held = self.heard or self.jobs or self.windows or self.reserve or self.new_epochs or self.event_rows
        return not (held or self.sets or self.dropped)
