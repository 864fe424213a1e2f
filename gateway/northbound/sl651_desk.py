"""What a centre asks of a station by SL 651, and what it is answered, from the store.

Answered are values now (37H), of a span (38H) and by name (3AH), what was entered by hand (39H: nothing ever is), the
software (45H), status and alarms (46H), and the clock (51H). Setting the clock (4AH) is answered with the clock as it
is: this machine has its own from NTP, and the difference is in the log. All other functions change a terminal that is
not there, or are about pumps and gates; the standard has no refusal, so they are not answered, and told in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from gateway import civil
from gateway.clock import Clock
from gateway.limits import SL_ANSWER_BYTES, SL_SPAN_VALUES_MAX
from gateway.northbound.seldom import Seldom
from gateway.northbound.sl651_report import AFTER_MS, HOUR_S, History, SlReport
from gateway.northbound.sl651_settings import SlSettings
from gateway.northbound.sl651_values import Value
from protocols.measurands import Measurand, registry
from protocols.northbound import sl651_body
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651 import Frame, Sl651Error
from protocols.northbound.sl651_body import Element, Group, Series

log = logging.getLogger(__name__)
# How far back "now" reaches at least: a node that saves its battery reports hourly.
NOW_S = 2 * HOUR_S

# A body without serial number and time of sending, and whether another one follows.
Answer = tuple[bytes, bool]


class SlDesk:
    """Answers what a centre asks; one for each northbound, over all its sessions."""

    def __init__(self, settings: SlSettings, report: SlReport, history: History, clock: Clock) -> None:
        self.clock_off_s: float | None = None
        self.seldom = Seldom(log, clock.monotonic)
        self.counters = dict.fromkeys(("questions", "unanswered"), 0)
        self._settings = settings
        self._report = report
        self._history = history
        self._clock = clock
        self._sites = {station: site for site, station in settings.stations.items()}
        self._answers: dict[int, Callable[[str, sl651_body.Body], Iterator[Answer]]] = {
            codes.QUERY_NOW: self._now,
            codes.QUERY_SPAN: self._span,
            codes.QUERY_MANUAL: self._by_hand,
            codes.QUERY_ELEMENTS: self._elements,
            codes.GET_VERSION: self._version,
            codes.GET_STATUS: self._status,
            codes.GET_CLOCK: self._clock_is,
            codes.SET_CLOCK: self._set_clock,
        }

    def answer(self, frame: Frame) -> Iterator[Answer]:
        """The bodies that go back, one at a time; none where there is no answer. Nothing that a centre sends raises."""
        self.counters["questions"] += 1
        try:
            yield from self._answered(frame)
        except Sl651Error as error:
            self.counters["unanswered"] += 1
            told = "%s: question %02XH is not answered: %s"
            kind = frame.function if frame.function in codes.FUNCTIONS else "unknown"
            self.seldom.warning(kind, told, self._settings.name, frame.function, error)

    def _answered(self, frame: Frame) -> Iterator[Answer]:
        site = self._sites.get(frame.station)
        if site is None:
            raise Sl651Error(f"there is no station {frame.station} here")
        if frame.password != self._settings.password:
            raise Sl651Error("its password is not the one of password_file")
        answer = self._answers.get(frame.function)
        if answer is None:
            name = codes.FUNCTIONS.get(frame.function, ("", "unknown function"))[1]
            raise Sl651Error(f"{name}: no such thing is done here")
        return answer(site, sl651_body.decode(frame))

    # ---- values --------------------------------------------------------------------------------------------------

    def _latest(self, site: str) -> dict[str, Value]:
        now_ms = self._clock.unix_ms()
        reach_s = max(NOW_S, 2 * self._settings.timed_s)
        return self._report.values.newest(self._history(site, now_ms - reach_s * 1000, now_ms + AFTER_MS))

    def _now(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        latest = self._latest(site)
        yield self._values(site, latest, self._report.values.elements(latest)), False

    def _values(self, site: str, latest: dict[str, Value], elements: tuple[Element, ...]) -> bytes:
        times = [value.time_s * 1000 for value in latest.values()]
        return self._report.body(site, max(times, default=self._clock.unix_ms()), elements)

    def _elements(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        latest = self._latest(site)
        definitions = {element.sl651.id: element.sl651.definition for element in _elements() if element.sl651}
        asked = sl651_body.asked_elements(body, definitions)
        found = []
        for element in dict.fromkeys(asked):
            measurand = _measurand(element)
            value = latest.get(measurand.name)
            found.append(self._report.values.element(measurand, None if value is None else value.number))
        yield self._values(site, latest, tuple(found)), False

    def _by_hand(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        """Nothing is ever entered by hand."""
        nothing = Element(codes.BY_HAND, codes.BY_HAND, b"")
        yield self._report.body(site, self._clock.unix_ms(), (nothing,)), False

    def _span(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        asked = sl651_body.asked_span(body)
        measurand = _measurand(asked.element)
        start_ms, end_ms = (self._moment_ms(text) for text in (asked.start, asked.end))
        count = (end_ms - start_ms) // (asked.step_s * 1000) + 1
        if count > SL_SPAN_VALUES_MAX:
            raise Sl651Error(f"{count} values are asked for; at most {SL_SPAN_VALUES_MAX} are answered")
        size = max(1, SL_ANSWER_BYTES // (definition_of(measurand) // 8 + 1))
        for at in range(0, count, size):
            observed_ms = start_ms + at * asked.step_s * 1000
            values = self._steps(site, measurand, observed_ms, asked.step_s, min(size, count - at))
            data = b"".join(value.data for value in values)
            series = Series(asked.step_s, asked.element, definition_of(measurand), data)
            yield self._report.body(site, observed_ms, (series,)), at + size < count

    def _moment_ms(self, text: str) -> int:
        return civil.unix_ms(f"20{text}0000", self._settings.zone)

    def _steps(
        self, site: str, measurand: Measurand, start_ms: int, step_s: int, count: int
    ) -> list[Element]:
        """For each moment the newest value that counts since the one before, at most an hour old."""
        start_s, reach_s = start_ms // 1000, min(step_s, HOUR_S)
        numbers: list[float | None] = [None] * count
        # Of steps of days all readings between would be read for nothing.
        spans = 1 if step_s == reach_s else count
        for index in range(spans):
            last_s = start_s + (count - 1 if spans == 1 else index) * step_s
            first_s = (start_s if spans == 1 else last_s) - reach_s
            for reading in self._history(site, first_s * 1000 + AFTER_MS, last_s * 1000 + AFTER_MS):
                value = self._report.values.of(reading).get(measurand.name)
                if value is not None and value.number is not None:
                    numbers[-(-(reading.time - start_s) // step_s)] = value.number
        return [self._report.values.element(measurand, number) for number in numbers]

    # ---- the station ---------------------------------------------------------------------------------------------

    def _plain(self, site: str, groups: tuple[Group, ...] = (), rest: bytes = b"") -> Answer:
        station = self._settings.stations[site]
        body = sl651_body.Body(0, "000101000000", station, None, groups, rest)
        return sl651_body.encode(body)[8:], False

    def _version(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        text = self._settings.version.encode()[:255]
        yield self._plain(site, rest=bytes([len(text)]) + text)

    def _status(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        """Alarms of the limits that are set. Of a door nothing is known: it is not said to be open."""
        over = self._report.watch.alarms(self._report.numbers(self._latest(site)))
        bits = codes.DOOR_CLOSED
        for name in over:
            bits |= 1 << _ALARM_BITS.get(name, _QUALITY_BIT)
        yield self._plain(site, (Group("", (sl651_body.status_element(bits),)),))

    def _clock_is(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        """The time of sending is the answer."""
        yield self._plain(site)

    def _set_clock(self, site: str, body: sl651_body.Body) -> Iterator[Answer]:
        said_ms = civil.unix_ms(f"20{body.sent}", self._settings.zone)
        self.clock_off_s = (self._clock.unix_ms() - said_ms) / 1000
        self.seldom.warning(
            "clock",
            "%s: the centre's clock differs by %.1f s; ours stays",
            self._settings.name,
            self.clock_off_s,
        )
        yield self._plain(site)


_QUALITY_BIT = 4
_ALARM_BITS = {"supply_voltage": 1, "level": 2, "flow": 3}


def definition_of(measurand: Measurand) -> int:
    assert measurand.sl651 is not None
    return measurand.sl651.definition


def _elements() -> Iterator[Measurand]:
    return (measurand for measurand in registry().by_name.values() if measurand.sl651 is not None)


def _measurand(element: int) -> Measurand:
    for measurand in _elements():
        if measurand.sl651 is not None and measurand.sl651.id == element:
            return measurand
    raise Sl651Error(f"element {element:02X} is not measured here")
