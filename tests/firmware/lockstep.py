"""Drives a node on the real MicroPython through virtual time: its sonde, its gateway and its clock are here.

The other end is mpy_node.py. Between two answers from here the node does not run, so everything but its random
bytes is the same in every run.
"""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.i2c import I2cBus
from boards.virtual.rom_image import micropython
from firmware.hal import (
    CAUSE_DEEP_SLEEP,
    CAUSE_HARD_RESET,
    CAUSE_POWER_ON,
    WAKE_NONE,
    WAKE_PIN,
    WAKE_TIMER,
)
from flash_tools.images import SLOT, compile_module, compile_tree
from flash_tools.shorten import shorten
from hil_tests.world.sim_hal import LocalClock, SondeLine, blank_flash
from tests.firmware.lockstep_radio import LockstepRadio
from tests.firmware.peer import Peer
from tests.firmware.street import CALM, IDENTITY, START_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from boards.virtual.chips.registers import Signal
    from boards.virtual.i2c import I2cChip

ROOT = Path(__file__).resolve().parent.parent.parent
HEAP = "160k"
STATE_BLOCKS = 64


def calm_water(_: float) -> Mapping[str, float]:
    return CALM


@cache
def compiled_tree(node_type: str, root: Path = ROOT) -> tuple[Path, int]:
    """The folder with the modules of that node type's app image, and how many bytes of .mpy they are."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-node-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tree = compile_tree(root, node_type=node_type)
    files = {path: data for path, data in tree.items() if path.endswith(".mpy")}
    for path, data in files.items():
        target = folder / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    # The hardware is compiled as well: compiling it on the node would cost the heap that is measured. And its own names
    # are short ones, like the firmware's: on a chip it is C, and has none.
    hardware_names = ("mpy_node", "mpy_bus", "mpy_uart", "mpy_air")
    texts = {
        name: Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in hardware_names
    }
    for name, text in shorten(texts, keep=_identifiers(root)).items():
        hardware = compile_module(text, name)
        (folder / SLOT.removeprefix("/") / f"{name}.mpy").write_bytes(hardware)
    return folder, sum(map(len, files.values()))


def _identifiers(root: Path) -> set[str]:
    """Whatever the firmware may look up on its hardware."""
    sources = [*root.glob("firmware/**/*.py"), *root.glob("protocols/wire/*.py")]
    return {
        word for path in sources for word in re.findall(r"[A-Za-z_]\w*", path.read_text(encoding="utf-8"))
    }


class NodeEnded(Exception):
    """The node's process is gone; the text is what it said last."""


class Lockstep:
    """``water`` as a function of Unix seconds; ``peer`` is its gateway, ``log`` its console. ``root``: its sources.

    ``pins`` are its inputs by name, ``millivolts`` the analogue ones; attach() puts a chip on its I2C bus.
    ``radio``: that of its identity, for the air.
    """

    def __init__(
        self,
        folder: Path,
        water: Callable[[float], Mapping[str, float]] = calm_water,
        root: Path = ROOT,
        node_type: str = IDENTITY.node_type,
        powered: bool = True,
        heap: str = HEAP,
        radio: tuple[int, int, int, int] | None = None,
    ) -> None:
        self.now_ms = START_MS
        self.root = root
        self.node_type = node_type
        self._heap = heap
        self.slot = 0  # that its program says it runs from
        who = IDENTITY._replace(node_type=node_type, radio=radio)
        self.pins: dict[str, int] = {}
        self.millivolts = {"supply": 12600, "loop": 0}
        self._i2c = I2cBus()
        self.state = folder / "state.bin"
        self.state.write_bytes(bytes(blank_flash(who, STATE_BLOCKS).image))
        self._clock = LocalClock(lambda: self.now_ms)
        self._line = SondeLine(self._clock)
        self.sonde = ModbusSonde(YOSEMITECH, water)
        self.sonde.connect(self._line)
        self.peer = Peer(who, self._nonce, lambda: self.now_ms // 1000)
        self.log: list[str] = []
        self.heap_used: list[int] = []  # after a collection, each time the node slept
        self.steps = 0
        self.resets = 0
        self.sleeps = 0
        self._wake_at_ms: int | None = None  # of a deep sleep
        self._wake_pins: list[str] = []
        self._nonces = 0
        self._down = bytearray()
        self.radio: LockstepRadio | None = None
        if radio is not None:
            self.radio = LockstepRadio(self._clock, self.peer, radio, self._pass)
            self.radio.chip.power(True)
        if powered:
            self._process = self._start()

    def __enter__(self) -> Lockstep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power_cut()

    def attach(self, chip: I2cChip, **outputs: Signal) -> None:
        """Before the power is on. ``outputs``: the inputs of the node that signals of the chip drive."""
        self._i2c.attach(chip, self._clock)
        for name, signal in outputs.items():
            signal.connect(functools.partial(self.pins.__setitem__, name))

    def send(self, data: bytes) -> None:
        """Bytes to the node, as if they came up the line now."""
        self._down += data

    def say(self, message: Any) -> None:
        """The gateway sends a message of its own accord; run() brings it to the node."""
        self._down += self.peer.send(message)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end_ms = self.now_ms + round(seconds * 1000)
        while self.now_ms < end_ms:
            if self._wake_at_ms is None:
                self._answer_one(end_ms)
            else:
                self._sleep_on(self._wake_at_ms, end_ms)

    def power_cut(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def power_on(self, cause: int = CAUSE_POWER_ON) -> None:
        self._line.received.clear()
        self._down.clear()
        self._wake_at_ms = None
        self.state.with_name(self.state.name + ".rtc").unlink(missing_ok=True)
        self._process = self._start(cause)

    def _start(self, cause: int = CAUSE_POWER_ON, wake: int = WAKE_NONE) -> subprocess.Popen[bytes]:
        tree, _ = compiled_tree(self.node_type, self.root)
        return subprocess.Popen(
            [
                str(micropython()),
                "-X",
                f"heapsize={self._heap}",
                "-m",
                "mpy_node",
                str(self.state),
                str(cause),
                str(wake),
                str(self.now_ms - START_MS),
                str(self.slot),
            ],
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # As on a board, but for a slash: every module's path is a name on the heap.
            env={"MICROPYPATH": f"{SLOT.removeprefix('/')}:.frozen"},
        )

    def _answer_one(self, end_ms: int) -> None:
        """Take the node's next line and do what it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        verb, _, rest = line.decode(errors="replace").rstrip("\n").partition(" ")
        if verb == "I":
            self.steps += 1
            self._sleep(int(rest), end_ms)
        elif verb == "R":
            self._pass(int(rest))
            self._reply(bytes(self._line.received))
            self._line.received.clear()
        elif verb == "U":
            self.sonde.receive(bytes.fromhex(rest))
        elif verb == "T":
            self._down += self.peer.feed(bytes.fromhex(rest))
        elif verb == "P":
            self._reply(bytes((self.pins.get(rest, 0),)))
        elif verb == "A":
            self._reply(self.millivolts[rest].to_bytes(2, "big"))
        elif verb in ("G", "W"):
            self._bus(verb, *rest.split(" "))
        elif verb == "Z" and self.radio is not None:
            self._reply(self.radio.transfer(bytes.fromhex(rest)))
        elif verb == "Q" and self.radio is not None:
            self._reply(self.radio.ask(rest))
        elif verb == "L":
            self.log.append(rest)
        elif verb == "M":
            self.heap_used.append(int(rest))
        elif verb == "S":
            ms, *pins = rest.split()
            self.sleeps += 1
            self._wake_pins = pins
            self._wake_at_ms = self.now_ms + int(ms)
            self.power_cut()  # what ends a process ends a life
        elif verb == "X":
            self.resets += 1
            self._process.wait()
            self.power_on(CAUSE_HARD_RESET)
        else:
            rest_of_it = self._process.stdout.read().decode(errors="replace")
            raise NodeEnded(line.decode(errors="replace") + rest_of_it)

    def _sleep_on(self, wake_at_ms: int, end_ms: int) -> None:
        """Up to the next thing that may happen."""
        is_high = any(self.pins.get(name) for name in self._wake_pins)
        if is_high or self.now_ms >= wake_at_ms:
            self._wake_at_ms = None
            self._process = self._start(CAUSE_DEEP_SLEEP, WAKE_PIN if is_high else WAKE_TIMER)
            return
        dues = [due for due in (wake_at_ms, end_ms, self._clock.next_due_ms) if due is not None]
        self._pass(max(1, min(dues) - self.now_ms))

    def _bus(self, verb: str, address: str, register: str, rest: str = "") -> None:
        if verb == "G":
            data = self._i2c.read(int(address), int(register), int(rest))
            self._reply(data if isinstance(data, bytes) else b"")
        else:
            failed = self._i2c.write(int(address), int(register), bytes.fromhex(rest))
            self._reply(b"" if failed else b"\x01")

    def _sleep(self, wanted_ms: int, end_ms: int) -> None:
        slept_ms = 0 if self._down else max(0, min(wanted_ms, end_ms - self.now_ms))
        self._pass(slept_ms)
        self._reply(slept_ms.to_bytes(4, "big") + bytes(self._down))
        self._down.clear()

    def _pass(self, ms: int) -> None:
        self._clock.run_due(self.now_ms + ms)
        self.now_ms += ms

    def _reply(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(len(data).to_bytes(2, "big") + data)
        self._process.stdin.flush()

    def _nonce(self, count: int) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(count, "big")
