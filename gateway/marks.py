"""Under which calibration a set was measured, and whether somebody was working at the station.

Both are told by events of the node: "calibrated" holds for its series until the next one, "maintenance" from where it
is raised until it is cleared, counted by seq. Seqs go on when a node changes its epoch, and the epoch says which one it
came from; where it does not, the node had lost its state, and nothing of before holds.

The events themselves are the durable form: a partial index finds these two among millions, and costs a write only when
one of them comes. An event travels in a lane of its own, ahead of readings; a set that overtakes it all the same is
delivered without its mark.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from gateway.batch import Batch
from gateway.records import KIND_EVENT, Reading
from gateway.store import Store
from protocols.wire import codes
from protocols.wire.messages import RAISED

_CODES = (codes.IN_MAINTENANCE, codes.CALIBRATED)
_WHICH = f"kind = {KIND_EVENT} AND code IN {_CODES}"
# Given to Store.open as extra_schema.
SCHEMA = (f"CREATE INDEX IF NOT EXISTS event_marks ON event (id) WHERE {_WHICH}",)


class Mark(NamedTuple):
    """``calibrations``: id by index of the series."""

    calibrations: Mapping[int, int]
    maintenance: bool


NO_MARK = Mark({}, False)


class _Epoch:
    """The marking events of one epoch by seq, and what holds after each."""

    def __init__(self) -> None:
        self.events: dict[int, tuple[int, int, object]] = {}  # code, state, detail
        self.seqs: list[int] = []
        self.marks: list[Mark] = []  # one more than seqs: the first is what held before
        self.is_built = False


class Marks:
    """All marks, in memory: a few events a year and station."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._epochs: dict[int, _Epoch] = {}
        for row in store.read(_read):
            self._take(*row)
        store.on_commit.append(self._committed)

    def of(self, reading: Reading) -> Mark:
        """What held when that set was taken."""
        if not self._epochs:
            return NO_MARK
        found = self._built(reading.ledger.row_id)
        return found.marks[bisect_left(found.seqs, reading.seq)]

    def _committed(self, batch: Batch) -> None:
        for event in batch.events:
            if event.kind == KIND_EVENT and event.code in _CODES:
                self._take(event.ledger.row_id, event.seq, event.code, event.state, event.detail)

    def _take(self, epoch: int, seq: int, code: int, state: int, detail: object) -> None:
        self._epochs.setdefault(epoch, _Epoch()).events[seq] = (code, state, detail)
        for found in self._epochs.values():  # a late one may change what later epochs inherit
            found.is_built = False

    def _built(self, epoch: int) -> _Epoch:
        found = self._epochs.get(epoch)
        if found is None:
            found = self._epochs[epoch] = _Epoch()
        if found.is_built:
            return found
        mark = self._before(epoch)
        found.seqs = sorted(found.events)
        found.marks = [mark]
        for seq in found.seqs:
            mark = _after(mark, *found.events[seq])
            found.marks.append(mark)
        found.is_built = True
        return found

    def _before(self, epoch: int) -> Mark:
        owner = self._store.epochs.get(epoch)
        if owner is None or owner.previous is None or owner.previous >= epoch:
            return NO_MARK
        return self._built(owner.previous).marks[-1]


def _after(mark: Mark, code: int, state: int, detail: object) -> Mark:
    if code == codes.IN_MAINTENANCE:
        return mark._replace(maintenance=state == RAISED)
    if isinstance(detail, list) and len(detail) >= 2:
        return mark._replace(calibrations={**mark.calibrations, detail[0]: detail[1]})
    return mark  # another firmware's idea of a calibration


def _read(connection: sqlite3.Connection) -> list[tuple[int, int, int, int, object]]:
    rows = connection.execute(
        f"SELECT epoch, seq, code, state, detail FROM event INDEXED BY event_marks WHERE {_WHICH} ORDER BY id"
    )
    return [(*row[:4], json.loads(row[4])) for row in rows]
