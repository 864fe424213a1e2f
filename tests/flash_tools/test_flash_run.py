"""Many boards at once, their journal, and the command that a technician types."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tidegate
from flash_tools import flash_cli, flash_content, flash_run, mint, ports, shipped
from flash_tools.errors import FlashToolError, LineLost
from flash_tools.flash_run import Journaled, Manner, flash_all
from flash_tools.flashing import Progress, flash_board
from flash_tools.images import build_state_image
from flash_tools.journal import TEXT_MAX, Journal
from flash_tools.plan import identity_in
from hil_tests.world.esp.faults import Faults
from hil_tests.world.esp.haste import hurried
from tests.flash_tools.flash_rig import (
    BOARDS,
    Bench,
    Quiet,
    Watched,
    app_of,
    board_of,
    content_of,
    identity_of,
    release_of,
    state_of,
)
from tests.house import python_files, text_of

QUICK = Manner(boot_s=0, attempts=1)
ESPTOOL = re.compile(r"^\s*(from|import) esp", re.MULTILINE)


@pytest.fixture(autouse=True)
def _in_haste() -> Iterator[None]:
    with hurried():
        yield


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl", now=lambda: 1_800_000_000)


def steps(journal: Journal, mac: str) -> list[str]:
    return [entry["step"] for entry in journal.entries() if entry["mac"] == mac]


# ---- many boards ---------------------------------------------------------------------------------------------------


def test_four_boards_at_once_and_one_that_fails_costs_the_others_nothing(journal: Journal) -> None:
    board = board_of()
    good = [Bench(board, seed=seed) for seed in (1, 2, 3)]
    bad = Bench(board, seed=4, faults=Faults(power_after_bytes=100_000))
    content = content_of(board)
    show = Quiet()
    benches = [good[0], bad, *good[1:]]
    results = flash_all([bench.port for bench in benches], lambda _: content, journal, show, QUICK)
    assert [result.error is None for result in results] == [True, False, True, True]
    assert isinstance(results[1].error, LineLost)
    assert "run the same command again" in str(results[1].error)
    assert all(bench.holds(content) for bench in good)
    assert not bad.holds(content)
    for bench in good:
        assert steps(journal, bench.mac) == ["planned", "flashed"]
    assert steps(journal, bad.mac) == ["planned", "failed"]
    bad.chip.power_on()
    again = flash_all([bench.port for bench in benches], lambda _: content, journal, show, QUICK)
    assert [result.flashed is not None and bool(result.flashed.blocks_sent) for result in again] == [
        False,
        True,
        False,
        False,
    ]
    assert steps(journal, good[0].mac)[-1] == "unchanged"
    assert steps(journal, bad.mac)[-1] == "flashed"


def test_ctrl_c_stops_every_board_at_its_next_block_and_the_journal_says_so(journal: Journal) -> None:
    board = board_of()
    bench, stop = Bench(board), threading.Event()

    class Impatient(Quiet):
        def board(self, port: str) -> Progress:
            class Stopping(Progress):
                def sent(self, done: int, total: int) -> None:
                    stop.set()

            return Stopping()

    result = flash_run.flash_one(bench.port, lambda _: content_of(board), journal, Impatient(), QUICK, stop)
    assert isinstance(result.error, flash_run.Stopped)
    assert steps(journal, bench.mac) == ["planned", "failed"]
    assert not bench.holds(content_of(board))


def test_a_run_that_is_killed_leaves_what_it_had_planned_and_nothing_that_is_not_true(
    journal: Journal,
) -> None:
    class Killed(BaseException):
        pass

    class Dying(Progress):
        def sent(self, done: int, total: int) -> None:
            raise Killed

    board = board_of()
    bench = Bench(board)
    told = Journaled(journal, "port", Dying())
    with pytest.raises(Killed):
        flash_board(bench.port, content_of(board), told, boot_s=0, attempts=1)
    assert steps(journal, bench.mac) == ["planned"]


# ---- journal -------------------------------------------------------------------------------------------------------


def test_a_line_cut_short_is_left_out_and_the_next_one_is_whole(journal: Journal) -> None:
    journal.note("flashed", "aa")
    with journal.path.open("ab") as file:
        file.write(b'{"at": "2027", "step": "flash')
    journal.note("failed", "aa", why="x")
    with journal.path.open("ab") as file:
        file.write(b'\n[1]\nnull\n\xff\n{"no": "step"}\n')
    assert [entry["step"] for entry in journal.entries()] == ["flashed", "failed"]
    assert journal.entries()[0]["at"] == "2027-01-15T08:00:00Z"
    assert journal.latest("aa", "flashed") == journal.entries()[0]
    assert journal.latest("bb") is None
    assert Journal(journal.path.with_name("none")).entries() == []


def test_a_line_of_the_journal_is_on_the_disk_when_it_is_noted(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.append(path.read_bytes() if path.is_file() else b"folder")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.note("planned", "aa")
    assert [b"planned" in synced[0], synced[1:]] == [True, [b"folder"]]
    journal.note("flashed", "aa")
    assert synced[-1] == journal.path.read_bytes()


def test_writers_of_one_journal_never_mix_their_lines(journal: Journal) -> None:
    threads = [
        threading.Thread(
            target=lambda mac=str(number): [journal.note("flashed", mac, n=at) for at in range(20)]
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.entries()) == 80
    assert all(json.loads(line) for line in journal.path.read_text().splitlines())


def test_no_key_gets_into_a_journal(journal: Journal) -> None:
    with pytest.raises(ValueError, match="no place"):
        journal.note("minted", "aa", master_secret="00")
    board = board_of()
    who = identity_of(board)
    bench = Bench(board)
    content = content_of(board, state=state_of(who, board), identity=who)
    flash_all([bench.port], lambda _: content, journal, Quiet(), QUICK)
    text = journal.path.read_text()
    assert '"node": "0012"' in text
    watched = Watched()
    fresh = Bench(board, seed=2)
    flashed = fresh.flash_it(content, watched)
    assert watched.plan is not None
    shown = text + repr((content, watched.plan, flashed, watched.plan.runs, watched.plan.regions))
    for secret in (who.master_secret, who.master_salt):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
        assert secret in fresh.flash


def test_a_line_that_would_be_endless_is_cut_and_a_journal_that_can_not_be_written_is_told(
    journal: Journal,
) -> None:
    journal.note("failed", "aa", why="x" * 3 * TEXT_MAX)
    journal.note("flashed", "aa")
    assert steps(journal, "aa") == ["failed", "flashed"]
    with pytest.raises(FlashToolError, match=r"--journal"):
        Journal(Path("/dev/null/journal")).note("flashed", "aa")


# ---- the command ---------------------------------------------------------------------------------------------------


class Station:
    """A folder with images, and boards whose ports the command opens by name."""

    def __init__(self, folder: Path, benches: dict[str, Bench], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.benches = benches
        board = next(iter(benches.values())).board
        (folder / "app.img").write_bytes(app_of(board))
        (folder / "mpy").mkdir()
        for number, name in enumerate(BOARDS):
            (folder / "mpy" / f"{number}.bin").write_bytes(release_of(board_of(name)))
        self.arguments = ["--board", board.NAME, "--image", str(folder / "app.img")]
        self.arguments += ["--micropython", str(folder / "mpy")]
        monkeypatch.setattr(ports, "open_port", self._open)
        monkeypatch.chdir(folder)

    def _open(self, name: str, _machine: Any = None) -> Any:
        port = self.benches[name].port
        if not port.is_open:
            port.open()
        return port

    def run(self, *arguments: str) -> Any:
        named = [part for name in self.benches for part in ("--port", name)]
        verb = [arguments[0]] if arguments and arguments[0] == "verify" else []
        more = [] if verb else ["--boot-check", "0", "--journal", "journal.jsonl"]
        return CliRunner().invoke(
            flash_cli.app, [*verb, *named, *self.arguments, *more, *arguments[len(verb) :]]
        )

    def journal(self) -> list[dict[str, Any]]:
        return Journal(self.folder / "journal.jsonl").entries()


def test_the_command_tells_each_board_its_sentence_and_its_exit_code_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_of()
    benches = {"ttyA": Bench(board, seed=1), "ttyB": Bench(board_of(BOARDS[1]), seed=2)}
    station = Station(tmp_path, benches, monkeypatch)
    done = station.run("--dry-run")
    assert "ttyA: would write partition table (1 of 1 blocks), bootloader" in done.output
    assert not (tmp_path / "journal.jsonl").exists()
    assert not benches["ttyA"].flash.strip(b"\xff"), "a dry run wrote"
    done = station.run()
    assert done.exit_code == 1
    assert f"ttyA: esp32 {benches['ttyA'].mac}: firmware" in done.output
    assert f"ttyB: {benches['ttyB'].mac} FAILED: found an esp32s3" in done.output
    assert "1 of 2 boards done, 1 failed" in done.output
    del benches["ttyB"]
    done = station.run()
    assert (done.exit_code, "unchanged, nothing sent" in done.output) == (0, True)
    done = station.run("verify")
    assert (done.exit_code, "as it should be, all" in done.output) == (0, True), done.output
    benches["ttyA"].flash[0x201000] ^= 1
    done = station.run("verify")
    assert (done.exit_code, "1 of 30 blocks differ: app at 0x200000" in done.output) == (1, True), done.output


def test_erase_state_mints_a_new_key_says_so_and_a_cut_does_not_mint_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_of()
    bench = Bench(board)
    old = identity_of(board)
    offset, size = board.PARTITIONS["state"]
    bench.flash[offset : offset + size] = state_of(old, board, outbox=b"records")
    station = Station(tmp_path, {"ttyA": bench}, monkeypatch)
    again = ("--erase-state", "--type", "river", "--area", "330110001001", "--minted", "minted")
    bench.chip.faults = Faults(power_after_bytes=200_000)
    assert station.run(*again).exit_code == 1
    bench.chip.faults = Faults()
    bench.chip.power_on()
    done = station.run(*again)
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "minted" / mint.MINT_FILE).read_text().splitlines()
    assert len(lines) == 1, "a key was minted and never used"
    new = identity_in(bench.partition("state"), 4096)
    assert new is not None
    assert new.master_secret != old.master_secret
    assert new.master_secret.hex() == json.loads(lines[0])["master_secret"]
    assert [entry["step"] for entry in station.journal()] == [
        "minted",
        "planned",
        "failed",
        "planned",
        "identity",
        "flashed",
    ]
    assert new.master_secret.hex() not in (tmp_path / "journal.jsonl").read_text()
    # It is a node now: once more is another one.
    done = station.run(*again)
    assert f"`state` of node {new.address:04x} is replaced: its key is never used again" in done.output
    assert len((tmp_path / "minted" / mint.MINT_FILE).read_text().splitlines()) == 2


def test_a_label_is_for_the_board_that_the_journal_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_of()
    one, two = Bench(board, seed=1), Bench(board, seed=2)
    (tmp_path / "state.img").write_bytes(state_of(identity_of(board), board))
    station = Station(tmp_path, {"ttyA": one}, monkeypatch)
    assert station.run("--state", "state.img").exit_code == 0
    assert station.run("--label", "0012").exit_code == 0
    station.benches["ttyA"] = two
    done = station.run("--label", "0012")
    assert f"found board {two.mac}; expected {one.mac}, which this label was made for" in done.output
    assert not two.flash.strip(b"\xff")
    told = station.run("--label", "0099")
    assert "has no board of this number" in str(told.exception)
    told = station.run("--label", "0012", "--mac", two.mac)
    assert f"--mac {two.mac}" in str(told.exception)


MISTAKES = {
    "no board": (["--type", "river"], "--board: name one of esp32_devkitc_sx1262"),
    "a board that is none": (
        ["--board", "heltec_v3", "--type", "river"],
        "Did you mean 'heltec_wifi_lora_32_v3'",
    ),
    "no type": (["--board", BOARDS[0]], "--type: name one of"),
    "a version of nothing": (
        ["--board", BOARDS[0], "--type", "river", "--version", "1.28.0"],
        "--micropython",
    ),
    "a version that is none": (["--board", BOARDS[0], "--version", "newest"], "three numbers, as 1.25.0"),
    "a mac that is none": (["--board", BOARDS[0], "--mac", "12:34"], "write six bytes"),
    "a new key for nobody": (["--board", BOARDS[0], "--erase-state"], "say which with --type"),
    "an image that is none": (["--board", BOARDS[0], "--image", "pyproject.toml"], "no littlefs"),
    "one state for two": (
        ["--port", "b", "--board", BOARDS[0], "--state", "x"],
        "--state is of one board: flash 2 boards one by one",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_what_is_allowed_before_any_port_is_opened(name: str) -> None:
    arguments, told = MISTAKES[name]
    done = CliRunner().invoke(flash_cli.app, ["--port", "a", *arguments])
    assert isinstance(done.exception, FlashToolError)
    assert told in str(done.exception)


def test_an_image_too_large_or_without_an_identity_is_told(tmp_path: Path) -> None:
    board = board_of()
    (tmp_path / "large.img").write_bytes(app_of(board) + b"\xff" * 4096)
    (tmp_path / "state.img").write_bytes(build_state_image({}, board.NAME))
    asked = flash_content.Asked(board=board.NAME, image=tmp_path / "large.img")
    with pytest.raises(FlashToolError, match=r"1576960 bytes; expected at most 1572864: partition `app`"):
        flash_content.make(asked, None)
    with pytest.raises(FlashToolError, match="a file system without an identity"):
        flash_content.make(flash_content.Asked(board=board.NAME, state=tmp_path / "state.img"), None)


def test_the_command_is_in_the_group_and_knows_the_version_of_its_own_source() -> None:
    assert "flash" in tidegate.GROUPS
    assert shipped.firmware_version(mint.ROOT) == "0.1.0"


def test_only_one_file_knows_esptool() -> None:
    found = [path.as_posix() for path in python_files("flash_tools") if ESPTOOL.search(text_of(path))]
    assert found == ["flash_tools/chip.py"]
