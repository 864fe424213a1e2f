"""The real esptool on a simulated chip, without its progress on the terminal."""

from __future__ import annotations

from typing import Any

from esptool import cmds
from esptool.logger import log


def quiet() -> None:
    log.set_verbosity("silent")


def connect(port: Any, *, stub: bool = True, attempts: int = 1) -> Any:
    """A loader object of esptool, its flash attached, on a port object or a port's name."""
    quiet()
    esp = cmds.detect_chip(port, connect_attempts=attempts)
    if stub:
        esp = cmds.run_stub(esp)
    cmds.attach_flash(esp)
    return esp


def write(esp: Any, at: int, data: bytes, **options: Any) -> None:
    """Written, and its MD5 asked of the chip; FatalError when they differ."""
    cmds.write_flash(esp, [(at, data)], no_progress=True, **options)
