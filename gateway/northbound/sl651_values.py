"""Readings of a site as elements of SL 651: which instrument speaks, what does not fit, in which order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gateway.marks import Mark
from gateway.records import Reading
from protocols.measurands import Measurand, SlElement, registry
from protocols.northbound import sl651_body
from protocols.northbound import sl651_codes as codes
from protocols.northbound.aggregate import NORMAL, sample_flag
from protocols.northbound.sl651 import Sl651Error
from protocols.northbound.sl651_body import Element
from protocols.wire.schemas import GOOD

log = logging.getLogger(__name__)
# The standard has these behind all others.
_LAST = (codes.SUPPLY, codes.STATUS)


class Value(NamedTuple):
    """A number in the registry's unit, None where there is none that counts."""

    measurand: Measurand
    number: float | None
    time_s: int


class _Column(NamedTuple):
    """One of a schema's series that SL 651 knows, and the scaled integers that it may have."""

    at: int
    measurand: Measurand
    scale: int
    low: int
    high: int


class Values:
    """Looks at readings as one regulator does."""

    def __init__(self, marks: Callable[[Reading], Mark]) -> None:
        self._marks = marks
        self._too_much: set[int] = set()
        self._known: dict[int, tuple[tuple[Measurand, ...], list[_Column]]] = {}

    def of(self, reading: Reading) -> dict[str, Value]:
        """What one set says, by measurand, of what SL 651 knows."""
        maintenance, flags = self._marks(reading).maintenance, reading.flags
        found = {}
        for index, measurand, scale, low, high in self._columns(reading.schema):
            value, quality = reading.values[index], GOOD if flags is None else flags[index]
            flag = sample_flag(value, quality, low, high, maintenance=maintenance)
            number = value / scale if flag == NORMAL and value is not None else None
            found[measurand.name] = Value(measurand, number, reading.time)
        return found

    def _columns(self, schema: int) -> list[_Column]:
        """Of a schema, found once: a backlog asks for them with each of its readings. A device's may become another."""
        of_schema = registry().of_schema(schema)
        known = self._known.get(schema)
        if known is None or known[0] is not of_schema:
            columns = []
            for index, series in enumerate(of_schema):
                measurand = registry().by_id[series.id]  # a device's series is named by its point
                if measurand.sl651 is not None:
                    low, high = map(series.scaled, series.range)
                    columns.append(_Column(index, measurand, 10**series.decimals, low, high))
            known = self._known[schema] = of_schema, columns
        return known[1]

    def newest(self, readings: Iterable[Reading]) -> dict[str, Value]:
        """The newest value of each measurand that counts; one that does not where there is no other."""
        newest: dict[str, Value] = {}
        for reading in sorted(readings, key=lambda one: (one.time, one.id)):
            for name, value in self.of(reading).items():
                if value.number is not None or name not in newest:
                    newest[name] = value
        return newest

    def elements(self, values: Mapping[str, Value]) -> tuple[Element, ...]:
        """In the order of the standard."""
        found = [self.element(value.measurand, value.number) for value in values.values()]
        return tuple(sorted(found, key=lambda element: (element.id in _LAST, element.id)))

    def element(self, measurand: Measurand, number: float | None) -> Element:
        """One element. What does not fit is sent as missing, for a figure that was cut would be believed."""
        form = measurand.sl651
        assert form is not None
        try:
            return _element(form, number)
        except Sl651Error as error:
            if form.id not in self._too_much:
                self._too_much.add(form.id)
                log.warning("%s: %s of SL 651; it is sent as missing", measurand.name, error)
            return _element(form, None)


def _element(form: SlElement, number: float | None) -> Element:
    value = None if number is None else number * form.factor
    return Element(form.id, *sl651_body.bcd(value, form.digits, form.decimals))
