"""esptool without its waits, for ports in this process: there is no capacitor and no driver to give time to.

What it does in between is not touched. Not for ports of the operating system, which are as slow as they are.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

_WAITING = ("esptool.loader", "esptool.cmds", "esptool.reset", "esp_pylib.serial_reset")


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    clock = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
    clock.sleep = lambda _seconds: None
    with contextlib.ExitStack() as stack:
        for name in _WAITING:
            stack.enter_context(mock.patch.object(importlib.import_module(name), "time", clock))
        # It writes out every byte in hex for a trace, whether anybody reads one or not: half of all the time here.
        stack.enter_context(mock.patch("esptool.loader.HexFormatter", return_value=""))
        yield
