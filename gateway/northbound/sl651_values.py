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


class Values:
    """Looks at readings as one regulator does."""

    def __init__(self, marks: Callable[[Reading], Mark]) -> None:
        self._marks = marks
        self._too_much: set[int] = set()

    def of(self, reading: Reading) -> dict[str, Value]:
        """What one set says, by measurand, of what SL 651 knows."""
        mark = self._marks(reading)
        found = {}
        for index, series in enumerate(registry().of_schema(reading.schema)):
            measurand = registry().by_id[series.id]  # a device's series is named by its point
            if measurand.sl651 is None:
                continue
            value = reading.values[index]
            quality = GOOD if reading.flags is None else reading.flags[index]
            low, high = map(series.scaled, series.range)
            flag = sample_flag(value, quality, low, high, maintenance=mark.maintenance)
            counts = flag == NORMAL and value is not None
            number = value / 10**series.decimals if counts and value is not None else None
            found[measurand.name] = Value(measurand, number, reading.time)
        return found

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
