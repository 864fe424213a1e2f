"""Bench boards beyond the happy path: what they find in their flash; `tidegate street bench`, killed at any moment."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.bench_cli import FAULTS, board_for, make_chip, parse_faults
from hil_tests.errors import RigError
from hil_tests.world.esp import image
from hil_tests.world.esp.boot import TABLE_AT, Boot, boot_of
from hil_tests.world.esp.faults import Fuses
from hil_tests.world.esp.kinds import KINDS
from hil_tests.world.esp.nor import NorFlash
from tests.house import ROOT
from tests.world.esp_tool import connect, write

MAC = bytes(6)


def flash_of(kind: str, spoil: Callable[[bytearray], None] = lambda _data: None) -> NorFlash:
    flash = NorFlash(4 << 20, b"\xff" * KINDS[kind].bootloader_at + image.release(kind))
    spoil(flash.data)
    return flash


def put(at: int, data: bytes) -> Callable[[bytearray], None]:
    def spoil(flash: bytearray) -> None:
        flash[at : at + len(data)] = data

    return spoil


def found(kind: str, flash: NorFlash, fuses: Fuses | None = None) -> Boot:
    return boot_of(KINDS[kind], flash, fuses or Fuses(MAC))


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_boots(kind: str) -> None:
    boot = found(kind, flash_of(kind))
    assert boot.fault == ""
    assert boot.partitions["vfs"].offset == 0x200000
    assert b"MicroPython v1.28.0" in boot.app


WRONG = {
    "blank": (NorFlash(4 << 20), "no bootloader", "invalid header: 0xffffffff"),
    "at the offset of another chip": (
        NorFlash(4 << 20, image.release("esp32")),
        "no bootloader",
        "invalid header",
    ),
    "second stage of another chip": (
        flash_of("esp32", put(0x1000, image.bootloader("esp32c3"))),
        "bootloader: mismatch chip ID, expected 0, found 5",
        "mismatch chip ID",
    ),
    "no table": (flash_of("esp32", put(TABLE_AT, b"\xff" * 0xC00)), "invalid magic number", "load partition"),
    "a bit of the table": (flash_of("esp32", put(TABLE_AT + 4, b"\x01")), "no valid MD5", "load partition"),
    "a bit of the application": (
        flash_of("esp32", put(0x20000, b"\0\0\0\0")),
        "no application",
        "Checksum failed",
    ),
    "a table for more flash than there is": (
        flash_of("esp32", put(TABLE_AT, image.stock_table(8 << 20))),
        "exceeds flash chip size",
        "load partition table error",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_start_says_why(name: str) -> None:
    flash, fault, text = WRONG[name]
    boot = found("esp32", flash)
    assert fault in boot.fault
    assert text in boot.text


def test_a_plain_image_on_an_encrypted_chip_is_noise_to_it() -> None:
    boot = found("esp32s3", flash_of("esp32s3"), Fuses(MAC, flash_crypt_count=1))
    assert boot.fault == "no bootloader"
    assert "invalid header: 0x" in boot.text


def test_faults_of_the_bench_are_what_their_names_say(tmp_path: Path) -> None:
    assert parse_faults(["1=small", "1=slow", "2=held"], 2) == {1: {"small", "slow"}, 2: {"held"}}
    with pytest.raises(RigError, match="Did you mean silent"):
        parse_faults(["1=silnt"], 1)
    with pytest.raises(RigError, match="a board from 1 to 4"):
        parse_faults(["5=silent"], 4)
    for name in FAULTS:
        chip = make_chip(tmp_path / "none", "esp32c3", {name}, 1)
        assert chip.kind.name == "esp32c3"
    assert make_chip(tmp_path / "none", "esp32", {"small"}, 1).flash.size == 2 << 20
    assert make_chip(tmp_path / "none", "esp32", {"locked"}, 1).fuses.secure_download


class Street:
    """`tidegate street bench` with one board."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kept = folder / "bench" / "flash-1.bin"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """The port of the board."""
        command = [sys.executable, "-m", "tidegate", "street", "bench", "-k", "esp32c3"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=self._folder, env={"PYTHONPATH": str(ROOT)}
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(rb"tidegate flash --port (\S+)", line)
            if found is not None:
                return str(self._folder / found[1].decode())
        raise AssertionError("it ended without naming a port")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)


def test_the_bench_names_a_board_for_each_chip_that_has_one() -> None:
    found = {kind: board_for(kind) for kind in KINDS}
    assert found == {
        "esp32": "esp32_devkitc_sx1262",
        "esp32s3": "heltec_wifi_lora_32_v3",
        "esp32c3": "esp32c3_devkitm",
        "esp32c6": "esp32c6_devkitc",
    }


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    made = Street(tmp_path)
    yield made
    made.kill()


def test_a_bench_that_is_killed_has_what_its_boards_were_given(street: Street) -> None:
    data = image.release("esp32c3")
    esp = connect(street.start())
    write(esp, 0, data)
    for _ in range(5000):
        if street.kept.exists() and street.kept.read_bytes().startswith(data):
            break
        esp.flash_md5sum(0, 4 << 20)  # keeps the session going
    esp._port.close()
    street.kill()
    esp = connect(street.start())
    assert esp.flash_md5sum(0, len(data)) == hashlib.md5(data, usedforsecurity=False).hexdigest()
    esp._port.close()
    assert street.stop() == 0


def test_two_benches_do_not_share_a_folder(street: Street, tmp_path: Path) -> None:
    street.start()
    command = [sys.executable, "-m", "tidegate", "street", "bench"]
    second = subprocess.run(
        command, capture_output=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert second.returncode != 0
    assert b"bench: switched on already" in second.stderr
