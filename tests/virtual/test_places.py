"""Two places for MicroPython on the virtual board: the Partition API, `otadata`, and the bootloader that reads it."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual import micropythons
from boards.virtual.bootloader import FileFlash
from boards.virtual.errors import BoardError
from boards.virtual.rom import _ota as of_a_chip
from boards.virtual.supervisor import VirtualBoard

if TYPE_CHECKING:
    from pathlib import Path

_ota: Any = of_a_chip  # runs on the node, too: no annotations there
OLD = micropythons.make(name="old", size=20_000)
# Puts what lies in the file `new.bin` into the spare place once, and says at each start where it is.
UPDATER = """
import esp32, machine, os
here = esp32.Partition(esp32.Partition.RUNNING)
boot = esp32.Partition(esp32.Partition.BOOT)
spare = here.get_next_update()
print("runs", here.info()[4], "boot", boot.info()[4], "spare", spare.info()[4], "cause", machine.reset_cause())
folder = os.getenv("VBOARD_MAIN")
try:
    os.stat(folder + "/new.bin")
except OSError:
    exec(open(folder + "/then.py").read())
else:
    block = bytearray(4096)
    n = 0
    with open(folder + "/new.bin", "rb") as file:
        while True:
            count = file.readinto(block)
            if not count:
                break
            spare.writeblocks(n, memoryview(block)[:count])
            n += 1
    back = bytearray(4096)
    spare.readblocks(n - 1, back)
    print("same", back[:1] != b"\\xff")
    os.rename(folder + "/new.bin", folder + "/old.bin")
    try:
        spare.set_boot()
    except OSError as error:
        print("refused", error)
    machine.reset()
"""


def board(folder: Path, new: bytes, then: str = "pass") -> VirtualBoard:
    program = folder / "program"
    program.mkdir()
    (program / "main.py").write_text(UPDATER)
    (program / "then.py").write_text(then)
    (program / "new.bin").write_bytes(new)
    return VirtualBoard(folder / "board", micropython=OLD, firmware=program)


def test_a_new_one_is_started_once_and_stays_when_it_says_so(tmp_path: Path) -> None:
    confirm = 'print("confirmed", esp32.Partition.mark_app_valid_cancel_rollback())'
    with board(tmp_path, micropythons.make(name="new", size=30_000), confirm) as it:
        it.power_on()
        it.wait_console(b"confirmed None")
        assert b"runs ota_0 boot ota_0 spare ota_1 cause 1" in it.console
        assert b"runs ota_1 boot ota_1 spare ota_0 cause 2" in it.console
        it.power_cut()
        it.power_on()
        it.wait_console(b"confirmed None", count=2)
        place, image = it.micropython
        assert place == "ota_1"
        assert image is not None
        assert image.name == "new"


@pytest.mark.parametrize("runs", ["micropython", "crash"])
def test_one_that_says_nothing_is_gone_with_the_next_start(runs: str, tmp_path: Path) -> None:
    reset = 'machine.reset() if here.info()[4] == "ota_1" else print("back")'
    with board(tmp_path, micropythons.make(runs, name="new"), reset) as it:
        it.power_on()
        it.wait_console(b"back")
        assert it.micropython[0] == "ota_0"
        entries = _ota.OtaData(FileFlash(tmp_path / "board/otadata.bin")).entries
        assert [state for _, state, _ in entries] == [_ota.VALID, _ota.ABORTED]


def test_a_deep_sleep_is_no_start_that_counts(tmp_path: Path) -> None:
    sleep = (
        "machine.deepsleep(1) if machine.reset_cause() == 2 else print('awake', here.info()[4]);"
        "esp32.Partition.mark_app_valid_cancel_rollback()"
    )
    with board(tmp_path, micropythons.make(name="new"), sleep) as it:
        it.power_on()
        it.wait_console(b"awake ota_1")


def test_one_that_hangs_is_given_up_at_the_next_power_cut(tmp_path: Path) -> None:
    with board(tmp_path, micropythons.make("hang"), 'print("back")') as it:
        it.power_on()
        it.wait("boot", 2)
        it.power_cut()
        it.power_on()
        it.wait_console(b"back")
        assert it.micropython[0] == "ota_0"


def test_what_is_no_image_is_never_set_to_boot(tmp_path: Path) -> None:
    new = bytearray(micropythons.make(name="new"))
    new[400] ^= 1
    with board(tmp_path, bytes(new), 'print("still", here.info()[4])') as it:
        it.power_on()
        it.wait_console(b"still ota_0")
        assert b"refused" in it.console


def test_a_board_without_places_has_none(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import esp32\nprint(esp32.Partition.find(esp32.Partition.TYPE_APP), 'none')\n"
    )
    with VirtualBoard(tmp_path / "board", firmware=tmp_path) as it:
        it.power_on()
        it.wait_console(b"[] none")
        assert it.micropython == ("", None)


def test_entries_are_those_of_esp_idf() -> None:
    """The CRC of sequence 1 and 2, as Espressif's otatool writes them."""
    flash = Ram()
    _ota.OtaData(flash).put(0, 1, _ota.VALID)
    _ota.OtaData(flash).put(1, 2, _ota.NEW)
    assert flash.data[:32].hex() == "01000000" + "ff" * 20 + "02000000" + "9a984347"
    assert struct.unpack_from("<I", flash.data, 4096 + 28) == (0x55F63774,)


class Ram:
    """Two sectors that can lose power before operation ``left``."""

    def __init__(self, data: bytes = b"\xff" * 8192, left: int = 1000) -> None:
        self.data = bytearray(data)
        self.left = left

    def read(self, at: int, count: int) -> bytes:
        return bytes(self.data[at : at + count])

    def _use(self) -> None:
        if not self.left:
            raise InterruptedError
        self.left -= 1

    def erase(self, sector: int) -> None:
        self._use()
        self.data[sector * 4096 : (sector + 1) * 4096] = b"\xff" * 4096

    def write(self, at: int, data: bytes) -> None:
        self._use()
        self.data[at : at + len(data)] = data


def test_any_row_of_what_programs_do_and_power_cuts_ends_in_a_place_that_can_start() -> None:
    """Random programs that set only what else they would have to fall back on: there is always an entry that counts."""
    for seed in range(300):
        rng = random.Random(seed)
        flash = Ram()
        here = _ota.start(_ota.OtaData(flash), lambda _: True)
        assert here == 0
        for _ in range(12):
            act = rng.choice(["set", "valid", "reset"])
            found = _ota.OtaData(flash)
            assert found.active() >= 0, f"seed {seed}"
            if found.entries[found.active()][1] == _ota.PENDING_VERIFY and act == "set":
                act = "valid"
            flash.left = rng.choice([0, 1, 1000, 1000, 1000])
            try:
                if act == "set":
                    _ota.OtaData(flash).set_boot(1 - here)
                elif act == "valid":
                    _ota.OtaData(flash).mark_valid()
            except InterruptedError:
                pass
            wanted = {here, 1 - here} if act == "set" else {0, 1}
            for left in (rng.randrange(4), 1000):
                flash.left = left
                try:
                    here = _ota.start(_ota.OtaData(flash), lambda _: True)
                except InterruptedError:
                    continue
                assert here in wanted, f"seed {seed}"


def test_nothing_to_start_is_said(tmp_path: Path) -> None:
    it = VirtualBoard(tmp_path, micropython=b"\0" * 4096)
    with it, pytest.raises(BoardError, match="brick"):
        it.power_on()


def test_to_set_another_while_this_one_is_to_be_verified_leaves_nothing_to_fall_back_on() -> None:
    """Why firmware/places.py never does it."""
    flash = Ram()
    _ota.start(_ota.OtaData(flash), lambda _: True)
    _ota.OtaData(flash).set_boot(1)
    _ota.start(_ota.OtaData(flash), lambda _: True)
    _ota.OtaData(flash).set_boot(0)
    for _ in range(2):
        _ota.start(_ota.OtaData(flash), lambda _: True)
    assert _ota.OtaData(flash).active() == -1
