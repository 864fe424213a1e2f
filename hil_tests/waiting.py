"""For what happens in other processes, there is nothing but looking again."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait(holds: Callable[[], bool], timeout_s: float, what: str, look_s: float = 0.05) -> None:
    """Until it holds. Raises TimeoutError that names `what`."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() >= deadline_s:
            raise TimeoutError(f"after {timeout_s:.0f} s still no {what}")
        time.sleep(look_s)
