"""The durable state of one epoch of one node: a row of the `epoch` table, and the ledger of its records."""

from __future__ import annotations

import sqlite3

from gateway.intervals import Intervals
from gateway.ledger import PAGE, Ledger, PageLoader
from protocols.wire.envelope import ReplayWindow

COLUMNS = (
    "id, node, number, id_context, previous, opened_ms, first_seq, cum, runs, highest_set, highest_piv, window,"
    " dn_reserved, dn_hold, upto_reading, upto_event, heard_ms"
)


class Epoch:
    """One epoch. `id_context` is None when we know it only by name; then nothing can be opened or sealed in it."""

    __slots__ = (
        "dn_hold", "dn_reserved", "heard_ms", "id_context", "ledger", "node", "number", "opened_ms", "previous",
        "row_id", "upto_event", "upto_reading", "window",
    )  # fmt: skip

    def __init__(
        self, ledger: Ledger, id_context: bytes | None, previous: int | None, opened_ms: int
    ) -> None:
        self.ledger = ledger
        self.row_id = ledger.row_id
        self.node = ledger.node
        self.number = ledger.number
        self.id_context = id_context
        self.previous = previous
        self.opened_ms = opened_ms
        self.window = ReplayWindow()
        self.dn_reserved = 0
        self.dn_hold = False
        self.upto_reading = 0
        self.upto_event = 0
        self.heard_ms = 0

    @classmethod
    def from_row(cls, row: sqlite3.Row | tuple, load_page: PageLoader) -> Epoch:  # type: ignore[type-arg]
        """The epoch of a row with COLUMNS, as it was when the row was written."""
        (row_id, node, number, id_context, previous, opened_ms, first_seq, cum, runs, highest_set, highest_piv, window,
         dn_reserved, dn_hold, upto_reading, upto_event, heard_ms) = row  # fmt: skip
        ledger = Ledger(row_id, node, number, first_seq, load_page)
        ledger.cum = cum
        ledger.runs = Intervals.unpack(runs)
        ledger.highest = ledger.runs.ends[-1] if ledger.runs else cum
        ledger.highest_set = highest_set
        ledger.last_page = ledger.highest // PAGE
        epoch = cls(ledger, id_context, previous, opened_ms)
        epoch.window = ReplayWindow(highest_piv, window)
        epoch.dn_reserved = dn_reserved
        epoch.dn_hold = bool(dn_hold)
        epoch.upto_reading = upto_reading
        epoch.upto_event = upto_event
        epoch.heard_ms = heard_ms
        return epoch

    def new_row(self) -> tuple[int | bytes | None, ...]:
        """All of it, for INSERT."""
        ledger = self.ledger
        return (self.row_id, self.node, self.number, self.id_context, self.previous, self.opened_ms, ledger.first_seq,
                ledger.cum, ledger.runs.pack(), ledger.highest_set, self.window.highest, self.window.bitmap,
                self.dn_reserved, int(self.dn_hold), self.upto_reading, self.upto_event, self.heard_ms)  # fmt: skip

    def window_row(self) -> tuple[int, int, int, int]:
        """What a frame that left no row changes: (highest_piv, window, heard_ms, id)."""
        return self.window.highest, self.window.bitmap, self.heard_ms, self.row_id

    def ledger_row(self, upto_reading: int, upto_event: int) -> tuple[int | bytes, ...]:
        """Everything the rows up to those ids add up to, for UPDATE_LEDGER."""
        ledger = self.ledger
        highest, window, heard_ms, row_id = self.window_row()
        known = ledger.cum, ledger.runs.pack(), ledger.highest_set
        return *known, highest, window, heard_ms, upto_reading, upto_event, row_id


INSERT = f"INSERT INTO epoch ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
UPDATE_WINDOW = "UPDATE epoch SET highest_piv = ?, window = ?, heard_ms = ? WHERE id = ?"
UPDATE_LEDGER = (
    "UPDATE epoch SET cum = ?, runs = ?, highest_set = ?, highest_piv = ?, window = ?, heard_ms = ?,"
    " upto_reading = ?, upto_event = ? WHERE id = ?"
)
