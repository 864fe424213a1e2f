"""Flashing simulated chips with the real esptool: what is written, what is not sent twice, what survives a cut."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flash_tools import partition_table
from flash_tools.blocks import BLOCK
from flash_tools.errors import LineLost, VerifyFailed
from flash_tools.flash_run import flash_one
from flash_tools.flashing import Content, Progress, verify_board
from flash_tools.images import build_state_image
from flash_tools.journal import Journal
from flash_tools.partitions import table
from flash_tools.plan import identity_in
from hil_tests.world.esp.faults import Faults
from hil_tests.world.esp.haste import hurried
from tests.flash_tools.flash_rig import (
    BOARDS,
    MODULES,
    QUICK,
    USUAL_APP_BYTES,
    Bench,
    Quiet,
    Watched,
    app_of,
    board_of,
    content_of,
    identity_of,
    micropython_of,
    modules_in,
    state_of,
)


@pytest.fixture(autouse=True)
def _in_haste() -> Iterator[None]:
    with hurried():
        yield


@pytest.mark.parametrize("name", BOARDS)
def test_a_blank_board_holds_all_of_it_afterwards_and_runs(name: str) -> None:
    board = board_of(name)
    bench, content = Bench(board), content_of(board)
    watched = Watched()
    flashed = bench.flash_it(content, watched)
    assert bench.holds(content)
    assert partition_table.parse(bytes(bench.flash[0x8000:0x9000])) == table(board)
    assert bench.partition("state") == b"\xff" * board.PARTITIONS["state"][1]
    assert bench.chip.state == "app", "the board was left in its loader"
    assert (flashed.facts.chip, flashed.facts.mac) == (board.CHIP, bench.mac)
    assert watched.stages == ["connect", "check", "write", "verify"]
    assert watched.sent_to[-1][0] == watched.sent_to[-1][1] == flashed.data_bytes


def test_an_unchanged_board_gets_no_byte() -> None:
    board = board_of()
    bench, content = Bench(board), content_of(board)
    bench.flash_it(content)
    before, programmed, erased = (
        bytes(bench.flash),
        bench.chip.flash.programmed,
        bench.chip.flash.erased_sectors,
    )
    flashed = bench.flash_it(content)
    assert (flashed.blocks_sent, flashed.data_bytes, flashed.line_bytes) == (0, 0, 0)
    assert (bench.chip.flash.programmed, bench.chip.flash.erased_sectors) == (programmed, erased)
    assert bytes(bench.flash) == before


def test_of_a_changed_module_only_its_sectors_are_sent_and_the_root_last() -> None:
    board = board_of()
    bench, content = Bench(board), content_of(board)
    bench.flash_it(content)
    changed = replace(content, app=app_of(board, MODULES | {"m7.mpy": 7001}))
    flashed = bench.flash_it(changed)
    assert bench.holds(changed)
    assert flashed.data_bytes <= 8 * 4096, "more than the module, its folder and the root of the file system"


def test_a_dry_run_and_a_look_change_nothing() -> None:
    board = board_of()
    bench, content = Bench(board), content_of(board)
    bench.flash[:] = random.Random(1).randbytes(4096) * (len(bench.flash) // 4096)
    before = bytes(bench.flash)
    watched = Watched()
    assert bench.flash_it(content, watched, dry_run=True).data_bytes == 0
    assert watched.plan is not None
    assert watched.plan.data_bytes > 400_000
    found = verify_board(bench.port, content, Progress(), attempts=2)
    assert bytes(bench.flash) == before
    assert len(found.differing) == found.blocks_total
    assert bench.chip.state == "app"


def test_a_look_at_a_good_board_finds_nothing_and_at_a_spoiled_one_the_block() -> None:
    board = board_of()
    bench, content = Bench(board), content_of(board)
    bench.flash_it(content)
    assert verify_board(bench.port, content, Progress(), attempts=2).differing == ()
    bench.flash[0x231234] ^= 1
    assert verify_board(bench.port, content, Progress(), attempts=2).differing == ("app at 0x230000",)


def test_a_sector_that_comes_out_wrong_once_is_sent_again() -> None:
    board = board_of()
    bench, content = Bench(board, faults=Faults(bad_sectors={0x20000 // 4096: 1})), content_of(board)
    bench.flash_it(content)
    assert not bench.chip.flash.bad_sectors.total(), "that sector was never written"
    assert bench.holds(content)


def test_a_flash_that_stays_wrong_is_never_called_flashed_and_its_app_can_not_start() -> None:
    board = board_of()
    content = content_of(board)
    offset, _ = board.PARTITIONS["app"]
    used = next(
        at for at in range(0x20000, len(content.app), 4096) if content.app[at : at + 4096].strip(b"\xff")
    )
    bench = Bench(board, faults=Faults(bad_sectors={(offset + used) // 4096: 99}))
    with pytest.raises(VerifyFailed, match=f"app at {(offset + used) // BLOCK * BLOCK:#x}"):
        bench.flash_it(content)
    assert bench.flash[offset : offset + 8192] == b"\xff" * 8192, (
        "a file system with a bad block would be mounted"
    )


@pytest.mark.parametrize("times", [1, 99])
def test_the_root_of_the_app_is_read_back_too_though_it_is_written_last(times: int) -> None:
    board = board_of()
    offset, _ = board.PARTITIONS["app"]
    bench, content = Bench(board, faults=Faults(bad_sectors={offset // 4096: times})), content_of(board)
    if times == 1:
        bench.flash_it(content)
        assert bench.holds(content)
        return
    with pytest.raises(VerifyFailed, match=f"app at {offset:#x}"):
        bench.flash_it(content)


def test_an_old_root_is_gone_before_the_first_byte_of_another_release_is_sent() -> None:
    bench, content = updating()
    watched = Watched()
    bench.flash_it(content, watched)
    assert watched.plan is not None
    offset, _ = bench.board.PARTITIONS["app"]
    first = next(at for at, run in enumerate(watched.plan.runs) if run.data)
    erased = {run.offset for run in watched.plan.runs[:first]}
    assert offset in erased
    assert watched.plan.runs[-1].offset == offset


# ---- minting -----------------------------------------------------------------------------------------------------


def test_state_is_written_at_minting_and_never_touched_by_a_reflash() -> None:
    board = board_of()
    bench = Bench(board)
    minted = content_of(board, state=state_of(identity_of(board), board), identity=identity_of(board))
    assert bench.flash_it(minted).state_written
    assert identity_in(bench.partition("state"), 4096) == identity_of(board)
    # It lives: files come and go.
    bench.flash[0x320000:0x321000] = random.Random(2).randbytes(4096)
    lived = bench.partition("state")
    other = content_of(board, app=app_of(board, seed=9), micropython=micropython_of(board, "1.29.0"))
    assert not bench.flash_it(other).state_written
    assert bench.partition("state") == lived
    assert bench.holds(other)


# ---- power ---------------------------------------------------------------------------------------------------------

STEP = 16 * 1024


def minting(size: int | None = None) -> tuple[Bench, Content]:
    """A blank board, and all that one can be given; ``size``: of MicroPython's application."""
    board = board_of()
    who = identity_of(board)
    micropython = micropython_of(board, size=size)
    return Bench(board), content_of(board, micropython=micropython, state=state_of(who, board), identity=who)


def updating(size: int | None = None) -> tuple[Bench, Content]:
    """A board that lives, and another release of everything."""
    bench, content = minting(size)
    board = bench.board
    for one in filter(None, [*content.fixed_regions(), content.state_region()]):
        bench.flash[one.offset : one.end] = one.data
    bench.flash[0x8000:0x9000] = partition_table.encode(board)
    app = app_of(board, MODULES | {"m3.mpy": 9000, "m20.mpy": 500}, seed=2)
    return bench, content_of(board, app=app, micropython=micropython_of(board, "1.29.0", size))


STORIES: dict[str, Callable[[int | None], tuple[Bench, Content]]] = {"minting": minting, "updating": updating}


def check_cut(
    story: str,
    journal: Journal,
    *,
    after_bytes: int | None = None,
    after_erases: int | None = None,
    size: int | None = None,
) -> bool:
    """One cut, then the same call again. False when all was done before the power failed."""
    bench, content = STORIES[story](size)
    old = modules_in(bench.partition("app"))
    bench.chip.faults = Faults(power_after_bytes=after_bytes, power_after_erases=after_erases)
    show = Quiet()
    first = flash_one(bench.port, lambda _: content, journal, show, QUICK)
    if first.error is None:
        assert bench.holds(content)
        return False
    assert isinstance(first.error, LineLost), first.error
    entry = journal.latest(bench.mac)
    assert entry is not None
    assert entry["step"] == "failed"
    started, new = modules_in(bench.partition("app")) or {}, modules_in(content.app)
    # Between the erases of its two blocks an older root may be seen: of the old release, and of no other.
    assert started == new or started.items() <= (old or {}).items(), "a mix of two releases would run"
    bench.chip.faults = Faults()
    bench.chip.power_on()
    remaining = bench.missing_blocks(content)
    again = flash_one(bench.port, lambda _: content, journal, show, QUICK)
    assert again.error is None, again.error
    assert again.flashed is not None
    assert again.flashed.blocks_sent <= remaining + 1
    assert bench.holds(content)
    entry = journal.latest(bench.mac)
    assert entry is not None
    assert entry["step"] == ("flashed" if remaining else "unchanged")
    return True


@pytest.mark.parametrize("story", STORIES)
def test_after_a_power_cut_the_same_command_finishes_with_what_was_missing(
    story: str, tmp_path: Path
) -> None:
    """A sample; all of them are swept under soak."""
    journal = Journal(tmp_path / "journal.jsonl")
    for cut in random.Random(story).sample(range(1, 20), 2):
        assert check_cut(story, journal, after_bytes=cut * STEP), cut
    assert check_cut(story, journal, after_erases=1) or story == "minting"


@pytest.mark.parametrize("formatted", ["app", "state"])
def test_a_half_flashed_board_that_was_switched_on_meanwhile_is_finished_by_the_same_command(
    formatted: str,
) -> None:
    """MicroPython formats a partition that it can not mount, and a node its `state`."""
    bench, content = minting()
    bench.chip.faults = Faults(power_after_bytes=460_000)
    with pytest.raises(LineLost):
        bench.flash_it(content)
    assert modules_in(bench.partition("app")) is None
    bench.chip.faults = Faults()
    bench.chip.power_on()
    offset, _ = bench.board.PARTITIONS[formatted]
    fresh = build_state_image({"/boot.py": b"# made by itself"}, bench.board.NAME)[:8192]
    bench.flash[offset : offset + len(fresh)] = fresh
    flashed = bench.flash_it(content)
    assert bench.holds(content)
    assert flashed.notes == (("`state` held no identity",) if formatted == "state" else ())


def test_a_node_that_was_cut_off_behind_its_last_block_and_lives_keeps_what_it_has_since() -> None:
    """The key is begun once: the same command finishes, and does not begin it again."""
    bench, content = minting()
    bench.flash_it(content)
    at, _ = bench.board.PARTITIONS["state"]
    assert content.identity is not None
    lived = state_of(content.identity, bench.board, outbox=b"records" * 1000)
    bench.flash[at : at + len(lived)] = lived
    flashed = bench.flash_it(content)
    assert bench.partition("state") == lived
    assert (flashed.state_written, flashed.data_bytes) == (False, 0)
    assert flashed.notes == ("`state` of node 0012 is there and lives: left as it is",)


@pytest.mark.soak
@pytest.mark.parametrize("story", STORIES)
def test_a_power_cut_at_every_16_kib_and_erase_costs_no_more_than_the_rest_and_a_block(
    story: str, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    cuts = erases = 0
    while check_cut(story, journal, after_bytes=cuts * STEP, size=USUAL_APP_BYTES):
        cuts += 1
    while check_cut(story, journal, after_erases=erases * 8, size=USUAL_APP_BYTES):
        erases += 1
    assert cuts > 70
    print(f"story={story} power_cuts={cuts} erase_cuts={erases} all_finished=1 bad_success=0")
