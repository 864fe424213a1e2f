"""What a northbound still needs of the store: retention.py leaves that alone while there is room."""

from __future__ import annotations

from typing import NamedTuple

from gateway.intervals import Intervals


class Held(NamedTuple):
    """Owed are events after the cursor, readings in `owed`, and those from `next_reading` on."""

    event_cursor: int
    next_reading: int
    owed: Intervals
    keep_days: int = 0  # what was delivered may be asked for again for so long
    known: bool = True  # False: what is owed is still being looked for, and nothing may leave

    def owes(self, table: str, row_id: int) -> bool:
        if table == "event":
            return row_id > self.event_cursor
        return row_id >= self.next_reading or row_id in self.owed


# Nobody has had anything.
NOTHING = Held(0, 1, Intervals())
