"""What platforms call a lift's events: every set speaks of every alarm, and says what its source says."""

from __future__ import annotations

from typing import Any

import pytest

from firmware.lift_faults import CODES, SERVICE
from protocols.lift_codes import LIFT_ALARMS, LiftCodesError, lift_code_sets, lift_codes, read_set
from protocols.wire.codes import EVENT_NAMES

GOOD = {
    "title": "a set",
    "codes": {EVENT_NAMES[event]: str(event) for event in LIFT_ALARMS[1:]},
    "flags": {EVENT_NAMES[LIFT_ALARMS[0]]: "item"},
    "absent": [],
    "service": {"2": "x"},
}


def test_the_alarms_are_those_that_the_firmware_can_raise() -> None:
    assert set(LIFT_ALARMS) == set(CODES) - {CODES[SERVICE]}


@pytest.mark.parametrize("name", ["gbt24476", "provincial", "city"])
def test_every_set_is_read_and_named_after_its_source(name: str) -> None:
    of_set = lift_code_sets()[name]
    assert of_set.title
    assert all(code.isdigit() for code in of_set.codes.values())


def test_without_a_name_it_is_the_national_set() -> None:
    assert lift_codes() is lift_codes("gbt24476")


@pytest.mark.parametrize(
    ("name", "event", "code"),
    [
        ("gbt24476", 33, "4"),
        ("gbt24476", 37, "5"),
        ("gbt24476", 35, "1"),
        ("gbt24476", 38, "2"),
        ("gbt24476", 34, None),
        ("provincial", 39, "9"),
        ("provincial", 40, "10"),
        ("provincial", 34, "11"),
        ("provincial", 38, "14"),
        ("provincial", 35, "8"),
        ("city", 13, "0101"),
        ("city", 33, "0203"),
        ("city", 40, "0204"),
        ("city", 39, "0205"),
        ("city", 37, "0207"),
        ("city", 36, "0314"),
    ],
)
def test_an_event_has_the_code_of_the_set(name: str, event: int, code: str | None) -> None:
    assert lift_codes(name).of_event(event) == code


def test_where_trapped_is_no_code_it_is_an_item_of_its_own() -> None:
    for name in ("gbt24476", "provincial"):
        assert lift_codes(name).of_event(13) is None
        assert lift_codes(name).flags[13] == "trapped"


def test_service_modes_have_their_codes() -> None:
    national = lift_codes()
    assert [national.of_service(mode) for mode in range(8)] == [
        "42",
        "40",
        "43",
        "44",
        "45",
        "46",
        "47",
        None,
    ]
    assert [lift_codes("city").of_service(mode) for mode in (0, 1, 2)] == ["0401", None, "0402"]


def test_an_unknown_set_is_answered_with_those_there_are() -> None:
    with pytest.raises(LiftCodesError, match=r"no set 'shanghai'.*city, gbt24476, provincial"):
        lift_codes("shanghai")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": {}}, "nothing is said of lift_door_fault"),
        ({"absent": ["lift_trapped"]}, "lift_trapped is there twice"),
        ({"absent": ["lift_trip"]}, "'lift_trip' is no alarm"),
        ({"service": {"9": "x"}}, "service modes are 0 to 7"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    assert read_set("good", GOOD).of_event(33) == "33"
    with pytest.raises(LiftCodesError, match=message):
        read_set("bad", GOOD | change)
