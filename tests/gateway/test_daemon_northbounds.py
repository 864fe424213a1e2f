"""From a table of gateway.toml to a delivery: its secrets are checked, and how it gets on is told in hours."""

from __future__ import annotations

import random
import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway import config as configs
from gateway import northbounds
from gateway.config_mqtt import MqttSection
from gateway.errors import ConfigError
from gateway.northbounds import Northbound
from tests.gateway.desk import HandClock, desk


def section(folder: Path, extra: str = "") -> MqttSection:
    text = f'[keys]\nmaster_key_file = "k"\n[[mqtt]]\nname = "city"\nhost = "broker"\n{extra}'
    return configs.parse(text, "gateway.toml", folder).mqtt[0]


def build(folder: Path, extra: str = "") -> Northbound:
    with desk(folder) as office:
        context = northbounds.Context(
            "gw-1", office.store, office.registry, office.clock, random.Random(1), office.marks, None
        )
        return northbounds.KINDS["mqtt"].build(section(folder, extra), context)


def test_a_table_becomes_a_delivery_that_is_not_connected_yet(tmp_path: Path) -> None:
    northbound = build(tmp_path)
    assert northbound.name == "city"


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (None, 0o600, "cannot be read"),
        (b"secret", 0o644, "has mode 0644; allowed is 0600"),
        (b"", 0o600, "must hold a password"),
        (b"\n", 0o600, "must hold a password"),
        (b"x" * 2000, 0o600, "must hold a password of 1 to 1024 bytes"),
        (b"\xff\xfe", 0o600, "is not UTF-8"),
    ],
)
def test_a_password_file_that_is_open_to_others_or_holds_none_is_refused(
    tmp_path: Path, content: bytes | None, mode: int, told: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    with pytest.raises(ConfigError, match=told):
        build(tmp_path, 'username = "gw"\npassword_file = "password"\n')


def test_tls_checks_the_broker_and_unusable_files_are_told(tmp_path: Path) -> None:
    build(tmp_path, "tls = true\n")
    files = northbounds.tls_files(section(tmp_path, "tls = true\n"), lambda: 0)
    assert files is not None
    context = files.context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert northbounds.tls_files(section(tmp_path), lambda: 0) is None
    for extra in ('ca_file = "none"\n', 'cert_file = "none"\nkey_file = "none"\n'):
        with pytest.raises(ConfigError, match="mqtt city: its TLS files cannot be used"):
            build(tmp_path, "tls = true\n" + extra)


class StillRunner:
    """A delivery whose state the test writes."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {
            "connected": True,
            "backlog": 0,
            "in_flight": 0,
            "delivered": 0,
            "refused": 0,
            "oldest_undelivered_ms": None,
        }

    async def run(self) -> None:
        return

    def status(self) -> dict[str, Any]:
        return self.state


def test_the_backlog_is_told_in_records_and_hours() -> None:
    clock, runner = HandClock(), StillRunner()
    northbound = Northbound("city", runner, clock)
    assert northbound.picture()["backlog_hours"] == 0
    runner.state |= {"backlog": 40, "oldest_undelivered_ms": clock.now_ms - 5_400_000}
    assert (northbound.picture()["backlog_records"], northbound.picture()["backlog_hours"]) == (40, 1.5)
    runner.state["oldest_undelivered_ms"] = (
        clock.now_ms + 1000
    )  # a clock that was set back makes no negative age
    assert northbound.picture()["backlog_hours"] == 0


def test_a_delivery_makes_progress_has_nothing_to_do_or_is_stalled() -> None:
    runner = StillRunner()
    northbound = Northbound("city", runner, HandClock())
    assert northbound.progress() is None
    runner.state |= {"connected": False, "backlog": 3}
    assert (
        northbound.progress() is None
    )  # the broker is away: restarting this process would not bring it back
    runner.state |= {"connected": True, "delivered": 7}
    assert northbound.progress() == 7
