"""The registry: its data agrees with itself and with the standards, and water is judged by the letter of theirs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import build_registry
from protocols.measurands import (
    HEAVY,
    LIGHT,
    NOT_BLACK_ODOROUS,
    WORSE_THAN_V,
    Judgement,
    RegistryError,
    black_odorous,
    black_odorous_point,
    registry,
    water_class,
)
from protocols.wire import schemas
from protocols.wire.limits import MAX_SERIES, MAX_VALUE

# As the files have it: what other tests of this process defined for devices is not in it.
FILED = registry.__wrapped__()
ALL = FILED.by_name
NAMES = sorted(ALL)


@pytest.mark.parametrize("path", sorted(build_registry.TABLES), ids=lambda path: str(path.name))
def test_the_tables_of_the_node_are_up_to_date(path: Any) -> None:
    assert path.read_text(encoding="utf-8") == build_registry.TABLES[path](), (
        "run: python -m protocols.build_registry"
    )


def test_host_and_node_read_the_same_schemas() -> None:
    for schema_id, of_schema in FILED.schemas.items():
        node = schemas.schema(schema_id)
        assert node.name == FILED.schema_names[schema_id]
        assert len(of_schema) <= MAX_SERIES
        assert [(m.name, m.decimals) for m in of_schema] == [(s.name, s.decimals) for s in node.series]


def test_the_ids_in_the_street_are_frozen() -> None:
    assert FILED.schema_names == {
        1: "river8",
        2: "river6",
        3: "river9",
        4: "river_nutrients",
        5: "hydrometry",
        6: "cover",
        7: "cover_gas",
        8: "lift",
    }
    assert [m.id for m in FILED.schemas[1]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [m.id for m in FILED.schemas[2]] == [1, 4, 2, 3, 5, 8]


def test_an_unknown_schema_says_which_ones_there_are() -> None:
    with pytest.raises(RegistryError, match=r"schema 77 .* 1, 2, 3, 4, 5"):
        FILED.of_schema(77)


@pytest.mark.parametrize("name", NAMES)
def test_the_range_of_a_measurand_fits_its_integers(name: str) -> None:
    measurand = ALL[name]
    low, high = measurand.range
    assert low < high
    assert -MAX_VALUE < measurand.scaled(low) < measurand.scaled(high) < MAX_VALUE


@pytest.mark.parametrize("name", NAMES)
@given(scaled=st.integers(-10_000_000, 10_000_000))
def test_an_integer_becomes_the_nearest_float_and_comes_back(name: str, scaled: int) -> None:
    measurand = ALL[name]
    assert measurand.scaled(measurand.value_of(scaled)) == scaled
    assert measurand.value_of(scaled) == float(measurand.text(scaled))


def test_halves_are_rounded_up() -> None:
    assert [ALL["orp"].scaled(value) for value in (1.5, 2.5, -1.5, -2.5)] == [2, 3, -1, -2]


def test_factors_lead_to_the_units_of_the_regulators() -> None:
    def lwm2m(name: str, value: float) -> float:
        resource = ALL[name].lwm2m
        assert resource is not None
        return value * resource.factor

    assert lwm2m("conductivity", 1258) == pytest.approx(0.1258)  # S/m
    assert lwm2m("orp", -210) == pytest.approx(-0.21)  # V
    assert lwm2m("level", 123.4) == pytest.approx(1.234)  # m
    assert lwm2m("dissolved_oxygen", 9.8) == 9.8  # ppm
    flow = ALL["flow"].hj212
    assert flow is not None
    assert 2.5 * flow.factor == 2500  # L/s
    assert ALL["orp"].ngsi is not None
    assert ALL["orp"].ngsi.minimum == 0


@pytest.mark.parametrize(
    ("name", "element", "definition"),
    [
        ("level", 0x39, 0x23),
        ("supply_voltage", 0x38, 0x12),
        ("water_temperature", 0x03, 0x11),
        ("ph", 0x46, 0x12),
    ],
)
def test_sl651_elements_have_the_definition_byte_of_the_standard(
    name: str, element: int, definition: int
) -> None:
    sl651 = ALL[name].sl651
    assert sl651 is not None
    assert (sl651.id, sl651.definition) == (element, definition)


@pytest.mark.parametrize("kind", ["hj212", "sl651"])
def test_no_two_measurands_share_a_code_of_a_regulator(kind: str) -> None:
    codes = [getattr(m, kind) for m in ALL.values() if getattr(m, kind) is not None]
    ids = [code.code if kind == "hj212" else code.id for code in codes]
    assert len(ids) == len(set(ids)) > 8


GB3838 = [
    # factor, a value in each class I to V and beyond, at the limit wherever there is one
    ("dissolved_oxygen", (7.5, 6, 5, 3, 2, 1.99)),
    ("permanganate_index", (2, 4, 6, 10, 15, 15.01)),
    ("ammonia_nitrogen", (0.15, 0.5, 1.0, 1.5, 2.0, 2.01)),
    ("total_phosphorus", (0.02, 0.1, 0.2, 0.3, 0.4, 0.401)),
    ("chemical_oxygen_demand", (15, None, 20, 30, 40, 40.1)),
    ("biochemical_oxygen_demand", (3, None, 4, 6, 10, 10.1)),
]


@pytest.mark.parametrize(
    ("factor", "value", "grade"),
    [(factor, value, i + 1) for factor, row in GB3838 for i, value in enumerate(row) if value is not None],
)
def test_a_class_includes_its_limit(factor: str, value: float, grade: int) -> None:
    assert water_class({factor: value}).grade == grade


@pytest.mark.parametrize(
    ("factor", "limit", "better", "step"),
    [
        (factor, value, i + 1, -0.001 if factor == "dissolved_oxygen" else 0.001)
        for factor, row in GB3838
        for i, value in enumerate(row[:5])
        if value is not None
    ],
)
def test_just_beyond_a_limit_is_the_next_class(factor: str, limit: float, better: int, step: float) -> None:
    beyond = water_class({factor: limit + step}).grade
    assert beyond is not None
    assert beyond > better


@pytest.mark.parametrize(("ph", "grade"), [(6, 1), (9, 1), (5.99, WORSE_THAN_V), (9.01, WORSE_THAN_V)])
def test_ph_is_in_its_range_or_beyond_every_class(ph: float, grade: int) -> None:
    assert water_class({"ph": ph}).grade == grade


def test_water_is_as_good_as_its_worst_factor() -> None:
    judged = water_class(
        {"ph": 7.5, "dissolved_oxygen": 6.2, "ammonia_nitrogen": 1.2, "turbidity": 900.0, "orp": None}
    )
    assert judged == Judgement(4, {"ph": 1, "dissolved_oxygen": 2, "ammonia_nitrogen": 4})


def test_saturated_water_is_class_one_whatever_the_amount() -> None:
    assert water_class({"dissolved_oxygen": 6.9}, do_saturation_percent=90).grade == 1
    assert water_class({"dissolved_oxygen": 6.9}, do_saturation_percent=89.9).grade == 2


def test_total_nitrogen_and_stricter_phosphorus_are_for_lakes() -> None:
    values = {"total_nitrogen": 3.0, "total_phosphorus": 0.05}
    assert water_class(values) == Judgement(2, {"total_phosphorus": 2})
    assert water_class(values, lake=True) == Judgement(6, {"total_nitrogen": 6, "total_phosphorus": 3})


def test_nothing_judged_has_no_class() -> None:
    assert water_class({"turbidity": 3.0, "ph": None}) == Judgement(None, {})
    assert black_odorous({}) == Judgement(None, {})
    assert black_odorous_point([]) is None


@pytest.mark.parametrize(
    ("index", "grades"),
    [
        ("transparency", {25.1: NOT_BLACK_ODOROUS, 25: LIGHT, 10: LIGHT, 9.9: HEAVY}),
        ("dissolved_oxygen", {2.01: NOT_BLACK_ODOROUS, 2.0: LIGHT, 0.2: LIGHT, 0.19: HEAVY}),
        ("orp", {51: NOT_BLACK_ODOROUS, 50: LIGHT, -200: LIGHT, -201: HEAVY}),
        ("ammonia_nitrogen", {7.99: NOT_BLACK_ODOROUS, 8.0: LIGHT, 15: LIGHT, 15.01: HEAVY}),
    ],
)
def test_black_odorous_limits_belong_to_light(index: str, grades: dict[float, int]) -> None:
    assert {value: black_odorous({index: value}).grade for value in grades} == grades


def test_shallow_water_is_judged_by_two_fifths_of_its_depth() -> None:
    assert black_odorous({"transparency": 9.0}).grade == HEAVY
    assert black_odorous({"transparency": 9.0}, depth_cm=20).grade == NOT_BLACK_ODOROUS
    assert black_odorous({"transparency": 8.0}, depth_cm=20).grade == LIGHT
    assert black_odorous({"transparency": 7.9}, depth_cm=20).grade == HEAVY
    assert black_odorous({"transparency": 9.0}, depth_cm=25).grade == HEAVY


def samples(**grades: str) -> list[Judgement]:
    """One sample per column: H heavy, L light, . neither."""
    marks = {"H": HEAVY, "L": LIGHT, ".": NOT_BLACK_ODOROUS}
    columns = zip(*grades.values(), strict=True)
    return [
        Judgement(None, {index: marks[mark] for index, mark in zip(grades, column, strict=True)})
        for column in columns
    ]


@pytest.mark.parametrize(
    ("grades", "grade"),
    [
        ({"orp": "HHH.."}, HEAVY),
        ({"orp": "HH..."}, LIGHT),
        ({"orp": "HHH.......", "dissolved_oxygen": "..HHH....."}, HEAVY),
        ({"orp": "HHH.......", "dissolved_oxygen": "..HH......"}, LIGHT),
        ({"orp": ".....", "dissolved_oxygen": "..L.."}, LIGHT),
        ({"orp": ".....", "dissolved_oxygen": "....."}, NOT_BLACK_ODOROUS),
    ],
)
def test_a_point_is_heavy_by_one_index_in_60_or_two_in_30_percent(grades: dict[str, str], grade: int) -> None:
    assert black_odorous_point(samples(**grades)) == grade
