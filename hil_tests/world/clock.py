"""An asyncio event loop whose clock jumps: a virtual week takes as long as its events do.

After trio's autojump clock: when nothing is ready to run, time moves straight to the next timer. Real file
descriptors are not waited for, and a loop in which nothing can ever happen again is an error, not a hang.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from concurrent.futures import Executor, Future
from typing import Any

# The first moment of the world, Unix seconds: a river year of its own, not today's.
WORLD_START_S = 1_790_000_000


class NothingWillHappen(Exception):
    """No task is ready and no timer is set: the world under test has come to a stop."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for ``timeout``, moves the loop's clock by it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingWillHappen("every task waits for something that no timer will bring")
        if timeout > 0:
            self.loop.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Virtual time starts at 0.0 and only moves when every ready callback has run."""

    def __init__(self) -> None:
        self.now_s = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """What goes to a thread (asyncio.to_thread) is done at once: a thread of its own knows no virtual time."""
        return asyncio.wrap_future((executor or InlineExecutor()).submit(func, *args), loop=self)

    def is_idle_until(self, due_s: float) -> bool:
        """Whether nothing would run before then: a thousand quiet moments of the world need not wake the loop."""
        timers = self._scheduled  # type: ignore[attr-defined]
        return not self._ready and not (timers and timers[0].when() <= due_s)  # type: ignore[attr-defined]


class WorldClock:
    """The clock given to the parts under test; ``step_s`` moves the wall clock only, as NTP would."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_s: int = WORLD_START_S) -> None:
        self._loop = loop
        self._offset_s = float(start_s)

    def unix_ms(self) -> int:
        return int((self._loop.time() + self._offset_s) * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    def synchronised(self) -> bool:
        return True

    def step_s(self, seconds: float) -> None:
        self._offset_s += seconds


class InlineExecutor(Executor):
    """Runs each call at once in the caller's thread: the one thread of the world keeps its order."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  (an executor hands every error to whoever awaits)
            future.set_exception(error)
        return future


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Like asyncio.run(), on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


async def pass_s(seconds: float) -> None:
    """Let virtual time go by; on a real loop, where that would be waiting, it is an error."""
    if not isinstance(asyncio.get_running_loop(), VirtualLoop):
        raise TypeError("only virtual time may go by in a test")
    await asyncio.sleep(seconds)
