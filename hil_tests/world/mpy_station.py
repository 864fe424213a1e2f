"""A station of the simulated world whose program runs on the real MicroPython, out of the slots of its own flash.

    node = MpyNode(identity, state_image, world, water, seed, folder, files)     a SimNode on the air

Both partitions are files, so what an update writes is what the next start runs. Chips, lines and radio are those of
every simulated station, on its clock: between two answers from here the process does not run, and a run with the same
seed is the same run. What stands at its other end is mpy_board.py.
"""

from __future__ import annotations

import functools
import os
import select
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from boards.virtual import board as constants
from boards.virtual.rom_image import micropython
from firmware import pending, slots
from firmware.hal import CAUSE_DEEP_SLEEP, CAUSE_HARD_RESET, WAKE_NONE
from flash_tools.images import compile_module, image_of
from hil_tests.errors import RigError
from hil_tests.outbox_reader import OutboxContents, read_outbox
from hil_tests.running import release_on
from hil_tests.world.flash import BLOCK_BYTES, Flash, LittleFs
from hil_tests.world.sim_hal import SimDeepSleep, SimI2c, SimStation, _Ticks, _Uart
from hil_tests.world.sim_node import SimNode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hil_tests.consumer import RecordId
    from hil_tests.world.sim_world import World
    from protocols.wire.identity import Identity

_BOARD = "mpy_board"
# Of the modules of a board and their names, which on a chip are ROM.
_BOARD_HEAP_K = 16
# A node on the air starts with 192k (places.py); a lift with 200k, and 8k more on trial.
HEAP_K: Mapping[str, int] = {"river": 192, "cover": 192, "lift": 208}
# Real seconds: the longest step, an outbox made anew, takes one.
_HANGS_S = 60.0
_LOG_MAX = 2000


class FileFlash:
    """A partition in a file, as the node's process has it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def readblocks(self, block: int, buf: Any, offset: int = 0, /) -> None:
        with self._path.open("rb") as file:
            file.seek(block * BLOCK_BYTES + offset)
            file.readinto(buf)

    def writeblocks(self, block: int, buf: Any, offset: int = 0, /) -> None:
        with self._path.open("r+b") as file:
            file.seek(block * BLOCK_BYTES + offset)
            file.write(buf)

    def ioctl(self, op: int, arg: int, /) -> int | None:
        if op == 4:
            return self._path.stat().st_size // BLOCK_BYTES
        if op == 5:
            return BLOCK_BYTES
        return 0


@cache
def _tree() -> Path:
    """Where the board's own module lies, compiled."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-board-"))
    source = Path(__file__).with_name(f"{_BOARD}.py")
    (folder / f"{_BOARD}.mpy").write_bytes(compile_module(source.read_text(encoding="utf-8"), _BOARD))
    return folder


class MpyStation(SimStation):
    """``files``: of the release that it was flashed with, by their path in the slot."""

    def __init__(
        self, identity: Identity, *, folder: Path, files: Mapping[str, bytes], flash: Any, **options: Any
    ) -> None:
        super().__init__(identity, flash=flash, **options)
        self.name = folder.name
        self.state_file, self.app_file = folder / "state.bin", folder / "app.bin"
        self.console_file = folder / "console.txt"
        self.state_file.write_bytes(flash.image)
        image = image_of(constants.NAME, {f"{slots.FOLDERS[0]}/{path}": data for path, data in files.items()})
        self.app_file.write_bytes(image.data)
        self.heap_k = HEAP_K.get(identity.node_type, 192)
        self.questions = 0
        self.sequences: list[int] = []  # the release of each start that was no waking
        self._process: subprocess.Popen[bytes] | None = None
        self._is_owed = False  # an answer to its wait
        self._arrived = bytearray()
        self._said = bytearray()
        self._ports: dict[bytes, _Uart] = {}

    # -- what a person at the site does ----------------------------------------------------------------------

    def power_cut(self) -> None:
        self._end()
        super().power_cut()

    def from_gateway(self, data: bytes) -> None:
        self._arrived += data

    @property
    def runs(self) -> int:
        """The release that its next start runs; 0: none."""
        return release_on(self.app_file.read_bytes())

    @property
    def phase(self) -> int:
        """Of an update (firmware/pending.py)."""
        return int(pending.Pending(LittleFs(Flash(image=self.state_file.read_bytes()))).f[pending.PHASE])

    def outbox(self, name: str) -> OutboxContents:
        return read_outbox(name, self.state_file.read_bytes())

    # -- its lives -------------------------------------------------------------------------------------------

    def _start(self, cause: int, wake: int = WAKE_NONE) -> None:
        self._end()
        self.line.received.clear()
        self._ports.clear()
        self._arrived.clear()
        self.sleep = None
        self.starts += 1
        self._started_ms = self.clock.now_ms()
        self._ticks = _Ticks(self.clock, self.ppm)
        self._bus = SimI2c(self.clock, self.i2c)
        cause, wake, slot = self._choose(cause, wake)
        if cause != CAUSE_DEEP_SLEEP:
            self.sequences.append(self.runs)
        self._spawn(slot, cause, wake)
        self.node = cast("Any", self._process)  # something that is there while it has power and is awake

    def _choose(self, cause: int, wake: int) -> tuple[int, int, int]:
        """As firmware/starter.py does it."""
        fs = LittleFs(FileFlash(self.app_file))
        found = slots.Slots(fs)
        slot, is_waking = found.starts, cause == CAUSE_DEEP_SLEEP
        if found.record[slots.TRIAL] != slots.NONE and (not is_waking or found.record[slots.CRASHES]):
            slot = slots.counted(found)
            if is_waking and slot == found.record[slots.RUNNING]:
                self.rtc.lose_memory()
                cause, wake = CAUSE_HARD_RESET, WAKE_NONE
        return cause, wake, slots.FOLDERS.index(slots.choose(fs, slot))

    def _spawn(self, slot: int, cause: int, wake: int) -> None:
        blocks = [path.stat().st_size // BLOCK_BYTES for path in (self.state_file, self.app_file)]
        arguments = (self.state_file, blocks[0], self.app_file, blocks[1], slot, cause, wake)
        heap = f"heapsize={self.heap_k + _BOARD_HEAP_K}k"
        with self.console_file.open("ab") as console:
            self._process = subprocess.Popen(
                [micropython(), "-X", heap, "-m", _BOARD, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                cwd=_tree(),
                env={"MICROPYPATH": f"{_tree()}:.frozen"},
            )
        self._is_owed = False
        self._said.clear()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    # -- one step --------------------------------------------------------------------------------------------

    def step(self) -> int:
        if self.sleep is not None:
            return self._sleep_on(self.sleep)
        if self._process is None:
            return 86_400_000
        self.clock.run_due()
        if self._is_owed:
            self._is_owed = False
            self._reply(bytes(self._arrived))
            self._arrived.clear()
        while True:
            wait_ms = self._answer(*self._question())
            if wait_ms is not None:
                return self.clock.ahead_ms + wait_ms

    def _question(self) -> tuple[str, str]:
        self.questions += 1
        while (end := self._said.find(b"\n")) < 0:
            assert self._process is not None
            assert self._process.stdout is not None
            out = self._process.stdout.fileno()
            if not select.select([out], [], [], _HANGS_S)[0]:
                raise RigError(f"{self.name}: MicroPython hangs; it said last: {self.log[-4:]}")
            if not (said := os.read(out, 4096)):
                return self._ended()
            self._said += said
        line = self._said[:end].decode(errors="replace")
        del self._said[: end + 1]
        verb, _, rest = line.partition(" ")
        return verb, rest

    def _ended(self) -> tuple[str, str]:
        """A program that can not even say what is wrong: on trial, what chose it (flash_tools/images.py) resets."""
        said = self.console_file.read_text(encoding="utf-8", errors="replace")
        if self.phase != pending.ON_TRIAL:
            raise RigError(f"{self.name}: MicroPython ended: {said[-600:]}")
        self.log.append(f"main.py: {said[-100:]}")
        return "X", ""

    def _answer(self, verb: str, rest: str) -> int | None:
        """Milliseconds, when the node waits now, or lives no more."""
        if verb == "I":
            self._is_owed = True
            return 0 if self._arrived else int(rest)
        if verb == "X":
            self.resets += 1
            self.rtc.lose_memory()
            self._start(CAUSE_HARD_RESET)
            return 0
        if verb == "S":
            ms, *pins = rest.split()
            self._end()
            return self._fall_asleep(SimDeepSleep(int(ms), tuple(pins)))
        if verb == "L":
            self.log.append(rest)
            del self.log[:-_LOG_MAX]
        elif verb == "T":
            self.write(bytes.fromhex(rest))
        else:
            ask = _ANSWERS.get(verb)
            if ask is None:
                raise RigError(f"MicroPython says {verb!r} {rest!r}; its console said last: {self.log[-4:]}")
            self._reply(ask(self, *rest.split(" ")) or b"")
        return None

    def _reply(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        head = len(data).to_bytes(2, "big") + self._ticks.ticks_ms().to_bytes(4, "big")
        self._process.stdin.write(head + data)
        self._process.stdin.flush()

    # -- its hardware ----------------------------------------------------------------------------------------

    def _spend(self, ms: str) -> None:
        self.clock.spend(int(ms))

    def _open_uart(self, port: str, baud_rate: str) -> None:
        from hil_tests.world.sim_hal import SondeLine

        line, chip = self.uarts.get(port, (SondeLine(self.clock), None))
        line.set_baudrate(int(baud_rate))
        self._ports[port.encode()] = _Uart(self.clock, line, chip)

    def _to_uart(self, port: str, data: str) -> None:
        self._ports[port.encode()].write(bytes.fromhex(data))

    def _from_uart(self, port: str, waits: str) -> bytes:
        uart, buffer = self._ports[port.encode()], bytearray(256)
        if not int(waits) and not uart.any():
            return b""
        return bytes(buffer[: uart.readinto(memoryview(buffer))])

    def _read_i2c(self, address: str, register: str, count: str) -> bytes:
        buffer = bytearray(int(count))
        try:
            self._bus.readfrom_mem_into(int(address), int(register), buffer)
        except OSError:
            return b""
        return bytes(buffer)

    def _write_i2c(self, address: str, register: str, data: str) -> bytes:
        try:
            self._bus.writeto_mem(int(address), int(register), bytes.fromhex(data))
        except OSError:
            return b""
        return b"\1"

    def _transfer(self, data: str) -> bytes:
        assert self.radio is not None
        buffer = bytearray.fromhex(data)
        self.radio.transfer(buffer)
        return bytes(buffer)

    def _is_busy(self, *_: str) -> bytes:
        assert self.radio is not None
        is_busy = self.radio.is_busy()
        if is_busy:
            self.clock.spend(1)  # each look would take 5 us
        return bytes((is_busy,))

    def _is_raised(self, *_: str) -> bytes:
        assert self.radio is not None
        return bytes((self.radio.is_raised(),))

    def _reset_radio(self, *_: str) -> None:
        assert self.radio is not None
        self.radio.reset()

    def _mv(self, channel: str) -> bytes:
        return int(self.loop_mv if channel == "loop" else self.supply_mv).to_bytes(2, "big")


_ANSWERS: Mapping[str, Any] = {
    "D": MpyStation._spend,
    "O": MpyStation._open_uart,
    "U": MpyStation._to_uart,
    "R": MpyStation._from_uart,
    "P": lambda it, name: bytes((it.pins.get(name, 0),)),
    "V": MpyStation._mv,
    "G": MpyStation._read_i2c,
    "W": MpyStation._write_i2c,
    "Z": MpyStation._transfer,
    "B": MpyStation._is_busy,
    "Q": MpyStation._is_raised,
    "Y": MpyStation._reset_radio,
    "K": lambda it, _: it.rtc.load(),
    "k": lambda it, data: it.rtc.save(bytes.fromhex(data)),
    "E": lambda it, _: it.rtc.read_ms().to_bytes(8, "big"),
    "e": lambda it, seconds: it.rtc.write_s(int(seconds)),
    "N": lambda it, count: it.rng.randbytes(int(count)),
}


class MpyNode(SimNode):
    """``folder``, ``files``: of its station."""

    station: MpyStation

    def __init__(
        self,
        identity: Identity,
        state_image: bytes,
        world: World,
        water: Callable[[float], Mapping[str, float]],
        seed: str,
        folder: Path,
        files: Mapping[str, bytes],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        make = functools.partial(MpyStation, folder=folder, files=files)
        super().__init__(identity, state_image, world, None, water, seed, make)

    def outbox(self) -> OutboxContents:
        return self.station.outbox(self.name)

    def kept(self) -> frozenset[RecordId]:
        return self.outbox().kept

    def held(self) -> dict[RecordId, tuple[int, bytes]]:
        raise NotImplementedError("what its flash holds is known by its ids: kept()")

    def waiting(self) -> int:
        return len(self.outbox().waiting)
