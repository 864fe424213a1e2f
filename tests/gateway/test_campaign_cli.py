"""`tidegate campaign …` as a person types it: whole on 80 columns; a wrong file is refused with what to do."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tidegate
from gateway import campaign_cli, campaign_files, campaign_reasons, offline
from gateway import campaign_rows as rows
from gateway.errors import CommandError
from protocols.wire import outcomes
from tests.gateway.campaign_world import PLAN, World
from tests.gateway.desk import HandClock, desk, stopped_gateway
from tests.gateway.release_files import write_release

CONFIG = """
[gateway]
data_dir = "data"
[keys]
master_key_file = "master.key"
"""
Cli = Callable[..., Result]
ADD = ("add", "releases/river-virtual/0002", "--why", "the pump stops again")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A gateway that does not run, with twelve river stations and a signed release beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    stopped_gateway(Path(), CONFIG)
    write_release(Path("releases"))

    async def enrol() -> None:
        with desk(Path("data"), HandClock()) as made:
            await made.enrol(*range(0x11, 0x1D))

    asyncio.run(enrol())
    return lambda *words: CliRunner().invoke(tidegate.app, ["campaign", *words])


def lines(done: Result) -> list[str]:
    assert done.exit_code == 0, done.output + str(done.exception)
    found = done.output.splitlines()
    assert max(map(len, found), default=0) <= 80, done.output
    return found


def told_of(done: Result) -> str:
    return str(done.exception or "") + done.output + done.stderr


def test_a_campaign_begins_with_a_canary_and_then_goes_wave_by_wave(cli: Cli) -> None:
    assert lines(cli("list")) == ["no campaign yet. Begin one: tidegate campaign add RELEASE --why …"]
    assert lines(cli(*ADD, "--canary", "2", "--waves", "50%,100%")) == [
        "campaign 1 (river 2): 12 nodes.",
        "  wave 1: canary, 2 nodes",
        "  wave 2: to 50%, 5 nodes",
        "  wave 3: to 100%, 5 nodes",
        "Watch it: tidegate campaign watch 1",
    ]
    assert "running" in "".join(lines(cli("list")))
    said = "\n".join(lines(cli("show", "river 2", "--nodes")))
    assert "RUNNING" in said
    assert "the pump stops again" in said
    assert all(f"{address:04x}" in said for address in range(0x11, 0x1D))


def test_it_is_paused_resumed_and_aborted_by_people_who_say_why(cli: Cli) -> None:
    cli(*ADD)
    assert cli("pause", "1").exit_code == 2
    assert lines(cli("pause", "1", "--why", "storm"))[0].startswith("campaign 1 (river 2) is paused.")
    assert "PAUSED: storm" in "".join(lines(cli("show", "1")))
    assert lines(cli("resume", "1", "--why", "over")) == ["campaign 1 (river 2) goes on; it was paused."]
    assert "is aborted" in lines(cli("abort", "1", "--why", "wrong release"))[0]
    assert "is over: aborted" in told_of(cli("resume", "1", "--why", "x"))
    assert lines(cli(*ADD))[0] == "campaign 2 (river 2): 12 nodes."


def test_who_watches_does_not_keep_a_gateway_from_starting(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says that nothing goes on without one."""
    cli(*ADD)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        monkeypatch.setattr(offline, "offline", None)  # the gateway's data is not touched again
        if len(looks) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(campaign_cli.time, "sleep", sleep)
    said = lines(cli("watch", "1"))
    assert len(looks) == 3
    assert "no gateway is running: it goes on when one does. Start it: tidegate gateway run" in said
    assert said[-1] == "campaign 1 goes on without being watched."


def test_shares_are_told_as_they_were_given(cli: Cli) -> None:
    said = lines(cli(*ADD, "--canary", "0", "--waves", "12.5%,100%", "--halt-at", "2.5%"))
    assert "  wave 1: to 12.5%, 2 nodes" in said
    assert any("more than 2.5%" in line for line in lines(cli("show", "1")))


def test_hours_want_a_clock_that_is_in_time_and_it_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.clock.kernel_synchronised", lambda: False)
    cli(*ADD, "--window", "22:00-05:00")
    said = "\n".join(lines(cli("show", "1")))
    assert "nothing begins: hours want a clock that is in time" in said
    assert "assume_synchronised = true" in said
    assert "goes on in" not in said
    monkeypatch.setattr("gateway.clock.kernel_synchronised", lambda: True)
    assert "hours want a clock" not in "\n".join(lines(cli("show", "1")))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "1"), "there is no campaign yet"),
        (("skip", "1", "zz", "--why", "x"), "node 'zz' is no address"),
        (("add", "releases/river-virtual/0003", "--why", "x"), "Did you mean releases/river-virtual/0002?"),
        (("add", "releases/river-virtual", "--why", "x"), "releases/river-virtual/0002 is its newest"),
        (("add", "data", "--why", "x"), "not the folder of a release"),
        (("add", "releases/river-virtual/0002"), "say why with --why"),
        ((*ADD, "--canary", "many"), "Allowed are a number up to 999, a share such as 2%, or addresses"),
        ((*ADD, "--canary", "0099"), "canary 0099: not among the 12 nodes"),
        ((*ADD, "--waves", "50%,10%"), "shares must grow"),
        ((*ADD, "--waves", "half"), "Allowed is a share such as 10% or 2.5%"),
        ((*ADD, "--by", "aera"), "Did you mean area?"),
        ((*ADD, "--window", "25:00-3:00"), "Allowed is hh:mm-hh:mm, local time"),
        ((*ADD, "--zone", "Asia/Hangzou"), "Allowed is a name such as Asia/Shanghai"),
        ((*ADD, "--air", "60%"), "Allowed are 0.1% to 25%, or 4s to 900s in each hour"),
        ((*ADD, "--air", "0s"), "Allowed are 0.1% to 25%, or 4s to 900s in each hour"),
        ((*ADD, "--air", "0%"), "Allowed are 0.1% to 25%, or 4s to 900s in each hour"),
        ((*ADD, "--air", "901s"), "Allowed are 0.1% to 25%, or 4s to 900s in each hour"),
        ((*ADD, "--air", "5"), "Allowed is a share such as 10%"),
        ((*ADD, "--patience", "7"), "Allowed is 30min, 12h, 7d"),
        ((*ADD, "--halt-count", "0"), "Allowed are 1 to 65535"),
        ((*ADD, "--type", "rivr"), "Did you mean river?"),
        ((*ADD, "--name", "x" * 99), "up to 40 characters"),
        ((*ADD, "--name", "1"), "the number of another campaign"),
        ((*ADD, *("--area", "3302")), "none is 3302"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(cli: Cli, words: tuple[str, ...], told: str) -> None:
    done = cli(*words)
    assert done.exit_code == 2
    assert told in told_of(done)


def test_a_second_campaign_for_the_same_nodes_waits_for_the_first(cli: Cli) -> None:
    cli(*ADD)
    told = told_of(cli(*ADD))
    assert "12 of these nodes are in campaign 1 (river 2), which is running" in told
    assert "tidegate campaign abort 1" in told


HOSTILE = {
    "a bit of a payload": (lambda at: flip(at / "full.bin", 100), ("full.bin",)),
    "a bit of a manifest": (lambda at: flip(at / "from-0001.suit", -60), ("from-0001.suit", "sign the release again")),
    "a bit of the signature": (lambda at: flip(at / "full.suit", 60), ("full.suit",)),
    "a payload cut short": (lambda at: cut(at / "from-0001.bin"), ("from-0001.bin (", "was signed for")),
    "an envelope cut short": (lambda at: cut(at / "full.suit"), ("full.suit: cbor",)),
    "no envelope": (lambda at: (at / "full.suit").unlink(), ("full.suit is missing", "tidegate release sign")),
    "an empty payload": (lambda at: (at / "full.bin").write_bytes(b""), ("full.bin is empty or missing",)),
    "envelopes exchanged": (lambda at: swap(at / "full.suit", at / "from-0001.suit"), ("was signed for",)),
    "another node type": (lambda at: edit(at, node_type="cover"), ("is not for cover on virtual",)),
    "another board": (lambda at: edit(at, board="esp32"), ("is not for river on esp32",)),
    "another sequence": (lambda at: edit(at, sequence=7), ("downgrade",)),
    "a path as a name": (lambda at: edit(at, payloads=[{"name": "../../k", "base": None}]), ("letters, digits and -",)),
    "no whole payload": (lambda at: edit(at, payloads=[{"name": "from-0001", "base": 1}]), ("needs no base",)),
    "a record of nothing": (lambda at: (at / "release.json").write_text("[]"), ("no record of a release",)),
    "a record that is no JSON": (lambda at: (at / "release.json").write_text("{" * 9000), ("is not JSON",)),
    "MicroPython itself": (lambda at: micropython(at), ("over a cable only", "node update micropython-virtual/2")),
    "a file without end": (lambda at: (at / "full.bin").write_bytes(bytes(1 << 21)), ("no file of a release is",)),
}  # fmt: skip


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def micropython(folder: Path) -> None:
    """As `tidegate release build --micropython` leaves it: one image, larger than any program."""
    edit(folder, node_type="micropython", payloads=[{"name": "full", "base": None}])
    (folder / "full.bin").write_bytes(bytes(1_500_000))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")


@pytest.mark.parametrize("what", HOSTILE)
def test_a_wrong_file_is_refused_before_any_node_hears_of_it(tmp_path: Path, what: str) -> None:
    spoil, told = HOSTILE[what]
    folder = write_release(tmp_path)
    assert [part.base for part in campaign_files.parse(campaign_files.read_folder(folder)).parts] == [None, 1]
    spoil(folder)  # type: ignore[no-untyped-call]
    with pytest.raises(CommandError) as refused:
        campaign_files.parse(campaign_files.read_folder(folder))
    for part in told:
        assert part in str(refused.value)


def test_a_wrong_file_is_told_in_a_paragraph_and_nothing_begins(cli: Cli) -> None:
    flip(Path("releases/river-virtual/0002/full.bin"), 100)
    done = cli(*ADD)
    assert done.exit_code == 2
    assert done.stderr.startswith("tidegate: releases/river-virtual/0002: full.bin (")
    assert json.loads(cli("list", "--json").output) == []


def test_a_report_has_every_node_with_its_codes_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def happen() -> None:
        with desk(Path("data"), HandClock()) as office:
            world = World(office, 1, nodes=6)
            first, second, third, *_ = world.nodes.values()
            first.health, second.health = outcomes.UNHEALTHY, outcomes.number("space")
            third.is_there = False
            await world.begin(plan=PLAN._replace(patience_s=300))
            await world.live(40)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    stopped_gateway(Path(), CONFIG)
    asyncio.run(happen())

    def cli(*words: str) -> Result:
        return CliRunner().invoke(tidegate.app, ["campaign", *words])

    said = "\n".join(lines(cli("report", "1")))
    for part in ("rolled back", "unhealthy", "space", "gone", "never-heard", "No room in its spare slot"):
        assert part in said
    assert lines(cli("report", "1", "--out", "all.csv")) == ["all.csv: campaign 1 (fix), 6 nodes."]
    table = csv.DictReader(Path("all.csv").read_text(encoding="utf-8").splitlines())
    by_node = {row["node"]: row for row in table}
    assert (by_node["0100"]["lwm2m_result"], by_node["0100"]["suit_reason"]) == ("8", "11")
    assert by_node["0103"]["state"] == rows.INSTALLED
    assert cli("report", "1", "--out", "all.pdf").exit_code == 2
    assert json.loads(cli("report", "1", "--json").output)["states"][rows.GONE] == 1
    assert [line for line in lines(cli("show", "1", "--state", "rolled-back")) if "0100" in line]
    assert "Did you mean installed?" in told_of(cli("show", "1", "--state", "instaled"))


def test_the_page_has_every_reason_with_its_codes_and_what_to_do() -> None:
    page = Path(campaign_reasons.__file__).with_name("CAMPAIGNS.md").read_text(encoding="utf-8")
    names = {name for name, _, _ in outcomes.OUTCOMES[1:]} | set(campaign_reasons.OWN)
    assert names == set(campaign_reasons.ADVICE)
    for name in names:
        code = campaign_reasons.code(rows.REFUSED, name)
        row = f"| {code.lwm2m_result} | {code.suit_reason} | {campaign_reasons.ADVICE[name]} |"
        assert any(line.startswith(f"| `{name}` |") and line.endswith(row) for line in page.splitlines()), (
            name
        )
