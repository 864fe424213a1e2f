"""What the scheduler knows of one device: what is due, what it refused, whether it answers, whether it is on.

Due times lie on a grid from the start of the bus, so that points with periods of 1, 10 and 60 s meet and are read
together. A grid point that was missed is gone: a slow bus falls behind in count, never in queue length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from gateway import limits
from gateway.pollers.modbus_plan import ADDRESSES, cut, remember
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import BIT_READS, REGISTERS_READ_MAX, Device, Point, Request, Span

UP = "up"
SUSPECT = "suspect"
DOWN = "down"
PROBING = "probing"  # down, and being asked at this moment: shown, not kept

NEVER_S = math.inf
# A grid point this close is this one: the clock is a float.
GRID_SLACK_S = 1e-6


class DeviceState:
    """One device of a bus. Times are the injected clock's seconds."""

    def __init__(self, device: Device, line: Line, start_s: float) -> None:
        self.device = device
        self.state = UP
        self.is_probed = False
        self.counters: Counter[str] = Counter()
        self.latency_s = 0.0  # of answers, smoothed
        self.answered_s = -NEVER_S
        self.not_before_s = start_s  # its gap, or the time in which an old answer may still come
        self.probe_at_s = NEVER_S
        self.pause_s = 0.0
        self.probe_cost_s = 0.0
        self.failures = 0
        self.spoilt = 0
        self.losses = 0  # of the medium, while this one was asked, since it last answered
        self.failing_since_s = NEVER_S
        self.ready_s = NEVER_S if device.start else -NEVER_S  # when it measures; NEVER_S: it is off
        self.steps_done = 0  # of `start` when it is off, of `stop` when it is on
        self.refused: dict[int, list[Span]] = {}
        self.unanswered: dict[tuple[int, int, int], float] = {}  # shapes, and until when an answer may come
        self.not_longer: set[Request] = set()  # reads that were refused when one register longer
        self.due_s = [start_s] * len(device.points)
        self.first_due_s = start_s if device.points else NEVER_S
        self._due: list[int] = []
        self._due_until_s = -NEVER_S  # `_due` holds until then
        self._line = line
        self._start_s = start_s
        self._plans: dict[tuple[int, ...], list[tuple[Span, list[int]]]] = {}

    @property
    def shown(self) -> str:
        """The state as a person is told it."""
        return PROBING if self.state == DOWN and self.is_probed else self.state

    # --- what is due -----------------------------------------------------------------------------

    def due(self, now_s: float) -> list[int]:
        """Points to be read now, by index, the one with the earliest deadline first."""
        limit_s = now_s + GRID_SLACK_S
        if self.first_due_s > limit_s:
            return []
        if limit_s >= self._due_until_s:
            waiting = [due_s for due_s in self.due_s if due_s > limit_s]
            self._due_until_s = min(waiting, default=NEVER_S)
            self._due = [index for index, due_s in enumerate(self.due_s) if due_s <= limit_s]
            self._due.sort(key=self.deadline_s)
        return self._due

    def deadline_s(self, index: int) -> float:
        return self.due_s[index] + self.device.points[index].deadline_s

    def block_of(self, index: int, due: list[int]) -> tuple[Request, list[int]]:
        """The request of the cheapest plan for all of `due` that reads point `index`."""
        function = self.device.points[index].function
        same = tuple(other for other in sorted(due) if self.device.points[other].function == function)
        blocks = self._plans.get(same)
        if blocks is None:
            blocks = self._plan(function, same)
        for span, members in blocks:
            if index in members:
                return Request(self.device.unit, function, span.address, span.quantity), members
        return self.single(index), [index]  # refused by itself, and asked for again after a while

    def reading_s(self, points: tuple[int, ...], pause_s: float = 0.0) -> float:
        """What reading `points` together takes of the line, with a pause after each request."""
        total_s = 0.0
        for function in {self.device.points[index].function for index in points}:
            same = tuple(index for index in points if self.device.points[index].function == function)
            cost = self.cost(function)
            total_s += sum(cost(span.quantity) + pause_s for span, _members in self._plan(function, same))
        return total_s

    def single(self, index: int) -> Request:
        point = self.device.points[index]
        return Request(self.device.unit, point.function, point.address, point.quantity)

    def _plan(self, function: int, points: tuple[int, ...]) -> list[tuple[Span, list[int]]]:
        if len(self._plans) >= limits.MODBUS_PLANS_KEPT_MAX:
            self._plans.clear()
        spans = [self.device.points[index].span for index in points]
        refused, hole_max = self.refused.get(function, ()), self.device.hole_max
        if hole_max >= REGISTERS_READ_MAX:
            hole_max = ADDRESSES  # no limit: of bits a read holds more
        found = cut(spans, self.cost(function), self.count_max(function), refused, hole_max)
        blocks = [(span, [points[member] for member in members]) for span, members in found]
        self._plans[points] = blocks
        return blocks

    def cost(self, function: int) -> Callable[[int], float]:
        """What a request for so many registers or bits takes of the line."""
        device, line = self.device, self._line
        return lambda count: line.exchange_s(Request(device.unit, function, 0, count), device.turnaround_s)

    def count_max(self, function: int) -> int:
        return self.device.bits_max if function in BIT_READS else self.device.registers_max

    # --- what was read ---------------------------------------------------------------------------

    def read(self, now_s: float, points: list[int] | tuple[int, ...]) -> None:
        """`points` were read: on to the next moment of their grid."""
        for index in points:
            point = self.device.points[index]
            late_s = now_s - self.deadline_s(index)
            if late_s > GRID_SLACK_S:
                self.counters["deadlines_missed"] += 1
            next_s = self._next(point, now_s)
            self.counters["periods_skipped"] += max(
                0, round((next_s - self.due_s[index]) / point.period_s) - 1
            )
            self.due_s[index] = next_s
        self._first()

    def put_off(self, points: tuple[int, ...], until_s: float) -> None:
        """Do not ask for `points` before `until_s`."""
        for index in points:
            self.due_s[index] = until_s
        self._first()

    def all_due(self, now_s: float) -> None:
        """After an absence everything is wanted at once; what was missed meanwhile is gone."""
        for index, due_s in enumerate(self.due_s):
            if due_s <= now_s:
                self.due_s[index] = now_s
        self._first()

    def _next(self, point: Point, now_s: float) -> float:
        passed = math.floor((now_s - self._start_s) / point.period_s + GRID_SLACK_S)
        return self._start_s + (passed + 1) * point.period_s

    def _first(self) -> None:
        self.first_due_s = min(self.due_s, default=NEVER_S)
        self._due_until_s = -NEVER_S

    # --- what it refused -------------------------------------------------------------------------

    def refuse(self, function: int, bad: Span) -> bool:
        """Never ask for `bad` again, nor for what contains it. False when that was known."""
        ranges = self.refused.setdefault(function, [])
        if not remember(ranges, bad):
            return False
        del ranges[: -limits.MODBUS_REFUSED_RANGES_MAX]
        self._plans.clear()
        return True

    def allow(self, function: int, good: Span) -> bool:
        """`good` was read: whatever within it was refused is no longer. False when nothing was."""
        ranges = self.refused.get(function)
        if not ranges or not any(good.holds(known) for known in ranges):
            return False
        ranges[:] = [known for known in ranges if not good.holds(known)]
        self._plans.clear()
        return True

    # --- whose answer it would be ----------------------------------------------------------------

    def unheard(self, now_s: float, request: Request) -> None:
        """`request` was not answered. Its answer may come yet, and nothing in it says whose it is."""
        if len(self.unanswered) >= limits.MODBUS_PLANS_KEPT_MAX:
            self.unanswered = {
                shape: until_s for shape, until_s in self.unanswered.items() if until_s > now_s
            }
        self.unanswered[request.shape] = now_s + limits.MODBUS_LATE_S

    def ambiguous_until_s(self, request: Request) -> float:
        """Until when an answer that looks like that of `request` may be an older one's."""
        return self.unanswered.get(request.shape, -NEVER_S)

    def may_be_refused_late(self, now_s: float, function: int) -> bool:
        """Whether an exception response may be that of an older request: it names the function only."""
        return any(shape[1] == function and until_s > now_s for shape, until_s in self.unanswered.items())

    def distinct(self, request: Request, now_s: float) -> Request | None:
        """`request`, or the same one register longer, so that its answer cannot be an older one's; None: not now."""
        if self.ambiguous_until_s(request) <= now_s:
            return request
        longer = request._replace(quantity=request.quantity + 1)
        span = Span(longer.address, longer.quantity)
        if (
            not self.device.hole_max
            or longer.quantity > self.count_max(request.function)
            or span.end > ADDRESSES
            or request in self.not_longer
        ):
            return None
        if any(span.holds(bad) for bad in self.refused.get(request.function, ())):
            return None
        return longer if self.ambiguous_until_s(longer) <= now_s else None

    def keep_short(self, request: Request, points: tuple[int, ...]) -> None:
        """`request` was refused. If it was longer than what it was for, the shorter one is never lengthened again."""
        end = max((self.device.points[index].span.end for index in points), default=NEVER_S)
        if request.address + request.quantity > end and len(self.not_longer) < limits.MODBUS_PLANS_KEPT_MAX:
            self.not_longer.add(request._replace(quantity=int(end) - request.address))

    # --- whether it is on ------------------------------------------------------------------------

    @property
    def is_off(self) -> bool:
        return self.ready_s == NEVER_S

    def start_at_s(self) -> float:
        """When a device that is off must be started, for its first point to be in time."""
        return self.first_due_s - self.device.warm_up_s

    def switched(self, now_s: float, steps: tuple[Request, ...], then_s: float) -> None:
        """A step of `start` or `stop` was answered; after the last of them it is ready from `then_s` on."""
        self.steps_done += 1
        if self.steps_done >= len(steps):
            self.steps_done = 0
            self.ready_s = then_s

    def may_stop(self, now_s: float) -> bool:
        """Whether it is on, can be stopped, and nothing is due before it could be warm again."""
        if not self.device.stop or self.is_off or now_s < self.ready_s:
            return False
        return self.start_at_s() > now_s + GRID_SLACK_S

    # --- whether it answers ----------------------------------------------------------------------

    def answered(self, now_s: float, latency_s: float) -> None:
        """An intact answer, an exception included: it is alive."""
        self.failures = 0
        self.spoilt = 0
        self.losses = 0
        self.failing_since_s = NEVER_S
        self.probe_at_s = NEVER_S
        self.answered_s = now_s
        self.latency_s += (latency_s - self.latency_s) / (8 if self.latency_s else 1)

    def failed(self, now_s: float, began_s: float) -> None:
        """No answer: ask again after a pause that grows."""
        self.failures += 1
        self.failing_since_s = min(self.failing_since_s, began_s)
        self.probe_cost_s = now_s - began_s
        grown_s = limits.MODBUS_PROBE_MIN_S * 2 ** min(self.failures - 1, 16)
        self.pause_s = min(max(grown_s, self.device.timeout_s), limits.MODBUS_PROBE_MAX_S)
        self.probe_at_s = now_s + self.pause_s

    @property
    def has_lost_often(self) -> bool:
        """Whether the medium went away each time that it was asked: once is anybody's."""
        return self.losses > 1

    def lost(self, now_s: float) -> None:
        """The medium went away while it was asked. If that is its doing, the others behind it go first."""
        self.losses += 1
        if not self.has_lost_often:
            return
        pause_s = min(limits.MODBUS_PROBE_MIN_S * 2 ** min(self.losses - 2, 16), limits.MODBUS_PROBE_MAX_S)
        self.not_before_s = max(self.not_before_s, now_s + pause_s)
        if self.state != UP:
            self.probe_at_s = now_s + pause_s

    @property
    def is_gone(self) -> bool:
        """Whether it has been silent for long enough, and often enough, to be called down."""
        long_enough = self.probe_at_s - self.pause_s - self.failing_since_s >= limits.MODBUS_DOWN_AFTER_S
        return long_enough and self.failures >= limits.MODBUS_DOWN_AFTER_COUNT
