"""A bounded set of sequence numbers as sorted half-open runs: which records of a lane the gateway has.

Forgetting is safe (a forgotten record is sent again and dropped as a duplicate), inventing is not: no operation ever
adds a number that it was not given.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class RunSet:
    """``runs`` is flat: start, end, start, end … ascending, never touching."""

    def __init__(self, runs: "Iterable[int]" = ()) -> None:
        self.runs = list(runs)

    def add(self, start: int, end: int) -> None:
        """Add start to end - 1."""
        if start >= end:
            return
        out: "list[int]" = []
        runs = self.runs
        at = 0
        while at < len(runs) and runs[at + 1] < start:
            out.append(runs[at])
            out.append(runs[at + 1])
            at += 2
        while at < len(runs) and runs[at] <= end:
            start = min(start, runs[at])
            end = max(end, runs[at + 1])
            at += 2
        out.append(start)
        out.append(end)
        self.runs = out + runs[at:]

    def remove(self, start: int, end: int) -> None:
        """Take out start to end - 1."""
        if start >= end:
            return
        out: "list[int]" = []
        runs = self.runs
        for at in range(0, len(runs), 2):
            low = runs[at]
            high = runs[at + 1]
            if low < min(high, start):
                out.append(low)
                out.append(min(high, start))
            if max(low, end) < high:
                out.append(max(low, end))
                out.append(high)
        self.runs = out

    def gap(self, seq: int) -> int:
        """The lowest number from seq on that is not in the set."""
        runs = self.runs
        for at in range(0, len(runs), 2):
            if seq < runs[at]:
                break
            if seq < runs[at + 1]:
                seq = runs[at + 1]
                break
        return seq

    def end_of_gap(self, seq: int, limit: int) -> int:
        """The lowest number above seq that is in the set, or ``limit`` when none is."""
        for at in range(0, len(self.runs), 2):
            if self.runs[at] > seq:
                return self.runs[at]
        return limit

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any of start to end - 1 is in the set."""
        runs = self.runs
        for at in range(0, len(runs), 2):
            if runs[at] < end and start < runs[at + 1]:
                return True
        return False

    def bound(self, runs_max: int) -> None:
        """Forget the shortest runs until there are at most runs_max; the lowest run stays, it stands for the most."""
        runs = self.runs
        while len(runs) > 2 * runs_max:
            shortest = 2
            for at in range(2, len(runs), 2):
                if runs[at + 1] - runs[at] < runs[shortest + 1] - runs[shortest]:
                    shortest = at
            runs = runs[:shortest] + runs[shortest + 2 :]
        self.runs = runs
