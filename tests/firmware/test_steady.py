"""Half-programmed cells are finished before the file system is mounted, and nothing else is touched."""

from __future__ import annotations

import pytest

from firmware.steady import PAGE_BYTES, steady
from hil_tests.world.cutflash import BITS, BLOCK_BYTES, UNSTABLE, WEAK, CutFlash, PowerCut
from hil_tests.world.flash import LittleFs


def fresh(blocks: int = 16) -> CutFlash:
    flash = CutFlash(bytearray(b"\xff" * (blocks * BLOCK_BYTES)), seed=5)
    LittleFs.mkfs(flash)
    return flash


def put(flash: CutFlash, data: bytes) -> None:
    with LittleFs(flash).open("/file", "wb") as file:
        file.write(data)


def test_a_steady_flash_is_read_and_never_written() -> None:
    flash = fresh()
    put(flash, b"hello" * 300)
    before, ops = bytes(flash.image), flash.ops
    assert steady(flash) == 0
    assert (bytes(flash.image), flash.ops) == (before, ops)


@pytest.mark.parametrize("variant", [WEAK, UNSTABLE])
def test_an_interrupted_commit_is_finished_and_reads_the_same_ever_after(variant: int) -> None:
    flash = fresh()
    put(flash, b"old")
    flash.cut_at, flash.variant = flash.ops, variant
    with pytest.raises(PowerCut):
        put(flash, b"new")
    again = CutFlash(flash.image, flash.unstable, seed=6)
    assert steady(again) == 1
    assert not any(any(mask) for mask in again.unstable.values())
    with LittleFs(again).open("/file", "rb") as file:
        assert file.read() == b"new"
    assert steady(again) == 0


def test_what_was_only_half_done_but_reads_the_same_is_left_to_littlefs() -> None:
    flash = fresh()
    put(flash, b"old")
    flash.cut_at, flash.variant = flash.ops, BITS
    with pytest.raises(PowerCut):
        put(flash, b"new")
    again = CutFlash(flash.image, seed=6)
    assert steady(again) == 0
    with LittleFs(again).open("/file", "rb") as file:
        assert file.read() == b"old"


def test_a_thousand_cells_on_the_edge_are_all_found() -> None:
    """Most are noticed at once; the one that hides longest must not be left behind."""
    for seed in range(60):
        flash = CutFlash(
            bytearray(b"\xff" * BLOCK_BYTES), {0: bytearray(b"\xff" * PAGE_BYTES + bytes(3840))}, seed
        )
        steady(flash)
        assert flash.image[:PAGE_BYTES] == bytes(PAGE_BYTES)


def test_the_end_of_a_full_block_and_an_empty_block_are_looked_at_too() -> None:
    flash = CutFlash(bytearray(bytes(BLOCK_BYTES) + b"\xff" * BLOCK_BYTES), seed=5)
    mask = bytearray(BLOCK_BYTES)
    mask[-1] = 0x10
    first = bytearray(BLOCK_BYTES)
    first[0] = first[PAGE_BYTES + 9] = 0x01
    flash.unstable = {0: mask, 1: first}
    assert steady(flash) == 2
    assert flash.image[BLOCK_BYTES] == 0xFE
    assert steady(flash) == 0
