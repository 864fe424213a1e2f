"""A board without a program: stock MicroPython mounts its partition at `/` and sits at its prompt.

It is the unix port's prompt, which mpremote takes for a board's. That port ends at ^D where a board starts anew, so a
new process takes its place: it says what a board says then, and is in raw mode again where the old one was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from boards.virtual.hub import Hub
from boards.virtual.life import Life
from hil_tests.world.esp.boot import Partition

_HEAP = "192k"
# What the raw mode answers to an empty program, which is how it is asked to start anew; and how it is entered.
_RAW_END, _ENTER_RAW = b"OK\r\n", b"\x01"
_READY = b">>> "


class Prompt:
    """``say`` gets what the board says. All on the hub's thread."""

    def __init__(
        self, hub: Hub, folder: Path, part: Partition, image: bytes, mac: bytes, say: Callable[[bytes], None]
    ) -> None:
        self._hub = hub
        self._folder = folder.resolve()
        self._part = part
        self._mac = mac
        self._say = say
        self._tail = b""
        self._hidden: bytes | None = None  # of a new process: all until its prompt
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        self._path.write_bytes(image)
        self._life = self._begin()

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._part.label}.bin"

    def hear(self, data: bytes) -> None:
        self._life.type_in(data)

    def end(self) -> bytes:
        """A power cut; what is in the partition then."""
        self._life.end()
        return self._path.read_bytes()

    def _begin(self) -> Life:
        part = self._part
        facts = (1, 0, 0, 1000, self._mac.hex(), self._folder, f"{part.label}:{part.offset}:{part.size}")
        return Life(
            self._hub,
            self._folder,
            heap_size=_HEAP,
            main=part.label,
            facts=",".join(map(str, facts)),
            is_scaled=False,
            has_radio=False,
            uarts=(),
            program=("-i", "-m", "prompt"),
            on_console=self._on_console,
            on_command=lambda _message: None,
            on_uart=lambda _number, _data: None,
            on_exit=self._on_exit,
        )

    def _on_console(self, data: bytes) -> None:
        if self._hidden is not None:
            self._hidden += data
            if not self._hidden.endswith(_READY):
                return
            self._hidden = None
            self._life.type_in(_ENTER_RAW)
            return
        self._tail = (self._tail + data)[-8:]
        self._say(data)

    def _on_exit(self, life: Life) -> None:
        if life is not self._life:
            return
        life.end()
        self._say(b"MPY: soft reboot\r\n")
        self._hidden = b"" if self._tail.endswith(_RAW_END) else None
        self._tail = b""
        self._life = self._begin()
