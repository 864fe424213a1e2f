"""A run of a provisioning station as a technician types it, from blank chips to nodes that a gateway hears.

The command is the one that is typed, with the real esptool in it; chips of several kinds are at its ports, and after
each flash a real MicroPython runs what was written. Then the gateway has the same boards as its links, behind paths.
"""

from __future__ import annotations

import contextlib
import io
import re
import sqlite3
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

import tidegate
from flash_tools import book, ports, shipped
from flash_tools.images import board_constants, build_app_image
from flash_tools.key_store import KeyStore, UnitKeys, load_master_key
from flash_tools.provisioning import LABELLED, MINTED, Units
from hil_tests.street import GatewayProcess
from hil_tests.virtual import identity_of
from hil_tests.waiting import wait
from hil_tests.world.esp import image
from hil_tests.world.esp.bench import BenchBoard
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.haste import hurried
from hil_tests.world.esp.port import SerialChip
from hil_tests.world.esp.pty_port import PtyPort

BOARDS = ("esp32_devkitc_sx1262", "heltec_wifi_lora_32_v3", "esp32c3_devkitm", "esp32c6_devkitc")
RELEASE = "1.28.0"


# The same sources give the same image: once is enough for all runs of a test.
app_image_of = cache(build_app_image)


class Station:
    """A bench with a board of each kind at its ports, its folder, and the gateway that it provisions for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = folder / "provisioning"
        self.chips = [
            EspChip(board_constants(board).CHIP, seed=number) for number, board in enumerate(BOARDS, 1)
        ]
        self.boards = [BenchBoard(folder / f"board-{n}", chip) for n, chip in enumerate(self.chips, 1)]
        self.lines = {f"usb{n}": SerialChip(board, f"usb{n}") for n, board in enumerate(self.boards, 1)}
        self.paths = {f"line-{n}": folder / f"tty{n}" for n in range(1, len(BOARDS) + 1)}
        self.ports: list[PtyPort] = []
        self.gateway = GatewayProcess(folder / "gateway", self.paths, None)
        self.printed = ""
        images = folder / "micropython"
        images.mkdir()
        for board in BOARDS:
            constants = board_constants(board)
            data = image.release(constants.CHIP, RELEASE, flash_size=constants.FLASH_SIZE)
            (images / f"{constants.CHIP.upper()}_GENERIC-20260401-v{RELEASE}.bin").write_bytes(data)
        lines = [
            f"{chip.fuses.mac.hex(':')},river,{board},330110001001,bridge-{n},interval_s=2 report_s=2"
            for n, (board, chip) in enumerate(zip(BOARDS, self.chips, strict=True), 1)
        ]
        self.table = folder / "units.csv"
        self.table.write_text("mac,type,board,area,site,settings\n" + "\n".join(lines) + "\n")
        self.tidegate(
            "provision", "init", "--name", "bench-1", "--addresses", "0100-01ff", "--config",
            str(self.gateway.config), "--bench", str(self.bench),
        )  # fmt: skip

    def tidegate(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command line."""
        said = io.StringIO()
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            pytest.MonkeyPatch.context() as patch,
            hurried(),
        ):
            patch.setattr(ports, "open_port", self.open_port)
            patch.setattr(shipped, "build_app_image", app_image_of)
            code = self._run(words)
        self.printed += said.getvalue()
        return code, said.getvalue()

    def _run(self, words: Sequence[str]) -> int:
        try:
            tidegate.main(words)
        except SystemExit as ended:
            return int(ended.code or 0)
        raise AssertionError("a command line ends by SystemExit")

    def open_port(self, name: str) -> SerialChip:
        """What a port of this bench is called is all that the command knows of it."""
        line = self.lines[name]
        if not line.is_open:
            line.open()
        return line

    def provision(self, *more: str) -> tuple[int, str]:
        """The one command."""
        return self.tidegate(
            "provision", "--batch", str(self.table), "--ports", ",".join(self.lines), "--micropython",
            str(self.folder / "micropython"), "--bench", str(self.bench), *more,
        )  # fmt: skip

    def hand_to_gateway(self) -> None:
        """The boards leave the bench: now they are at the gateway's ports."""
        self.ports = [
            PtyPort(board, path) for board, path in zip(self.boards, self.paths.values(), strict=True)
        ]
        self.gateway.start()

    def units(self) -> Units:
        return Units(book.read(self.bench / "units.jsonl"))

    def keys(self) -> dict[str, UnitKeys]:
        """By MAC, of every unit in the book."""
        store = KeyStore(load_master_key(self.bench / "bench.key"))
        return {unit.mac: store.open(unit.mac, unit.address, unit.sealed) for unit in self.units().all()}

    def on_chip(self, number: int) -> tuple[int, bytes] | None:
        """Address and secret of the node whose `state` is in this chip's flash."""
        offset, size = board_constants(BOARDS[number]).PARTITIONS["state"]
        found = identity_of(bytes(self.chips[number].flash.read(offset, size)))
        return None if found is None else (found.address, found.master_secret)

    def close(self) -> None:
        self.gateway.kill()
        for port in self.ports:
            port.close()
        for board in self.boards:
            board.close()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    try:
        yield made
    finally:
        made.close()


def shapes(key: bytes) -> Iterator[bytes]:
    """A key as it might stand somewhere."""
    yield from (key, key.hex().encode(), key.hex().upper().encode())
    yield from (b64encode(bytes(pad) + key)[4 if pad else 0 :].rstrip(b"=")[:-2] for pad in range(3))


def assert_no_key_shows(station: Station) -> int:
    """In no file that the bench made, and in nothing that was printed. How many texts were searched."""
    texts = {str(path): path.read_bytes() for path in station.bench.rglob("*") if path.is_file()}
    texts |= {"printed": station.printed.encode(), "gateway.log": station.gateway.log_tail(10**9).encode()}
    for name, text in texts.items():
        for keys in station.keys().values():
            for key in keys:
                assert not [shape for shape in shapes(key) if shape in text], f"a key stands in {name}"
    return len(texts)


def assert_all_agree(station: Station) -> None:
    """Chips, book and registry tell one story."""
    units, keys = station.units(), station.keys()
    listed = station.gateway.cli("node", "list")
    for number, chip in enumerate(station.chips):
        unit = units.of_mac(chip.fuses.mac.hex(":"))
        assert unit is not None
        assert unit.state == LABELLED
        assert station.on_chip(number) == (unit.address, keys[unit.mac].master_secret)
        assert re.search(rf"^{unit.name}  river ", listed, re.MULTILINE)


def test_one_command_makes_nodes_of_four_blank_boards_and_one_that_fails_costs_the_others_nothing(
    station: Station,
) -> None:
    began_s = time.monotonic()
    station.chips[1].faults.power_after_bytes = 300_000
    code, told = station.provision()
    assert code == 1, told
    assert "3 of 4 boards done, 1 failed" in told, told
    assert re.search(r"usb2  01\w\w  FAILED: ", told), told
    assert told.count("minted, flashed, verified, labelled") == 3
    failed = station.units().of_mac(station.chips[1].fuses.mac.hex(":"))
    assert failed is not None
    assert failed.state == MINTED
    station.boards[1].power_on()
    station.chips[1].faults.power_after_bytes = None
    # The same command: what is missing, and not a byte for the others.
    code, told = station.provision()
    assert code == 0, told
    assert told.count("was done already, nothing sent") == 3, told
    assert "4 of 4 boards done, 0 failed" in told
    assert_all_agree(station)
    for unit in station.units().all():
        for name in (f"labels/{unit.name}.svg", f"labels/{unit.name}.pdf", f"records/{unit.name}.json"):
            assert (station.bench / name).exists()
        page = (station.bench / f"records/{unit.name}.html").read_text()
        assert "sealed hello, opened with its key" in page
    bench_s = time.monotonic() - began_s
    station.hand_to_gateway()
    wait_until_heard(station)
    print(
        f"provision_boards={len(BOARDS)} provision_chips={len({chip.kind.name for chip in station.chips})} "
        f"provision_two_runs_s={bench_s:.1f} provision_texts_searched_for_keys={assert_no_key_shows(station)}"
    )


def wait_until_heard(station: Station) -> None:
    """Each node has joined at the gateway by the key that the bench minted, and its sets are stored."""
    wanted = {unit.address for unit in station.units().all()}

    def is_heard() -> bool:
        if not station.gateway.database.exists():
            return False
        query = "SELECT DISTINCT epoch.node FROM reading JOIN epoch ON reading.epoch = epoch.id"
        with closing(sqlite3.connect(f"file:{station.gateway.database}?mode=ro", uri=True)) as reader:
            return wanted <= {int(node) for (node,) in reader.execute(query)}

    wait(is_heard, 60, f"set of each node; {station.gateway.log_tail()}")
