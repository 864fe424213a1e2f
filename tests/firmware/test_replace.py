"""A node whose power is cut anywhere in an update of MicroPython starts the old one or the new one, whole.

The sweep runs inside real MicroPython on its own littlefs (replace_main.py); the cuts are those of cutflash.py, the
bootloader that of the virtual board. Every run is a stated seed and share, so a failure is repeated by the command line
that the assertion shows.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from protocols import suit
from protocols.wire import interpreter, manifest
from protocols.wire import release as release_file
from tests.firmware import replace_cases
from tests.firmware.sweeps import micropython, sweep_life
from tests.wire.release_cases import CLASS, KEY, VENDOR, public

SEED = 7
# Of some 5,200 first cuts of one life, each followed by a second one in what comes after it: 1 in 41 in `make test`.
SHARES = 41


def cuts(interpreter: list[str], folder: Path, seed: int, share: int, shares: int, *more: str) -> int:
    return sweep_life(interpreter, "replace_main.py", replace_cases.write, folder, seed, share, shares, *more)


def test_a_power_cut_in_an_update_of_micropython_leaves_one_of_the_two(tmp_path: Path) -> None:
    """One that stays, one that crashes, the same and well, one that is not healthy, two in a row: a seeded sample."""
    assert cuts(micropython(), tmp_path, SEED, 5, SHARES) > 200


def test_the_same_on_cpython(tmp_path: Path) -> None:
    assert cuts([sys.executable], tmp_path, SEED + 1, 3, 801) > 10


@pytest.mark.soak
def test_a_power_cut_everywhere_in_updates_of_micropython(tmp_path: Path) -> None:
    """Every third cut (each variant of every third operation, and so on), and a second one in each recovery."""
    assert cuts(micropython(), tmp_path, SEED, 1, 3) > 3_400


def test_the_class_of_a_boards_micropython_is_a_uuid_of_the_vendor() -> None:
    wanted = suit.class_id(VENDOR, interpreter.NAME, "virtual")
    assert uuid.UUID(bytes=interpreter.class_id(VENDOR.bytes, "virtual")) == wanted


MINE = release_file.decode(release_file.encode(9, VENDOR.bytes, CLASS.bytes, [(KEY.algorithm, public())], []))
IMAGE = replace_cases.image(4)


@pytest.mark.parametrize(
    ("reason", "board", "runs", "room"),
    [
        ("", "virtual", 3, 0x1F0000),
        ("class", "heltec_wifi_lora_32_v3", 3, 0x1F0000),
        ("downgrade", "virtual", 4, 0x1F0000),
        ("oversize", "virtual", 3, 20_000),
    ],
)
def test_what_is_not_for_this_board_or_not_newer_or_too_large_is_refused(
    reason: str, board: str, runs: int, room: int
) -> None:
    """Its sequence is of its own line: release 9 of the program runs here."""
    device = interpreter.device(MINE, board, runs, room)
    envelope = replace_cases.signed(4, IMAGE)
    if not reason:
        assert manifest.match(envelope, device, MINE.keys).size == len(IMAGE)
        return
    with pytest.raises(manifest.Refused) as info:
        manifest.match(envelope, device, MINE.keys)
    assert info.value.reason == reason


def test_a_program_is_never_taken_for_micropython_nor_the_other_way_round() -> None:
    envelope = replace_cases.signed(10, IMAGE)
    with pytest.raises(manifest.Refused) as info:
        manifest.match(envelope, release_file.device(MINE, 1 << 20, 1 << 20), MINE.keys)
    assert info.value.reason == "class"
