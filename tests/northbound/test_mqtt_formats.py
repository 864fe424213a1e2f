"""SenML, CBOR, ThingsBoard and Home Assistant against golden cases, the registry of IANA and independent readers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cbor2
import pytest

from protocols.measurands import registry
from protocols.northbound import format_cbor, format_json, homeassistant, senml, thingsboard

VECTORS = Path(format_json.__file__).parents[1] / "vectors" / "northbound" / "mqtt.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]

# Primary units of IANA's registry (RFC 8428, RFC 8798, ISO 7027-1) that are not marked as better avoided, and those of
# the marked ones that have no better form.
_UNITS = """
m kg s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 m/s m/s2 m3/s W/m2 cd/m2 bit bit/s
lat lon pH dB dBW count / %RH %EL EL 1/s 1/min S/m B VA VAs var vars J/m kg/m3 NTU
"""
PRIMARY = set(_UNITS.split())


def made(case: dict[str, Any]) -> str:
    given = dict(case["record"])
    values = tuple(given.pop("values")) if "values" in given else None
    if values is not None:
        flags = given.pop("flags")
        given |= {"values": values, "flags": None if flags is None else tuple(flags)}
    module = {"senml": senml, "thingsboard": thingsboard}[case["format"]]
    return str(getattr(module, case["kind"])(**given).decode())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_cases(case: dict[str, Any]) -> None:
    assert made(case) == case["text"]
    json.loads(case["text"])


def test_every_unit_of_senml_is_a_registered_primary_one() -> None:
    used = {one.name: one.senml.unit for one in registry().by_name.values() if one.senml is not None}
    assert {name: unit for name, unit in used.items() if unit not in PRIMARY} == {}


@pytest.mark.parametrize(
    ("name", "scaled", "unit", "value"),
    [
        ("conductivity", 610, "S/m", 0.061),  # uS/cm
        ("orp", -200, "V", -0.2),  # mV
        ("dissolved_oxygen", 850, "kg/m3", 0.0085),  # mg/L: registered nowhere
        ("chlorophyll_a", 123, "kg/m3", 0.0000123),  # ug/L
        ("level", 1234, "m", 1.234),  # cm
        ("ph", 780, "pH", 7.8),
        ("turbidity", 300, "NTU", 30.0),
    ],
)
def test_values_are_converted_to_the_unit_they_go_under(
    name: str, scaled: int, unit: str, value: float
) -> None:
    piece = json.loads(senml._Pieces(registry().by_name[name])[scaled])
    assert piece["u"] == unit
    assert piece["v"] == pytest.approx(value, rel=1e-12)
    assert "e" not in repr(piece["v"]) or abs(piece["v"]) < 1e-4


def test_names_of_senml_are_what_rfc_8428_allows() -> None:
    """Section 4.5.1: A-Z a-z 0-9 - : . / _ and a first character of letters and digits."""
    for measurand in registry().by_name.values():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:./_-]*", f"tidegate:0012:{measurand.name}.q")


def test_cbor_says_what_the_json_says() -> None:
    head = format_json.head(0x12, "桥-1", 281474976710655)
    series = len(registry().of_schema(1))
    text = format_json.reading(head, 123, 0, False, 1, 1, 2, 1, tuple(range(series)), None)
    data = format_cbor.from_json(text)
    assert cbor2.loads(data) == json.loads(text)
    assert len(data) < len(text)


def test_one_value_says_what_the_set_says_of_it() -> None:
    head = format_json.head(0x12, "s", 7)
    values = tuple(range(len(registry().of_schema(1))))
    whole = json.loads(format_json.reading(head, 1, 0, False, 2, 1, 3, 1, values, None))
    for index, measurand in enumerate(registry().of_schema(1)):
        one = json.loads(format_json.value(head, 1, 0, False, 2, 1, 3, 1, index, values[index], 1))
        assert one.pop("measurand") == measurand.name
        assert {key: one.pop(key) for key in ("v", "u", "q")} == whole["readings"][measurand.name]
        assert {key: whole[key] for key in one} == one


# What Home Assistant takes as a unit of each class (its sensor/const.py); a sensor with another one is refused by it.
HA_UNITS = {
    "temperature": {"°C"}, "ph": {None}, "conductivity": {"µS/cm"}, "voltage": {"V", "mV"}, "current": {"A", "mA"},
    "power": {"W"}, "apparent_power": {"VA"}, "reactive_power": {"var"}, "frequency": {"Hz"}, "energy": {"kWh"},
    "pressure": {"hPa"}, "distance": {"m", "cm"}, "speed": {"m/s"}, "volume_flow_rate": {"m³/h"},
    "duration": {"s", "h"}, "sound_pressure": {"dB"}, "humidity": {"%"}, "battery": {"%"}, "power_factor": {None},
    "precipitation": {"mm"},
}  # fmt: skip
# Classes that only take what is measured, not what is counted up.
_NOT_GROWING = set(HA_UNITS) - {"energy", "duration", "distance", "precipitation"}


@pytest.mark.parametrize("name", sorted(registry().by_name))
def test_home_assistant_takes_every_sensor_it_is_told_of(name: str) -> None:
    measurand = registry().by_name[name]
    told = json.loads(homeassistant.config(measurand, name, 0x12, "bridge-1", "t/0012", False, "t/status"))
    if "device_class" in told:
        assert told.get("unit_of_measurement") in HA_UNITS[told["device_class"]]
        assert told["state_class"] == "measurement" or told["device_class"] not in _NOT_GROWING
    assert re.fullmatch(
        r"homeassistant/sensor/[\w-]+/[\w-]+/config", homeassistant.topic("homeassistant", 0x12, name)
    )
    assert told["unique_id"] == f"tidegate_0012_{name}"
    assert told["availability_topic"] == "t/status"


def test_a_sensor_of_home_assistant_finds_its_value_in_the_record() -> None:
    measurand = registry().by_name["water_temperature"]
    told = json.loads(homeassistant.config(measurand, "water_temperature", 18, "b", "t", False, None))
    path = re.fullmatch(r"\{\{ value_json\.readings\['(\w+)'\]\.v \}\}", told["value_template"])
    assert path is not None
    assert path[1] == "water_temperature"
    by_value = json.loads(homeassistant.config(measurand, "water_temperature", 18, "b", "t", True, None))
    assert by_value["value_template"] == "{{ value_json.v }}"
