"""The measurand registry on the host: names, UCUM units, scales, ranges, regulator codes; and what water is judged by.

    registry().of_schema(1)[0].value_of(748)           -> 7.48
    water_class({"dissolved_oxygen": 5.2, "ph": 7.9})  -> Judgement(grade=3, by={"dissolved_oxygen": 3, "ph": 1})

The data is in measurands.toml, schemas.toml and water_classes.toml; everything here is a pure function of it.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).parent

Code = TypeVar("Code")

WORSE_THAN_V = 6
CLASS_NAMES = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", WORSE_THAN_V: "劣V"}

NOT_BLACK_ODOROUS = 0
LIGHT = 1
HEAVY = 2


class RegistryError(Exception):
    """A name or id that the registry does not have, or data files that contradict each other."""


@dataclass(frozen=True, slots=True)
class HjCode:
    """HJ 212: pollutant code and the number format N<digits before>.<decimals>; value there = ours * factor."""

    code: str
    format: str
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class SlElement:
    """SL 651: element id, BCD digits and how many of them are decimals; value there = ours * factor."""

    id: int
    digits: int
    decimals: int
    factor: float = 1.0

    @property
    def definition(self) -> int:
        """The second byte of the element: bytes of BCD in the upper five bits, decimals in the lower three."""
        return (self.digits + 1) // 2 << 3 | self.decimals


@dataclass(frozen=True, slots=True)
class LwM2mResource:
    object: int
    resource: int
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class NgsiProperty:
    """``minimum``: the published schema refuses less, although the river may not."""

    property: str
    unit_code: str
    factor: float = 1.0
    minimum: float | None = None


@dataclass(frozen=True, slots=True)
class SenmlUnit:
    unit: str
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Measurand:
    """A quantity with its unit and the scale of its integers: value = integer / 10**decimals."""

    name: str
    id: int
    label: str
    unit: str
    decimals: int
    range: tuple[float, float]
    hj212: HjCode | None = None
    sl651: SlElement | None = None
    lwm2m: LwM2mResource | None = None
    ngsi: NgsiProperty | None = None
    senml: SenmlUnit | None = None

    def value_of(self, scaled: int) -> float:
        """The float nearest to the decimal number that the integer stands for."""
        return float(scaled / 10**self.decimals)

    def scaled(self, value: float) -> int:
        """The integer for a value, rounded half up."""
        return math.floor(value * float(10**self.decimals) + 0.5)

    def text(self, scaled: int) -> str:
        """The decimal number with all its decimals."""
        return f"{self.value_of(scaled):.{self.decimals}f}"


@dataclass(frozen=True, slots=True)
class Registry:
    by_name: Mapping[str, Measurand]
    by_id: Mapping[int, Measurand]
    schemas: dict[int, tuple[Measurand, ...]]
    schema_names: dict[int, str]
    node_types: Mapping[str, int]

    def of_node_type(self, name: str) -> tuple[Measurand, ...]:
        """What a node of that type measures, in the order of its sets."""
        if name not in self.node_types:
            known = ", ".join(sorted(self.node_types))
            raise RegistryError(f"node type {name!r:.40} has no schema in schemas.toml, which has {known}")
        return self.schemas[self.node_types[name]]

    def add_schema(self, schema_id: int, name: str, series: tuple[Measurand, ...]) -> None:
        """Know a schema that is not in schemas.toml (device_schemas.py)."""
        self.schemas[schema_id] = series
        self.schema_names[schema_id] = name

    def of_schema(self, schema_id: int) -> tuple[Measurand, ...]:
        try:
            return self.schemas[schema_id]
        except KeyError:
            known = ", ".join(str(known) for known in sorted(self.schemas))
            raise RegistryError(f"schema {schema_id} is not in schemas.toml, which has {known}") from None


def _read(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def _measurand(name: str, entry: Mapping[str, Any]) -> Measurand:
    def code(kind: type[Code], key: str) -> Code | None:
        return kind(**entry[key]) if key in entry else None

    return Measurand(
        name=name,
        id=entry["id"],
        label=entry["label"],
        unit=entry["unit"],
        decimals=entry["decimals"],
        range=(float(entry["range"][0]), float(entry["range"][1])),
        hj212=code(HjCode, "hj212"),
        sl651=code(SlElement, "sl651"),
        lwm2m=code(LwM2mResource, "lwm2m"),
        ngsi=code(NgsiProperty, "ngsi"),
        senml=code(SenmlUnit, "senml"),
    )


@functools.cache
def registry() -> Registry:
    """The whole registry, read once."""
    by_name = {name: _measurand(name, entry) for name, entry in _read("measurands.toml").items()}
    by_id = {measurand.id: measurand for measurand in by_name.values()}
    if len(by_id) != len(by_name):
        raise RegistryError("two measurands of measurands.toml share an id")
    schemas: dict[int, tuple[Measurand, ...]] = {}
    names: dict[int, str] = {}
    node_types: dict[str, int] = {}
    for name, entry in _read("schemas.toml").items():
        unknown = [series for series in entry["series"] if series not in by_name]
        if unknown or entry["id"] in schemas:
            raise RegistryError(f"schema {name}: id {entry['id']} taken, or unknown measurands {unknown}")
        schemas[entry["id"]] = tuple(by_name[series] for series in entry["series"])
        names[entry["id"]] = name
        node_types.update(dict.fromkeys(entry.get("node_types", ()), entry["id"]))
    return Registry(by_name, by_id, schemas, names, node_types)


@functools.cache
def _limits() -> dict[str, dict[str, Any]]:
    return _read("water_classes.toml")


CLASS_I_SATURATION_PERCENT: float = _limits()["gb3838"]["dissolved_oxygen"]["saturation_percent_i"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """``grade``: the worst of ``by``, the grade of every factor that was judged; None when none was."""

    grade: int | None
    by: Mapping[str, int]


def _judgement(by: Mapping[str, int]) -> Judgement:
    return Judgement(max(by.values(), default=None), by)


def water_class(
    values: Mapping[str, float | None], *, lake: bool = False, do_saturation_percent: float | None = None
) -> Judgement:
    """GB 3838-2002: the class of the worst factor, 1 to 5, or WORSE_THAN_V.

    ``values`` by measurand name, in the registry's units; what the standard does not know, or is None, is not judged. A
    river is judged without total nitrogen. Dissolved oxygen is class I by its amount or by its saturation.
    """
    by: dict[str, int] = {}
    for factor, limits in _limits()["gb3838"].items():
        value = values.get(factor)
        if value is None:
            continue
        if "range" in limits:
            low, high = limits["range"]
            by[factor] = 1 if low <= value <= high else WORSE_THAN_V
        elif "min" in limits:
            by[factor] = _class_at_least(value, limits["min"])
            if do_saturation_percent is not None and do_saturation_percent >= CLASS_I_SATURATION_PERCENT:
                by[factor] = 1
        else:
            ceilings = limits.get("max_lake", limits.get("max")) if lake else limits.get("max")
            if ceilings is not None:
                by[factor] = _class_at_most(value, ceilings)
    return _judgement(by)


def _class_at_most(value: float, ceilings: Sequence[float]) -> int:
    for grade, ceiling in enumerate(ceilings, start=1):
        if value <= ceiling:
            return grade
    return WORSE_THAN_V


def _class_at_least(value: float, floors: Sequence[float]) -> int:
    for grade, floor in enumerate(floors, start=1):
        if value >= floor:
            return grade
    return WORSE_THAN_V


def black_odorous(values: Mapping[str, float | None], depth_cm: float | None = None) -> Judgement:
    """One sample of urban water: NOT_BLACK_ODOROUS, LIGHT or HEAVY by each index and by the worst.

    In water shallower than 25 cm, 40 % of the depth takes the place of the transparency limits above it.
    """
    by: dict[str, int] = {}
    for index, limits in _limits()["black_odorous"].items():
        value = values.get(index)
        if value is None:
            continue
        light, heavy = limits["light"], limits["heavy"]
        if depth_cm is not None and depth_cm < limits.get("shallow_cm", 0):
            shallow = depth_cm * limits["shallow_share"]
            light, heavy = min(light, shallow), min(heavy, shallow)
        below = limits["worse"] == "below"
        if value < heavy if below else value > heavy:
            by[index] = HEAVY
        elif value <= light if below else value >= light:
            by[index] = LIGHT
        else:
            by[index] = NOT_BLACK_ODOROUS
    return _judgement(by)


def black_odorous_point(samples: Sequence[Judgement]) -> int | None:
    """A sampling point: HEAVY when one index is heavy in 60 % of its samples, or two indices in 30 % of theirs.

    LIGHT when any index of any sample is light or worse; None when nothing was judged.
    """
    grades: dict[str, list[int]] = {}
    for sample in samples:
        for index, grade in sample.by.items():
            grades.setdefault(index, []).append(grade)
    if not grades:
        return None
    # In whole numbers: 60 % of 5 samples are exactly 3.
    heavy_60 = [index for index, of in grades.items() if of.count(HEAVY) * 10 >= len(of) * 6]
    heavy_30 = [index for index, of in grades.items() if of.count(HEAVY) * 10 >= len(of) * 3]
    if heavy_60 or len(heavy_30) >= 2:
        return HEAVY
    return LIGHT if any(max(of) >= LIGHT for of in grades.values()) else NOT_BLACK_ODOROUS
