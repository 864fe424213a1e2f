"""The thread that serves all boards of a process."""

from __future__ import annotations

import os

from boards.virtual.hub import Hub


def test_what_was_ready_is_not_told_to_whoever_has_its_number_now() -> None:
    """A board that prints and resets: the console of its old life was ready with the request, and its number may be the
    new life's process by then, which was taken for dead."""
    hub = Hub()
    old = [os.eventfd(1) for _ in range(2)]
    new: list[int] = []
    told: list[str] = []

    def first(events: int) -> None:
        told.append("first")
        for fd in old:
            hub.forget(fd)
            os.close(fd)
        for _ in old:  # these have the same numbers, and nothing to say
            new.append(os.eventfd(0))
            hub.watch(new[-1], lambda events: told.append("late"))

    def begin() -> None:
        for fd in old:
            hub.watch(fd, first)

    hub.call(begin)
    for _ in range(3):  # each is a round of the hub
        hub.call(lambda: None)
    assert old == new, "no number came again: nothing was tested"
    assert told == ["first"]
    assert hub.failures == 0
