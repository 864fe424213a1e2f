"""The register maps that are shipped, held to examples of their makers and standards, byte by byte."""

from __future__ import annotations

import struct

import pytest

from gateway.profile_library import Library
from gateway.profiles import ModbusProfile
from protocols import fields
from protocols.fields import Value


def modbus(name: str) -> ModbusProfile:
    part = Library().get(name).modbus
    assert part is not None
    return part


def values(name: str, registers: dict[int, int]) -> dict[str, Value | None]:
    """What the points of a profile say of a device with these registers; those with others are left out."""
    part = modbus(name)
    found = {}
    for point in part.point:
        first = part.wire_address(point)
        window = [registers[a] for a in range(first, first + part.length(point)) if a in registers]
        if len(window) == part.length(point):
            found[point.key] = fields.decode(part.form(point), fields.registers_to_bytes(window))
    return found


def block(first: int, data: bytes) -> dict[int, int]:
    """Registers from the bytes of an answer."""
    return {first + i // 2: data[i] << 8 | data[i + 1] for i in range(0, len(data), 2)}


def test_the_sonde_s_eight_floats_least_significant_byte_first_from_0x2601() -> None:
    water = (8.27, 13.5, 1.425, 7.48, 21.62, -204.0, 4.5, 1.25)
    assert values("yosemitech_y4000", block(0x2601, struct.pack("<8f", *water))) == {
        "dissolved_oxygen": pytest.approx(8.27),
        "turbidity": pytest.approx(13.5),
        "conductivity": pytest.approx(1425.0),  # it says 1.425 mS/cm
        "ph": pytest.approx(7.48),
        "water_temperature": pytest.approx(21.62),
        "orp": pytest.approx(-204.0),
        "chlorophyll_a": pytest.approx(4.5),
        "blue_green_algae": pytest.approx(1.25),
    }


def test_the_turbidity_probe_temperature_value_and_error_byte_from_0x2600() -> None:
    answer = struct.pack("<ffBB", 22.5, 104.75, 3, 0)
    assert values("yosemitech_y511", block(0x2600, answer)) == {
        "water_temperature": 22.5,
        "turbidity": 104.75,
        "probe_error": 3,
    }
    start, stop = modbus("yosemitech_y511").start, modbus("yosemitech_y511").stop
    assert [(step.do, step.function, step.address, step.count) for step in (*start, *stop)] == [
        ("read", "holding", 0x2500, 0),
        ("read", "holding", 0x2E00, 1),
    ]


def test_the_ph_probe_has_its_three_values_in_three_places() -> None:
    registers = {
        **block(0x2800, struct.pack("<f", 6.86)),
        **block(0x2400, struct.pack("<f", 25.0)),
        **block(0x1200, struct.pack("<f", -4.5)),
    }
    assert values("yosemitech_y532", registers) == {
        "ph": pytest.approx(6.86),
        "water_temperature": 25.0,
        "ph_potential": -4.5,
    }


@pytest.mark.parametrize(
    ("profile", "key", "value"),
    [("sonbest_xm9505", "rainfall", 53.6), ("sonbest_sm7901", "sound_level", 53.6)],
)
def test_the_makers_own_example_02_18(profile: str, key: str, value: float) -> None:
    assert values(profile, {0: 0x0218}) == {key: pytest.approx(value)}


def test_the_turbidity_probe_s_example_0d_2e_00_db() -> None:
    assert values("dfrobot_sen0710", block(0, bytes.fromhex("0D2E00DB"))) == {
        "turbidity": pytest.approx(337.4),
        "water_temperature": pytest.approx(21.9),
    }


def test_the_level_meter_s_first_register_is_number_one() -> None:
    # Table 7 of its manual less one: average distance 2345 mm, average relative level -120 mm, 31 Cel.
    assert values("geolux_lx80", {0x0001: 2345, 0x0020: 0xFF88, 0x0019: 31}) == {
        "level": pytest.approx(-12.0),
        "distance": pytest.approx(2.345),
        "air_temperature": 31,
    }


def test_the_energy_meter_is_ieee_754_most_significant_byte_first() -> None:
    # 43 66 33 33 is 230.2 V, the maker's way of writing a float over two registers.
    registers = {**block(0x0000, bytes.fromhex("43663333")), **block(0x0048, struct.pack(">f", 1234.5))}
    assert values("eastron_sdm630", registers) == {
        "voltage_l1": pytest.approx(230.2, abs=1e-5),
        "active_energy_import": 1234.5,
    }
    assert values("eastron_sdm120", registers)["voltage"] == pytest.approx(230.2, abs=1e-5)


def test_the_pump_controller_counts_from_one_and_takes_two_registers_for_power() -> None:
    registers = {100: 0b11, 103: 7550, 300: 1234, 301: 56, 303: 2890, 304: 963, 311: 1, 312: 2, 317: 0xFF9C}
    assert values("imp_nmtc", registers) == {
        "remote_control": 1,
        "on": 1,
        "setpoint": pytest.approx(75.5),
        "head": pytest.approx(12.34),
        "pipe_flow": pytest.approx(5.6),
        "rotational_speed": 2890,
        "frequency": pytest.approx(96.3),
        "active_power": 65538,
        "circuit_temperature": pytest.approx(-1.0),
    }
    part = modbus("imp_nmtc")
    on = next(point for point in part.point if point.key == "on")
    assert fields.encode(part.form(on), 1, into=b"\x00\x01") == b"\x00\x03"


def test_the_gas_detector_swaps_words_and_packs_its_state() -> None:
    # Monitoring, instrument fault, alarm 1; 12.75 ppm with the low word first; -5 Cel.
    high, low = struct.unpack(">HH", struct.pack(">f", 12.75))
    assert values("honeywell_midas", {0: 0x0061, 2: low, 3: high, 7: 0xFFFB}) == {
        "monitor_state": 1,
        "fault": 2,
        "alarm_1": 1,
        "alarm_2": 0,
        "gas_concentration": 12.75,
        "air_temperature": -5,
    }


def test_the_loop_module_says_microamperes() -> None:
    found = values("waveshare_ai8", {channel: 4000 + 2000 * channel for channel in range(8)})
    assert found == {f"ai{channel + 1}": pytest.approx(4.0 + 2 * channel) for channel in range(8)}


# The four vectors of Ruuvi's specification of data format 5: temperature, pressure, humidity, acceleration, voltage,
# movements and sequence.
G = 9.80665
RUUVI = [
    ("0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F",
     (24.3, 1000.44, 53.49, 0.004 * G, -0.004 * G, 1.036 * G, 2.977, 66), 205),
    ("057FFFFFFEFFFE7FFF7FFF7FFFFFDEFEFFFECBB8334C884F",
     (163.835, 1155.34, 163.8350, 32.767 * G, 32.767 * G, 32.767 * G, 3.646, 254), 65534),
    ("058001000000008001800180010000000000CBB8334C884F",
     (-163.835, 500.0, 0.0, -32.767 * G, -32.767 * G, -32.767 * G, 1.6, 0), 0),
    ("058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF", (None,) * 8, 65535),
]  # fmt: skip


@pytest.mark.parametrize(("vector", "expected", "sequence"), RUUVI)
def test_the_tag_s_published_vectors(vector: str, expected: tuple[float | None, ...], sequence: int) -> None:
    part = Library().get("ruuvitag").advert
    assert part is not None
    data = bytes.fromhex(vector)
    assert part.matches(data)
    assert not part.matches(data[1:])
    assert part.sequence is not None
    assert part.sequence.value(data) == sequence
    found = {point.key: point.value(data) for point in part.point}
    order = (
        "ambient_temperature", "barometric_pressure", "relative_humidity", "acceleration_x", "acceleration_y",
        "acceleration_z", "supply_voltage", "movements",
    )  # fmt: skip
    assert [found[key] for key in order] == [None if one is None else pytest.approx(one) for one in expected]


def test_environmental_sensing_is_little_endian_in_the_units_of_the_service() -> None:
    part = Library().get("environmental_sensing").gatt
    assert part is not None
    sent = {
        "2a6e": struct.pack("<h", -512),
        "2a6f": struct.pack("<H", 6543),
        "2a6d": struct.pack("<I", 1013250),
    }
    assert {point.key: point.value(sent[point.characteristic]) for point in part.point} == {
        "ambient_temperature": pytest.approx(-5.12),
        "relative_humidity": pytest.approx(65.43),
        "barometric_pressure": pytest.approx(1013.25),
    }
    unknown = {"2a6e": b"\x00\x80", "2a6f": b"\xff\xff", "2a6d": struct.pack("<I", 1013250)}
    found = [point.value(unknown[point.characteristic]) for point in part.point]
    assert found[:2] == [None, None]
