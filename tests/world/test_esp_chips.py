"""The real esptool can not tell a simulated chip from one: whatever it does to a chip, it does here, and believes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from esptool import cmds
from esptool.util import FatalError

from hil_tests.world.esp import image
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.faults import Faults, Fuses
from hil_tests.world.esp.haste import hurried
from hil_tests.world.esp.kinds import KINDS
from hil_tests.world.esp.port import SerialChip
from tests.world.esp_tool import connect, quiet, write

MAC = bytes.fromhex("246f28a1b2c3")
DATA = random.Random(1).randbytes(40_000) + bytes(30_000)
NAMES = {"esp32": "ESP32", "esp32s3": "ESP32-S3", "esp32c3": "ESP32-C3", "esp32c6": "ESP32-C6"}
DESCRIPTIONS = {
    "esp32": "ESP32-D0WD-V3 (revision v3.1)",
    "esp32s3": "ESP32-S3 (QFN56) (revision v0.2)",
    "esp32c3": "ESP32-C3 (QFN32) (revision v0.4)",
    "esp32c6": "ESP32-C6FH4 (QFN32) (revision v0.1)",
}


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    with hurried():
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_a_chip_is_what_it_says_it_is(kind: str) -> None:
    esp = connect(SerialChip(EspChip(kind, mac=MAC)))
    assert NAMES[kind] == esp.CHIP_NAME
    assert esp.IS_STUB
    assert esp.get_chip_description() == DESCRIPTIONS[kind]
    assert bytes(esp.read_mac()) == MAC
    assert esp.get_crystal_freq() == 40
    assert cmds.detect_flash_size(esp) == ("8MB" if kind in ("esp32s3", "esp32c6") else "4MB")
    assert not esp.get_secure_boot_enabled()
    assert not esp.get_flash_encryption_enabled()


@pytest.mark.parametrize("stub", [True, False], ids=["stub", "rom"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_in_the_flash_and_comes_back(kind: str, stub: bool) -> None:
    chip = EspChip(kind)
    esp = connect(SerialChip(chip), stub=stub)
    esp.change_baud(460_800)
    chip.flash.data[0x20000:0x40000] = bytes(0x20000)  # what was there before must not shine through
    write(esp, 0x20000, DATA)
    write(esp, 0x100000, DATA, compress=not stub, no_compress=stub)
    for at in (0x20000, 0x100000):
        assert chip.flash.data[at : at + len(DATA)] == DATA
    assert chip.flash.data[0x20000 + 0x12000 : 0x40000] == bytes(0x20000 - 0x12000), "erased too much"
    cmds.verify_flash(esp, [(0x20000, DATA)])
    size = len(DATA) if stub else 1000
    assert cmds.read_flash(esp, 0x20000, size, output=None) == DATA[:size]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stub_erases_what_it_is_told_to_and_nothing_else(kind: str) -> None:
    chip = EspChip(kind)
    esp = connect(SerialChip(chip))
    chip.flash.data[:] = bytes(chip.flash.size)
    cmds.erase_region(esp, 0x4000, 0x3000)
    assert chip.flash.data[0x4000:0x7000] == b"\xff" * 0x3000
    assert chip.flash.data.count(0xFF) == 0x3000
    cmds.erase_flash(esp)
    assert chip.flash.data.count(0xFF) == chip.flash.size


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_by_the_lines_starts_the_loader_or_what_is_in_the_flash(kind: str) -> None:
    chip = EspChip(kind)
    port = SerialChip(chip)
    assert chip.state == "app"
    esp = connect(port)
    assert chip.state == "stub"
    esp.hard_reset()
    assert chip.state == "app"
    port.timeout = 0
    assert b"invalid header: 0xffffffff" in port.read(4096)
    connect(port, stub=False)
    assert chip.state == "loader"


@pytest.mark.parametrize("kind", KINDS)
def test_a_stub_that_was_left_running_is_found_running(kind: str) -> None:
    port = SerialChip(EspChip(kind))
    connect(port)
    esp = cmds.detect_chip(port, connect_mode="no-reset", connect_attempts=1)
    assert esp.sync_stub_detected
    write(cmds.run_stub(esp), 0x20000, DATA[:5000])


@pytest.mark.parametrize("kind", KINDS)
def test_made_images_are_images_to_esptool(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Header, checksum, digest and description; of the second stage too."""
    quiet()
    from esptool.bin_image import LoadFirmwareImage

    for data in (image.app(kind), image.bootloader(kind), image.release(kind)):
        found = LoadFirmwareImage(kind, data)
        assert found.chip_id == KINDS[kind].chip_id
        assert found.checksum == found.calculate_checksum()
        assert found.stored_digest == found.calc_digest
    written = SerialChip(EspChip(kind))
    write(connect(written), KINDS[kind].bootloader_at, image.release(kind))


def test_an_image_of_another_chip_is_refused_by_esptool_itself() -> None:
    esp = connect(SerialChip(EspChip("esp32s3")))
    with pytest.raises(FatalError, match="not contain an ESP32-S3 image"):
        write(esp, 0x0, image.bootloader("esp32c3"))


def test_a_session_costs_its_bytes_on_the_line_and_no_waiting() -> None:
    """At 115200 baud 70 kB that compress to 40 kB, on the port's own clock."""
    port = SerialChip(EspChip("esp32"))
    esp = connect(port)
    sent, line_s = port.sent, port.line_s
    write(esp, 0x20000, DATA)
    assert 40_000 < port.sent - sent < 42_000
    assert 3.4 < port.line_s - line_s < 4.0


@pytest.mark.parametrize("kind", KINDS)
def test_locked_chips_say_so(kind: str) -> None:
    fuses = Fuses(MAC, (3, 0) if kind == "esp32" else (0, 2), 1, True, 1, True)
    esp = connect(SerialChip(EspChip(kind, fuses=fuses)), stub=False)
    assert esp.get_secure_boot_enabled()
    assert esp.get_flash_encryption_enabled()
    assert esp.get_encrypted_download_disabled()
    if kind != "esp32":
        info = esp.get_security_info()
        assert info["parsed_flags"]["SECURE_BOOT_EN"]
        assert info["flash_crypt_cnt"] == 1
    with pytest.raises(FatalError, match="Flashing plaintext"):
        write(esp, 0x20000, DATA)


@pytest.mark.parametrize("kind", ["esp32s3", "esp32c3", "esp32c6"])
def test_secure_download_mode_leaves_little(kind: str) -> None:
    chip = EspChip(kind, fuses=Fuses(MAC, (0, 2), secure_download=True))
    esp = connect(SerialChip(chip), stub=False)
    assert esp.secure_download_mode
    with pytest.raises(FatalError):
        esp.read_reg(0x4000_1000)
    write(esp, 0x20000, DATA, flash_size="4MB")
    assert chip.flash.data[0x20000 : 0x20000 + len(DATA)] == DATA


def test_an_s3_with_secure_boot_starts_the_stub_by_the_back_door() -> None:
    fuses = Fuses(MAC, (0, 2), has_secure_boot=True)
    assert connect(SerialChip(EspChip("esp32s3", fuses=fuses))).IS_STUB


# -- faults ----------------------------------------------------------------------------------------


def test_power_lost_in_the_middle_leaves_a_torn_page_and_a_dead_chip() -> None:
    chip = EspChip("esp32")
    port = SerialChip(chip)
    esp = connect(port)
    chip.faults.power_after_bytes = 20_000
    with pytest.raises(FatalError):
        write(esp, 0x20000, DATA)
    assert chip.state == "off"
    assert chip.flash.data[0x20000 : 0x20000 + 20_000] == DATA[:20_000]
    assert chip.flash.data[0x20000 + 20_016 : 0x20000 + 0x6000] != DATA[20_016:0x6000]
    with pytest.raises(FatalError, match="No serial data received"):
        connect(port)
    chip.power_on()
    write(connect(port), 0x20000, DATA)


def test_power_lost_while_a_sector_is_erased() -> None:
    chip = EspChip("esp32c3")
    chip.flash.data[:] = bytes(chip.flash.size)
    esp = connect(SerialChip(chip))
    chip.faults.power_after_erases = 2
    with pytest.raises(FatalError):
        cmds.erase_region(esp, 0x10000, 0x8000)
    assert chip.flash.data[0x10000:0x12000] == b"\xff" * 0x2000
    assert 0 < chip.flash.data[0x12000:0x13000].count(0) < 4096
    assert chip.flash.data[0x13000:0x18000] == bytes(0x5000)


def test_a_bad_sector_fails_the_check_until_it_holds() -> None:
    chip = EspChip("esp32", faults=Faults(bad_sectors={0x21: 1}))
    esp = connect(SerialChip(chip))
    with pytest.raises(FatalError, match="MD5 of file does not match"):
        write(esp, 0x20000, DATA)
    write(esp, 0x20000, DATA)


def test_a_silent_chip_is_no_chip() -> None:
    with pytest.raises(FatalError, match="No serial data received"):
        connect(SerialChip(EspChip("esp32", faults=Faults(is_silent=True))))


def test_noise_at_the_start_is_survived_and_spoiled_answers_are_found() -> None:
    chip = EspChip("esp32", faults=Faults(noise_at_start=200))
    esp = connect(SerialChip(chip))
    chip.faults.garbage_every = 7
    with pytest.raises(FatalError):
        esp.flash_id(cache=False)


def test_a_flash_smaller_than_the_image_claims_is_seen_and_one_that_lies_is_not() -> None:
    from hil_tests.world.esp.nor import NorFlash

    small = connect(SerialChip(EspChip("esp32", flash=NorFlash(2 << 20))))
    with pytest.raises(FatalError, match="will not fit in 2097152 bytes"):
        write(small, 0x200000, DATA)
    liar = EspChip("esp32", flash=NorFlash(2 << 20), faults=Faults(claimed_flash_size=4 << 20))
    esp = connect(SerialChip(liar))
    write(esp, 0x200000, DATA)
    assert liar.flash.data[: len(DATA)] == DATA, "addresses wrap"


def test_a_port_that_somebody_holds_can_not_be_opened() -> None:
    from serial import SerialException

    with pytest.raises(SerialException, match="exclusively lock"):
        SerialChip(EspChip("esp32"), held_by="the gateway")
