"""Our reading of images beside esptool's own: the same chip, size, checksum and hash."""

from __future__ import annotations

from pathlib import Path

import pytest
from esptool.bin_image import LoadFirmwareImage

from flash_tools import firmware_image
from hil_tests.world.esp import image

CHIPS = ("esp32", "esp32s3", "esp32c3", "esp32c6")


@pytest.mark.parametrize("chip", CHIPS)
def test_esptool_reads_the_same_parts_in_a_release(chip: str) -> None:
    firmware = firmware_image.parse(image.release(chip, "1.27.3"), Path("x.bin"))
    assert (firmware.chip, firmware.version, firmware.release) == (chip, (1, 27, 3), "v1.27.3")
    assert (firmware.bootloader.offset, firmware.application.offset) == (
        firmware_image.CHIPS[chip][1],
        0x10000,
    )
    for part in (firmware.bootloader, firmware.application):
        theirs = LoadFirmwareImage(chip, part.data)
        assert theirs.chip_id == firmware_image.CHIPS[chip][0]
        assert theirs.checksum == theirs.calculate_checksum()
        assert theirs.stored_digest == theirs.calc_digest
        assert theirs.data_length + 32 <= len(part.data) < theirs.data_length + 32 + 4096
