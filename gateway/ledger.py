"""What the gateway knows about the records of one epoch: which are committed, which are lost, and what they said.

A ledger answers, without touching the disk, whether a record is new, a copy or a conflict, and it is where an ack comes
from. `offer` takes a record in hand, `settle` turns it into a committed one once the transaction is on the disk, and
`withdraw` forgets it when the transaction failed: nothing is acknowledged that is only pending.

Durable form: the `epoch` and `seen` tables, plus the rows committed after those were last written (schema.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from gateway.intervals import Intervals
from protocols.wire.limits import MAX_ACK_RUNS

NEW = 0
COPY = 1
CONFLICT = 2

# Records per page of fingerprints: 256 bytes in `seen`.
PAGE = 64
# Runs above cum that one epoch may need: half of the 30,000 records of a node's flash, were every second one missing.
# A record that would open one more is not taken (and not acknowledged) until others closed the gaps.
RUNS_MAX = 16_384

# Pages of fingerprints that are kept below cum: 32,768 records, more than a node's flash holds. They tell a copy from
# another record under the same number, and a record that was counted as lost from one that is here. What comes from
# below is a copy: a node can not have it any more, so it is a file that is read once more, or a forwarder's old store.
PAGES_KEPT = 512

PageLoader = Callable[[int], bytes | None]


class Ledger:
    """The records of one epoch. `row_id` is its id in the store, `number` its name on the wire."""

    __slots__ = (
        "changed_pages", "cum", "first_seq", "highest", "highest_set", "last_page", "load_page", "node", "number",
        "pages", "pending", "row_id", "runs",
    )  # fmt: skip

    def __init__(self, row_id: int, node: int, number: int, first_seq: int, load_page: PageLoader) -> None:
        self.row_id = row_id
        self.node = node
        self.number = number
        self.first_seq = first_seq
        self.cum = first_seq - 1
        self.runs = Intervals()
        self.highest = self.cum
        # The highest seq of a set of readings: events overtake sets, so `highest` does not tell fresh from backlog.
        self.highest_set = self.cum
        self.pending: dict[int, int] = {}
        # Fingerprints by page: those that changed since they were last written, and some that were looked up.
        self.pages: dict[int, array[int]] = {}
        self.changed_pages: set[int] = set()
        # The highest page that may be in the store.
        self.last_page = -1
        self.load_page = load_page

    def offer(self, seq: int, fingerprint: int) -> int:
        """NEW (now pending), COPY or CONFLICT."""
        pending = self.pending
        known = pending.get(seq)
        if known is not None:
            return COPY if known == fingerprint else CONFLICT
        if seq < self.first_page * PAGE:
            return COPY
        if seq <= self.highest and (seq <= self.cum or seq in self.runs):
            known = self._page(seq // PAGE)[seq % PAGE]
            if known:
                return COPY if known == fingerprint else CONFLICT
            # Counted as lost, and here it is: a frame overtook it on the way.
        pending[seq] = fingerprint
        if seq > self.highest:
            self.highest = seq
        return NEW

    @property
    def first_page(self) -> int:
        """Fingerprints of the pages before it are not kept. It follows from cum, so a kill takes none of it back."""
        return self.cum // PAGE - PAGES_KEPT

    def has_room_for(self, seq: int) -> bool:
        """Whether taking `seq` keeps the number of runs within its bound."""
        runs = self.runs
        return len(runs) < RUNS_MAX or seq <= self.cum + 1 or seq in runs or seq - 1 in runs

    def settle(self, seq: int) -> None:
        """The pending record is committed."""
        number = seq // PAGE
        page = self.pages.get(number)
        if page is None:
            page = self._page(number)
        page[seq % PAGE] = self.pending.pop(seq)
        self.changed_pages.add(number)
        if seq == self.cum + 1:
            self.cum = seq
            if self.runs:
                self._close_gap()
        elif seq > self.cum:
            self.runs.add(seq, seq)

    def withdraw(self, seq: int) -> None:
        """The pending record was not committed."""
        self.pending.pop(seq, None)

    def gaps_below(self, oldest: int, about_to_settle: Intervals) -> list[tuple[int, int]]:
        """The records below `oldest` that we do not have and are not about to: by the node's word they are gone."""
        gaps = []
        for first, last in self.runs.missing(self.cum + 1, oldest - 1):
            gaps += about_to_settle.missing(first, last)
        return gaps

    def cover(self, first: int, last: int) -> None:
        """The store lists these as lost: they are waited for no longer."""
        self.runs.add(first, last)
        self._close_gap()
        self.highest = max(self.highest, last)

    def newest_runs(self) -> tuple[tuple[int, int], ...]:
        """What an ack tells beside cum: (start, length), newest first."""
        runs = self.runs
        if not runs:
            return ()
        newest = range(len(runs) - 1, max(-1, len(runs) - 1 - MAX_ACK_RUNS), -1)
        return tuple((runs.starts[i], runs.ends[i] - runs.starts[i] + 1) for i in newest)

    def missing(self) -> list[tuple[int, int]]:
        """The gap report: records between those we have, that may still come."""
        return self.runs.missing(self.cum + 1, self.highest)

    def drop_clean_pages(self) -> None:
        """Give back the memory of pages that the store holds; the newest page will be wanted next."""
        newest = self.highest // PAGE
        for number in [n for n in self.pages if n not in self.changed_pages and n != newest]:
            del self.pages[number]

    def _close_gap(self) -> None:
        runs = self.runs
        if runs and runs.starts[0] <= self.cum + 1:
            self.cum = max(self.cum, runs.ends[0])
            runs.remove(0, self.cum)

    def _page(self, number: int) -> array[int]:
        page = self.pages.get(number)
        if page is None:
            # A page beyond all there were is not in the store: that is how nearly every page begins.
            stored = self.load_page(number) if number <= self.last_page else None
            page = array("I", bytes(4 * PAGE) if stored is None else stored)
            self.pages[number] = page
            self.last_page = max(self.last_page, number)
        return page
