"""One thread with one epoll serves every virtual board of the process: descriptors, timers, and calls from outside.

Everything a board does happens on this thread, so boards and chips need no locks. Descriptors are watched
edge-triggered where the other end of a pty may be closed: a hang-up is level-triggered for ever otherwise.
"""

import collections
import logging
import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from boards.virtual.clock import BoardClock

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

READ = select.EPOLLIN
# epoll counts milliseconds in an int: a timer years ahead is looked at again now and then.
_WAIT_MAX_S = 3600.0
# Reported on every change only: the handler must read until nothing is left.
READ_WRITE_EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


class Hub:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._clocks: list[BoardClock] = []
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, READ)
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="virtual-boards", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], _T]) -> _T:
        """Run on the hub's thread and hand back the result; at once when already there."""
        if threading.current_thread() is self._thread:
            return function()
        done: Future[_T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001  (it belongs to the caller, who gets it)
                done.set_exception(error)

        self._calls.append(run)
        os.eventfd_write(self._wake_fd, 1)
        return done.result()

    def watch(self, fd: int, handler: Callable[[int], None], events: int = READ) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def add_clock(self, clock: BoardClock) -> None:
        self._clocks.append(clock)

    def remove_clock(self, clock: BoardClock) -> None:
        self._clocks.remove(clock)

    def _run(self) -> None:
        while True:
            # Handlers as they are now: one of these may close a descriptor, and the next one opened has its number.
            ready = [
                (fd, self._handlers.get(fd), events) for fd, events in self._epoll.poll(self._timeout_s())
            ]
            for fd, handler, events in ready:
                if fd == self._wake_fd:
                    os.eventfd_read(fd)
                elif handler is not None and self._handlers.get(fd) is handler:
                    self._guarded(handler, events)
            while self._calls:
                self._calls.popleft()()
            for clock in tuple(self._clocks):
                self._guarded(clock.run_due)

    def _timeout_s(self) -> float | None:
        dues = [due for clock in self._clocks if (due := clock.due_in_s()) is not None]
        return min(*dues, _WAIT_MAX_S) if dues else None

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
        except Exception:  # noqa: BLE001  (top of the thread: one broken chip must not stop the other boards)
            self.failures += 1
            _log.exception("a virtual board's handler failed")


_hub: Hub | None = None
_hub_lock = threading.Lock()


def shared_hub() -> Hub:
    """The process's hub, started by the first board."""
    global _hub
    with _hub_lock:
        if _hub is None:
            _hub = Hub()
        return _hub
