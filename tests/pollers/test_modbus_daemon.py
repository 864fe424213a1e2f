"""Modbus in a whole gateway: sets on disk, states as events, writes by a person with who and why, metrics."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.modbus import configuration
from gateway import config as configs
from gateway import log
from gateway.daemon import DataDir, Gateway
from gateway.errors import GatewayError
from gateway.metrics import Exporter
from hil_tests.world.modbus_slave import Slave, block
from hil_tests.world.modbus_street import TcpStreet
from tests.pollers.test_modbus_real import until

ORDER = {"operation": "device.write", "device": "d0", "point": "set_point", "ttl_s": 5.0, "why": "test"}

# A part of a register that somebody else has the rest of.
MODE = """
[[modbus.point]]
measurand = "level"
name = "mode"
unit = "cm"
function = "holding"
address = 5001
type = "u16"
bits = [4, 3]
writable = { min = 0, max = 7 }
"""


def test_a_device_is_read_written_and_told_of_by_a_whole_gateway(tmp_path: Path) -> None:
    async def main(config: configs.Config, street: TcpStreet, lone: Slave) -> None:
        gateway = Gateway(config, log.setup("error", "json"))
        running = asyncio.create_task(gateway.run())
        device = gateway.devices.get("d0")
        await until(lambda: device.counters["sets"] >= 2)
        assert gateway.store.counters["commits"] >= 1
        assert device.last["p3"].value == block(1, [6])[6]
        handle = gateway.operations.handle
        assert await handle({**ORDER, "value": 77.0}, "wang") == {"result": "done", "detail": ""}
        assert lone.maps[3][5000] == 77
        assert await handle({**ORDER, "point": "mode", "value": 5.0}, "wang") == {
            "result": "done",
            "detail": "",
        }
        assert lone.maps[3][5001] == 0b1111_0000_1101_1111  # bits 4 to 6, and no other
        with pytest.raises(GatewayError, match="Allowed is 0 to 65535"):
            await handle({**ORDER, "value": -1.0}, "wang")
        with pytest.raises(GatewayError, match="lets be written: set_point, mode"):
            await handle({**ORDER, "point": "p1", "value": 1.0}, "wang")
        with pytest.raises(GatewayError, match="--why"):
            await handle({**ORDER, "why": "", "value": 1.0}, "wang")

        def notes() -> list[tuple[str, str, str]]:
            rows = "SELECT who, action, detail FROM audit WHERE action LIKE 'device.wr%' ORDER BY rowid"
            return gateway.store.read(lambda connection: connection.execute(rows).fetchall())

        await until(lambda: len(notes()) >= 4)
        assert notes() == [
            ("wang", "device.write", "77 within 5 s"),
            ("wang", "device.written", "done"),
            ("wang", "device.write", "5 within 5 s"),
            ("wang", "device.written", "done"),
        ]
        page = Exporter(gateway.picture).page().body.decode()
        for wanted in (
            'tidegate_modbus_open{bus="bus0"} 1.0',
            'tidegate_modbus_device_answered_total{device="d0"}',
        ):
            assert wanted in page
        assert not [reason for reason in gateway.reasons() if "modbus" in reason]
        await street.close()
        await until(lambda: any("modbus:bus0" in reason for reason in gateway.reasons()))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        gateway.store.close()

    async def whole() -> None:
        lone = Slave(
            1, holding={**block(1, range(40)), 5000: 0, 5001: 0b1111_0000_1010_1111}, turnaround_s=0.0
        )
        street = TcpStreet([lone])
        await street.open()
        with DataDir(tmp_path / "data"):
            configuration(tmp_path, [street.port])
            with (tmp_path / "profiles" / "many.toml").open("a") as profile:
                profile.write(MODE)
            await main(configs.load(tmp_path / "bench.toml"), street, lone)

    asyncio.run(whole())


def test_what_a_device_refuses_in_one_piece_is_found_out_once_and_not_at_each_start(tmp_path: Path) -> None:
    """Un-merged over restarts; a profile that was edited begins with nothing known."""

    async def unmerged(config: configs.Config) -> int:
        gateway = Gateway(config, log.setup("error", "json"))
        running = asyncio.create_task(gateway.run())
        device = gateway.devices.get("d0")
        await until(lambda: device.counters["sets"] >= 2)
        assert [device.last[f"p{index}"].value for index in (0, 19)] == [0, 38]
        (state,) = gateway.buses["bus0"].scheduler.states
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        gateway.store.close()
        return state.counters["unmerged"]

    async def whole() -> None:
        # Only every second register is there, which is where the points are.
        lone = Slave(
            1, holding={**dict(zip(range(0, 40, 2), range(0, 40, 2), strict=True)), 5000: 0}, turnaround_s=0.0
        )
        street = TcpStreet([lone])
        await street.open()
        with DataDir(tmp_path / "data"):
            config = configuration(tmp_path, [street.port])
            assert await unmerged(config) > 0
            assert await unmerged(config) == 0
            profile = tmp_path / "profiles" / "many.toml"
            profile.write_text(profile.read_text().replace('model = "m"', 'model = "m2"'))
            again = configs.load(tmp_path / "bench.toml")
            assert await unmerged(again) > 0
        await street.close()

    asyncio.run(whole())
