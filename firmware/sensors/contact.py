"""A contact: a level float, a door switch, the relay of a presence detector.

Contacts bounce for milliseconds and floats swing for seconds, so a level counts once it has held. A broken wire looks
like an open contact; nothing in here can tell, which is why a contact should open, not close, for what matters.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware.hal import Hal
    from firmware.sensors import Readings


class Contact:
    """One reading, 0 or 1: whether the contact is closed; with ``closed=0`` whether it is open.

    A watch calls poll() as often as it likes and looks at `state`.
    """

    count = 1
    errors = 0

    def __init__(self, hal: "Hal", name: str, hold_ms: int = 100, closed: int = 1) -> None:
        self._hal = hal
        self._name = name
        self._hold_ms = hold_ms
        self._closed = closed
        self._since_ms = -1  # ticks at which another level than `state` was first seen; -1: it is not seen
        self.state = self._level()

    def poll(self) -> int:
        """The state, which has changed if the other level has held."""
        clock = self._hal.clock
        if self._level() == self.state:
            self._since_ms = -1
        elif self._since_ms < 0:
            self._since_ms = clock.ticks_ms()
        elif clock.ticks_diff(clock.ticks_ms(), self._since_ms) >= self._hold_ms:
            self.state ^= 1
            self._since_ms = -1
        return self.state

    def measure(self, readings: "Readings") -> "Iterator[int]":
        """See the head of firmware.sensors for the contract."""
        self.poll()
        if self._since_ms >= 0:
            # Once in the middle: a contact that is back by then only bounced.
            yield self._hold_ms // 2
            self.poll()
            yield self._hold_ms // 2 + 1
            self.poll()
        readings[0] = self.state
        yield 0

    def _level(self) -> int:
        return 1 if self._hal.read_pin(self._name) == self._closed else 0
