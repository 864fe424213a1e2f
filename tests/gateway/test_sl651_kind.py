"""From [[sl651]] to a northbound: its secret, its defaults, its part of the sample."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from gateway import config as configs
from gateway import northbounds, sample
from gateway.errors import ConfigError
from gateway.northbounds import Northbound
from tests.gateway.desk import Desk, desk

TABLE = """[keys]
master_key_file = "k"
[[sl651]]
name = "hydrology"
host = "127.0.0.1"
port = 9
password_file = "pw"
stations = { "lishui-3" = "0012345678" }
"""


def section(folder: Path, extra: str = "") -> configs.Sl651Section:
    return configs.parse(TABLE + extra, "gateway.toml", folder).sl651[0]


def write(folder: Path, password: str) -> None:
    file = folder / "pw"
    file.write_text(password)
    file.chmod(0o600)


def build(office: Desk, folder: Path) -> Northbound:
    write(folder, "03e8\n")
    context = northbounds.Context(
        "gw-1", office.store, office.registry, office.clock, random.Random(1), office.marks, None
    )
    return northbounds.KINDS["sl651"].build(section(folder), context)


def test_a_table_becomes_a_northbound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with desk(tmp_path) as office:
        asyncio.run(office.enrol(0x12, site="lishui-33"))
        northbound = build(office, tmp_path)
        assert northbound.name == "hydrology"
        assert not northbound.connected
        assert northbound.progress() is None
        assert northbound.picture()["backlog_records"] == 0
        assert "sl651 hydrology: there is no site lishui-3 yet" in caplog.text
        told = northbounds.KINDS["sl651"].check(section(tmp_path))
        assert told == "127.0.0.1:9, centre 1, M2, 1 station"


def test_a_password_that_is_none_is_told_and_not_shown(tmp_path: Path) -> None:
    write(tmp_path, "secret")
    with pytest.raises(ConfigError, match="must hold four hexadecimal digits") as caught:
        northbounds.KINDS["sl651"].check(section(tmp_path))
    assert "secret" not in str(caught.value)


def test_the_sample_has_a_table_that_holds(tmp_path: Path) -> None:
    lines = sample.sample("k").splitlines()
    begin = lines.index("# [[sl651]]")
    end = lines.index("", begin)
    text = "\n".join(line.removeprefix("# ") for line in lines[begin:end] if not line.startswith("# # "))
    found = configs.parse(f'[keys]\nmaster_key_file = "k"\n{text}\n', "gateway.toml", tmp_path).sl651[0]
    assert found.stations == {"lishui-3": "0012345678"}
