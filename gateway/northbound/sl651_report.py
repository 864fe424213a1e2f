"""What SL 651 reports of a station: timed (32H), hourly (34H), and added (33H) when something happens.

A timed report tells each value that was newest at its moment, and its time of observation is that moment. So a period
ends with its moment and does not begin with it: what was measured at 08:00:00 is in the report of 08:00. The hourly
report has twelve levels and amounts of rain, one for every five minutes, and what was newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gateway import civil
from gateway.clock import Clock
from gateway.limits import SL_ADDED_AGE_S
from gateway.marks import Mark as WorkMark
from gateway.northbound.sl651_settings import SlSettings
from gateway.northbound.sl651_values import Value, Values
from gateway.northbound.sl651_watch import Seen, Watch
from gateway.records import Reading
from gateway.report_rows import Key, Mark
from protocols.measurands import registry
from protocols.northbound import sl651_body
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651 import Sl651Error
from protocols.northbound.sl651_body import OF_HOUR, Body, Element, Group, Series

TIMED, ADDED, HOURLY = f"{codes.TIMED:02X}", f"{codes.ADDED:02X}", f"{codes.HOURLY:02X}"
HOUR_S, SLOT_S = 3600, 300
# A period is (begin, end], the table's are [start, end): both move on by a second.
AFTER_MS = 1000
LEVEL, RAIN = "level", "rainfall"

History = Callable[[str, int, int], Sequence[Reading]]


class SlReport:
    """The Report of rows.py for one centre. `history(site, start_ms, end_ms)` are readings that were looked at."""

    def __init__(
        self, settings: SlSettings, marks: Callable[[Reading], WorkMark], history: History, clock: Clock
    ) -> None:
        self.sites = frozenset(settings.stations)
        self.volatile = ()
        self.values = Values(marks)
        self.watch = Watch(settings, self._before)
        self._settings = settings
        self._history = history
        self._clock = clock

    # ---- which rows ----------------------------------------------------------------------------------------------

    def marks(self, site: str, reading: Reading) -> list[Mark]:
        """The rows that a reading belongs to."""
        settings = self._settings
        found = []
        if settings.timed_s:
            found.append(self._mark(site, TIMED, settings.timed_s, reading.time))
        if settings.hourly:
            mark = self._mark(site, HOURLY, HOUR_S, reading.time)
            found.append(self._hourly(mark))
            # The rain of an hour's first five minutes is counted from what the gauge had before.
            if reading.time * 1000 > mark.end_ms - AFTER_MS - SLOT_S * 1000 and _has_rain(reading):
                found.append(self._hourly(self._mark(site, HOURLY, HOUR_S, reading.time + SLOT_S)))
        if self._is_added(site, reading):
            start_ms = reading.time * 1000
            found.append(Mark(Key(site, ADDED, start_ms), start_ms + AFTER_MS, 0))
        return found

    def _mark(self, site: str, kind: str, period_s: int, time_s: int) -> Mark:
        start_ms = civil.period_start_ms(time_s * 1000 - AFTER_MS, period_s, self._settings.zone)
        end_ms = civil.period_end_ms(start_ms, period_s, self._settings.zone)
        grace_ms = self._settings.grace_s * 1000
        return Mark(Key(site, kind, start_ms + AFTER_MS), end_ms + AFTER_MS, grace_ms)

    @staticmethod
    def _hourly(mark: Mark) -> Mark:
        """Begins five minutes before its hour."""
        return mark._replace(key=mark.key._replace(start_ms=mark.key.start_ms - SLOT_S * 1000))

    def _is_added(self, site: str, reading: Reading) -> bool:
        """Whether this set is worth a report of its own. What comes late was told by timed reports."""
        if not self.watch.names or self._clock.unix_ms() > (reading.time + SL_ADDED_AGE_S) * 1000:
            return False
        return self.watch.is_worth_it(site, *self._seen(reading))

    def _seen(self, reading: Reading) -> Seen:
        period_s = self._settings.timed_s or HOUR_S
        start_ms = civil.period_start_ms(reading.time * 1000 - AFTER_MS, period_s, self._settings.zone)
        return self.numbers(self.values.of(reading)), reading.time, start_ms

    def numbers(self, values: dict[str, Value]) -> dict[str, float]:
        """Those of interest for added reports and alarms that count."""
        return {
            name: value.number
            for name, value in values.items()
            if value.number is not None and name in self.watch.names
        }

    def _before(self, site: str, time_s: int) -> Iterator[Seen]:
        for reading in self._history(site, (time_s - HOUR_S) * 1000, time_s * 1000):
            yield self._seen(reading)

    # ---- what they say -------------------------------------------------------------------------------------------

    def message(self, key: Key, end_ms: int, readings: Sequence[Reading]) -> bytes | None:
        """The body without serial number and time of sending; None when there is nothing to say."""
        elements: Sequence[Element]
        if key.kind == HOURLY:
            elements = self._of_hour(end_ms, readings)
        else:
            elements = self.values.elements(self.values.newest(readings))
        if not elements:
            return None
        return self.body(key.site, end_ms - AFTER_MS, elements)

    def body(self, site: str, observed_ms: int, elements: Sequence[Element | Series]) -> bytes:
        """A body with one group, without serial number and time of sending."""
        settings = self._settings
        observed = civil.text(observed_ms, settings.zone)[2:12]
        group = Group(observed, tuple(elements))
        body = Body(0, "000101000000", settings.stations[site], settings.kind, (group,))
        return sl651_body.encode(body)[8:]

    def _of_hour(self, end_ms: int, readings: Sequence[Reading]) -> list[Element]:
        end_s = (end_ms - AFTER_MS) // 1000
        begin_s = end_s - HOUR_S
        inside = [reading for reading in readings if reading.time > begin_s]
        if not inside:
            return []
        slots: list[list[Reading]] = [[] for _ in range(OF_HOUR + 1)]  # the first is that of before
        for reading in readings:
            slots[max(0, -(-(reading.time - begin_s) // SLOT_S))].append(reading)
        by_slot = [self.values.newest(slot) for slot in slots]
        newest = self.values.newest(inside)
        lists = []
        if RAIN in newest:
            lists.append(_rain(by_slot))
        if LEVEL in newest:
            lists.append(_levels(by_slot[1:]))
        return [*lists, *self.values.elements(newest)]


def _has_rain(reading: Reading) -> bool:
    rain = registry().by_name[RAIN].id
    return any(series.id == rain for series in registry().of_schema(reading.schema))


def _levels(slots: Sequence[dict[str, Value]]) -> Element:
    """In metres above the gauge's zero; what F5 can not carry is missing in it, and is in 39 with its sign."""
    level = registry().by_name[LEVEL].sl651
    assert level is not None
    metres = []
    for slot in slots:
        value = slot.get(LEVEL)
        number = None if value is None or value.number is None else value.number * level.factor
        metres.append(number if _fits(codes.LEVELS_OF_HOUR[0], number) else None)
    return sl651_body.hour_element(codes.LEVELS_OF_HOUR[0], metres)


def _rain(slots: Sequence[dict[str, Value]]) -> Element:
    """What the counter rose by in each five minutes. One that fell was set anew: nobody knows how much it missed."""
    amounts: list[float | None] = []
    last: float | None = None
    for index, slot in enumerate(slots):
        value = slot.get(RAIN)
        number = None if value is None else value.number
        if index:
            amount = None if number is None or last is None or number < last else round(number - last, 1)
            amounts.append(amount if _fits(codes.RAIN_OF_HOUR, amount) else None)
        last = number if number is not None else None
    return sl651_body.hour_element(codes.RAIN_OF_HOUR, amounts)


def _fits(element: int, number: float | None) -> bool:
    try:
        sl651_body.hour_element(element, [number] * OF_HOUR)
    except Sl651Error:
        return False
    return True
