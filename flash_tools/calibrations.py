"""Calibrations that a node is minted with: a probe that comes with a certificate, or was calibrated on the bench.

    ph=17                           certificate 17, and the probe corrects itself: readings stay as they are
    ph=17:7.02/7.00:4.05/4.01       certificate 17, and what the probe said in two solutions / what it should have said

Both are the document of SPEC.md section 2.5 on the new node: it tells an event `calibrated` with its first start, and
its readings carry the number from then on. What a node would refuse, minting refuses (firmware/calibration.py judges
alike; a test holds the two to each other).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from struct import pack
from typing import NamedTuple

from flash_tools.errors import MintError
from protocols.measurands import Measurand, registry
from protocols.wire import cbor, document

DOCUMENT = "calibration"
MAX_ID = 65535
# Series of the type's schema: reference point, slope from and to in 1/10000, offset at most, in steps of the reading.
_RIVER = {
    1: (700, 8500, 10500, 51),
    2: (0, 8000, 12000, 50),
    3: (0, 8000, 12000, 30),
    4: (0, 8000, 12000, 50),
    5: (0, 9000, 11000, 50),
    6: (0, 7500, 12500, 50),
}
LIMITS: Mapping[str, Mapping[int, tuple[int, int, int, int]]] = {"river": _RIVER, "river_solar": _RIVER}


class Calibration(NamedTuple):
    """One probe's: the number of its certificate, and (probe, true) of two points, scaled as readings are."""

    series: int
    name: str
    number: int
    points: tuple[int, int, int, int]


class Verdict(NamedTuple):
    """What is judged, as a station record shows it: the probe's own slope and offset beside what is allowed."""

    slope: float
    slope_low: float
    slope_high: float
    offset: float
    offset_max: float


def parse(texts: Sequence[str], node_type: str) -> tuple[Calibration, ...]:
    """Each as in the head of this file. MintError names what is wrong and what there is."""
    found: dict[int, Calibration] = {}
    for text in texts:
        one = _parse_one(text, node_type)
        if one.series in found:
            raise MintError(f"calibration {text!r}: {one.name} is given twice. Name each probe once")
        found[one.series] = one
    return tuple(found[series] for series in sorted(found))


def text_of(one: Calibration, node_type: str) -> str:
    """What `parse` reads."""
    measurand = registry().of_node_type(node_type)[one.series]
    probe0, true0, probe1, true1 = (measurand.text(value) for value in one.points)
    return f"{one.name}={one.number}:{probe0}/{true0}:{probe1}/{true1}"


def verdict(one: Calibration, node_type: str) -> Verdict:
    reference, low, high, offset_max = LIMITS[node_type][one.series]
    slope, offset = _slope_and_offset(reference, one.points)
    measurand = registry().of_node_type(node_type)[one.series]
    return Verdict(
        slope / 10000, low / 10000, high / 10000, measurand.value_of(offset), measurand.value_of(offset_max)
    )


def encode(calibrations: Sequence[Calibration]) -> dict[str, bytes]:
    """Path in the `state` partition -> content."""
    data = cbor.dumps([{one.series: [one.number, *one.points] for one in calibrations}, {}])
    copy = document.encode(DOCUMENT, 1, pack(">H", len(data)) + data)
    return {f"{folder}/{DOCUMENT}": copy for folder in document.FOLDERS}


def _parse_one(text: str, node_type: str) -> Calibration:
    names = _names(node_type)
    if not names:
        raise MintError(f"calibration {text!r}: a {node_type} has no probe to calibrate. Leave it out")
    name, _, rest = text.partition("=")
    number, *points = rest.split(":")
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise MintError(f"calibration {text!r}: a {node_type} has {', '.join(names)}{hint}")
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 1 <= int(number) <= MAX_ID or len(points) not in (0, 2):
        raise MintError(
            f"calibration {text!r}: write NAME=NUMBER with a certificate number of 1 to {MAX_ID}, or "
            "NAME=NUMBER:PROBE/TRUE:PROBE/TRUE with both points, as ph=17:7.02/7.00:4.05/4.01"
        )
    series = names[name]
    measurand = registry().of_node_type(node_type)[series]
    pairs = [value for point in points for value in _point(text, point, measurand)]
    # A probe that corrects itself: the straight line through what it says.
    made = tuple(pairs or (0, 0, 1000, 1000))
    one = Calibration(series, name, int(number), (made[0], made[1], made[2], made[3]))
    problem = _problem(LIMITS[node_type][series], one.points, measurand)
    if problem:
        raise MintError(f"calibration {text!r}: {problem}")
    return one


def _names(node_type: str) -> dict[str, int]:
    return {registry().of_node_type(node_type)[series].name: series for series in LIMITS.get(node_type, {})}


def _point(text: str, point: str, measurand: Measurand) -> tuple[int, int]:
    probe, slash, true = point.partition("/")
    try:
        if not slash:
            raise InvalidOperation
        values = [Decimal(one).scaleb(measurand.decimals) for one in (probe, true)]
        if any(not value.is_finite() or value != int(value) or abs(value) >= 2**31 for value in values):
            raise InvalidOperation
    except InvalidOperation as error:
        raise MintError(
            f"calibration {text!r}: {point!r} is no PROBE/TRUE with at most {measurand.decimals} decimals "
            f"({measurand.unit})"
        ) from error
    return int(values[0]), int(values[1])


def _problem(
    limits: tuple[int, int, int, int], points: tuple[int, int, int, int], measurand: Measurand
) -> str:
    reference, low, high, offset_max = limits
    if points[1] == points[3]:
        return "both points have one value: use two standards"
    slope, offset = _slope_and_offset(reference, points)
    if not low <= slope <= high:
        return (
            f"slope {slope / 100:g} %, allowed {low / 100:g} to {high / 100:g} %: clean the probe and repeat"
        )
    if not -offset_max <= offset <= offset_max:
        shown = measurand.text(offset), measurand.text(offset_max)
        return f"offset {shown[0]}, allowed ±{shown[1]} {measurand.unit}: clean the probe and repeat"
    return ""


def _slope_and_offset(reference: int, points: tuple[int, int, int, int]) -> tuple[int, int]:
    """Of the probe: slope in 1/10000, offset at the reference point in steps of the reading; rounded half up."""
    probe0, true0, probe1, true1 = points
    over = 2 * (true1 - true0)
    slope = (20000 * (probe1 - probe0) + over // 2) // over
    at_reference = probe0 + (2 * (reference - true0) * (probe1 - probe0) + over // 2) // over
    return slope, at_reference - reference
