"""An update brought to a node by cable as it is typed: real MicroPython, real keys, no gateway near."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import tidegate
from boards.virtual import micropythons
from boards.virtual.board import RS485_UART
from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.supervisor import VirtualBoard
from flash_tools import release as releasing
from flash_tools import release_micropython
from flash_tools.mint import MINT_FILE, mint
from tests.firmware.street import CALM
from tests.firmware.test_update_on_board import Shop, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = micropythons.make(name="old", size=20_000)
HEAP = "160k"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


class Desk:
    """One board, its key, and somebody who types."""

    def __init__(self, folder: Path, shop: Shop) -> None:
        minted = mint(
            out=folder, address=0x10, node_type="river", board="virtual", area="test", settings={0: 60, 1: 60}
        )
        self.keys = folder / MINT_FILE
        self.releases = shop.book.folder
        self.board = VirtualBoard(
            folder / "board",
            app_image=shop.app,
            state_image=minted.state_image,
            micropython=OLD,
            heap_size=HEAP,
            time_scale=1,
        )
        self.board.attach_uart(RS485_UART, ModbusSonde(YOSEMITECH, lambda _: CALM))
        self.board.power_on()

    def update(self, release: str, code: int = 0) -> str:
        words = ["node", "update", release, "--releases", str(self.releases), "--keys", str(self.keys)]
        done = CliRunner().invoke(tidegate.app, [*words, "--port", str(self.board.link_path)])
        assert done.exit_code == code, f"{done.output}\n{done.exception!r}\n{self.board.console[-3000:]!r}"
        return done.output


@pytest.fixture
def desk(tmp_path: Path, shop: Shop) -> Iterator[Desk]:
    made = Desk(tmp_path, shop)
    yield made
    made.board.close()


def test_micropython_itself_by_cable(desk: Desk, shop: Shop, tmp_path: Path) -> None:
    """The envelope in one pass, the image in the next; then it runs, and has not been answered by a gateway yet."""
    (tmp_path / "new.bin").write_bytes(micropythons.make(name="new", size=150_000))
    made = release_micropython.build(shop.book, tmp_path / "new.bin", "virtual")
    releasing.sign(shop.book, made, shop._signer)
    said = desk.update(made.label)
    assert "on trial" in said
    place, image = desk.board.micropython
    assert (place, image and image.name) == ("ota_1", "new")


def test_a_release_of_the_program_by_cable(desk: Desk, shop: Shop, tmp_path: Path) -> None:
    root = tree(tmp_path, lambda text: text + "\nNEWS = 1\n")
    made = releasing.build(shop.book, root, "river", "virtual", against=[1])
    releasing.sign(shop.book, made, shop._signer)
    assert "on trial" in desk.update(made.label)
    assert "runs release 2 already" in desk.update(made.label, 1)
