"""MicroPython itself replaced on the virtual board: a real node, a real MicroPython, the board's bootloader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boards.virtual import micropythons
from boards.virtual.supervisor import VirtualBoard
from firmware import pending, pieces
from firmware.filling import Filling
from flash_tools import release as releasing
from flash_tools import release_micropython
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import interpreter, ota, outcomes
from tests.firmware.test_node_on_board import Station, state_image
from tests.firmware.test_update_on_board import FRAGMENT, Shop, news

if TYPE_CHECKING:
    from pathlib import Path

HEAP = "160k"
OLD = micropythons.make(name="old", size=20_000)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


class Bench:
    """A node, and a MicroPython that it is to run."""

    def __init__(self, folder: Path, shop: Shop, new: bytes) -> None:
        file = folder / "new.bin"
        file.write_bytes(new)
        self.new = new
        made = release_micropython.build(shop.book, file, "virtual")
        releasing.sign(shop.book, made, shop._signer)
        envelope = made.envelope(made.payloads[0])
        assert envelope is not None
        self.sequence = made.sequence
        state = received(state_image(), len(envelope).to_bytes(2, "big") + envelope, made.sequence)
        self.board = VirtualBoard(
            folder / "board",
            app_image=shop.app,
            state_image=state,
            micropython=OLD,
            heap_size=HEAP,
            time_scale=30,
        )

    def fill(self, image: bytes) -> None:
        """What comes over the line, once the node has verified the envelope."""
        self.board.power_on()
        self.board.wait_console(b"MicroPython %d is wanted" % self.sequence, 120)
        self.board.power_cut()
        flash = Flash(image=self.board.read_partition("state"))
        hal = Hal(LittleFs(flash))
        coming = Filling(hal)  # type: ignore[arg-type]
        for at in range(0, len(image), 400):
            coming.hear(interpreter.piece(at, image[at : at + 400]))
        assert coming.is_full
        self.board.flash("state", bytes(flash.image))
        self.board.flash("ota_1", bytes(hal.other) + b"\xff" * (-len(hal.other) % 4096))

    def outcome(self) -> str:
        station = Station(self.board)
        station.until(lambda: bool(news(station)), "news of the update")
        station.port.close()
        found = news(station)
        assert found[0][0] == self.sequence
        assert found[0][2:] == [1]
        return outcomes.OUTCOMES[found[0][1]][0]


class Hal:
    """Of a node that takes an image in."""

    def __init__(self, fs: LittleFs) -> None:
        self.state_fs = fs
        self.this = 0
        self.room = 0x1F0000
        self.other = bytearray()

    def places(self) -> Hal:
        return self

    def erase(self, block: int) -> None:
        self.other[block * 4096 :] = b"\xff" * 4096

    def write(self, at: int, data: bytes) -> None:
        self.other[at : at + len(data)] = data


def received(state: bytes, update: bytes, sequence: int) -> bytes:
    """The state partition of a node that has just received this envelope."""
    flash = Flash(image=state)
    fs = LittleFs(flash)
    receiver = ota.OtaReceiver(pieces.Pieces(fs), len(update))
    count = -(-len(update) // FRAGMENT)
    data = update.ljust(count * FRAGMENT, b"\0")
    descriptor = interpreter.IS_ONE | sequence
    receiver.hear(1, ota.Setup(count, FRAGMENT, len(data) - len(update), descriptor, 0).encode())
    for at in range(count):
        receiver.hear(1, ota.data_fragment(at + 1, data[FRAGMENT * at : FRAGMENT * (at + 1)]))
    wanted = pending.Pending(fs)
    wanted.f[pending.PHASE] = pending.RECEIVED
    wanted.save()
    return bytes(flash.image)


def test_a_signed_micropython_is_started_tried_and_confirmed(tmp_path: Path, shop: Shop) -> None:
    bench = Bench(tmp_path, shop, micropythons.make(name="new", size=30_000))
    with bench.board as board:
        bench.fill(bench.new)
        assert bench.outcome() == "installed"
        board.power_cut()
        board.power_on()
        place, image = board.micropython
        assert (place, image and image.name) == ("ota_1", "new")


def test_one_that_can_not_run_the_program_is_gone_after_three_starts(tmp_path: Path, shop: Shop) -> None:
    """It is of another .mpy version: what would choose a slot is refused by it already."""
    bench = Bench(tmp_path, shop, micropythons.make("other-mpy", size=30_000))
    with bench.board as board:
        bench.fill(bench.new)
        assert bench.outcome() == "crashed"
        assert board.console.count(b"incompatible .mpy file") == 3
        assert board.micropython[0] == "ota_0"


@pytest.mark.soak
def test_one_that_panics_is_gone_after_three_starts(tmp_path: Path, shop: Shop) -> None:
    bench = Bench(tmp_path, shop, micropythons.make("crash", size=30_000))
    with bench.board as board:
        bench.fill(bench.new)
        assert bench.outcome() == "crashed"
        assert board.counts["panic"] == 3
        assert board.micropython[0] == "ota_0"


@pytest.mark.soak
def test_one_that_hangs_is_gone_after_three_power_cuts(tmp_path: Path, shop: Shop) -> None:
    """Before our program there is no watchdog: whoever is at the cable has to pull it."""
    bench = Bench(tmp_path, shop, micropythons.make("hang", size=30_000))
    with bench.board as board:
        bench.fill(bench.new)
        for _ in range(3):
            board.power_on()
            count = board.counts["reset"]
            board.wait("reset", count + 1 if board.micropython[0] == "ota_0" else count, 60)
            board.power_cut()
        assert bench.outcome() == "crashed"
        assert board.micropython[0] == "ota_0"


@pytest.mark.soak
def test_an_image_that_changed_on_its_way_is_never_started(tmp_path: Path, shop: Shop) -> None:
    bench = Bench(tmp_path, shop, micropythons.make(name="new", size=30_000))
    with bench.board as board:
        bench.fill(bench.new[:-1] + bytes((bench.new[-1] ^ 1,)))
        assert bench.outcome() == "payload"
        assert board.micropython[0] == "ota_0"
