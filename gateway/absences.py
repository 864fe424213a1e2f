"""When the gateway itself was not there to hear: what must be taken off the silence of a node.

Instants are of any one clock, in seconds. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.limits import ABSENCES_MAX


class Absences:
    """Spans of time, in order and apart from each other."""

    def __init__(self, spans: Iterable[Iterable[float]] = ()) -> None:
        self.spans: list[tuple[float, float]] = [(first, last) for first, last in spans]

    def add(self, first: float, last: float) -> None:
        """The gateway heard nothing from `first` to `last`, which is after everything known so far."""
        self.spans.append((first, last))
        if len(self.spans) > ABSENCES_MAX:
            # Of two neighbours that are close to each other, little was heard between.
            at = min(range(ABSENCES_MAX - 1), key=lambda i: self.spans[i + 1][0] - self.spans[i][1])
            self.spans[at : at + 2] = [(self.spans[at][0], self.spans[at + 1][1])]

    def end(self) -> float:
        """When the latest of them ends; long ago when there was none."""
        return self.spans[-1][1] if self.spans else float("-inf")

    def forget_after(self, instant: float) -> None:
        """The clock was set back to `instant`: what it said beyond never was."""
        self.spans = [(first, min(last, instant)) for first, last in self.spans if first < instant]

    def within(self, since: float, until: float) -> float:
        """How much of since..until the gateway was absent."""
        return sum(max(0.0, min(last, until) - max(first, since)) for first, last in self.spans)
