"""What HJ 212 says of a station's readings: real-time data, minute, hour and day data, as data areas.

    DataTime=20261128060000;w01001-Min=7.40,w01001-Avg=7.48,w01001-Max=7.52,w01001-Flag=N;…

DataTime is the begin of the period, but the moment itself in real-time data. Figures are of the samples that count
(aggregate.py); where none does, only the flag is told. Of several instruments for one measurand the one with the most
samples that count speaks. A station with a flow has its sum (w00000-Cou, m3), and of what travels with the water the
load (-Cou, kg), where the settings ask for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway import civil
from gateway.marks import Mark as WorkMark
from gateway.records import Reading
from gateway.report_rows import Key, Mark
from protocols.measurands import HjCode, Measurand, registry
from protocols.northbound import hj212, hj1404
from protocols.northbound.aggregate import NORMAL, Aggregate, Sample, aggregate, best_source, sample_flag
from protocols.northbound.hj212 import Group, Hj212Error
from protocols.wire.schemas import GOOD

log = logging.getLogger(__name__)
FLOW = "flow"
HOUR_S, DAY_S = 3600, 86_400
# Table B.1 has no format for sums; grams and litres are enough.
_SUM = "N12.3"


@dataclass
class Told:
    """What the platform may change by its commands, and begins as the settings have it."""

    real_time_s: int
    minute_s: int
    timeout_s: int
    resends: int
    real_time_on: bool = True


@dataclass(frozen=True)
class ReportSettings:
    stations: Mapping[str, str]  # MN by site
    zone: ZoneInfo
    hour_s: int = HOUR_S  # 0: none
    day: bool = False
    grace_s: int = 60
    share_percent: int = 75
    sample_s: int = 0  # how often stations sample; 0: not known
    sums: bool = False
    items: Mapping[str, str] = field(default_factory=dict)  # code by measurand, "" leaves it out


class _Column(NamedTuple):
    """One of a schema's series that is reported, and the scaled integers that it may have."""

    at: int
    measurand: Measurand
    code: str
    low: int
    high: int


@dataclass(slots=True)
class _Series:
    """The samples of one measurand from one instrument."""

    measurand: Measurand
    samples: list[Sample]
    last_s: int


class Hj212Report:
    """The Report of rows.py for one platform."""

    def __init__(
        self, settings: ReportSettings, told: Told, marks: Callable[[Reading], WorkMark],
        checks: Callable[[str, str, int], list[tuple[str, dict[str, str], str]]] = lambda site, kind, at_ms: [],
    ) -> None:  # fmt: skip
        self.sites = frozenset(settings.stations)
        self._settings = settings
        self._told = told
        self._marks = marks
        self._checks = checks
        self._periods: dict[str, tuple[int, int, int]] = {}
        self._too_long: set[str] = set()
        self._known: dict[int, tuple[tuple[Measurand, ...], list[_Column]]] = {}

    @property
    def volatile(self) -> tuple[str, ...]:
        """Old real-time data is dropped where minute or hour data says the same."""
        kept_otherwise = self._told.minute_s or self._settings.hour_s or self._settings.day
        return (hj212.REAL_TIME,) if kept_otherwise else ()

    # ---- which rows ----------------------------------------------------------------------------------------------

    def kinds(self) -> Iterator[tuple[str, int, int]]:
        """(CN, period, grace), in seconds."""
        told, settings = self._told, self._settings
        if told.real_time_s and told.real_time_on:
            yield hj212.REAL_TIME, told.real_time_s, 0
        if told.minute_s:
            yield hj212.MINUTE, told.minute_s, settings.grace_s
        if settings.hour_s:
            yield hj212.HOUR, settings.hour_s, settings.grace_s
        if settings.day:
            yield hj212.DAY, DAY_S, settings.grace_s

    def period_s(self, cn: str) -> int:
        """Of the rows of a command; 0 for one that has none."""
        periods = {hj212.REAL_TIME: self._told.real_time_s, hj212.MINUTE: self._told.minute_s or 600,
                   hj212.HOUR: self._settings.hour_s or HOUR_S, hj212.DAY: DAY_S}  # fmt: skip
        return periods.get(cn, 0)

    def marks(self, site: str, reading: Reading) -> list[Mark]:
        """The rows that a reading belongs to."""
        found = []
        for cn, period_s, grace_s in self.kinds():
            start_ms, end_ms = self.period(cn, period_s, reading.time * 1000)
            found.append(Mark(Key(site, cn, start_ms), end_ms, grace_s * 1000))
        return found

    def period(self, cn: str, period_s: int, moment_ms: int) -> tuple[int, int]:
        """Begin and end of the period that holds a moment. Readings come in order, so the last one mostly holds it."""
        known = self._periods.get(cn)
        if known is not None and known[0] == period_s and known[1] <= moment_ms < known[2]:
            return known[1:]
        start_ms = civil.period_start_ms(moment_ms, period_s, self._settings.zone)
        end_ms = civil.period_end_ms(start_ms, period_s, self._settings.zone)
        self._periods[cn] = period_s, start_ms, end_ms
        return start_ms, end_ms

    # ---- what they say -------------------------------------------------------------------------------------------

    def message(self, key: Key, end_ms: int, readings: Sequence[Reading]) -> bytes | None:
        """The data area, None without any item."""
        if key.kind in hj1404.BY_CN:
            return self._checked(key)
        by_code = self._by_code(readings)
        if not by_code:
            return None
        if key.kind == hj212.REAL_TIME:
            moment_ms = max(one.last_s for series in by_code.values() for one in series) * 1000
            groups = [self._now(code, series) for code, series in sorted(by_code.items())]
        else:
            moment_ms = key.start_ms
            groups = self._figures(by_code, (end_ms - key.start_ms) // 1000)
        time: Group = (("DataTime", civil.text(moment_ms, self._settings.zone)),)
        return hj212.area_of([time, *groups]).encode()

    def _checked(self, key: Key) -> bytes | None:
        """What quality control found at that time."""
        kind = hj1404.BY_CN[key.kind]
        groups: list[Group] = [(("DataTime", civil.text(key.start_ms, self._settings.zone)),)]
        for name, fields, flag in self._checks(key.site, kind, key.start_ms):
            code = self._code(registry().by_name[name])
            if code is not None:
                groups.append(hj1404.group(kind, code.code, fields, flag))
        return hj212.area_of(groups).encode() if len(groups) > 1 else None

    def _by_code(self, readings: Sequence[Reading]) -> dict[str, list[_Series]]:
        """Samples by code and instrument (a series of a node or device)."""
        found: dict[str, dict[tuple[int, str], _Series]] = {}
        for reading in readings:
            maintenance, node, flags = self._marks(reading).maintenance, reading.ledger.node, reading.flags
            for index, measurand, code, low, high in self._columns(reading.schema):
                instruments = found.setdefault(code, {})
                series = instruments.get((node, measurand.name))
                if series is None:
                    series = instruments[node, measurand.name] = _Series(measurand, [], 0)
                value, quality = reading.values[index], GOOD if flags is None else flags[index]
                flag = sample_flag(value, quality, low, high, maintenance=maintenance)
                series.samples.append(Sample(value, flag))
                series.measurand, series.last_s = measurand, reading.time
        return {code: [series for _, series in sorted(one.items())] for code, one in found.items()}

    def _columns(self, schema: int) -> list[_Column]:
        """Of a schema; found once, for a day of rows asks for them 100,000 times. A device's may become another."""
        of_schema = registry().of_schema(schema)
        known = self._known.get(schema)
        if known is None or known[0] is not of_schema:
            columns = []
            for index, measurand in enumerate(of_schema):
                code = self._code(measurand)
                if code is not None:
                    low, high = map(measurand.scaled, measurand.range)
                    columns.append(_Column(index, measurand, code.code, low, high))
            known = self._known[schema] = of_schema, columns
        return known[1]

    def _code(self, measurand: Measurand) -> HjCode | None:
        """A device's series is named by its point, so the measurand is known by its id."""
        other = self._settings.items.get(registry().by_id[measurand.id].name)
        if other is None:
            return measurand.hj212
        if not other:
            return None
        known = measurand.hj212
        return (
            HjCode(other, f"N8.{measurand.decimals}")
            if known is None
            else HjCode(other, known.format, known.factor)
        )

    def _now(self, code: str, series: list[_Series]) -> Group:
        """The latest sample that counts of any instrument; else why there is none."""
        usable = [one for one in series if one.samples[-1].flag == NORMAL]
        one = max(usable or series, key=lambda found: found.last_s)
        last = one.samples[-1]
        items = [(f"{code}-Flag", last.flag)]
        if last.value is not None:
            items.insert(
                0, (f"{code}-Rtd", self._figure(one.measurand, last.value / 10**one.measurand.decimals))
            )
        return tuple(items)

    def _figures(self, by_code: dict[str, list[_Series]], period_s: int) -> list[Group]:
        chosen = {}
        for code, series in sorted(by_code.items()):
            samples = best_source([one.samples for one in series])
            measurand = next(one.measurand for one in series if one.samples is samples)
            chosen[code] = measurand, self._aggregate(samples, period_s)
        water_m3 = self._water_m3(chosen.values(), period_s) if self._settings.sums else None
        return [self._group(code, *one, water_m3) for code, one in chosen.items()]

    def _aggregate(self, samples: Sequence[Sample], period_s: int) -> Aggregate:
        sample_s = self._settings.sample_s
        expected = period_s // sample_s if sample_s else 0
        return aggregate(samples, expected=expected, share_percent=self._settings.share_percent)

    @staticmethod
    def _water_m3(chosen: Iterable[tuple[Measurand, Aggregate]], period_s: int) -> float | None:
        for measurand, found in chosen:
            if registry().by_id[measurand.id].name == FLOW:
                mean = found.mean(10**measurand.decimals)
                return None if mean is None else mean * period_s
        return None

    def _group(self, code: str, measurand: Measurand, found: Aggregate, water_m3: float | None) -> Group:
        scale = 10**measurand.decimals
        mean = found.mean(scale)
        items = []
        if mean is not None and found.minimum is not None and found.maximum is not None:
            total = self._sum(measurand, mean, water_m3)
            if total is not None:
                items.append((f"{code}-Cou", hj212.number(total, _SUM)))
            for name, value in (
                ("Min", found.minimum / scale),
                ("Avg", mean),
                ("Max", found.maximum / scale),
            ):
                items.append((f"{code}-{name}", self._figure(measurand, value)))
        items.append((f"{code}-Flag", found.flag))
        return tuple(items)

    @staticmethod
    def _sum(measurand: Measurand, mean: float, water_m3: float | None) -> float | None:
        """m3 of water; kg of what is in it, from mg/L."""
        if water_m3 is None:
            return None
        if registry().by_id[measurand.id].name == FLOW:
            return water_m3
        return mean * water_m3 / 1000 if measurand.unit == "mg/L" else None

    def _figure(self, measurand: Measurand, value: float) -> str:
        """As table B.1 has it. A value with more digits before the point (1425 uS/cm in N3.1) is sent as it is: a
        platform can refuse it, but nobody could restore what we had cut."""
        code = self._code(measurand)
        assert code is not None
        try:
            return hj212.number(value * code.factor, code.format)
        except Hj212Error as error:
            if code.code not in self._too_long:
                self._too_long.add(code.code)
                log.warning("%s: %s of table B.1; it is sent with all its digits", code.code, error)
            decimals = int(code.format.partition(".")[2] or 0)
            return f"{value * code.factor:.{decimals}f}"
