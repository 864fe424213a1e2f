"""Releases of MicroPython itself: built from a download or an application image, signed, inspected, refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from boards.virtual import micropythons
from flash_tools import release as releasing
from flash_tools import release_micropython, signing
from flash_tools.images import board_constants
from flash_tools.release_book import Book
from flash_tools.release_cli import app
from hil_tests.world.esp import image
from protocols.wire import manifest
from tests.wire.release_cases import history

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a key, and a MicroPython for the virtual board; nodes run a program that trusts the key."""
    monkeypatch.chdir(tmp_path)
    said("keygen", "--vendor", "tidegate.example", "--out", "key")
    (tmp_path / "mp.bin").write_bytes(micropythons.make(name="new", size=30_000))
    return tmp_path


def said(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    text = done.output + (str(done.exception) if done.exception else "")
    assert done.exit_code in (0, 1), text
    return text


def program(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release of a program for the virtual board, from files that are there already."""
    files = {name: data for name, data in history()[0].items() if name != "release.cbor"}
    monkeypatch.setattr(
        releasing,
        "files_of",
        lambda _root, book, sequence, node, board, _names: (
            files | {"release.cbor": book.release_file(sequence, node, board)}
        ),
    )
    releasing.build(book, book.folder, "river", "virtual")


def test_from_an_image_to_a_signed_release_that_says_what_it_is(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(Book.load(bench / "releases"), monkeypatch)
    assert "never on the air" in said("build", "--micropython", "mp.bin", "--board", "virtual")
    assert "full.suit" in said("sign", "micropython-virtual/1", "--key", "key")
    assert "good" in said("verify", "micropython-virtual")
    told = said("inspect", "micropython-virtual")
    assert "MicroPython v1.29.0" in told
    assert "30048 B" in told or "image" in told
    assert "signature     ES256" in told
    folder = "releases/micropython-virtual/0001"
    assert "MicroPython v1.29.0" in said("inspect", f"{folder}/full.bin")
    assert "sequence      1" in said("inspect", f"{folder}/full.suit")
    assert "micropython-virtual/0001" in said("list")
    assert "one image" in said("page", "micropython-virtual")


def test_a_bit_that_changed_is_found(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(Book.load(bench / "releases"), monkeypatch)
    said("build", "--micropython", "mp.bin", "--board", "virtual")
    said("sign", "micropython-virtual", "--key", "key")
    path = bench / "releases/micropython-virtual/0001/full.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert "NOT as it should be" in said("verify", "micropython-virtual")


def test_a_key_that_one_of_the_boards_programs_does_not_trust_does_not_sign(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book.load(bench / "releases")
    program(book, monkeypatch)
    said("build", "--micropython", "mp.bin", "--board", "virtual")
    signer = signing.generate(bench / "other", "es256")
    book.add(signer.algorithm, signer.public, "new")
    book.save()
    assert "not trusted by nodes that run river-virtual/0001" in said(
        "sign", "micropython-virtual", "--key", "other"
    )


def test_without_a_program_nobody_would_take_it(bench: Path) -> None:
    said("build", "--micropython", "mp.bin", "--board", "virtual")
    said("sign", "micropython-virtual", "--key", "key")
    assert "no node of it trusts anybody" in said("verify", "micropython-virtual")


def test_a_whole_download_gives_its_application(bench: Path) -> None:
    board = "heltec_wifi_lora_32_v3"
    (bench / "whole.bin").write_bytes(image.release("esp32s3", "1.28.0", flash_size=8 << 20))
    (bench / "app.bin").write_bytes(image.app("esp32s3", "1.28.0", board="ESP32_GENERIC_S3"))
    for number, file in enumerate(("whole.bin", "app.bin"), 1):
        said("build", "--micropython", file, "--board", board)
        made = Book.load(bench / "releases").find(f"micropython-{board}/{number}")
        assert made.record["micropython"] == "v1.28.0"
        assert made.payload(made.payloads[0])[:1] == b"\xe9"


@pytest.mark.parametrize(
    ("board", "what", "why"),
    [
        (
            "esp32_devkitc_sx1262",
            image.app("esp32", "1.28.0"),
            "4 MiB of flash, with room for one MicroPython",
        ),
        ("heltec_wifi_lora_32_v3", image.app("esp32", "1.28.0"), "an image for esp32"),
        ("heltec_wifi_lora_32_v3", image.app("esp32s3", "1.18.0"), "1.25.0 or newer"),
        ("virtual", micropythons.make(version="1.18.0"), "1.25.0 or newer"),
        ("virtual", micropythons.make(size=0x1F0011), "the place for it on board virtual has 2031616"),
        ("virtual", b"\xe9" + bytes(100), "no header of an image"),
        ("virtul", b"", "virtual"),
    ],
)
def test_what_a_board_can_not_run_or_hold_is_not_built(
    bench: Path, board: str, what: bytes, why: str
) -> None:
    (bench / "it.bin").write_bytes(what)
    assert why in said("build", "--micropython", "it.bin", "--board", board)
    assert not list((bench / "releases").glob("micropython-*"))


def test_the_largest_place_is_within_what_a_manifest_can_say() -> None:
    assert release_micropython._room(releasing_board("heltec_wifi_lora_32_v3")) <= manifest.MAX_IMAGE


def releasing_board(name: str) -> ModuleType:
    return board_constants(name)
