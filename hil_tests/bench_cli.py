"""`tidegate street bench`: simulated boards on ports, for a person who wants to flash some without any.

Each has a chip whose flash stays in the folder between runs, and boots what is in it (world/esp/bench.py).
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import serial
import typer

from flash_tools import node_types
from flash_tools.images import board_constants
from hil_tests.errors import RigError
from hil_tests.virtual import ROOT, held
from hil_tests.world.esp import image
from hil_tests.world.esp.bench import BenchBoard
from hil_tests.world.esp.chip import EspChip, fresh_fuses
from hil_tests.world.esp.faults import Faults
from hil_tests.world.esp.kinds import KINDS, kind_of
from hil_tests.world.esp.nor import SECTOR, NorFlash
from hil_tests.world.esp.pty_port import PtyPort
from hil_tests.world.esp.rfc2217_port import Rfc2217Port

_MICROPYTHON = "1.28.0"
# In the middle of what a first flash writes of MicroPython.
_POWER_AFTER = 100_000
# How often the files are brought up to date.
_LOOK_S = 1.0
_BAD_SECTOR = 0x2_0000 // SECTOR
# name: (what a person reads, faults of the chip, fuses)
FAULTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "power": ("loses its power once, in the middle of a write", {"power_after_bytes": _POWER_AFTER}, {}),
    "corrupt": ("a block does not hold at the first try", {"bad_sectors": {_BAD_SECTOR: 1}}, {}),
    "bad-block": ("a block never holds", {"bad_sectors": {_BAD_SECTOR: 1_000_000}}, {}),
    "silent": ("never answers, as behind a cable that only charges", {"is_silent": True}, {}),
    "noise": ("one answer in forty is spoiled", {"garbage_every": 40}, {}),
    "small": ("has 2 MiB of flash, whatever its kind has", {}, {}),
    "secure-boot": ("starts signed images only", {}, {"has_secure_boot": True}),
    "encrypted": ("its flash is encrypted", {}, {"flash_crypt_count": 1, "no_manual_encrypt": True}),
    "locked": ("is in secure download mode", {}, {"secure_download": True}),
    "held": ("another program has its port open", {}, {}),
    "slow": ("its line carries what a line of its speed can", {}, {}),
}


def bench(
    folder: Annotated[
        Path, typer.Option(help="Where the flash of each board stays, and the ports appear.")
    ] = Path("bench"),
    kind: Annotated[
        list[str] | None, typer.Option("--kind", "-k", help="A chip, repeatable; default: one of each.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", "-f", help="NUMBER=FAULT, repeatable; `--fault list` tells which there are."),
    ] = None,
    tcp: Annotated[
        bool,
        typer.Option("--tcp", help="Ports by RFC 2217 over TCP, which have reset lines, but are slower."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of MACs and of everything random.")] = 1,
) -> None:
    """Be a bench of ESP boards: they can be flashed, and run what was flashed."""
    if fault == ["list"]:
        for name, (words, _, _) in FAULTS.items():
            typer.echo(f"{name:12} {words}")
        return
    kinds = kind or list(KINDS)
    faults = parse_faults(fault or [], len(kinds))
    for name in kinds:
        kind_of(name)
    off = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: off.set())
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(folder, "`tidegate street bench`"))
        seats = [
            stack.enter_context(_seated(Seat(folder, number, name, faults.get(number, set()), tcp, seed)))
            for number, name in enumerate(kinds, 1)
        ]
        _tell(folder, kinds, seats)
        while not off.wait(_LOOK_S):
            for seat in seats:
                seat.look()
    typer.echo("\nPower cut. Their flash stays in the folder.")


def parse_faults(texts: list[str], boards: int) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for text in texts:
        number, _, name = text.partition("=")
        if not number.isdigit() or not 1 <= int(number) <= boards:
            raise RigError(
                f"--fault {text}: write NUMBER=FAULT, with the number of a board from 1 to {boards}."
            )
        if name not in FAULTS:
            near = get_close_matches(name, FAULTS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise RigError(f"--fault {text}: there is no such fault; there are {', '.join(FAULTS)}.{hint}")
        found.setdefault(int(number), set()).add(name)
    return found


class Seat:
    """One board of the bench, its port, and the file that keeps its flash."""

    def __init__(self, folder: Path, number: int, kind: str, faults: set[str], tcp: bool, seed: int) -> None:
        self.number = number
        self.faults = faults
        self._path = folder / f"flash-{number}.bin"
        self.chip = make_chip(self._path, kind, faults, seed * 1000 + number)
        self._board = BenchBoard(folder / f"board-{number}", self.chip, seed=seed + number)
        self._seen = self._work()
        slower = 1.0 if "slow" in faults else 0.0
        self._port: PtyPort | Rfc2217Port
        if tcp:
            self._port = port = Rfc2217Port(self._board, slower=slower)
            self.name = port.url
        else:
            self._port = PtyPort(self._board, folder / f"tty{number}", slower=slower)
            self.name = str(self._port.path)
        self._holder = serial.serial_for_url(self.name, exclusive=True) if "held" in faults else None

    def look(self) -> None:
        """Keep what was written since; a board that lost its power gets it back."""
        if self._seen != self._work():
            self._seen = self._work()
            self._save()
        if self.chip.state == "off":
            typer.echo(f"Board {self.number} lost its power; it has it again.")
            self._board.power_on()

    def close(self) -> None:
        if self._holder is not None:
            self._holder.close()
        self._port.close()
        self._board.close()
        self._save()

    def _work(self) -> tuple[int, int]:
        return self.chip.flash.programmed, self.chip.flash.erased_sectors

    def _save(self) -> None:
        """It may hold a key, so it is for this user alone."""
        fresh = self._path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(self.chip.flash.data)
        fresh.rename(self._path)


@contextlib.contextmanager
def _seated(seat: Seat) -> Iterator[Seat]:
    try:
        yield seat
    finally:
        seat.close()


def make_chip(path: Path, kind: str, faults: set[str], seed: int) -> EspChip:
    """With the flash that ``path`` keeps, where there is one."""
    size = 2 << 20 if "small" in faults else 1 << kind_of(kind).jedec[2]
    kept = path.read_bytes()[:size] if path.exists() else None
    wrong: dict[str, Any] = {}
    fuses: dict[str, Any] = {}
    for name in faults:
        wrong |= FAULTS[name][1]
        fuses |= FAULTS[name][2]
    mac = b"\x24\x6f\x28" + random.Random(f"{seed} {kind} mac").randbytes(3)
    return EspChip(
        kind,
        flash=NorFlash(size, kept, seed=seed),
        fuses=fresh_fuses(kind, mac, **fuses),
        faults=Faults(**wrong),
        seed=seed,
    )


def _tell(folder: Path, kinds: list[str], seats: list[Seat]) -> None:
    downloads = folder / "micropython"
    downloads.mkdir(exist_ok=True)
    for kind in sorted(set(kinds)):
        size = 1 << kind_of(kind).jedec[2]
        data = image.release(kind, _MICROPYTHON, flash_size=size)
        (downloads / f"{kind.upper()}_GENERIC-20260401-v{_MICROPYTHON}.bin").write_bytes(data)
    width = max(len(seat.name) for seat in seats)
    typer.echo(f"{len(seats)} boards; Ctrl-C cuts their power.\n")
    for seat in seats:
        words = (
            f"{seat.number:2}  {seat.name:{width}}  {seat.chip.kind.name:7}  {seat.chip.fuses.mac.hex(':')}"
        )
        typer.echo(f"{words}  {', '.join(sorted(seat.faults))}".rstrip())
    typer.echo(f"\nWhat stands for MicroPython is in {downloads}/. In another terminal:")
    typer.echo(f"  esptool --port {seats[0].name} flash-id")
    for kind in dict.fromkeys(kinds):
        board = board_for(kind)
        name = next(seat.name for seat in seats if seat.chip.kind.name == kind)
        if board:
            typer.echo(f"  tidegate flash --port {name} --board {board} --type river \\")
            typer.echo(f"      --micropython {downloads}")
        else:
            typer.echo(f"  no board of ours has an {kind} yet: tidegate flash refuses {name}")


def board_for(kind: str) -> str:
    """A board of ours with such a chip and such a flash; "" when there is none."""
    size = 1 << kind_of(kind).jedec[2]
    found = {name: board_constants(name) for name in node_types.boards(ROOT)}
    names = [name for name, board in found.items() if (kind, size) == (board.CHIP, board.FLASH_SIZE)]
    return names[0] if names else ""
