"""Writes to Modbus devices: sent before they expire or not at all, read back, told once how they ended.

A write that was sent and not answered may have been carried out. It is read back as soon as its device speaks
again, and sent a second time only when the read-back shows that it did not arrive, and only before it expires.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from gateway import limits
from gateway.pollers.modbus_device import NEVER_S
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import (
    ACKNOWLEDGE,
    ANSWERED,
    BIT_READS,
    DECLINED,
    DIFFERS,
    DONE,
    EXCEPTIONS,
    EXPIRED,
    MASK_WRITE,
    READ_BACK,
    REFUSED,
    UNKNOWN,
    UNSENT,
    Device,
    Job,
    Outcome,
    Request,
    Write,
)


class PendingWrite:
    """One write on its way."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.number = 0  # in the order of their arrival
        self.attempts = 0
        self.is_sent = False  # and must be read back before anything else is said of it
        self.is_acknowledged = False
        self.is_slow = False  # the device said that it takes its time
        self.not_before_s = -NEVER_S
        self.before: tuple[int, ...] | None = None  # the whole registers, for a write to some bits of them
        self.looked_s = -NEVER_S  # when they were

    def wants_look(self, now_s: float) -> bool:
        """Whether the rest of its registers is not known, or was looked at too long ago."""
        needs_rest = self.write.mask and self.write.function != MASK_WRITE
        return bool(needs_rest) and now_s - self.looked_s > limits.MODBUS_LOOK_S

    def end(self, result: str, detail: str = "") -> None:
        self.write.on_done(result, detail)


class WriteQueue:
    """Writes of one bus, in order per device."""

    def __init__(self, line: Line, devices: Mapping[str, Device]) -> None:
        self.counters: Counter[str] = Counter()
        self._line = line
        self._queues: dict[str, deque[PendingWrite]] = {name: deque() for name in devices}
        self._devices = devices
        self._count = 0
        self._added = 0

    def add(self, pending: PendingWrite, now_s: float) -> str:
        """Queue a write. Returns "" or why it is not taken."""
        queue = self._queues.get(pending.write.device)
        if queue is None:
            return f"no device '{pending.write.device}' on this bus"
        if len(queue) >= limits.MODBUS_WRITES_PER_DEVICE_MAX or self._count >= limits.MODBUS_WRITES_MAX:
            return "too many writes are waiting already; wait for them to end"
        if pending.write.expires_s <= now_s:
            return "its deadline has passed"
        self._count += 1
        self._added += 1
        pending.number = self._added
        queue.append(pending)
        return ""

    def waiting(self, now_s: float) -> list[str]:
        """Devices with writes to go on with, the one whose first has waited longest first."""
        if not self._count:
            return []
        return sorted(
            (name for name, queue in self._queues.items() if queue and queue[0].not_before_s <= now_s),
            key=lambda name: self._queues[name][0].number,
        )

    def wanted_s(self, name: str) -> float:
        """From when on the first write for this device is to be gone on with; NEVER_S without one."""
        queue = self._queues[name]
        return queue[0].not_before_s if queue else NEVER_S

    def next_expiry_s(self) -> float:
        return min(
            (_given_up_s(pending) for queue in self._queues.values() for pending in queue), default=NEVER_S
        )

    def expire(self, now_s: float) -> None:
        """End what can no longer be sent in time, and what could not be read back for long enough."""
        if not self._count:
            return
        for name, queue in self._queues.items():
            for pending in [pending for pending in queue if now_s >= self._latest_s(name, pending)]:
                if pending.is_sent:
                    self._end(name, pending, UNKNOWN, _how_unknown(pending))
                else:
                    self._end(name, pending, EXPIRED, _how_expired(pending))

    def _latest_s(self, name: str, pending: PendingWrite) -> float:
        """The last moment for the next step: its whole request must be out before it expires."""
        if pending.is_sent:
            return _given_up_s(pending)
        return pending.write.expires_s - self._line.request_s(_request(self._devices[name], pending))

    def next(self, device: Device, now_s: float) -> tuple[str, Request]:
        """The next step of the first write for `device`, which has one, and its kind of job; `expire` was called at
        this moment."""
        pending = self._queues[device.name][0]
        if pending.is_sent:
            return "read_back", _read_back(device, pending.write)
        if pending.wants_look(now_s):
            return "look", _read_back(device, pending.write)
        return "write", _request(device, pending)

    def sending(self, device: Device) -> float:
        """The step that `next` gave is a write, and goes out now; when it may do so at the latest."""
        pending = self._queues[device.name][0]
        pending.attempts += 1
        return self._latest_s(device.name, pending)

    def answered(self, device: Device, job: Job, outcome: Outcome, now_s: float) -> None:
        """The device answered a step."""
        if not self._queues[device.name]:
            return
        pending = self._queues[device.name][0]
        if job.kind == "write":
            if outcome.code == ACKNOWLEDGE and pending.write.read_back:
                # It has been taken and is being carried out: what it reads back, in the end, tells how it ended.
                pending.is_sent = pending.is_slow = True
                pending.not_before_s = now_s + limits.MODBUS_BUSY_RETRY_S
            elif outcome.kind == REFUSED:
                self._end(device.name, pending, DECLINED, _words(outcome.code))
            elif not pending.write.read_back:
                self._end(device.name, pending, DONE, "not read back")
            else:
                pending.is_sent = pending.is_acknowledged = True
        elif job.kind == "look" and outcome.kind != ANSWERED:
            detail = f"the rest of its register cannot be read: {_words(outcome.code)}"
            self._end(device.name, pending, DECLINED, detail)
        elif job.kind == "look":
            pending.before, pending.looked_s = outcome.values, now_s
        else:
            self._read_back(device, pending, outcome, now_s)

    def _read_back(self, device: Device, pending: PendingWrite, outcome: Outcome, now_s: float) -> None:
        pending.before, pending.looked_s = outcome.values, now_s
        if outcome.kind != ANSWERED:
            self._end(device.name, pending, UNKNOWN, f"cannot be read back: {_words(outcome.code)}")
        elif _meant(pending.write, outcome.values) == _expected(pending.write):
            self._end(device.name, pending, DONE)
        elif pending.is_slow:
            pending.not_before_s = now_s + limits.MODBUS_BUSY_RETRY_S
        elif pending.is_acknowledged:
            self._end(
                device.name,
                pending,
                DIFFERS,
                f"reads back {', '.join(map(str, outcome.values[: len(pending.write.values)]))}",
            )
        elif pending.attempts < limits.MODBUS_WRITE_ATTEMPTS_MAX:
            pending.is_sent = False  # it did not arrive: once more, if there is time
        else:
            self._end(device.name, pending, UNKNOWN, f"sent {pending.attempts} times, not taken")

    def silent(self, device: Device, job: Job) -> None:
        """A step was not answered."""
        if job.kind == "write" and self._queues[device.name]:
            pending = self._queues[device.name][0]
            pending.is_sent = True
            if not pending.write.read_back:
                self._end(device.name, pending, UNKNOWN, "sent, not answered, not to be read back")

    spoilt = silent  # what is not known to have failed may have been carried out

    def lost(self, device: Device, job: Job, note: str) -> None:
        """The medium went away in a step; `note` tells whether anything of it had left."""
        if note != UNSENT:
            self.silent(device, job)
        elif job.kind == "write" and self._queues[device.name]:
            self._queues[device.name][0].attempts -= 1

    def _end(self, name: str, pending: PendingWrite, result: str, detail: str = "") -> None:
        self._queues[name].remove(pending)
        self._count -= 1
        self.counters[result] += 1
        pending.end(result, detail)


def _how_unknown(pending: PendingWrite) -> str:
    if pending.is_slow:
        return "taken by the device, which wanted its time; not seen to be done"
    return "taken by the device, not read back" if pending.is_acknowledged else "sent, not answered"


def _how_expired(pending: PendingWrite) -> str:
    if not pending.attempts:
        return "never sent"
    return f"sent {pending.attempts} times and not taken, and no time for another"


def _given_up_s(pending: PendingWrite) -> float:
    if pending.is_sent:
        return pending.write.expires_s + limits.MODBUS_READ_BACK_S
    return pending.write.expires_s


def _request(device: Device, pending: PendingWrite) -> Request:
    write, values = pending.write, pending.write.values
    if write.function == MASK_WRITE:
        (mask,), (value,) = write.mask, values
        return Request(device.unit, MASK_WRITE, write.address, 1, (~mask & 0xFFFF, value))
    if write.mask and pending.before is not None:
        rest = zip(pending.before, write.mask, values, strict=False)
        values = tuple((before & ~mask) | value for before, mask, value in rest)
    return Request(device.unit, write.function, write.address, len(values), values)


def _read_back(device: Device, write: Write) -> Request:
    return Request(device.unit, READ_BACK[write.function], write.address, len(write.values))


def _meant(write: Write, values: tuple[int, ...]) -> tuple[int, ...]:
    """Of what was read back, what was meant."""
    if write.mask:
        return tuple(value & mask for value, mask in zip(values, write.mask, strict=False))
    return values[: len(write.values)]


def _expected(write: Write) -> tuple[int, ...]:
    if READ_BACK[write.function] in BIT_READS:
        return tuple(int(bool(value)) for value in write.values)
    return write.values


def _words(code: int) -> str:
    return f"exception {code} ({EXCEPTIONS.get(code, 'not in the standard')})"
