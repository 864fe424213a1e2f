"""A command that is killed as by kill -9, in a process of its own, before its nth step that touches a disk."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

# What a kill may come before: calls of C, by their names. Between two of them nothing on the disk changes.
STEPS = frozenset(
    {
        "open", "flush", "fsync", "replace", "rename", "link", "unlink", "mkdir", "flock",
        "execute", "executemany", "executescript", "commit", "connect",
    }
)  # fmt: skip


def steps_of(command: Callable[[], None]) -> int:
    """How many there are, when nobody kills it. What it does is done."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        taken = _run(command, 0)
        os.write(writer, str(taken).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as said:
        assert os.waitstatus_to_exitcode(status) == 0
        return int(said.read())


def kill_before(step: int, command: Callable[[], None]) -> bool:
    """Steps count from 1. False: it ended before, as what has threads of its own may."""
    child = os.fork()
    if child == 0:
        _run(command, step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def moments(steps: int, seed: int, count: int | None) -> list[int]:
    """So many of them, or with None all."""
    every = range(1, steps + 1)
    found = list(every) if count is None else sorted(random.Random(seed).sample(every, min(count, steps)))
    print(f"seed={seed} steps={steps} kills={found if count else steps}")
    return found


def _run(command: Callable[[], None], last: int) -> int:
    """In the child, which must not come back from here into the test."""
    taken = 0

    def look(frame: FrameType, event: str, what: Any) -> None:
        nonlocal taken
        if event == "c_call" and what.__name__ in STEPS:
            taken += 1
            if taken == last:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        command()
        return taken
    finally:
        sys.setprofile(None)
        if (error := sys.exc_info()[1]) is not None:
            os.write(2, f"{error!r}\n".encode())
            os._exit(3)
