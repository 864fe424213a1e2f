"""`tidegate airtime`: what it prints is the wire's formula, and every mistake is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

import tidegate
from gateway import airtime as command
from protocols.wire import airtime


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        tidegate.main(["airtime", *args])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def fields(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    code, out, _ = run(capsys, *args, "--json")
    assert code == 0
    return json.loads(out)


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_the_question_of_a_planner(capsys: pytest.CaptureFixture[str]) -> None:
    args = [
        "--sf",
        "9",
        "--bw-hz",
        "125000",
        "--cr",
        "5",
        "--preamble",
        "8",
        "--bytes",
        "20",
        "--region",
        "cn470",
    ]
    code, out, _ = run(capsys, *args)
    assert code == 0
    assert "185344 us" in out
    assert "4096 us" in out
    assert "off: a symbol takes less than 16 ms" in out
    assert "allowed: at most 1000 ms each; listen before talk" in out
    assert "largest payload: 197 bytes" in out
    assert "eu868" not in out


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--sf", "5"], airtime.Modulation(5, 125000, 5, 8, False, True, False)),
        (["--sf", "12", "--cr", "4/8"], airtime.Modulation(12, 125000, 8, 8, False, True, True)),
        (["--sf", "12", "--ldro", "off"], airtime.Modulation(12, 125000, 5, 8, False, True, False)),
        (["--sf", "7", "--ldro", "on"], airtime.Modulation(7, 125000, 5, 8, False, True, True)),
        (["--sf", "8", "--implicit", "--no-crc"], airtime.Modulation(8, 125000, 5, 8, True, False, False)),
        (
            ["--sf", "7", "--bw-hz", "7812", "--preamble", "12"],
            airtime.Modulation(7, 7812, 5, 12, False, True, True),
        ),
    ],
)
def test_every_option_is_the_modulation_s(
    capsys: pytest.CaptureFixture[str], args: list[str], wanted: airtime.Modulation
) -> None:
    found = fields(capsys, *args, "--bytes", "33")
    assert found["time_on_air_us"] == airtime.time_on_air_us(wanted, 33)
    assert found["ldro"] == wanted.has_ldro


def test_a_region_that_forbids_it_says_by_which_rule_and_what_would_fit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = fields(capsys, "--sf", "11", "--bytes", "40")
    assert found["regions"]["cn470"]["rule"] == "time"
    assert "at most 36 bytes, or SF10" in found["regions"]["cn470"]["why"]
    assert found["regions"]["cn470"]["largest_bytes"] == 36
    assert found["regions"]["eu868"]["allowed"]
    found = fields(capsys, "--sf", "7", "--bw-hz", "500000", "--region", "CN470")
    assert found["regions"]["cn470"]["rule"] == "bandwidth"
    assert found["regions"]["cn470"]["largest_bytes"] is None


def test_without_a_spreading_factor_all_of_them_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for us in (17216, 31872, 56576, 102912, 185344, 370688, 741376, 1318912):
        assert str(us) in out
    assert "no (time), 10 fit" in out
    assert [one["sf"] for one in fields(capsys)] == list(command.SPREADING_FACTORS)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--sf 13", "--sf 13: allowed are 5 to 12."),
        ("--bw-hz 125", "Did you mean 125000?"),
        ("--bw-hz 120000", "Did you mean 125000?"),
        ("--cr 1", "Did you mean 5?"),
        ("--cr half", "allowed are 5 to 8"),
        ("--bytes 256", "--bytes 256: allowed are 0 to 255."),
        ("--preamble 0", "--preamble 0: allowed are 1 to 65535."),
        ("--ldro atuo", "Did you mean auto?"),
        ("--region cn740", "Did you mean cn470?"),
        ("--region us915", "allowed are cn470, eu868."),
    ],
)
def test_a_mistake_is_told_with_what_is_allowed(
    capsys: pytest.CaptureFixture[str], args: str, said: str
) -> None:
    code, out, err = run(capsys, *args.split())
    assert code == 2
    assert said in err
    assert not out
