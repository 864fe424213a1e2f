"""What of an image has to be sent, found by checksums alone: all that differs and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_tools import partition_table
from flash_tools.blocks import (
    BLOCK,
    SECTOR,
    Region,
    behind_guard,
    blocks,
    compare,
    count_blocks,
    is_blank,
    region,
)
from flash_tools.images import board_constants
from flash_tools.partitions import table

SECTORS = 40
OFFSET = 0x1E000  # two sectors before a block ends

# A sector is a letter; "-" is erased.
flash_text = st.text("ab-", min_size=SECTORS, max_size=SECTORS)


def sectors(text: str) -> bytes:
    return b"".join((b"\xff" if letter == "-" else letter.encode()) * SECTOR for letter in text)


class Chip:
    def __init__(self, text: str) -> None:
        self.data = bytearray(b"\xff" * OFFSET + sectors(text))
        self.asked = 0

    def md5(self, offset: int, size: int) -> str:
        self.asked += 1
        assert len(self.data) >= offset + size
        return hashlib.md5(self.data[offset : offset + size]).hexdigest()

    def take(self, runs: object) -> None:
        for run in runs:  # type: ignore[attr-defined]
            self.data[run.offset : run.offset + run.size] = run.data or b"\xff" * run.size


@given(flash_text, flash_text)
def test_the_runs_make_the_chip_equal_and_hold_only_sectors_that_differed(on_chip: str, wanted: str) -> None:
    chip = Chip(on_chip)
    one = region("app", OFFSET, sectors(wanted))
    difference = compare(one, chip.md5)
    differing = {OFFSET + SECTOR * at for at in range(SECTORS) if on_chip[at] != wanted[at]}
    sent = {at for run in difference.runs for at in range(run.offset, run.offset + run.size, SECTOR)}
    assert sent == differing
    assert all(run.offset // BLOCK == (run.offset + run.size - 1) // BLOCK for run in difference.runs)
    assert all(bool(run.data) == bool(run.data.strip(b"\xff")) for run in difference.runs)
    assert difference.blocks == len({at // BLOCK for at in differing}) == count_blocks(difference.runs)
    chip.take(difference.runs)
    assert compare(one, chip.md5).runs == ()


@given(flash_text, flash_text)
def test_nothing_behind_the_guard_is_left_out_and_nothing_of_it_is_in(on_chip: str, wanted: str) -> None:
    chip = Chip(on_chip)
    one = region("app", OFFSET, sectors(wanted), guard=2 * SECTOR)
    behind = behind_guard(compare(one, chip.md5))
    assert all(run.offset >= OFFSET + 2 * SECTOR for run in behind)
    chip.take(behind)
    assert chip.data[OFFSET + 2 * SECTOR :] == one.data[2 * SECTOR :]
    assert chip.data[: OFFSET + 2 * SECTOR] == b"\xff" * OFFSET + sectors(on_chip)[: 2 * SECTOR]


def test_of_a_blank_chip_only_blocks_are_asked_for() -> None:
    chip = Chip("-" * SECTORS)
    compare(region("app", OFFSET, sectors("ab" * 20)), chip.md5)
    assert chip.asked == 4
    assert is_blank(OFFSET, SECTORS * SECTOR, chip.md5)
    assert not is_blank(OFFSET, SECTORS * SECTOR, Chip("-" * 39 + "a").md5)


def test_a_region_is_whole_sectors_and_its_blocks_are_those_of_the_flash() -> None:
    one = region("micropython", 0x10000, b"x" * (2 * BLOCK + 10))
    assert len(one.data) == 2 * BLOCK + SECTOR
    assert one.data.endswith(b"\xff" * (SECTOR - 10))
    assert [(at, len(part)) for at, part in blocks(one)] == [
        (0x10000, BLOCK),
        (0x20000, BLOCK),
        (0x30000, SECTOR),
    ]
    assert [at for at, _ in blocks(Region("", OFFSET, bytes(BLOCK)))] == [OFFSET, 0x20000]
    with pytest.raises(ValueError, match="not the begin of a sector"):
        region("app", 0x1234, b"")


# ---- the partition table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["esp32_devkitc_sx1262", "heltec_wifi_lora_32_v3", "esp32c3_devkitm"])
def test_a_table_is_read_back_as_it_was_made(name: str) -> None:
    board = board_constants(name)
    made = partition_table.encode(board)
    assert len(made) == partition_table.SIZE
    assert partition_table.parse(made) == table(board)


def test_a_torn_blank_or_foreign_table_is_none() -> None:
    made = bytearray(partition_table.encode(board_constants("virtual")))
    made[0x45] ^= 1
    for data in (bytes(made), b"\xff" * 0x1000, b"", b"\xe9" * 0x1000):
        assert partition_table.parse(data) is None


@given(st.binary(max_size=400))
def test_no_bytes_whatever_break_the_reader_of_tables(noise: bytes) -> None:
    partition_table.parse(noise)
    partition_table.parse(b"\xaa\x50" + noise)
