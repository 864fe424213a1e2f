"""From [[hj212]] to a northbound: its secret, its defaults, and the table that keeps what is due within bounds."""

from __future__ import annotations

import asyncio
import random
import stat
from pathlib import Path

import pytest

from gateway import config as configs
from gateway import limits, northbounds, report_rows, sample
from gateway.errors import ConfigError, NorthboundError
from gateway.northbounds import Northbound
from gateway.report_rows import Key, Mark
from tests.gateway.desk import Desk, desk

TABLE = """[keys]
master_key_file = "k"
[[hj212]]
name = "province"
host = "127.0.0.1"
port = 9
password_file = "pw"
stations = { "lishui-3" = "010000A8900016F000169DC0" }
"""


def section(folder: Path, extra: str = "") -> configs.Hj212Section:
    return configs.parse(TABLE + extra, "gateway.toml", folder).hj212[0]


def build(office: Desk, folder: Path, extra: str = "", password: str = "123456") -> Northbound:
    file = folder / "pw"
    file.write_text(password)
    file.chmod(0o600)
    context = northbounds.Context(
        "gw-1", office.store, office.registry, office.clock, random.Random(1), office.marks, None
    )
    return northbounds.KINDS["hj212"].build(section(folder, extra), context)


def test_a_table_becomes_a_northbound(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        northbound = build(office, tmp_path)
        assert northbound.name == "province"
        assert not northbound.connected
        assert northbound.progress() is None
        assert northbound.picture()["backlog_records"] == 0
        told = northbounds.KINDS["hj212"].check(section(tmp_path))
        assert told == "127.0.0.1:9, HJ 2017, 1 station"


def test_a_site_that_is_not_known_is_told_with_the_likely_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with desk(tmp_path) as office:
        asyncio.run(office.enrol(0x12, site="lishui-33"))
        build(office, tmp_path)
        assert "there is no site lishui-3 yet" in caplog.text
        assert "Did you mean lishui-33?" in caplog.text


def test_a_password_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hj212\.password_file: .*pw cannot be read"):
        northbounds.KINDS["hj212"].check(section(tmp_path))


def test_a_password_is_replaced_in_one_piece_and_stays_private(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_text("123456")
    file.chmod(0o600)
    northbounds.write_password(str(file), "654321")
    assert northbounds.read_password(str(file), "hj212") == "654321"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(NorthboundError, match="cannot be written"):
        northbounds.write_password(str(tmp_path / "none" / "pw"), "1")


def test_the_sample_has_a_table_that_holds(tmp_path: Path) -> None:
    lines = sample.sample("k").splitlines()
    begin = lines.index("# [[hj212]]")
    end = lines.index("", begin)
    text = "\n".join(line.removeprefix("# ") for line in lines[begin:end] if not line.startswith("# # "))
    found = configs.parse(f'[keys]\nmaster_key_file = "k"\n{text}\n', "gateway.toml", tmp_path).hj212[0]
    assert found.stations == {"lishui-3": "010000A8900016F000169DC0"}


# --- the table of rows --------------------------------------------------------------------------


def marked(office: Desk, name: str, keys: list[Key], now_ms: int) -> None:
    marks = {Mark(key, key.start_ms + 600_000, 0): 1 for key in keys}
    office.store._connection.execute("BEGIN")
    report_rows.mark(office.store._connection, name, marks, [], now_ms, (0, 2))
    office.store._connection.execute("COMMIT")


def test_rows_beyond_the_bound_give_way_oldest_of_the_shortest_first(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        now_ms = office.clock.unix_ms()
        keys = [Key("a", "2051", now_ms - 600_000 * index) for index in range(1, 9)]
        marked(office, "x", keys, now_ms)
        connection = office.store._connection
        assert report_rows.give_up(connection, "x", ["a"], 3) == 3
        left = report_rows.due(connection, "x", late=False, since_ms=0, until_ms=now_ms + 1, limit=9)
        left += report_rows.due(connection, "x", late=True, since_ms=0, until_ms=now_ms + 1, limit=9)
        assert sorted(row.key.start_ms for row in left) == sorted(key.start_ms for key in keys[:5])


def test_confirmed_rows_are_forgotten_in_time_and_those_due_are_not(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        old_ms = office.clock.unix_ms() - (limits.REPORT_KEPT_S + 7200) * 1000
        done, due = Key("a", "2051", old_ms), Key("b", "2051", old_ms)
        marked(office, "x", [done, due], old_ms)
        connection = office.store._connection
        report_rows.confirm(connection, "x", [(done, 1, b"d", 1)], old_ms, 0)
        connection.execute(
            "INSERT INTO report_index VALUES ('a', 5, 1), ('b', ?, 2), ('b', 5, 3)", (old_ms // 1000,)
        )
        report_rows.tidy(connection, "x", ["a", "b"], office.clock.unix_ms())
        index = connection.execute("SELECT site, reading FROM report_index").fetchall()
        assert index == [("b", 2)], "what a row that is due is made of stays"
        rows = connection.execute("SELECT site FROM report_row").fetchall()
        assert rows == [("b",)]


def test_rows_of_a_site_that_is_reported_no_longer_are_put_aside(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        now_ms = office.clock.unix_ms()
        marked(office, "province", [Key("gone", "2051", now_ms), Key("lishui-3", "2051", now_ms)], now_ms)
        northbound = build(office, tmp_path)

        async def start() -> None:
            running = asyncio.ensure_future(northbound.run())
            await office.store.write(lambda connection: None)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(start())
        assert office.store.read(lambda c: report_rows.sites_aside(c, "province")) == ["gone"]


def test_a_key_of_sm4_is_read_once_and_what_is_none_is_told(tmp_path: Path) -> None:
    extra = 'encryption = "sm4"\nsm4_key_file = "sm4.key"\nsm4_text = "base64"\n'
    file = tmp_path / "sm4.key"
    file.write_text("0123456789ABCDEF FEDCBA9876543210\n")
    file.chmod(0o600)
    with desk(tmp_path) as office:
        northbound = build(office, tmp_path, extra)
        assert northbounds.KINDS["hj212"].check(section(tmp_path, extra)).endswith("encrypted (SM4)")
        assert "0123456789" not in repr(northbound.__dict__)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"hj212\.sm4_key_file: .*has mode 0644; allowed is 0600"):
        northbounds.KINDS["hj212"].check(section(tmp_path, extra))
    file.chmod(0o600)
    file.write_text("secret")
    with pytest.raises(ConfigError, match="32 hexadecimal digits; 6 characters were found"):
        northbounds.KINDS["hj212"].check(section(tmp_path, extra))


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ('encryption = "sm4"\n', "sm4 needs a key: sm4_key_file"),
        ('sm4_key_file = "sm4.key"\n', "nothing is encrypted with it"),
        ('encryption = "SM4"\n', "encryption"),
    ],
)
def test_encryption_and_key_go_together(tmp_path: Path, extra: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        section(tmp_path, extra)
