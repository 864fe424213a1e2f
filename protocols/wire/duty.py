"""Duty cycle: how long a radio was on the air in any hour, whatever power cuts and sleeping clocks do.

The time spent in a band is kept in steps of five minutes, each whole transmission in the step of its end or later, and
the current step with the twelve before it is "the last hour": 60 to 65 minutes, never less. Of a deep sleep only 13/16
of what the clock says has passed: the oscillator may be a twentieth fast, and the rate learned for it a tenth wrong.

A power cut takes the ledger and the time with it. So a bound of the last hour's time is durable before any of it is
used, a twelfth of an hour's allowance ahead; a start that knows nothing else takes all of that as spent just now.
However often the power fails, an hour never holds more than it may. ``spent`` keeps the bound (firmware/spent.py):

    spent.load() -> bytes; b"" when never written, None when it is lost        spent.save(bytes) -> whether it is kept

Without a ``spent``, or when it is lost, there is an hour of silence first.
"""

from struct import pack, unpack, unpack_from

from protocols.wire import airtime
from protocols.wire.airtime import AirRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from protocols.wire.airtime import Modulation

    class Spent(Protocol):
        """Where the durable bound is."""

        def load(self) -> "bytes | None": ...
        def save(self, data: bytes) -> bool: ...


_STEP_S = 300
_HOUR_STEPS = 12
# One ahead: a transmission may end in the next step.
_STEPS = _HOUR_STEPS + 2
_BLOCKS = 12
# A gateway gives a radio what is to begin some seconds later; two more for the rests of the clock and of the air time.
_AHEAD_S = 10
# What passed in a sleep for certain: 1 / (1.05 * 1.1) of what hal/clock.py may take it for is 0.866.
_SLEPT_OF_16 = 13
_REST = ">III"


class Ledger:
    """Milliseconds on the air per band and step of five minutes."""

    def __init__(
        self, plan_id: int, bands: "tuple[tuple[int, int, int], ...]", spent: "Spent | None"
    ) -> None:
        self._plan_id = plan_id
        self._budgets = [band[2] for band in bands]
        self._spent = spent
        self._marks: "list[int]" = []  # durable bounds of the last hour; empty: not opened yet
        self._rings = [[0] * _STEPS for _ in bands]
        self._head = 0  # newest step that the rings hold
        self._at_s = 0  # own time: never ahead of the true one
        self._lost_s = 0  # by which it is behind now_s

    def check(self, now_s: int, band: int, modulation: "Modulation", air_us: int) -> None:
        self._open(now_s)
        budget = self._budgets[band]
        need = air_us // 1000 + 1
        used = self._used(band)
        if used + need > budget:
            self._refuse(band, modulation, used, need)
        block = budget // _BLOCKS
        mark = self._marks[band]
        bound = min(used + need + block, budget)
        # Lowered, too, or a power cut after one busy hour would cost another; not at once, for the flash.
        if used + need > mark or mark - bound >= 2 * block:
            self._keep(band, bound)

    def add(self, now_s: int, band: int, air_us: int) -> None:
        self._open(now_s)
        end = (self._at_s + air_us // 1000000 + _AHEAD_S) // _STEP_S
        self._forget_until(end)
        self._rings[band][end % _STEPS] += air_us // 1000 + 1

    def rest(self, now_s: int) -> bytes:
        self._open(now_s)
        counts = self._marks[:]
        for ring in self._rings:
            counts += ring
        counts = [min(count, 0xFFFF) for count in counts]
        return pack(_REST, now_s, self._at_s, self._head) + pack(">%dH" % len(counts), *counts)

    def resume(self, now_s: int, rested: bytes) -> None:
        bands = len(self._budgets)
        if self._marks or len(rested) != 12 + 2 * bands * (1 + _STEPS):
            return
        slept_from_s, at_s, self._head = unpack_from(_REST, rested)
        counts = list(unpack_from(">%dH" % (bands * (1 + _STEPS)), rested, 12))
        self._marks = counts[:bands]
        for band in range(bands):
            first = bands + band * _STEPS
            self._rings[band] = counts[first : first + _STEPS]
        self._at_s = at_s + max(0, (now_s - slept_from_s) * _SLEPT_OF_16 // 16 - 1)
        self._lost_s = now_s - self._at_s
        self._forget_until(self._at_s // _STEP_S)

    def _open(self, now_s: int) -> None:
        """Own time goes on. A life that was not resumed takes what may have been spent before as spent at its first
        look: a caller's clock need not begin at 0.
        """
        self._at_s = max(self._at_s, now_s - self._lost_s)
        self._forget_until(self._at_s // _STEP_S)
        if not self._marks:
            self._marks = self._load()
            for band in range(len(self._marks)):
                self._rings[band][self._head % _STEPS] += self._marks[band]

    def _load(self) -> "list[int]":
        data = None if self._spent is None else self._spent.load()
        if data == b"":
            return [0 for _ in self._budgets]
        if data is None or len(data) != 1 + 2 * len(self._budgets) or data[0] != self._plan_id:
            return self._budgets[:]
        return [min(mark, 0xFFFF) for mark in unpack(">%dH" % len(self._budgets), data[1:])]

    def _keep(self, band: int, bound: int) -> None:
        marks = self._marks[:]
        marks[band] = bound
        data = bytes((self._plan_id,)) + pack(">%dH" % len(marks), *marks)
        if self._spent is None or not self._spent.save(data):
            raise AirRefused(
                "duty", "what is sent can not be kept over a power cut: the state partition is full"
            )
        self._marks = marks

    def _forget_until(self, step: int) -> None:
        """Make this step one that the rings hold."""
        if step > self._head + _STEPS:
            self._head = step - _STEPS
        while self._head < step:
            self._head += 1
            for ring in self._rings:
                ring[self._head % _STEPS] = 0

    def _used(self, band: int) -> int:
        ring = self._rings[band]
        oldest = max(0, self._at_s // _STEP_S - _HOUR_STEPS)
        return sum([ring[step % _STEPS] for step in range(oldest, self._head + 1)])

    def _refuse(self, band: int, modulation: "Modulation", used: int, need: int) -> "NoReturn":
        budget = self._budgets[band]
        said = "%d ms more than the %d ms an hour of this band: " % (used + need - budget, budget)
        if need > budget:
            raise AirRefused("duty", said + "never, it is too long")
        left = used
        wait_s = 0
        for step in range(max(0, self._at_s // _STEP_S - _HOUR_STEPS), self._head + 1):
            left -= self._rings[band][step % _STEPS]
            if left + need <= budget:
                wait_s = (step + _HOUR_STEPS + 1) * _STEP_S - self._at_s
                break
        # Slept or awake.
        wait_s = wait_s * 16 // _SLEPT_OF_16 + 2
        most = airtime.size_max(modulation, (budget - used - 1) * 1000)
        said += "in %d s%s" % (wait_s, ", or %d bytes now" % most if most >= 0 else "")
        raise AirRefused("duty", said, wait_s)
