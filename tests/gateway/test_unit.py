"""The systemd unit is one that systemd takes, asks for what the configuration uses, and for no more."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import config as configs
from gateway import log
from gateway.unit import unit

SERIAL = '[[serial]]\nname = "a"\npath = "/dev/ttyUSB0"\n'
USB_RADIO = '[[ble]]\nname = "air"\nbackend = "bumble"\nadapter = "usb:0"\n'


def made(
    folder: Path,
    extra: str = "",
    keys: str = 'master_key_file = "master.key"',
    data: str = "/var/lib/tidegate",
) -> str:
    text = f'[gateway]\ndata_dir = "{data}"\n[keys]\n{keys}\n{extra}'
    return unit(configs.parse(text, "gateway.toml", folder), folder / "gateway.toml")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"extra": SERIAL + USB_RADIO},
        {"keys": 'master_key_credential = "tidegate"'},
        {"data": "/srv/tidegate"},
    ],
)
def test_systemd_takes_it(tmp_path: Path, given: dict[str, str]) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    file = tmp_path / "tidegate.service"
    file.write_text(made(tmp_path, **given))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_gateway_without_ports_gets_no_devices(tmp_path: Path) -> None:
    plain = lines(made(tmp_path))
    assert "DevicePolicy=closed" in plain
    assert not [
        line for line in plain if line.startswith(("DeviceAllow", "SupplementaryGroups", "AmbientCap"))
    ]
    assert "StateDirectory=tidegate" in plain
    with_all = lines(made(tmp_path, SERIAL + USB_RADIO))
    assert "DeviceAllow=char-ttyUSB rw" in with_all
    assert "DeviceAllow=char-usb_device rw" in with_all
    assert "SupplementaryGroups=dialout bluetooth" in with_all
    assert "ReadWritePaths=/srv/x" in lines(made(tmp_path, data="/srv/x"))


def test_it_may_ask_whether_the_clock_is_right_and_not_set_it(tmp_path: Path) -> None:
    """Without adjtimex(2) no node would be told the time; ProtectClock= forbids that call."""
    plain = lines(made(tmp_path))
    assert "SystemCallFilter=adjtimex" in plain
    assert "CapabilityBoundingSet=" in plain
    assert not [line for line in plain if line.startswith("ProtectClock")]


def test_the_watchdog_waits_longer_than_a_part_may_stall(tmp_path: Path) -> None:
    from gateway.unit import WATCHDOG_S

    assert f"WatchdogSec={WATCHDOG_S}" in lines(made(tmp_path))
    assert "Restart=always" in lines(made(tmp_path))
    assert "Type=notify" in lines(made(tmp_path))


def test_the_journal_is_told_how_grave_a_line_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    logger = log.setup("debug", "json")
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)("something", number=1)
    assert [line[:3] for line in stream.getvalue().splitlines()] == ["<7>", "<6>", "<4>", "<3>"]
    monkeypatch.delenv("JOURNAL_STREAM")
    log.setup("debug", "json").info("something")
    assert stream.getvalue().splitlines()[-1].startswith("{")
