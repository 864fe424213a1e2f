"""From profile and configuration to sets of values, and the load that a configuration asks of a bus."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway import config as configs
from gateway import log
from gateway.config_devices import ModbusSection
from gateway.devices import Device, quantities
from gateway.errors import ConfigError, GatewayError
from gateway.metrics import _modbus
from gateway.pollers.modbus import ModbusPoller
from gateway.pollers.modbus_load import bus_load, device_load
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import MASK_WRITE, WRITE_REGISTER, WRITE_REGISTERS, Point
from gateway.pollers.modbus_types import Device as Polled
from gateway.profiles import Profile
from hil_tests.world.modbus_slave import Slave
from hil_tests.world.modbus_street import TcpStreet
from tests.gateway.device_desk import section
from tests.pollers.modbus_street import optimum_s, street
from tests.pollers.test_modbus_real import until

METER = Profile.model_validate(
    {
        "title": "A meter that exists in tests only",
        "vendor": "nobody",
        "model": "M1",
        "sources": ["this file"],
        "checked": "nothing",
        "modbus": {
            "period_s": 0.1,
            "point": [
                {"measurand": "level", "unit": "cm", "function": "input", "address": 0, "type": "s16", "scale": 0.1},
                {"measurand": "flow", "unit": "m3/s", "function": "input", "address": 1, "type": "f32"},
                {"measurand": "ph", "unit": "[pH]", "function": "holding", "address": 9, "type": "u16",
                 "scale": 0.01, "writable": {"min": 4, "max": 9}},
                {"measurand": "ph", "unit": "[pH]", "name": "ph_gone", "function": "input", "address": 40,
                 "type": "u16"},
            ],
        },
    }
)  # fmt: skip


class Sink:
    """What accept() would be told."""

    def __init__(self) -> None:
        self.sets: list[dict[str, float | None]] = []
        self.states: list[tuple[str, str]] = []

    def accept(self, device: Device, values: Mapping[str, float | None], **more: Any) -> bool:
        self.sets.append(dict(values))
        return True

    def state(self, device: Device, state: str, reason: str = "") -> None:
        self.states.append((device.name, state))


def meter() -> Slave:
    high, low = struct.unpack(">HH", struct.pack(">f", 12.5))
    return Slave(1, inputs={0: 0xFFF6, 1: high, 2: low, 3: 0}, holding={9: 712}, turnaround_s=0.0)


def test_values_of_a_profile_go_in_as_one_set_and_writes_keep_to_its_limits() -> None:
    async def main() -> None:
        far_side, sink = TcpStreet([meter()]), Sink()
        await far_side.open()
        bus = ModbusSection.model_validate(
            {"name": "bus", "transport": "tcp", "host": "127.0.0.1", "port": far_side.port}
        )
        device = Device(section("m1", profile="meter"), METER, 1 << 31, quantities(METER))
        poller = ModbusPoller(bus, [device], sink.accept, sink.state, log.setup("error", "json"))
        task = asyncio.create_task(poller.run())
        await until(lambda: len(sink.sets) >= 3)
        first = sink.sets[0]
        assert first == {
            "level": pytest.approx(-1.0),
            "flow": 12.5,
            "ph": pytest.approx(7.12),
            "ph_gone": None,
        }
        assert set(sink.sets[2]) == {"level", "flow", "ph"}, "what was refused is not asked again at once"
        done: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        poller.write("m1", "ph", 6.5, 5.0, lambda result, detail: done.set_result((result, detail)))
        assert (await done)[0] == "done"
        assert far_side.slaves[1].maps[3][9] == 650
        with pytest.raises(GatewayError, match="Allowed is 4 to 9"):
            poller.write("m1", "ph", 12.0, 5.0, print)
        with pytest.raises(GatewayError, match="lets be written: ph"):
            poller.write("m1", "level", 1.0, 5.0, print)
        far_side.slaves[1].is_dead = True
        await until(lambda: ("m1", "suspect") in sink.states)
        assert "answered" in poller.bus.picture()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await far_side.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mask_write", "kind", "function"),
    [(False, "u16", WRITE_REGISTER), (True, "u16", MASK_WRITE), (True, "u32", WRITE_REGISTERS)],
)
def test_a_bit_field_of_one_register_goes_by_mask_write_where_the_profile_has_it(
    mask_write: bool, kind: str, function: int
) -> None:
    told = METER.model_dump()
    mode = {
        "measurand": "level",
        "unit": "cm",
        "name": "mode",
        "function": "holding",
        "address": 20,
        "type": kind,
    }
    told["modbus"]["point"] = [{**mode, "bits": (4, 3), "writable": {"min": 0, "max": 7}}]
    told["modbus"]["mask_write"] = mask_write
    profile = Profile.model_validate(told)
    device = Device(section("m1", profile="meter"), profile, 1 << 31, quantities(profile))
    bus = ModbusSection.model_validate({"name": "bus", "transport": "tcp", "host": "127.0.0.1"})
    sink = Sink()
    poller = ModbusPoller(bus, [device], sink.accept, sink.state, log.setup("error", "json"))
    values = (0x50,) if kind == "u16" else (0, 0x50)
    mask = (0x70,) if kind == "u16" else (0, 0x70)
    assert poller.check_write("m1", "mode", 5.0) == (function, 20, values, mask)


def test_the_load_of_a_bus_is_its_cheapest_plan_over_its_periods() -> None:
    devices, slaves = street(5, period_s=60.0, illegal_holes=False)
    least_s = sum(optimum_s(device, slave) for device, slave in zip(devices, slaves, strict=True))
    assert bus_load(Line(9600, "E", 1), devices) == pytest.approx(least_s / 60)
    points = (Point("a", 3, 0, 1, 1.0, 1.0), Point("b", 3, 1, 1, 10.0, 10.0))
    line = Line(9600, "E", 1)
    one = device_load(line, Polled("d", 1, points[:1]))
    two = device_load(line, Polled("d", 1, points))
    assert two - one == pytest.approx(2 * line.character_s / 10), "every tenth read is one register longer"


CONFIG = """
[keys]
master_key_file = "master.key"

[devices]
profiles = "profiles"

[[modbus]]
name = "river"
path = "tty"
baud = 4800

[[device]]
name = "meter-1"
profile = "quick"
modbus = "river"
unit = 7
period_s = {period}
"""
QUICK = """
title = "A fast meter"
vendor = "nobody"
model = "Q"
sources = ["this file"]
checked = "nothing"

[modbus]
[[modbus.point]]
measurand = "level"
unit = "cm"
function = "input"
address = 0
type = "s16"

[[modbus.point]]
measurand = "flow"
unit = "m3/s"
function = "input"
address = 900
type = "f32"
"""


def test_a_plan_that_no_line_can_carry_is_refused_with_what_would_help(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "quick.toml").write_text(QUICK)
    configs.parse(CONFIG.format(period=1), "gateway.toml", tmp_path)
    with pytest.raises(ConfigError) as caught:
        configs.parse(CONFIG.format(period=0.1), "gateway.toml", tmp_path)
    (told,) = caught.value.problems
    print(told)
    assert told.startswith("gateway.toml:8: ")
    assert 'modbus "river": this plan needs ' in told
    assert "s of every 1 s at 4800 baud" in told
    assert "meter-1" in told
    assert "baud (" in told or "divide the devices" in told


def test_metrics_have_buses_and_their_devices() -> None:
    found = list(_modbus({"river": {"open": 1.0, "answered": 3.0}}, {"m1": {"latency_seconds": 0.01}}))
    assert {metric.name for metric in found} == {
        "tidegate_modbus_open", "tidegate_modbus_answered", "tidegate_modbus_device_latency_seconds",
    }  # fmt: skip


def test_a_device_that_wants_more_silence_than_its_periods_have_is_refused_although_the_bus_has_time(
    tmp_path: Path,
) -> None:
    (tmp_path / "profiles").mkdir()
    resting = QUICK.replace("[modbus]\n", "[modbus]\ngap_ms = 4000\n")
    (tmp_path / "profiles" / "quick.toml").write_text(resting)
    configs.parse(CONFIG.format(period=20), "gateway.toml", tmp_path)
    with pytest.raises(ConfigError) as caught:
        configs.parse(CONFIG.format(period=5), "gateway.toml", tmp_path)
    (told,) = caught.value.problems
    assert 'modbus "river": meter-1 needs 1.6 s of every 1 s for itself' in told
    assert "4000 ms of silence" in told
    assert "(periods 2.0 times as long would do)" in told
