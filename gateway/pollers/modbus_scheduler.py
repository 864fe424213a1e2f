"""What goes over a Modbus bus next: a pure state machine on the caller's clock.

    step = scheduler.next(now)           a Job to carry out, or a Wait
    scheduler.done(now, job, outcome)    what came of it

One request at a time, in this order: a write (never two without a read in between, when reads are due), a probe of
a silent device (if the others can afford it), and the read with the earliest deadline, merged with what else is
due on that device.

One silent device costs the others at most one time-out per probe pause: from its first unanswered request on it is
asked only by probes, whose pause grows, and all silent devices together get at most a share of a bus on which
others wait. It is called down only after a time and a count.

RTU answers carry no number. So for some seconds after a request that stayed unanswered, its device is asked nothing
whose answer would look the same: it is asked for one register more, or later. No answer is taken for another's.

Prior art: wb-mqtt-serial (merging, un-merging, down by time and count), read and not copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gateway import limits
from gateway.pollers.modbus_device import DOWN, GRID_SLACK_S, NEVER_S, SUSPECT, UP, DeviceState
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import (
    ACKNOWLEDGE,
    ANSWERED,
    GATEWAY_CODES,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    LOST,
    OTHER_LENGTH,
    REFUSED,
    SPOILT,
    UNSENT,
    Device,
    Job,
    Outcome,
    Request,
    Span,
    Wait,
    Write,
)
from gateway.pollers.modbus_writes import PendingWrite, WriteQueue

# A write that waits only for old answers to be out of the way is looked at so often.
WRITE_LOOK_S = 0.05

OnValues = Callable[[Device, int, tuple[int, ...]], None]
OnFault = Callable[[Device, tuple[int, ...], str], None]
OnRound = Callable[[Device], None]
OnLearned = Callable[[Device], None]
OnState = Callable[[Device, str, str], None]


class Scheduler:
    """The requests of one bus. `is_numbered`: answers carry the number of their request (Modbus TCP)."""

    def __init__(
        self,
        line: Line,
        devices: Sequence[Device],
        now_s: float,
        *,
        is_numbered: bool = False,
        on_values: OnValues = lambda device, index, values: None,
        on_fault: OnFault = lambda device, points, reason: None,
        on_round: OnRound = lambda device: None,
        on_learned: OnLearned = lambda device: None,
        on_state: OnState = lambda device, old, new: None,
    ) -> None:
        self.line = line
        self.states = [DeviceState(device, line, now_s) for device in devices]
        self.writes = WriteQueue(line, {device.name: device for device in devices})
        self.counters: Counter[str] = Counter()
        self.busy_s = 0.0
        self._is_numbered = is_numbered
        self._on_values = on_values
        self._on_fault = on_fault
        self._on_round = on_round
        self._on_learned = on_learned  # what it refuses is known better: states[…].refused
        self._on_state = on_state
        self._by_name = {device.name: index for index, device in enumerate(devices)}
        self._free_s = now_s
        self._began_s = now_s
        self._probes_from_s = now_s  # others come first until then
        self._is_reads_turn = False

    # --- choosing --------------------------------------------------------------------------------

    def next(self, now_s: float) -> Job | Wait:
        """The next job; the caller sends it at once and reports with `done`."""
        self.writes.expire(now_s)
        if now_s < self._free_s - GRID_SLACK_S / 10:
            return Wait(self._free_s)
        read = self._next_read(now_s)
        job = self._next_write(now_s, read is not None) or self._next_probe(now_s, read is not None)
        job = job or read or self._next_stop(now_s)
        if job is None:
            return Wait(self._wake_s(now_s))
        # Between a look and its write nothing comes: the shorter that is, the less can change meanwhile.
        self._is_reads_turn = job.kind in ("write", "read_back")
        self._began_s = now_s
        self.counters["requests"] += 1
        state = self.states[job.device]
        state.counters["requests"] += 1
        state.is_probed = job.kind == "probe"
        return job

    def _job(self, kind: str, index: int, request: Request, points: Sequence[int] = ()) -> Job:
        timeout_s = self.line.timeout_s(self.states[index].device, request)
        return Job(kind, index, request, timeout_s, tuple(points))

    def _next_write(self, now_s: float, reads_wait: bool) -> Job | None:
        if self._is_reads_turn and reads_wait:
            return None
        for name in self.writes.waiting(now_s):
            index = self._by_name[name]
            state = self.states[index]
            if state.state == UP and now_s >= state.not_before_s - GRID_SLACK_S:
                kind, request = self.writes.next(state.device, now_s)
                if kind == "write":
                    not_after_s = self.writes.sending(state.device)
                    return self._job(kind, index, request)._replace(not_after_s=not_after_s)
                distinct = state.distinct(request, now_s)
                if distinct is not None:
                    return self._job(kind, index, distinct)
        return None

    def _next_probe(self, now_s: float, reads_wait: bool) -> Job | None:
        if reads_wait and now_s < self._probes_from_s:
            return None
        ready = [
            index
            for index, state in enumerate(self.states)
            if state.probe_at_s <= now_s + GRID_SLACK_S and state.device.points
        ]
        if not ready:
            return None
        index = min(ready, key=lambda index: self.states[index].probe_at_s)
        return self._job("probe", index, self._probe_request(self.states[index], now_s))

    def _probe_request(self, state: DeviceState, now_s: float) -> Request:
        """A single point; if there is one, of another shape than what was not answered."""
        singles = [state.single(index) for index in range(len(state.device.points))]
        good = [request for request in singles if not self._is_refused(state, request)] or singles
        fresh = [request for request in good if state.ambiguous_until_s(request) <= now_s] or good
        return min(fresh, key=lambda request: request.quantity)

    @staticmethod
    def _is_refused(state: DeviceState, request: Request) -> bool:
        span = Span(request.address, request.quantity)
        return any(span.holds(bad) for bad in state.refused.get(request.function, ()))

    def _next_read(self, now_s: float) -> Job | None:
        """The start or the read with the earliest deadline; one whose answer could be an older one's is put off."""
        while (best := self._earliest(now_s)) is not None:
            _deadline_s, index, point, due = best
            state = self.states[index]
            if point < 0:
                return self._job("start", index, state.device.start[state.steps_done])
            request, members = state.block_of(point, due)
            distinct = state.distinct(request, now_s)
            if distinct is not None:
                return self._job("read", index, distinct, members)
            state.put_off(tuple(members), state.ambiguous_until_s(request))
        return None

    def _earliest(self, now_s: float) -> tuple[float, int, int, list[int]] | None:
        """Deadline, device, point (-1: it is to be started) and everything that is due there."""
        best: tuple[float, int, int, list[int]] | None = None
        for index, state in enumerate(self.states):
            if state.state != UP or now_s < state.not_before_s - GRID_SLACK_S:
                continue
            if state.is_off:
                if state.start_at_s() <= now_s + GRID_SLACK_S and (
                    best is None or state.start_at_s() < best[0]
                ):
                    best = (state.start_at_s(), index, -1, [])
                continue
            if now_s < state.ready_s - GRID_SLACK_S:
                continue
            due = state.due(now_s)
            if due:
                point = due[0]
                if best is None or state.deadline_s(point) < best[0]:
                    best = (state.deadline_s(point), index, point, due)
        return best

    def _next_stop(self, now_s: float) -> Job | None:
        for index, state in enumerate(self.states):
            if state.state == UP and now_s >= state.not_before_s and state.may_stop(now_s):
                return self._job("stop", index, state.device.stop[state.steps_done])
        return None

    def _wake_s(self, now_s: float) -> float:
        """When something may be to do without anybody asking."""
        wake_s = self.writes.next_expiry_s()
        for state in self.states:
            if state.state == UP:
                due_s = state.start_at_s() if state.is_off else max(state.first_due_s, state.ready_s)
                wake_s = min(wake_s, max(due_s, state.not_before_s))
                wanted_s = max(self.writes.wanted_s(state.device.name), state.not_before_s)
                wake_s = min(wake_s, max(wanted_s, now_s + WRITE_LOOK_S))
            else:
                wake_s = min(wake_s, state.probe_at_s)
        return max(wake_s, now_s + GRID_SLACK_S)

    # --- what came of it -------------------------------------------------------------------------

    def done(self, now_s: float, job: Job, outcome: Outcome) -> None:
        """Take note of what came of `job`."""
        state = self.states[job.device]
        self._free_s = now_s + self.line.gap_s
        self.busy_s += now_s - self._began_s
        self.counters[outcome.kind] += 1
        state.counters[outcome.kind] += 1
        state.not_before_s = max(state.not_before_s, now_s + state.device.gap_s)
        state.is_probed = False
        if outcome.kind == LOST:
            self.writes.lost(state.device, job, outcome.note)
            if outcome.note != UNSENT and len(self.states) > 1:
                state.lost(now_s)
        elif self._is_misfit(now_s, state, job, outcome):
            state.answered(now_s, now_s - self._began_s)
            self._misfit(now_s, state, job)
        elif outcome.kind in (ANSWERED, REFUSED) and outcome.code not in GATEWAY_CODES:
            self._answered(now_s, state, job, outcome)
        else:
            if not self._is_numbered:
                state.unheard(now_s, job.request)
            self._failed(now_s, state, job, outcome)

    def _is_misfit(self, now_s: float, state: DeviceState, job: Job, outcome: Outcome) -> bool:
        """An answer to this very read, of another length than asked for: nobody else's, and not an older one's."""
        if outcome.note != OTHER_LENGTH or job.kind != "read":
            return False
        return not state.may_be_refused_late(now_s, job.request.function)

    def _misfit(self, now_s: float, state: DeviceState, job: Job) -> None:
        """Some devices answer a long read with what they can: ask for less. A single point has no value."""
        if len(job.points) > 1:
            self._unmerge(now_s, state, job.request)
            return
        state.put_off(job.points, now_s + limits.MODBUS_BUSY_RETRY_S)
        self._fault(now_s, state, job.points, "answers with another length than asked for")

    def _answered(self, now_s: float, state: DeviceState, job: Job, outcome: Outcome) -> None:
        state.answered(now_s, now_s - self._began_s)
        if outcome.kind == REFUSED:
            self.counters[f"exception_{outcome.code}"] += 1
        if job.kind == "probe":
            if state.ambiguous_until_s(job.request) > now_s:
                # This may have been an older one's, and its own may come yet.
                state.unheard(now_s, job.request)
            self._returned(now_s, state)
        elif outcome.kind == REFUSED and state.may_be_refused_late(now_s, job.request.function):
            self._doubtful(now_s, state, job)
        elif job.kind in ("look", "write", "read_back"):
            self.writes.answered(state.device, job, outcome, now_s)
        elif job.kind == "start" and outcome.kind == REFUSED and outcome.code != ACKNOWLEDGE:
            self._not_started(now_s, state, outcome.code)
        elif job.kind == "start":
            state.switched(now_s, state.device.start, now_s + state.device.warm_up_s)
        elif job.kind == "stop":
            state.switched(now_s, state.device.stop, NEVER_S)
        elif outcome.kind == ANSWERED:
            self._values(now_s, state, job, outcome.values)
        else:
            self._refused(now_s, state, job, outcome.code)

    def _values(self, now_s: float, state: DeviceState, job: Job, values: tuple[int, ...]) -> None:
        state.counters["points_read"] += len(job.points)
        self.counters["points_read"] += len(job.points)
        if state.allow(job.request.function, Span(job.request.address, job.request.quantity)):
            self._on_learned(state.device)
        state.read(now_s, job.points)
        for index in job.points:
            point = state.device.points[index]
            begin = point.address - job.request.address
            self._on_values(state.device, index, values[begin : begin + point.quantity])
        if state.first_due_s > now_s:
            self._on_round(state.device)  # whatever was due has been read

    def _refused(self, now_s: float, state: DeviceState, job: Job, code: int) -> None:
        """Un-merge for good what may be un-merged; leave alone for a while what is refused by itself."""
        request = job.request
        if code in (ILLEGAL_ADDRESS, ILLEGAL_VALUE) and len(job.points) > 1:
            self._unmerge(now_s, state, request)
            return
        if code in (ILLEGAL_ADDRESS, ILLEGAL_VALUE, ILLEGAL_FUNCTION):
            if code != ILLEGAL_FUNCTION:
                self._learn(state, request)
            state.put_off(job.points, now_s + limits.MODBUS_REFUSED_RETRY_S)
        else:
            state.put_off(job.points, now_s + limits.MODBUS_BUSY_RETRY_S)
        self._fault(now_s, state, job.points, f"exception {code}")

    def _unmerge(self, now_s: float, state: DeviceState, request: Request) -> None:
        """Its points are still due, and come in smaller requests. Finding out which must not hold up the others."""
        self._learn(state, request)
        state.counters["unmerged"] += 1
        pause_s = (now_s - self._began_s) * (1 / limits.MODBUS_PROBE_SHARE - 1)
        state.not_before_s = max(state.not_before_s, now_s + pause_s)

    def _fault(self, now_s: float, state: DeviceState, points: tuple[int, ...], reason: str) -> None:
        self._on_fault(state.device, points, reason)
        if state.first_due_s > now_s:
            self._on_round(state.device)

    def _not_started(self, now_s: float, state: DeviceState, code: int) -> None:
        """What it would say now is not measured: it is not read, and switched on after a while."""
        is_busy = code not in (ILLEGAL_ADDRESS, ILLEGAL_VALUE, ILLEGAL_FUNCTION)
        pause_s = limits.MODBUS_BUSY_RETRY_S if is_busy else limits.MODBUS_REFUSED_RETRY_S
        everything = tuple(range(len(state.device.points)))
        state.steps_done = 0
        state.put_off(everything, now_s + state.device.warm_up_s + pause_s)
        self._fault(now_s, state, everything, f"cannot be started: exception {code}")

    def _learn(self, state: DeviceState, request: Request) -> None:
        if state.refuse(request.function, Span(request.address, request.quantity)):
            self._on_learned(state.device)

    def _doubtful(self, now_s: float, state: DeviceState, job: Job) -> None:
        """An exception that may be an older request's: nothing is learned from it, and the own one may come yet."""
        state.counters["doubtful"] += 1
        state.unheard(now_s, job.request)
        self.writes.silent(state.device, job)
        state.put_off(job.points, now_s + limits.MODBUS_BUSY_RETRY_S)
        state.keep_short(job.request, job.points)

    def _returned(self, now_s: float, state: DeviceState) -> None:
        """A silent device answers again: everything of it is wanted."""
        if state.device.start:
            state.ready_s, state.steps_done = NEVER_S, 0  # it may have been without power
        state.all_due(now_s)
        self._set_state(state, UP)

    def _failed(self, now_s: float, state: DeviceState, job: Job, outcome: Outcome) -> None:
        if outcome.kind == SPOILT and state.spoilt < limits.MODBUS_SPOILT_MAX and state.state == UP:
            state.spoilt += 1  # it speaks: its points are still due, and are asked for again
            self.writes.spoilt(state.device, job)
            return
        cost_s = now_s - self._began_s
        state.failed(now_s, self._began_s)
        self._probes_from_s = now_s + cost_s * (1 / limits.MODBUS_PROBE_SHARE - 1)
        self.writes.silent(state.device, job)
        if state.state == UP:
            self._set_state(state, SUSPECT)
        if state.state == SUSPECT and state.is_gone:
            self._set_state(state, DOWN)

    def _set_state(self, state: DeviceState, new: str) -> None:
        old, state.state = state.state, new
        if old != new:
            state.counters[f"to_{new}"] += 1
            self._on_state(state.device, old, new)

    # --- from outside ----------------------------------------------------------------------------

    def write(self, write: Write, now_s: float) -> str:
        """Queue a write. Returns "" or why it is not taken."""
        return self.writes.add(PendingWrite(write), now_s)

    def probe_pause_s(self, index: int) -> float:
        """Within so many seconds a silent device that answers again is found; 0 when it is not silent."""
        silent = [state for state in self.states if state.state != UP]
        turns_s = sum(state.probe_cost_s for state in silent) / limits.MODBUS_PROBE_SHARE
        return max(self.states[index].pause_s, turns_s) if self.states[index] in silent else 0.0

    def line_up(self, now_s: float) -> None:
        """The port or connection is open (again): everything is wanted."""
        self._free_s = max(self._free_s, now_s + self.line.gap_s)
        for state in self.states:
            if state.state == UP:
                state.all_due(now_s)
            elif not state.has_lost_often:
                state.probe_at_s = min(state.probe_at_s, now_s)

    def line_down(self, now_s: float) -> None:
        """The port or connection has been away for so long that nobody can be said to be up."""
        for state in self.states:
            if state.state != DOWN:
                state.probe_at_s = now_s
                self._set_state(state, DOWN)
