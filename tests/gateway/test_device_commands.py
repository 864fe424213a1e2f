"""Devices in the whole daemon: configured, shown, measured, silent and back; and what the commands say of them."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gateway import control
from gateway.audit import balance
from gateway.cli import app
from gateway.device_status import show_devices
from gateway.errors import ControlError, GatewayError, KeyFileError
from gateway.metrics import Exporter
from gateway.northbound import mqtt
from gateway.records import KIND_EVENT
from protocols.wire import codes
from protocols.wire.messages import CLEARED, RAISED
from tests.gateway.test_cli import Shell
from tests.gateway.test_daemon import running, write_config

DEVICES = """
        [[modbus]]
        name = "bus-1"
        transport = "tcp"
        host = "127.0.0.1"
        enabled = false
        [[ble]]
        name = "air-1"
        enabled = false
        [[device]]
        name = "level-1"
        profile = "geolux_lx80"
        modbus = "bus-1"
        unit = 7
        site = "lishui-3"
        [[device]]
        name = "tag-1"
        profile = "ruuvitag"
        ble = "air-1"
        address = "CB:B8:33:4C:88:4F"
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    assert CliRunner().invoke(app, ["init", str(made.config)]).exit_code == 0
    return made


def test_a_device_is_shown_measured_delivered_and_audited(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = write_config(tmp_path, DEVICES)
        async with running(config) as gateway:
            level = gateway.devices.get("level-1")
            assert gateway.accept.accept(level, {"level": 123.4, "distance": 2.345, "air_temperature": 99.0})
            await gateway.store.write(lambda connection: None)
            data_dir = Path(config.gateway.data_dir)
            reply = await asyncio.to_thread(control.ask, data_dir, {"operation": "device.list"})
            assert reply is not None
            first, second = reply["devices"]
            assert (first["device"], first["state"], first["site"]) == ("level-1", "up", "lishui-3")
            assert first["values"]["level"]["v"] == 123.4
            assert first["values"]["air_temperature"]["q"] == 4
            assert (second["device"], second["state"], second["age_s"]) == ("tag-1", "unknown", None)
            out = io.StringIO()
            show_devices(reply["devices"], Console(file=out, width=200))
            shown = out.getvalue()
            assert "level 123.4 cm, " in shown
            assert "air_temperature 99.0 Cel (FAIL)" in shown
            assert "geolux_lx80 behind bus-1, unit 7; site lishui-3" in shown
            narrow = io.StringIO()
            show_devices(reply["devices"], Console(file=narrow, width=80))
            assert "…" not in narrow.getvalue()
            assert max(map(len, narrow.getvalue().splitlines())) <= 80
            page = Exporter(gateway.picture).page().body.decode()
            assert 'tidegate_device_up{device="level-1"} 1.0' in page
            assert 'tidegate_device_sets_total{device="level-1"} 1.0' in page
            (reading,) = gateway.store.readings(0, 10, 10)
            payload = json.loads(mqtt.format(reading, "lishui-3", resent=False, devices=gateway.devices))
            assert payload["device"] == "level-1"
            assert payload["profile"] == "geolux_lx80"
            assert all(row.holds for row in gateway.store.read(balance))

    asyncio.run(scenario())


def test_a_device_that_is_down_is_an_event_that_survives_a_restart_and_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = write_config(tmp_path, DEVICES)
        async with running(config) as gateway:
            level = gateway.devices.get("level-1")
            gateway.accept.state(level, "down", "no answer")
            gateway.accept.state(level, "down", "no answer")
            await gateway.store.write(lambda connection: None)
        async with running(config) as gateway:
            level = gateway.devices.get("level-1")
            gateway.accept.state(level, "down", "no answer")  # told before the restart
            await gateway.store.write(lambda connection: None)
            gateway.accept.accept(level, {"level": 1.0})
            await gateway.store.write(lambda connection: None)
            told = [
                (event.ledger.node, event.code, event.state)
                for event in gateway.store.events(0, 10)
                if event.kind == KIND_EVENT
            ]
            assert told == [
                (level.address, codes.NODE_SILENT, RAISED),
                (level.address, codes.NODE_SILENT, CLEARED),
            ]
            assert all(row.holds for row in gateway.store.read(balance))

    asyncio.run(scenario())


def test_check_names_the_devices_and_refuses_a_bind_key_that_others_can_read(shell: Shell) -> None:
    with shell.config.open("a") as config:
        config.write('[[ble]]\nname = "air"\n[[device]]\nname = "therm"\nprofile = "bthome_thermometer"\n')
        config.write('ble = "air"\naddress = "A4:C1:38:01:02:03"\nkey_file = "bind.key"\n')
    assert isinstance(shell.error("check"), KeyFileError)
    key = shell.folder / "bind.key"
    key.write_text("00112233445566778899aabbccddeeff\n")
    key.chmod(0o644)
    assert "chmod 600" in str(shell.error("check"))
    key.chmod(0o600)
    assert "device therm: bthome_thermometer behind air, A4:C1:38:01:02:03." in shell("check")


def test_profiles_are_listed_and_what_needs_a_running_gateway_says_so(shell: Shell) -> None:
    listed = shell("profiles")
    assert "eastron_sdm630" in listed
    assert "RuuviTag" in listed
    assert isinstance(shell.error("devices"), ControlError)
    error = shell.error("device-reset", "therm", "--why", "battery")
    assert isinstance(error, GatewayError)
    assert "no gateway is running" in str(error)


def test_a_device_that_is_not_configured_is_named_with_the_likely_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = write_config(tmp_path, DEVICES)
        async with running(config):
            data_dir = Path(config.gateway.data_dir)
            request = {"operation": "device.reset", "device": "level1", "why": "battery"}
            with pytest.raises(GatewayError, match=r"Configured: level-1, tag-1\. Did you mean level-1\?"):
                await asyncio.to_thread(control.ask, data_dir, request)

    asyncio.run(scenario())
