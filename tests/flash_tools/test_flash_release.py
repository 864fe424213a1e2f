"""A board that was updated over the air is flashed: what it runs is read from it, told, and not set back unasked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import tidegate
from firmware.slots import NONE
from firmware.slots import Slots as OnNode
from flash_tools import (
    board_at,
    errors,
    flash_content,
    images,
    inspect_image,
    shipped,
    signing,
    slots_on_chip,
)
from flash_tools import release as releasing
from flash_tools.errors import FlashToolError, ReleaseError
from flash_tools.flashing import Progress, verify_board
from flash_tools.images import compile_module, image_of
from flash_tools.mint import ROOT
from flash_tools.release_book import Book
from hil_tests.world.esp.haste import hurried
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import release
from tests.flash_tools.flash_rig import Bench, Watched, board_of, content_of
from tests.wire.release_cases import CLASS, KEY, VENDOR, public

BOARD = "esp32_devkitc_sx1262"


@pytest.fixture(autouse=True)
def _in_haste() -> Iterator[None]:
    with hurried():
        yield


def slot(folder: str, sequence: int) -> dict[str, bytes]:
    files = {
        f"{folder}/main.py": b"from firmware import main\n",
        f"{folder}/large.mpy": bytes(range(200)) * 60,
    }
    if sequence:
        keys = [(KEY.algorithm, public())]
        files[f"{folder}/{release.FILE}"] = release.encode(sequence, VENDOR.bytes, CLASS.bytes, keys, [])
    return files


@cache
def partition(board: ModuleType, a: int, b: int | None = None, record: tuple[int, ...] = ()) -> bytes:
    """An `app` with these releases, 0 for a program that is none, and the record as a node writes it."""
    image = image_of(board.NAME, slot("/a", a) | ({} if b is None else slot("/b", b))).data
    if not record:
        return image
    flash = Flash(image=image)
    OnNode(LittleFs(flash)).save(*record)
    return bytes(flash.image)


def updated(board: ModuleType) -> Bench:
    """A node that was flashed with release 7 and runs 9, which came over the air."""
    bench = Bench(board)
    bench.flash_it(content_of(board, app=partition(board, 7), release=7))
    offset, size = board.PARTITIONS["app"]
    bench.flash[offset : offset + size] = partition(board, 7, 9, (1, NONE, 0, 1, 9))
    return bench


def test_a_newer_release_on_the_node_is_not_replaced_by_an_older_one_unless_it_is_asked() -> None:
    board = board_of()
    bench = updated(board)
    before = bytes(bench.flash)
    older = content_of(board, app=partition(board, 8), release=8)
    with pytest.raises(errors.NewerOnNode) as told:
        bench.flash_it(older)
    assert told.value.found == "release 9 in /b, which came over the air"
    assert told.value.expected == "release 9 or newer to be flashed, not release 8"
    assert "--downgrade" in told.value.advice
    with pytest.raises(errors.NewerOnNode, match="take no update over the air"):
        bench.flash_it(replace(older, app=partition(board, 0), release=0))
    assert bytes(bench.flash) == before
    done = bench.flash_it(replace(older, downgrade=True))
    assert bench.holds(older)
    assert "release 9 in /b, which came over the air: replaced by release 8 in /a" in done.notes


def test_a_reflash_sets_the_node_back_to_slot_a_and_says_what_it_replaces() -> None:
    board = board_of()
    bench = updated(board)
    same = content_of(board, app=partition(board, 9), release=9)
    watched = Watched()
    done = bench.flash_it(same, watched)
    assert done.notes == ("release 9 in /b, which came over the air: replaced by release 9 in /a",)
    found = slots_on_chip.slots_of(inspect_image.read_littlefs(bench.partition("app"))[0])
    assert found is not None
    assert (found.running, found.trial, dict(found.releases)) == ("/a", None, {"/a": 9})
    again = bench.flash_it(same)
    assert (again.blocks_sent, again.notes) == (0, ())


def test_a_run_that_was_cut_off_goes_on_whatever_was_there_before() -> None:
    """Its first step made `app` one that does not mount: nobody asks it for a release any more."""
    board = board_of()
    bench = updated(board)
    older = content_of(board, app=partition(board, 8), release=8)
    offset, _ = board.PARTITIONS["app"]
    bench.flash[offset : offset + 8192] = b"\xff" * 8192
    bench.flash_it(older)
    assert bench.holds(older)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ((0, NONE, 0, 0, 0), "release 7 in /a, as it was flashed"),
        ((0, 1, 1, 2, 9), "release 9 in /b on trial, beside release 7 in /a, which came over the air"),
        ((0, NONE, 3, 3, 9), "release 7 in /a, which came over the air"),
    ],
)
def test_what_runs_is_told_with_its_trial(record: tuple[int, ...], told: str) -> None:
    board = board_of()
    found = slots_on_chip.slots_of(inspect_image.read_littlefs(partition(board, 7, 9, record))[0])
    assert found is not None
    assert found.told == told
    lines = {line.field: line for line in inspect_image.tell(partition(board, 7, 9, record), "app")[0].lines}
    assert lines["release /b"].value == "9"
    assert told in str(lines["runs"])


def test_reading_the_slots_of_a_chip_takes_some_blocks_of_it_and_not_all() -> None:
    board = board_of()
    image = partition(board, 7, 9, (1, NONE, 0, 1, 9))
    asked: list[int] = []

    def read(at: int, size: int) -> bytes:
        asked.append(size)
        return image[at - 0x1000 : at - 0x1000 + size]

    found = slots_on_chip.read(read, (0x1000, len(image)), board.BLOCK_SIZE)
    assert found is not None
    assert found.release == 9
    print(f"\nslots_bytes_read={sum(asked)} of={len(image)}")
    assert sum(asked) <= 20 * 4096
    assert slots_on_chip.read(lambda _at, size: b"\xff" * size, (0, len(image)), board.BLOCK_SIZE) is None


def small_slot(*_: object) -> dict[str, bytes]:
    """The part of a program that says who it is: a whole one takes seconds to compile, and test_release.py does."""
    source = (ROOT / "firmware/reports.py").read_text(encoding="utf-8")
    return {
        "main.py": b"from firmware import main\n",
        "firmware/reports.mpy": compile_module(source, "firmware.reports"),
    }


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of two releases; and programs that are none are as small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releasing, "slot_tree", small_slot)
        patch.setattr(images, "slot_tree", small_slot)
        yield two_releases(tmp_path_factory.mktemp("shop") / "releases")


def two_releases(folder: Path) -> Path:
    book = Book.begin(folder, "tidegate.example")
    signer = signing.generate(folder.parent / "key", "es256")
    book.add(signer.algorithm, signer.public, "daily")
    book.save()
    for _ in range(2):
        releasing.build(book, ROOT, "river", BOARD)
    return folder


def test_what_is_flashed_of_a_release_is_the_same_bytes_every_time_and_says_which_it_is(
    releases: Path,
) -> None:
    newest = flash_content.make(flash_content.Asked(board=BOARD, node_type="river", release=releases), None)
    one = releases / f"river-{BOARD}" / "0002"
    # Board and type stand in the release: they need not be typed.
    same = flash_content.make(flash_content.Asked(release=one), None)
    assert same.app == newest.app
    assert (same.release, same.version) == (2, "0.1.0+r2")
    files, _ = inspect_image.read_littlefs(same.app)
    assert {path[3:]: data for path, data in files.items() if path.startswith("/a/")} == Book.load(
        releases
    ).find(str(one)).files()
    plain = flash_content.make(flash_content.Asked(board=BOARD, node_type="river"), None)
    assert (plain.release, plain.version) == (0, "0.1.0")


def test_an_image_says_its_release_as_a_folder_of_it_does(releases: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        tidegate.app,
        ["node", "image", "--board", BOARD, "--type", "river", "--out", str(tmp_path / "app.img"),
         "--release", str(releases)],
    )  # fmt: skip
    assert (told.exit_code, "firmware 0.1.0+r2" in told.output) == (0, True), told.output
    made = flash_content.make(flash_content.Asked(board=BOARD, image=tmp_path / "app.img"), None)
    assert (made.release, made.version) == (2, "0.1.0+r2")
    told = CliRunner().invoke(
        tidegate.app, ["node", "image", "--board", BOARD, "--type", "river", "--out", str(tmp_path / "x")]
    )
    assert "takes no update over the air" in told.output
    assert "--release FOLDER" in told.output


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"board": "esp32c3_devkitm"}, "it is of river on esp32_devkitc_sx1262, wanted is river on esp32c3"),
        ({"node_type": "cover"}, "wanted is cover on esp32_devkitc_sx1262"),
    ],
)
def test_a_release_for_another_board_or_type_is_refused(
    asked: dict[str, object], words: str, releases: Path
) -> None:
    one = flash_content.Asked(release=releases / f"river-{BOARD}" / "0001")
    with pytest.raises(FlashToolError, match=words):
        flash_content.make(replace(one, **asked), None)  # type: ignore[arg-type]


def test_a_release_and_an_image_are_not_both_flashed() -> None:
    with pytest.raises(FlashToolError, match="choose one"):
        flash_content.check(flash_content.Asked(release=Path("r"), image=Path("app.img")), [])


def test_a_release_that_is_not_there_or_not_whole_is_refused(releases: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no release of cover on"):
        shipped.program(ROOT, BOARD, "cover", releases)
    with pytest.raises(ReleaseError, match="neither a release"):
        shipped.program(ROOT, BOARD, "cover", tmp_path)
    one = tmp_path / "0001"
    shutil.copytree(releases / f"river-{BOARD}" / "0001", one)
    data = bytearray((one / "bundle.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (one / "bundle.bin").write_bytes(data)
    with pytest.raises(ReleaseError, match="SHA-256"):
        shipped.program(ROOT, BOARD, "river", one)


def test_verify_says_what_a_node_runs_that_was_updated() -> None:
    board = board_of()
    bench = updated(board)
    wanted = content_of(board, app=partition(board, 7), release=7)
    found = verify_board(bench.port, wanted, Progress(), attempts=2)
    assert found.differing
    assert found.runs == "release 9 in /b, which came over the air"


def test_a_provisioned_board_holds_the_newest_release_of_its_kind(releases: Path) -> None:
    kinds = board_at.Images(board_at.Manner(release=releases, downgrade=True))
    unit: Any = SimpleNamespace(
        wanted=SimpleNamespace(board=BOARD, node_type="river"), mac="24:0a:c4:00:01:10"
    )
    order: Any = SimpleNamespace(unit=unit, state=None, identity=None, replaces=False)
    content = kinds.content(order)
    assert (content.release, content.version, content.downgrade) == (2, "0.1.0+r2", True)
    assert content.app == shipped.program(ROOT, BOARD, "river", releases).image.data
    with pytest.raises(ReleaseError, match="no release of cover on"):
        kinds.make(BOARD, "cover")
