"""A chip on a board that does what its flash says: after a reset the image boots, and a real MicroPython runs the node.

    board = BenchBoard(folder, EspChip("esp32"))
    port = SerialChip(board)                    # or PtyPort(board, path), Rfc2217Port(board)

What is written as partitions `app` (labelled `vfs` on real boards) and `state` is given to a virtual board at each
start from flash, and comes back into the chip's flash when that life ends: by a reset, a power cut or the loader. The
node's console is what the port says meanwhile. Without both of them, stock MicroPython sits at its prompt (prompt.py).
MicroPython's image itself is only looked at (boot.py): what runs is the unix port.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import tty
from collections.abc import Callable
from pathlib import Path

from boards.virtual.board import PARTITIONS
from boards.virtual.clock import BoardClock, Timer
from boards.virtual.hub import READ_WRITE_EDGE, Hub, shared_hub
from boards.virtual.supervisor import VirtualBoard
from hil_tests.errors import RigError
from hil_tests.places import HEAP_ON_AIR, PLACES, Place, place_of
from hil_tests.virtual import identity_of
from hil_tests.world.esp.boot import Boot, Partition
from hil_tests.world.esp.chip import ROM_BAUD, EspChip
from hil_tests.world.esp.prompt import Prompt

# MicroPython on a chip needs about this long until it runs a main.py. A host that changes its baud rate after a reset
# relies on some of it.
BOOT_S = 0.5
# How often what happens at the place by itself does: a lift needs its door moved.
_TICK_S = 0.25
_APP_LABELS = ("vfs", "app")


class BenchBoard:
    """Everything happens on the hub's thread, or in the thread of whoever drives the port while no node runs."""

    def __init__(
        self,
        folder: Path,
        chip: EspChip,
        *,
        seed: int = 1,
        time_scale: float = 1.0,
        boot_s: float = BOOT_S,
        hub: Hub | None = None,
    ) -> None:
        """``time_scale``: the node's waits pass that many times faster. ``boot_s``: from its reset to its program."""
        self.chip = chip
        self.folder = folder
        self.node: VirtualBoard | None = None
        self.prompt: Prompt | None = None
        self.place: Place | None = None
        self.boot: Boot | None = None
        self.lives = 0
        self._hub = hub or shared_hub()
        self._seed = seed
        self._scale = time_scale
        self._boot_s = boot_s
        self._booting: Timer | None = None
        self._speaks = False  # from a start on until somebody ends it, also while nothing runs yet
        self._clock = BoardClock(0.0)
        self._changed = threading.Condition()
        self._tty = -1
        self._parts: dict[str, Partition] = {}
        self._alive = folder / "alive.json"
        chip.say = self._say
        chip.on_boot = self._start
        chip.on_leave = self._end
        self.say: Callable[[bytes], None] = lambda _data: None
        self._recover()
        self._hub.call(lambda: self._hub.add_clock(self._clock))
        chip.power_off()
        chip.power_on()

    # ---- the other end of a line (port.py: Device) ---------------------------------------------------------------

    @property
    def baud(self) -> int:
        return self.chip.baud

    @property
    def speaks_by_itself(self) -> bool:
        return self._speaks

    def hear(self, data: bytes, baud: int | None = None) -> None:
        if not self._speaks:
            self.chip.hear(data, baud)
        elif baud in (None, ROM_BAUD):
            self._hub.call(lambda: self._type_in(data))

    def _type_in(self, data: bytes) -> None:
        if self.prompt is not None:
            self.prompt.hear(data)
        elif self._tty >= 0:
            with contextlib.suppress(BlockingIOError):  # its buffer is full: lost, as on any UART
                os.write(self._tty, data)

    def set_lines(self, dtr: bool, rts: bool) -> None:
        self._hub.call(lambda: self.chip.set_lines(dtr, rts))

    def let_go(self) -> None:
        if self.chip.state == "held":
            self._hub.call(self.chip.let_go)

    # ---- a person at the bench -----------------------------------------------------------------------------------

    def power_on(self) -> None:
        self._hub.call(self.chip.power_on)

    def power_off(self) -> None:
        self._hub.call(self.chip.power_off)

    def close(self) -> None:
        self.power_off()
        self._hub.call(lambda: self._hub.remove_clock(self._clock))

    def wait_for_life(self, count: int = 1, timeout_s: float = 30.0) -> VirtualBoard:
        """Until the board has begun so many lives of a node; the last of them."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.lives >= count and self.node is not None, timeout_s):
                raise RigError(f"no node within {timeout_s:g} s; in its flash it found: {self.boot}")
            assert self.node is not None
            return self.node

    def wait_for_prompt(self, timeout_s: float = 30.0) -> None:
        """Until MicroPython can be typed to."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.prompt is not None, timeout_s):
                raise RigError(f"no prompt within {timeout_s:g} s; in its flash it found: {self.boot}")

    def _recover(self) -> None:
        """A life that this program did not see end was cut: what it left in its partitions belongs into the flash."""
        if self._alive.exists():
            for label, (offset, size) in json.loads(self._alive.read_text(encoding="utf-8")).items():
                data = (self.folder / f"{label}.bin").read_bytes()[:size]
                self.chip.flash.data[offset : offset + len(data)] = data
            self._alive.unlink()

    # ---- lives ---------------------------------------------------------------------------------------------------

    def _start(self, boot: Boot) -> None:
        self.boot = boot
        if not boot.fault:
            self._hub.call(lambda: self._start_soon(boot))

    def _start_soon(self, boot: Boot) -> None:
        self._speaks = True
        self._booting = self._clock.call_later(self._boot_s, lambda: self._start_life(boot))

    def _start_life(self, boot: Boot) -> None:
        self._booting = None
        found = self._our_partitions(boot)
        if found is None:
            self._start_prompt(boot)
            return
        self._parts = found
        images = {label: self._read(part) for label, part in found.items()}
        identity = identity_of(images["state"])
        node_type = identity.node_type if identity is not None and identity.node_type in PLACES else "river"
        self.place = place_of(node_type, "bench", self._seed)
        self.node = VirtualBoard(
            self.folder,
            app_image=images["app"],
            state_image=images["state"],
            heap_size=self.place.heap_size if identity is None or identity.radio is None else HEAP_ON_AIR,
            seed=self._seed,
            time_scale=self._scale,
            mac=self.chip.fuses.mac,
            boot_text=False,  # the chip said its own
            hub=self._hub,
        )
        self.place.attach(self.node)
        self._listen(self.node)
        self._mark_alive()
        self.node.power_on()
        with self._changed:
            self.lives += 1
            self._changed.notify_all()
        life = self.lives
        self._clock.call_later(_TICK_S, lambda: self._tick(life))

    def _tick(self, life: int) -> None:
        """The place lives, as long as this node does; where its program has ended, the prompt takes over."""
        if self.node is None or self.place is None or life != self.lives:
            return
        self.place.live()
        if self.node.state == "halted" and not self.node.is_watched:
            self._end_life()
            if self.boot is not None:
                self._start_prompt(self.boot)
        else:
            self._clock.call_later(_TICK_S, lambda: self._tick(life))

    def _start_prompt(self, boot: Boot) -> None:
        part = boot.partitions.get(_APP_LABELS[0])
        if part is None:
            self._say(b"MicroPython finds no partition labelled vfs\r\n")
            return
        self._parts = {"vfs": part}
        self.prompt = Prompt(
            self._hub, self.folder, part, self._read(part), self.chip.fuses.mac, lambda data: self._say(data)
        )
        self._mark_alive()
        with self._changed:
            self._changed.notify_all()

    def _mark_alive(self) -> None:
        places = {label: (part.offset, part.size) for label, part in self._parts.items()}
        self._alive.write_text(json.dumps(places), encoding="utf-8")

    def _read(self, part: Partition) -> bytes:
        return self.chip.flash.read(part.offset, part.size)

    def _write_back(self, label: str, data: bytes) -> None:
        part = self._parts[label]
        self.chip.flash.data[part.offset : part.offset + part.size] = data

    def _our_partitions(self, boot: Boot) -> dict[str, Partition] | None:
        """Both, of the sizes that every board of ours has; None: stock MicroPython would sit at its prompt."""
        app = next((boot.partitions[label] for label in _APP_LABELS if label in boot.partitions), None)
        state = boot.partitions.get("state")
        if app is None or state is None:
            return None
        found = {"app": app, "state": state}
        return found if all(PARTITIONS[label][1] == part.size for label, part in found.items()) else None

    def _listen(self, node: VirtualBoard) -> None:
        self._tty = os.open(node.link_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        tty.setraw(self._tty)
        self._hub.watch(self._tty, lambda _: self._relay(), READ_WRITE_EDGE)

    def _relay(self) -> None:
        while self._tty >= 0:
            try:
                data = os.read(self._tty, 4096)
            except BlockingIOError:
                return
            if not data:
                return
            self._say(data)

    def _end(self) -> None:
        self._speaks = False
        if self._booting is not None:
            self._booting.cancel()
            self._booting = None
        if self.node is not None:
            self._hub.call(self._end_life)
        if self.prompt is not None:
            self._hub.call(self._end_prompt)

    def _end_prompt(self) -> None:
        prompt, self.prompt = self.prompt, None
        if prompt is not None:
            self._write_back("vfs", prompt.end())
            self._alive.unlink()

    def _end_life(self) -> None:
        """A power cut, whatever the reason: the flash is the chip's again."""
        node, self.node, self.place = self.node, None, None
        if node is None:
            return
        node.power_cut()
        for label in self._parts:
            self._write_back(label, node.read_partition(label))
        self._alive.unlink()
        self._hub.forget(self._tty)
        os.close(self._tty)
        self._tty = -1
        node.close()

    def _say(self, data: bytes) -> None:
        self.say(data)
