"""Serial ports that the gateway on this machine has, borrowed for as long as a flash takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from flash_tools.control import Control
from flash_tools.errors import AcceptanceError
from flash_tools.ports import Machine

# The gateway takes a port back by itself after this time, should we be killed meanwhile.
LOAN_S = 600
_WHY = "flashing"


@contextlib.contextmanager
def borrowed(
    names: list[str], config: Path, say: Callable[[str], None], machine: Machine | None = None
) -> Iterator[None]:
    """Ask for every port that a gateway holds; give all back, however this ends."""
    machine = machine or Machine()
    taken = [name for name in names if any(holder.is_gateway for holder in machine.holders(name))]
    control = Control(config) if taken else None
    lent: list[str] = []
    try:
        for name in taken:
            assert control is not None
            control.ask("port.release", port=_device(name), seconds=LOAN_S, why=_WHY)
            lent.append(name)
            say(f"{name}: the gateway hands it over")
        yield
    finally:
        for name in lent:
            assert control is not None
            try:
                control.ask("port.take", port=_device(name), why=_WHY)
                say(f"{name}: the gateway has it again")
            except AcceptanceError as error:
                say(f"{name}: the gateway takes it back by itself within {LOAN_S} s ({error})")


def _device(name: str) -> str:
    """The gateway works in another folder."""
    return name if "://" in name else os.path.realpath(name)
