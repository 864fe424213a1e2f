"""When a value is worth an added report (33H): it has moved by a step, or crossed a limit, either way.

A step is counted from what was told last: by an added report, or by the timed one. What was last, and when something
was added, is in memory; after a start the hour before is gone through again, so that what was told is not told anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.limits import SL_ADDED_GAP_S
from gateway.northbound.sl651_settings import SlSettings

Numbers = Mapping[str, float]
Seen = tuple[Numbers, int, int]  # what was measured, when, and which timed report it is in


@dataclass
class _Site:
    last: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    time_s: int = 0
    period: int = -1
    added_s: int = 0
    pending: bool = False


class Watch:
    """`before(site, time_s)` is what was measured at a site in the hour before that moment."""

    def __init__(self, settings: SlSettings, before: Callable[[str, int], Iterable[Seen]]) -> None:
        self.names = frozenset((*settings.steps, *settings.above, *settings.below))
        self._settings = settings
        self._before = before
        self._sites: dict[str, _Site] = {}

    def is_worth_it(self, site: str, numbers: Numbers, time_s: int, period: int) -> bool:
        """Whether what was measured then is added to the reports. `period`: which timed report it is in."""
        known = self._sites.get(site)
        if known is None:
            known = self._sites[site] = _Site()
            for seen in self._before(site, time_s):
                self._look(known, *seen)
        return self._look(known, numbers, time_s, period)

    def _look(self, known: _Site, numbers: Numbers, time_s: int, period: int) -> bool:
        if time_s < known.time_s:
            return False
        if period != known.period:  # a timed report has told what was last
            known.told, known.period = dict(known.last), period
        worth = known.pending or any(self._moved(known, name, value) for name, value in numbers.items())
        known.last.update(numbers)
        known.told = {**numbers, **known.told}  # the first one that is seen is counted from
        known.time_s = time_s
        known.pending = worth and time_s - known.added_s < SL_ADDED_GAP_S
        if not worth or known.pending:
            return False
        known.added_s = time_s
        known.told.update(numbers)
        return True

    def _moved(self, known: _Site, name: str, value: float) -> bool:
        settings = self._settings
        step, told, last = settings.steps.get(name), known.told.get(name), known.last.get(name)
        if step is not None and told is not None and abs(value - told) >= step:
            return True
        return self._crossed(settings.above.get(name), value, last, above=True) or self._crossed(
            settings.below.get(name), value, last, above=False
        )

    @staticmethod
    def _crossed(limit: float | None, value: float, last: float | None, *, above: bool) -> bool:
        if limit is None:
            return False
        is_over = value > limit if above else value < limit
        was_over = last is not None and (last > limit if above else last < limit)
        return is_over != was_over

    def alarms(self, numbers: Numbers) -> set[str]:
        """Measurands that are over their limits."""
        settings = self._settings
        over = {name for name, limit in settings.above.items() if name in numbers and numbers[name] > limit}
        under = {name for name, limit in settings.below.items() if name in numbers and numbers[name] < limit}
        return over | under
