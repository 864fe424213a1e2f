"""Updates on the virtual board: signed by the release tools, installed, tried and kept or given up by a real node."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from boards.virtual.supervisor import VirtualBoard
from firmware import pending, pieces
from firmware.durable import Document
from flash_tools import release as releasing
from flash_tools import signing
from flash_tools.images import image_of
from flash_tools.release_book import Book
from flash_tools.shipped import image_files
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import codes, ota, outcomes
from protocols.wire.messages import Event, Hello
from tests.firmware.faulty import faulty_tree
from tests.firmware.test_node_on_board import ROOT, Station, state_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FRAGMENT = 200
# That of an ordinary life: a river station has room for a trial in it.
HEAP = "160k"
BOARD = "virtual"


class Shop:
    """Releases of river stations: the one that nodes begin with, and what may come next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.book = Book.begin(folder / "releases", "tidegate.example")
        self._signer = signing.generate(folder / "key", "es256")
        self.book.add(self._signer.algorithm, self._signer.public, "daily")
        self.book.save()
        self.first = releasing.build(self.book, ROOT, "river", BOARD)
        self.app = image_of(BOARD, image_files(ROOT, self.first.files())).data

    def update(self, root: Path) -> bytes:
        """What is sent to a node that runs the first release."""
        made = releasing.build(self.book, root, "river", BOARD, against=[1])
        releasing.sign(self.book, made, self._signer)
        payload = next(one for one in made.payloads if one.base == 1)
        envelope = made.envelope(payload)
        assert envelope is not None
        return len(envelope).to_bytes(2, "big") + envelope + made.payload(payload)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def received(state: bytes, update: bytes) -> bytes:
    """The state partition of a node that has just received this."""
    flash = Flash(image=state)
    fs = LittleFs(flash)
    receiver = ota.OtaReceiver(pieces.Pieces(fs), len(update))
    count = -(-len(update) // FRAGMENT)
    data = update.ljust(count * FRAGMENT, b"\0")
    receiver.hear(1, ota.Setup(count, FRAGMENT, len(data) - len(update), 0, 0).encode())
    for at in range(count):
        receiver.hear(1, ota.data_fragment(at + 1, data[FRAGMENT * at : FRAGMENT * (at + 1)]))
    assert receiver.deficit() == 0
    wanted = pending.Pending(fs)
    wanted.f[pending.PHASE] = pending.RECEIVED
    wanted.save()
    return bytes(flash.image)


def outcome(
    folder: Path, shop: Shop, update: bytes, then: Callable[[Station], None] | None = None
) -> list[int]:
    """What a node tells of this update."""
    state = received(state_image(), update)
    # Ten seconds' pause before each reset of a start that failed pass in one third of one.
    with VirtualBoard(
        folder / "board", app_image=shop.app, state_image=state, heap_size=HEAP, time_scale=30
    ) as board:
        station = Station(board)
        station.until(lambda: bool(news(station)), "news of the update")
        if then is not None:
            then(station)
        station.port.close()
        found = news(station)
        assert len(found) == 1
        return found[0]


def news(station: Station) -> list[list[int]]:
    return [event.detail for event in station.peer.of(Event) if event.code == codes.UPDATE]


def releases_said(station: Station) -> list[int]:
    """In its hellos: each that was told, in their order."""
    said = [hello.firmware.partition("+r")[2] for hello in station.peer.of(Hello)]
    return [int(text) for text in dict.fromkeys(said)]


def tree(folder: Path, change: Callable[[str], str]) -> Path:
    """The sources, with another main.py."""
    root = folder / "tree"
    for part in ("firmware", "protocols", "boards"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", "vectors"))
    path = root / "firmware/main.py"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    return root


def name_of(found: list[int]) -> str:
    return outcomes.OUTCOMES[found[1]][0]


def test_a_signed_release_is_installed_tried_and_confirmed(tmp_path: Path, shop: Shop) -> None:
    root = tree(tmp_path, lambda text: text.replace('hal.log("no identity', 'hal.log("still no identity'))

    def runs_it(station: Station) -> None:
        assert b"is on trial in /b" in station.board.console
        health = station.status().health
        assert codes.TRACEBACK not in health, health.get(codes.TRACEBACK)
        count = station.board.counts["boot"]
        station.board.press_reset()
        station.board.wait("boot", count + 1)
        station.until(lambda: station.hellos() >= 1, "a hello of the new release")
        assert releases_said(station) == [news(station)[0][0]]

    found = outcome(tmp_path, shop, shop.update(root), runs_it)
    assert name_of(found) == "installed"


def test_a_release_that_raises_at_import_is_given_up_after_three_starts(tmp_path: Path, shop: Shop) -> None:
    root = tree(tmp_path, lambda text: "raise ValueError(7)\n" + text)

    def says_what_runs(station: Station) -> None:
        assert releases_said(station)[-1] == 1

    found = outcome(tmp_path, shop, shop.update(root), says_what_runs)
    assert name_of(found) == "crashed"


@pytest.mark.soak
def test_a_release_whose_node_type_raises_is_given_up(tmp_path: Path, shop: Shop) -> None:
    found = outcome(tmp_path, shop, shop.update(faulty_tree(tmp_path, "import")))
    assert name_of(found) == "crashed"


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("signature", lambda data, at: data[: at + 60] + bytes((data[at + 60] ^ 1,)) + data[at + 61 :]),
        ("payload", lambda data, at: data[:-1] + bytes((data[-1] ^ 1,))),
    ],
)
def test_what_was_changed_on_its_way_is_refused_and_the_slot_that_runs_is_untouched(
    what: str, change: Callable[[bytes, int], bytes], tmp_path: Path, shop: Shop
) -> None:
    update = shop.update(ROOT)
    signature = update.index(b"\x58\x40") + 2
    touched = partial(_untouched, shop)
    found = outcome(tmp_path, shop, change(update, signature - 58), touched)
    assert name_of(found) == what


def _untouched(shop: Shop, station: Station) -> None:
    station.board.power_cut()
    assert station.board.read_partition("app") == shop.app


def test_the_document_is_the_one_that_a_start_looks_for() -> None:
    flash = Flash()
    LittleFs.mkfs(flash)
    fs = LittleFs(flash)
    pending.Pending(fs).save()
    assert Document(fs, "update").load() is not None
