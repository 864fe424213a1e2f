"""Deep sleep of a virtual board: what can end it, and how its time passes."""

from collections.abc import Callable, Mapping

from boards.virtual import board as constants
from boards.virtual.clock import BoardClock, Timer

EXT0_WAKE, EXT1_WAKE, TIMER_WAKE = 2, 3, 4


class WakePins:
    """What a node set with esp32.wake_on_ext0 and wake_on_ext1 in this life. Only pins of the RTC domain can do it."""

    def __init__(self) -> None:
        self._ext0: tuple[int, ...] = ()
        self._ext1: tuple[int, ...] = ()
        self._ext0_level = self._ext1_level = 1

    def set_ext0(self, level: int, pins: tuple[int, ...]) -> int:
        """0, or -1 when a pin can not do it."""
        if not _can_wake(pins):
            return -1
        self._ext0, self._ext0_level = pins, level
        return 0

    def set_ext1(self, level: int, pins: tuple[int, ...]) -> int:
        """Level 1: any of them high; 0: all of them low."""
        if not _can_wake(pins):
            return -1
        self._ext1, self._ext1_level = pins, level
        return 0

    def reason(self, levels: Mapping[int, int]) -> int:
        """What wakes the node with the pins at these levels; 0: nothing."""
        if any(levels.get(pin, 0) == self._ext0_level for pin in self._ext0):
            return EXT0_WAKE
        high = [levels.get(pin, 0) == 1 for pin in self._ext1]
        if self._ext1 and (any(high) if self._ext1_level else not any(high)):
            return EXT1_WAKE
        return 0


class DeepSleep:
    """One sleep. ``wake(reason, slept_s)`` is called once, unless it is ended before.

    With a ``scale`` the sleep passes that many times faster, from one event of the board to the next, so that a chip
    that raises a wake pin in the middle of it ends it there and not at its end.
    """

    def __init__(
        self, clock: BoardClock, scale: float, at_most_s: float | None, wake: Callable[[int, float], None]
    ) -> None:
        self._clock = clock
        self._scale = scale
        self._wake = wake
        self._is_over = False
        self._began_s = clock.now_s()
        self._end_s = None if at_most_s is None else self._began_s + at_most_s
        self._timer: Timer | None = None
        self._pass_on()

    def look(self, reason: int) -> None:
        """The pins may have changed: the reason they give to wake up, 0 for none."""
        if reason and not self._is_over:
            self.end()
            self._wake(reason, self._clock.now_s() - self._began_s)

    def end(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def _pass_on(self) -> None:
        """Wait in real time for the scaled share of what lies between here and the next event."""
        now_s = self._clock.now_s()
        due_s = None if self._scale == 1 else self._clock.due_in_s()
        waits = [due_s] if due_s is not None else []
        if self._end_s is not None:
            waits.append(max(0.0, self._end_s - now_s))
        if waits:
            target_s = now_s + min(waits)
            self._timer = self._clock.call_later(min(waits) / self._scale, lambda: self._arrive(target_s))

    def _arrive(self, target_s: float) -> None:
        # Not more than to the first event: what it does may end the sleep.
        while not self._is_over and target_s > self._clock.now_s():
            self._clock.skip_to_next(target_s - self._clock.now_s())
        if self._is_over:
            return
        if self._end_s is not None and self._clock.now_s() >= self._end_s:
            self.look(TIMER_WAKE)
        else:
            self._pass_on()


def _can_wake(pins: tuple[int, ...]) -> bool:
    return all(pin in constants.WAKE_PINS for pin in pins)
