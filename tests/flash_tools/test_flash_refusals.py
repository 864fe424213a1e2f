"""What is not flashed, and what a person is told: what was found, what was expected, what to do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from flash_tools import errors, firmware_image
from flash_tools.errors import FlashError
from flash_tools.firmware_image import parse_version
from flash_tools.flashing import Content
from hil_tests.world.esp import image
from hil_tests.world.esp.faults import Faults, Fuses
from hil_tests.world.esp.haste import hurried
from hil_tests.world.esp.kinds import kind_of
from tests.flash_tools.flash_rig import Bench, board_of, content_of, identity_of, release_of, state_of

MAC = bytes.fromhex("240ac4000110")


@pytest.fixture(autouse=True)
def _in_haste() -> Iterator[None]:
    with hurried():
        yield


@dataclass(frozen=True)
class Refusal:
    """A board as it came, what is asked of it, and the words that must be in the answer."""

    bench: Callable[[ModuleType], Bench]
    error: type[FlashError]
    found: str
    expected: str
    advice: str
    content: Callable[[ModuleType], Content] = content_of


def fused(**fuses: object) -> Callable[[ModuleType], Bench]:
    return lambda board: Bench(board, fuses=Fuses(MAC, (3, 1), **fuses))  # type: ignore[arg-type]


def fused_s3(**fuses: object) -> Callable[[ModuleType], Bench]:
    return lambda _: Bench(board_of("heltec_wifi_lora_32_v3"), fuses=Fuses(MAC, (0, 2), **fuses))  # type: ignore[arg-type]


def with_table(*rows: tuple[str, int, int, int, int]) -> Callable[[ModuleType], Bench]:
    def made(board: ModuleType) -> Bench:
        bench = Bench(board)
        table = image.table(image.Partition(*row) for row in rows)
        bench.flash[0x8000 : 0x8000 + len(table)] = table
        return bench

    return made


def living(board: ModuleType) -> Bench:
    """A node that has an identity and has written since."""
    bench = Bench(board)
    offset, size = board.PARTITIONS["state"]
    bench.flash[offset : offset + size] = state_of(identity_of(board), board, outbox=b"records")
    return bench


def heltec(_: ModuleType) -> Content:
    return content_of(board_of("heltec_wifi_lora_32_v3"))


def minting(board: ModuleType, **changed: object) -> Content:
    who = identity_of(board)
    return content_of(board, state=state_of(who, board), identity=who, **changed)


NVS = ("nvs", 1, 2, 0x9000, 0x6000)
REFUSALS = {
    "a chip that is not the board's": Refusal(
        lambda board: Bench(board_of("heltec_wifi_lora_32_v3")),
        errors.WrongChip,
        "an esp32s3",
        "an esp32, the chip of board esp32_devkitc_sx1262",
        "--board",
    ),
    "flash encryption": Refusal(
        fused(flash_crypt_count=1), errors.ChipProtected, "flash encryption on", "a chip without", "as it was"
    ),
    "flash encryption in release mode": Refusal(
        fused_s3(flash_crypt_count=7, no_manual_encrypt=True),
        errors.ChipProtected,
        "flash encryption on",
        "a chip without",
        "Use another board",
        heltec,
    ),
    "secure boot": Refusal(
        fused_s3(has_secure_boot=True),
        errors.ChipProtected,
        "secure boot on",
        "not signed",
        "another board",
        heltec,
    ),
    "secure download mode": Refusal(
        fused_s3(secure_download=True),
        errors.DownloadLocked,
        "secure download mode",
        "can be verified",
        "another board",
        heltec,
    ),
    "a flash smaller than the board says": Refusal(
        lambda board: Bench(board, faults=Faults(claimed_flash_size=2 << 20)),
        errors.FlashTooSmall,
        "2 MiB",
        "4 MiB",
        "--board",
    ),
    "a chip that says nothing": Refusal(
        lambda board: Bench(board, faults=Faults(is_silent=True)),
        errors.ChipSilent,
        "no answer",
        "the loader of an ESP chip",
        "Try another cable",
    ),
    "another board than this label's": Refusal(
        Bench,
        errors.WrongMac,
        "board 24:6f:28",
        "24:0a:c4:00:01:10, which this label was made for",
        "nothing was written",
        lambda board: content_of(board, mac="24:0A:C4:00:01:10"),
    ),
    "no program and no image": Refusal(
        Bench,
        errors.NotMicroPython,
        "no program at 0x10000",
        "MicroPython",
        "--micropython",
        lambda board: content_of(board, micropython=None),
    ),
    "somebody else's partition table": Refusal(
        with_table(NVS, ("factory", 0, 0, 0x10000, 0x100000), ("spiffs", 1, 0x82, 0x110000, 0x2F0000)),
        errors.TableDiffers,
        "spiffs 0x110000",
        "vfs 0x200000, state 0x380000",
        "--repartition",
    ),
    "a state that lives elsewhere": Refusal(
        with_table(NVS, ("factory", 0, 0, 0x10000, 0x1F0000), ("state", 1, 0x81, 0x280000, 0x80000)),
        errors.TableDiffers,
        "`state` at 0x280000",
        "it at 0x380000",
        "would lose the node's identity",
        lambda board: content_of(board, repartition=True),
    ),
    "a board that is a node already": Refusal(
        living,
        errors.StateInUse,
        "node 0012 (river) with its identity",
        "a board without an identity",
        "--erase-state",
        lambda board: replace(
            content_of(board), state=state_of(identity_of(board, 0x13, seed=2), board), identity=None
        ),
    ),
    "a key that has lived": Refusal(
        living,
        errors.StateInUse,
        "node 0012 with this very key",
        "not written to yet",
        "its counters would repeat",
        lambda board: minting(board, erase_state=True),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_board_is_refused_with_reasons_and_nothing_is_written(name: str) -> None:
    refusal = REFUSALS[name]
    board = board_of()
    bench = refusal.bench(board)
    content = refusal.content(board)
    before = bytes(bench.flash)
    with pytest.raises(refusal.error) as told:
        bench.flash_it(content)
    assert refusal.found in told.value.found
    assert refusal.expected in told.value.expected
    assert refusal.advice in told.value.advice
    assert (
        str(told.value)
        == f"{told.value.where}: found {told.value.found}; expected {told.value.expected}. {told.value.advice}"
    )
    assert bytes(bench.flash) == before
    assert refusal.error is errors.ChipSilent or bench.chip.state == "app", (
        "a node at work was left in its loader"
    )


def test_a_chip_in_a_boot_loop_is_told_from_a_silent_one() -> None:
    board = board_of()
    bench = Bench(board, faults=Faults(is_silent=True))
    line = b"rst:0x10 (RTCWDT_RTC_RESET),boot:0x13\r\ninvalid header: 0xffffffff\r\n" * 5
    listen = bench.port.read
    bench.port.read = lambda size=1: line[:size] if size > 1000 else listen(size)  # type: ignore[method-assign]
    with pytest.raises(errors.ChipLoops, match=r"starts again and again .*invalid header.*Hold BOOT"):
        bench.flash_it(content_of(board))


def test_a_chip_that_answers_with_garbage_is_told_as_a_bad_line() -> None:
    board = board_of()
    bench = Bench(board)
    content = content_of(board)
    bench.chip.faults.garbage_every = 40
    with pytest.raises((errors.LineLost, errors.ChipSilent), match="run th"):
        bench.flash_it(content)


def test_a_line_that_does_not_carry_the_speed_is_used_at_the_loaders_own() -> None:
    """As of a bridge that loses bytes above its rate: what comes at 460800 Bd is noise."""
    board = board_of()
    bench = Bench(board)
    hear, bauds = bench.chip.hear, set()

    def lossy(data: bytes, baud: int | None = None) -> None:
        bauds.add(baud)
        if baud == 115200:
            hear(data, baud)

    bench.chip.hear = lossy  # type: ignore[method-assign]
    content = content_of(board)
    bench.flash_it(content)
    assert bench.holds(content)
    assert bauds == {115200, 460800}


# ---- images --------------------------------------------------------------------------------------------------------


def write_file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "image.bin"
    path.write_bytes(data)
    return path


def app_only(board: ModuleType) -> bytes:
    return image.app(board.CHIP)


def esp32_laid_out_for_0(board: ModuleType) -> bytes:
    """What reaches the flash when somebody writes an ESP32's image at 0: esptool takes it, and verifies it."""
    data = release_of(board)
    return data[: 0x7000 - 0].ljust(0x8000, b"\xff") + data[0x7000:]


def damaged(at: int) -> Callable[[ModuleType], bytes]:
    def made(board: ModuleType) -> bytes:
        data = bytearray(release_of(board))
        data[at] ^= 1
        return bytes(data)

    return made


def other_program(board: ModuleType) -> bytes:
    """An application that is none of MicroPython's, in the place of one."""
    data = release_of(board)
    kind = kind_of(board.CHIP)
    program = image.image(kind, [(0x3F400020, random.Random(1).randbytes(4096))], flash_size=board.FLASH_SIZE)
    return data[: 0x10000 - kind.bootloader_at] + program


def large(board: ModuleType) -> bytes:
    data = release_of(board)
    kind = kind_of(board.CHIP)
    return data[: 0x10000 - kind.bootloader_at] + image.app(board.CHIP, size=0x1F0000)


IMAGES: dict[str, tuple[Callable[[ModuleType], bytes], type[FlashError], str, str]] = {
    "another chip": (
        lambda _: image.release("esp32s3"),
        errors.WrongImage,
        "an image for esp32s3",
        "one for esp32, the chip of board",
    ),
    "the wrong offset": (
        esp32_laid_out_for_0,
        errors.WrongOffset,
        "an esp32 bootloader laid out for 0x0",
        "it at 0x1000",
    ),
    "an application alone": (app_only, errors.WrongImage, "a single image", "a whole release"),
    "no image": (lambda _: b"\x7fELF" + bytes(100_000), errors.WrongImage, "7f454c46", "e9"),
    "nothing": (lambda _: b"", errors.WrongImage, "0 bytes", "the image of a chip"),
    "a damaged bootloader": (damaged(0x200), errors.WrongImage, "checksum", "whole"),
    "a damaged application": (damaged(0x10200), errors.WrongImage, "checksum", "whole"),
    "a spoiled hash": (damaged(len(release_of(board_of())) - 1), errors.WrongImage, "SHA-256", "whole"),
    "half a download": (
        lambda board: release_of(board)[:0x20000],
        errors.WrongImage,
        "beyond the end",
        "whole",
    ),
    "something else than MicroPython": (other_program, errors.NotMicroPython, "application", "MicroPython"),
    "too large": (large, errors.DoesNotFit, "bytes", "at most 2031616 bytes"),
    "a small flash": (
        lambda board: image.release(board.CHIP, flash_size=2 << 20),
        errors.DoesNotFit,
        "2 MiB of flash",
        "4 MiB",
    ),
    "older than the board can use": (
        lambda board: release_of(board, "1.24.1"),
        errors.WrongVersion,
        "v1.24.1",
        "1.25.0 or newer",
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_judged_by_its_content(name: str, tmp_path: Path) -> None:
    made, error, found, expected = IMAGES[name]
    board = board_of()
    with pytest.raises(error) as told:
        firmware_image.load(write_file(tmp_path, made(board)), board)
    assert found in told.value.found
    assert expected in told.value.expected
    assert told.value.advice


@pytest.mark.parametrize(
    ("asked", "relation"), [("1.27.0", "newer than asked"), ("1.28.1", "older than asked")]
)
def test_an_image_newer_or_older_than_asked_is_refused(asked: str, relation: str, tmp_path: Path) -> None:
    board = board_of()
    path = write_file(tmp_path, release_of(board))
    assert firmware_image.load(path, board, parse_version("v1.28")).version == (1, 28, 0)
    with pytest.raises(errors.WrongVersion, match=relation):
        firmware_image.load(path, board, parse_version(asked))


def test_of_a_folder_the_newest_that_fits_is_taken_and_else_every_reason_told(tmp_path: Path) -> None:
    board = board_of()
    for name, data in {
        "a-1.26.bin": release_of(board, "1.26.0"),
        "b-1.28.bin": release_of(board, "1.28.0"),
        "c-s3.bin": image.release("esp32s3", "1.29.0"),
        "d-old.bin": release_of(board, "1.20.0"),
        "e.bin": b"not an image",
    }.items():
        (tmp_path / name).write_bytes(data)
    assert firmware_image.load(tmp_path, board).path.name == "b-1.28.bin"
    assert firmware_image.load(tmp_path, board, (1, 26, 0)).path.name == "a-1.26.bin"
    with pytest.raises(errors.WrongImage) as told:
        firmware_image.load(tmp_path, board, (1, 30, 0))
    for reason in ("c-s3.bin: an image for esp32s3", "d-old.bin: MicroPython v1.20.0", "e.bin: 12 bytes"):
        assert reason in str(told.value)


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.WrongImage, match="No such file"):
        firmware_image.load(tmp_path / "none.bin", board_of())


@pytest.mark.parametrize("text", ["", "latest", "1", "1.2.3.4", "v1.x"])
def test_a_version_is_numbers(text: str) -> None:
    with pytest.raises(errors.WrongVersion, match=r"1\.25\.0"):
        parse_version(text)
