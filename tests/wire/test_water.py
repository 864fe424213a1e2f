"""Water by the standards' own numbers: oxygen saturation, conductivity at 25 °C, and classes exact at every limit."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import measurands, water
from protocols.measurands import (
    HEAVY,
    LIGHT,
    NOT_BLACK_ODOROUS,
    WORSE_THAN_V,
    black_odorous,
    registry,
    water_class,
)
from protocols.northbound import derived
from protocols.wire.schemas import FAIL, FLAGS, GOOD, MISSING

LIMITS: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(measurands.__file__).parent / "water_classes.toml").read_text(encoding="utf-8")
)
TABLE = json.loads(
    (Path(measurands.__file__).parent / "vectors" / "host" / "do_saturation.json").read_text(encoding="utf-8")
)["cases"]


@pytest.mark.parametrize("case", TABLE, ids=[case["name"] for case in TABLE])
def test_oxygen_saturation_is_that_of_the_table(case: dict[str, Any]) -> None:
    off = max(
        abs(water.do_saturation_mg_l(t_cel, case["salinity"], case["pressure_kpa"]) - mg_l)
        for t_cel, mg_l in case["mg_l"]
    )
    print(f"\ndo_saturation table={case['name']!r} points={len(case['mg_l'])} worst_mg_l={off:.4f}")
    assert off < 0.005


def test_percent_conductivity_and_slope() -> None:
    assert water.do_saturation_percent(9.092, 20.0) == pytest.approx(100, abs=0.01)
    assert water.do_saturation_percent(8.512, 20.0, pressure_kpa=95.0) == pytest.approx(100, abs=0.01)
    assert water.conductivity_at_25(1413.0, 25.0) == 1413.0
    assert water.conductivity_at_25(1000.0, 15.0) == pytest.approx(1000 / 0.809)
    assert water.conductivity_at_25(1000.0, 15.0, 0.02) == pytest.approx(1250.0)
    assert water.ph_slope_mv(25.0) == pytest.approx(-59.16, abs=0.005)
    assert water.ph_slope_mv(0.0) == pytest.approx(-54.20, abs=0.005)


# -- classes, exact at every limit ±1 step of the reading ---


def limits_of(factor: str, lake: bool) -> tuple[str, list[float]] | None:
    """("max" or "min", limits of the classes I to V) as they stand in the data."""
    entry = LIMITS["gb3838"][factor]
    if "min" in entry:
        return "min", entry["min"]
    ceilings = entry.get("max_lake", entry.get("max")) if lake else entry.get("max")
    return None if ceilings is None else ("max", ceilings)


def class_by_hand(kind: str, limits: list[int], scaled: int) -> int:
    """In integers: the first class whose limit the reading keeps."""
    for grade, limit in enumerate(limits, 1):
        if scaled <= limit if kind == "max" else scaled >= limit:
            return grade
    return WORSE_THAN_V


@pytest.mark.parametrize("lake", [False, True], ids=["river", "lake"])
@pytest.mark.parametrize("factor", sorted(set(LIMITS["gb3838"]) - {"ph"}))
def test_a_class_is_exact_at_every_limit_and_one_step_to_either_side(factor: str, lake: bool) -> None:
    measurand = registry().by_name[factor]
    found = limits_of(factor, lake)
    if found is None:
        assert water_class({factor: 1.0}, lake=lake).by == {}
        return
    kind, limits = found
    scaled = [measurand.scaled(limit) for limit in limits]
    assert [measurand.value_of(limit) for limit in scaled] == limits, "a limit that no reading can have"
    sign = 1 if kind == "max" else -1
    for grade, limit in enumerate(scaled, 1):
        for step in (-1, 0, 1):
            got = water_class({factor: measurand.value_of(limit + step)}, lake=lake).grade
            assert got == class_by_hand(kind, scaled, limit + step), (factor, limit + step)
        beyond = water_class({factor: measurand.value_of(limit + sign)}, lake=lake).grade
        assert beyond is not None
        assert beyond > grade, "one step beyond its limit no class holds"


def test_ph_is_exact_at_both_ends() -> None:
    grades = {scaled: water_class({"ph": scaled / 100}).grade for scaled in (599, 600, 601, 899, 900, 901)}
    assert grades == {599: 6, 600: 1, 601: 1, 899: 1, 900: 1, 901: 6}


@pytest.mark.parametrize("t_scaled", range(0, 4001, 50))
def test_oxygen_is_class_one_from_ninety_percent_of_saturation_on(t_scaled: int) -> None:
    """At every half degree: the first step of 90 % of saturation (or 7.5 mg/L) is class I, the one below is not."""
    full = water.do_saturation_mg_l(t_scaled / 100)
    first = next(scaled for scaled in range(500, 1500) if scaled / full >= 90 or scaled >= 750)
    for scaled, is_one in ((first - 1, False), (first, True), (first + 1, True)):
        got = derived.of(2, (t_scaled, None, None, scaled, None, None), None)
        assert got is not None
        assert (got.water_class == 1) is is_one, (t_scaled, scaled)


@pytest.mark.parametrize("index", sorted(LIMITS["black_odorous"]))
def test_a_black_odorous_grade_is_exact_at_both_limits(index: str) -> None:
    entry, measurand = LIMITS["black_odorous"][index], registry().by_name[index]
    worse = -1 if entry["worse"] == "below" else 1
    light, heavy = measurand.scaled(entry["light"]), measurand.scaled(entry["heavy"])
    wanted = {
        light - worse: NOT_BLACK_ODOROUS,
        light: LIGHT,
        light + worse: LIGHT,
        heavy - worse: LIGHT,
        heavy: LIGHT,
        heavy + worse: HEAVY,
    }
    assert {scaled: black_odorous({index: measurand.value_of(scaled)}).grade for scaled in wanted} == wanted


# -- beside a set ---


def test_what_a_set_says_of_its_water() -> None:
    good = (2000, 780, 830, 600, 300, 250, 42, 1000)
    said = derived.of(1, good, None)
    assert said is not None
    assert said == (2, "ammonia_nitrogen", pytest.approx(91.28, abs=0.01), 0)
    assert derived.of(1, (2000, 780, 150, 600, 300, -250, 42, 1000), None) == (
        6,
        "dissolved_oxygen",
        pytest.approx(16.5, abs=0.01),
        HEAVY,
    )
    assert derived.of(6, (1, 2, 3, 4), None) is None, "a cover knows nothing of water quality"
    assert derived.of(1, (None,) * 8, (MISSING,) * 8) == (None, None, None, None)
    failed = [GOOD] * 8
    failed[2] = FAIL
    assert derived.of(1, (2000, 780, 1, 600, 300, 250, 42, 1000), failed) == (2, "ammonia_nitrogen", None, 0)


@given(
    st.lists(st.one_of(st.none(), st.integers(-1500, 4000)), min_size=8, max_size=8),
    st.lists(st.sampled_from(FLAGS), min_size=8, max_size=8),
)
def test_the_fast_way_says_what_the_registry_says(values: list[int | None], flags: list[int]) -> None:
    names = [measurand.name for measurand in registry().of_schema(1)]
    used = {
        measurand.name: measurand.value_of(value)
        for measurand, value, flag in zip(registry().of_schema(1), values, flags, strict=True)
        if value is not None and flag not in (FAIL, MISSING)
    }
    percent = None
    if "dissolved_oxygen" in used and used.get(names[0], 99.0) <= 40:
        percent = water.do_saturation_percent(used["dissolved_oxygen"], max(used[names[0]], 0.0))
    said = derived.of(1, values, flags)
    assert said is not None
    judged = water_class(used, do_saturation_percent=percent)
    assert said.water_class == judged.grade
    assert said.black_odorous == black_odorous(used).grade
    assert said.do_saturation_percent == pytest.approx(percent)
    assert said.worst is None or judged.by[said.worst] == judged.grade


def test_the_memory_of_answers_is_bounded() -> None:
    plan = derived._plan(1)
    assert plan is not None
    for value in range(3 * derived._ANSWERS_MAX):
        derived.of(1, (value, 700, value, 0, 0, value, value, 0), None)
        assert len(plan.saturation) <= derived._ANSWERS_MAX
        assert all(len(grades) <= derived._ANSWERS_MAX for _, grades in plan.factors)
