"""One Bluetooth device that is connected to: its values are read at a period, or told by it.

    heard → slot → connect → subscribe → read and listen → (lost, silent, storm, lease over) → disconnect → pause

Each turn has a number, and what a client tells belongs to the turn it was made in: a notification that arrives
late cannot count for the next connection, and none can have two handlers. Whatever goes wrong ends the turn, frees
the slot, and costs this device a pause that grows; the others do not notice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from bleak.exc import BleakGATTProtocolError

from gateway import limits
from gateway.clock import Clock
from gateway.log import Logger
from gateway.parts import guard
from gateway.pollers.ble_advert import short_uuid
from gateway.pollers.ble_backend import Backend
from gateway.pollers.ble_faults import (
    ADAPTER,
    AUTH,
    BUSY,
    LOST,
    OTHER,
    PROFILE,
    SILENT,
    STACK_ERRORS,
    STORM,
    Backoff,
    BleFault,
    classify,
    kind_within,
    text_of,
    told,
)
from gateway.pollers.ble_slots import Slots
from gateway.pollers.ble_writes import GattWrites

if TYPE_CHECKING:
    from bleak import BleakClient
    from bleak.backends.characteristic import BleakGATTCharacteristic
    from bleak.backends.device import BLEDevice


class GattPoint(NamedTuple):
    """One characteristic of a device: read every `period_s`, or told by the device at least every `period_s`."""

    service: str  # UUIDs, lower case and whole
    characteristic: str
    mode: Literal["read", "notify"]
    period_s: float


class GattCounters:
    """What a device counts; columns of the metrics."""

    __slots__ = (
        "connects",
        "faults",
        "late",
        "lost",
        "notifications",
        "oversize",
        "read_errors",
        "reads",
        "subscriptions",
        "superseded",
        "yields",
    )

    def __init__(self) -> None:
        self.connects = 0
        self.lost = 0  # connections that ended unasked
        self.faults = 0  # turns that ended in a fault, of whatever class
        self.reads = 0
        self.read_errors = 0
        self.subscriptions = 0
        self.notifications = 0
        self.late = 0  # told by a connection that was over
        self.superseded = 0  # told again within a second: the newest counts
        self.oversize = 0
        self.yields = 0  # slots given up for another device


# What was read in one go, or told within a second, goes on together: it becomes one record.
OnValues = Callable[["GattDevice", dict[GattPoint, bytes]], None]


class GattDevice:
    """One peripheral, by its address or what it is known by instead. `run` goes on until cancelled and raises nothing
    that a device can cause."""

    def __init__(
        self,
        name: str,
        who: str,
        points: Sequence[GattPoint],
        backend: Backend,
        slots: Slots,
        clock: Clock,
        log: Logger,
        on_values: OnValues,
        *,
        stays: bool = False,
    ) -> None:
        self.name = name
        self.who = who
        self.points = tuple(points)
        self.counters = GattCounters()
        self.fault_kinds: Counter[str] = Counter()
        self.is_connected = False
        self.last_error = ""
        self.last_kind = ""
        self._backend = backend
        self._slots = slots
        self._clock = clock
        self._log = log.bind(device=name, address=who)
        self._on_values = on_values
        self._stays = stays or bool(self._of_mode("notify"))
        self._backoff = Backoff()
        self._device: BLEDevice | None = None
        self._heard_s = float("-inf")
        self._heard = asyncio.Event()
        self._due_s = dict.fromkeys(self._of_mode("read"), float("-inf"))
        self._turn = 0
        self._pause_s = 0.0
        self._rate = _Rate()
        self._told_s: dict[GattPoint, float] = {}  # when each subscription last told something
        self._fresh: dict[GattPoint, bytes] = {}  # told, and not passed on yet
        self._left: asyncio.Task[None] | None = None  # the latest attempt to connect
        self._wake: asyncio.Future[str] | None = None  # whoever waits for the next read or write
        self.writes = GattWrites(clock, self._awake)

    def heard(self, device: BLEDevice) -> None:
        """An advert of this device: it is there, and this is how the stack calls it now."""
        self._device = device
        self._heard_s = self._clock.monotonic()
        self._heard.set()

    @property
    def was_seen(self) -> bool:
        return self._device is not None

    def seen_s(self) -> float:
        """Seconds since its last advert; a connected device may not advertise."""
        return self._clock.monotonic() - self._heard_s

    # --- turns -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Turn after turn, until cancelled."""
        try:
            await self._turns()
        finally:
            self.writes.give_up()

    async def _turns(self) -> None:
        while True:
            await self._until_due()
            device = await self._until_heard()
            async with self._slots.hold(self.name):
                self._pause_s = 0.0
                # It may have gone while we waited for the slot.
                if self.seen_s() <= limits.BLE_PRESENT_S and not await guard(
                    self._take_turn(device), self._log, "ble_device_failed"
                ):
                    self._pause_s = self._failed(OTHER, "something unforeseen; the log has it")
                if self._is_stuck():
                    await self._unstick(device)
            await asyncio.sleep(self._pause_s)

    async def _until_due(self) -> None:
        """Devices that are only read are left alone between their reads, unless something is to be written."""
        if self._stays or self.writes.are_waiting:
            return
        wait_s = min(self._due_s.values(), default=0.0) - self._clock.monotonic()
        if wait_s > 0:
            await asyncio.wait((self._next_wake(),), timeout=wait_s)

    def _next_wake(self) -> asyncio.Future[str]:
        self._wake = asyncio.get_running_loop().create_future()
        return self._wake

    def _awake(self) -> None:
        if self._wake is not None:
            _end(self._wake, "")

    async def _until_heard(self) -> BLEDevice:
        while True:
            if self._device is not None and self.seen_s() <= limits.BLE_PRESENT_S:
                return self._device
            self._heard.clear()
            await self._heard.wait()

    async def _take_turn(self, device: BLEDevice) -> None:
        """One connection, and what to think of its end."""
        try:
            await self._turn_with(device)
        except STACK_ERRORS as exc:
            self._pause_s = self._failed(classify(exc), text_of(exc))
        else:
            self._backoff.worked()
            self.last_error = self.last_kind = ""

    def _is_stuck(self) -> bool:
        """Whether what the stack remembers of the device may be the trouble: an attempt that never ends, or the list of
        characteristics from before its firmware was updated."""
        if self._backoff.kind == PROFILE:
            return self._backoff.in_a_row == 1
        return self._backoff.kind == BUSY and self._backoff.in_a_row % limits.BLE_STUCK_AFTER == 0

    async def _unstick(self, device: BLEDevice) -> None:
        self._log.warning("ble_device_stuck", attempts=self._backoff.in_a_row)
        self._device = None  # the stack calls it anew when it is heard again
        try:
            async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
                await self._backend.unstick(device)
        except STACK_ERRORS as exc:
            self._log.debug("ble_unstick", error=text_of(exc))

    def _failed(self, kind: str, reason: str) -> float:
        self.counters.faults += 1
        self.fault_kinds[kind] += 1
        pause_s = self._backoff.failed(kind)
        if kind not in (self.last_kind, ADAPTER):  # of the adapter the scanner tells, once for all
            self._log.warning("ble_device_fault", kind=kind, reason=told(kind, reason), pause_s=pause_s)
        self.last_kind = kind
        self.last_error = reason
        return pause_s

    async def _turn_with(self, device: BLEDevice) -> None:
        self._turn += 1
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        client = self._backend.client(device, lambda _client: _end(ended, LOST))
        try:
            async with self._slots.connecting:
                await self._connect(client)
            self.is_connected = True
            self.counters.connects += 1
            async with asyncio.timeout(limits.BLE_CONNECT_TIMEOUT_S):
                characteristics = self._find(client)
                await self._subscribe(client, characteristics, ended)
            await self._serve(client, characteristics, ended)
        finally:
            self.is_connected = False
            self._turn += 1  # what this client still tells is late
            _end(ended, "")
            await self._disconnect(client)

    async def _connect(self, client: BleakClient) -> None:
        """Connect in the client's time, or leave the attempt behind: to give up it asks a stack that may be frozen."""
        if self._left is not None and not self._left.done():
            raise BleFault(BUSY, "an attempt to connect has not ended yet")
        self._left = attempt = asyncio.create_task(client.connect())
        attempt.add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )  # asked for, whoever is left
        try:
            longest_s = limits.BLE_CONNECT_TIMEOUT_S + limits.BLE_CALL_TIMEOUT_S
            done, _ = await asyncio.wait((attempt,), timeout=longest_s)
            if not done:
                attempt.cancel()
                await asyncio.wait((attempt,), timeout=1.0)
                raise TimeoutError(f"neither connected nor given up within {longest_s:.0f} s")
        except asyncio.CancelledError:
            attempt.cancel()
            await asyncio.wait((attempt,), timeout=1.0)
            raise
        if attempt.cancelled():
            raise BleFault(LOST, "the attempt to connect was dropped")
        attempt.result()

    def _find(self, client: BleakClient) -> dict[GattPoint, BleakGATTCharacteristic]:
        """The characteristic of each point; a device that lacks one is not what its profile says."""
        found = {}
        for point in self.points:
            service = client.services.get_service(point.service)
            characteristic = service.get_characteristic(point.characteristic) if service else None
            if characteristic is None:
                raise BleFault(
                    PROFILE,
                    f"{self.who} has no characteristic {short_uuid(point.characteristic)} in a service "
                    f"{short_uuid(point.service)}",
                )
            found[point] = characteristic
        return found

    async def _subscribe(
        self,
        client: BleakClient,
        characteristics: dict[GattPoint, BleakGATTCharacteristic],
        ended: asyncio.Future[str],
    ) -> None:
        turn, self._rate = self._turn, _Rate()
        self._told_s, self._fresh = {}, {}
        for point in self._of_mode("notify"):

            def told_by_it(_sender: object, data: bytearray, point: GattPoint = point) -> None:
                self._notified(turn, point, bytes(data), ended)

            self._told_s[point] = self._clock.monotonic()
            await client.start_notify(characteristics[point], told_by_it)
            self.counters.subscriptions += 1

    async def _serve(
        self,
        client: BleakClient,
        characteristics: dict[GattPoint, BleakGATTCharacteristic],
        ended: asyncio.Future[str],
    ) -> None:
        """Read what is due and wait for what is told, until the turn is over."""
        since_s = self._clock.monotonic()
        while True:
            await self._write_waiting(client, characteristics, ended)
            await self._read_due(client, characteristics, ended)
            if not self._stays and not self.writes.are_waiting and self._rests():
                return
            now_s = self._clock.monotonic()
            if now_s - since_s >= limits.BLE_SETTLED_S:
                self._backoff.worked()
            if self._slots.must_yield(now_s - since_s):
                self.counters.yields += 1
                return
            self._check_told(now_s)
            wake = self._next_wake()
            if not self.writes.are_waiting:
                wait_s = self._wait_s(now_s)
                await asyncio.wait((ended, wake), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            self._pass_on(self._take_fresh())
            if ended.done():
                self._raise_end(ended.result())

    def _wait_s(self, now_s: float) -> float:
        """Until the next read, and at most a second: what was told meanwhile goes on then."""
        return max(0.0, min([due_s - now_s for due_s in self._due_s.values()] + [1.0]))

    def _rests(self) -> bool:
        """Whether the next read is far enough to give the connection back."""
        return min(self._due_s.values(), default=0.0) - self._clock.monotonic() >= limits.BLE_CHECK_S

    def _raise_end(self, kind: str) -> None:
        if kind == LOST:
            self.counters.lost += 1
            raise BleFault(LOST, "the connection was lost")
        raise BleFault(kind, f"more than {limits.BLE_NOTIFY_PER_S_MAX} notifications a second")

    async def _disconnect(self, client: BleakClient) -> None:
        """Always asked for, also of a client that was lost: some stacks keep a half of it otherwise.

        In a task of its own, so that a gateway that is being stopped still lets go of the device.
        """
        task = asyncio.create_task(_quietly(client, self._log))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait((task,), timeout=1.0)
            raise

    async def _write_waiting(
        self,
        client: BleakClient,
        characteristics: dict[GattPoint, BleakGATTCharacteristic],
        ended: asyncio.Future[str],
    ) -> None:
        if not self.writes.are_waiting:
            return
        try:
            await self.writes.serve(client, characteristics, ended)
        except BleFault:
            if not ended.done():  # else the connection went in the middle of it: that is the reason
                raise
        for point in self._due_s:  # what was written shows at once
            self._due_s[point] = min(self._due_s[point], self._clock.monotonic())

    # --- values ----------------------------------------------------------------------------------

    def _of_mode(self, mode: str) -> list[GattPoint]:
        return [point for point in self.points if point.mode == mode]

    async def _read_due(
        self,
        client: BleakClient,
        characteristics: dict[GattPoint, BleakGATTCharacteristic],
        ended: asyncio.Future[str],
    ) -> None:
        values: dict[GattPoint, bytes] = {}
        try:
            for point, due_s in self._due_s.items():
                if due_s <= self._clock.monotonic() and not ended.done():
                    await self._read(client, point, characteristics[point], ended, values)
        finally:
            self._pass_on(values)

    async def _read(
        self,
        client: BleakClient,
        point: GattPoint,
        characteristic: BleakGATTCharacteristic,
        ended: asyncio.Future[str],
        values: dict[GattPoint, bytes],
    ) -> None:
        try:
            async with asyncio.timeout(limits.BLE_READ_TIMEOUT_S):
                values[point] = bytes(await client.read_gatt_char(characteristic))
        except BleakGATTProtocolError as exc:  # it answered: the connection is in order
            self.counters.read_errors += 1
            if classify(exc) == AUTH:
                raise
            self._log.debug(
                "ble_read_refused", characteristic=short_uuid(point.characteristic), error=text_of(exc)
            )
        except STACK_ERRORS as exc:
            self.counters.read_errors += 1
            if ended.done():  # the connection went in the middle of the read: that is the reason
                return
            raise BleFault(
                kind_within(exc), f"read {short_uuid(point.characteristic)}: {text_of(exc)}"
            ) from exc
        else:
            self.counters.reads += 1
        self._due_s[point] = self._clock.monotonic() + point.period_s

    def _pass_on(self, values: dict[GattPoint, bytes]) -> None:
        fit = {point: data for point, data in values.items() if len(data) <= limits.BLE_VALUE_BYTES_MAX}
        self.counters.oversize += len(values) - len(fit)
        if fit:
            self._on_values(self, fit)

    def _notified(self, turn: int, point: GattPoint, data: bytes, ended: asyncio.Future[str]) -> None:
        """A notification. At the stack's pace, so it does next to nothing; too many end the turn."""
        if turn != self._turn:
            self.counters.late += 1
            return
        now_s = self._clock.monotonic()
        self.counters.notifications += 1
        self.counters.superseded += point in self._fresh
        self._fresh[point] = data
        self._told_s[point] = now_s
        if self._rate.is_storm(now_s):
            _end(ended, STORM)

    def _take_fresh(self) -> dict[GattPoint, bytes]:
        fresh, self._fresh = self._fresh, {}
        return fresh

    def _check_told(self, now_s: float) -> None:
        """A subscription that says nothing for two periods is lost without a word: connect anew."""
        for point, told_s in self._told_s.items():
            if now_s - told_s > 2 * point.period_s + limits.BLE_CHECK_S:
                raise BleFault(
                    SILENT,
                    f"{short_uuid(point.characteristic)} told nothing for {now_s - told_s:.0f} s, "
                    f"its profile says {point.period_s:.0f} s",
                )


class _Rate:
    """How fast one connection notifies: seconds in a row in which it said too much."""

    def __init__(self) -> None:
        self._window_s = float("-inf")
        self._count = 0
        self._full_windows = 0

    def is_storm(self, now_s: float) -> bool:
        """Count one notification."""
        if now_s - self._window_s >= 1.0:
            was_full = self._count > limits.BLE_NOTIFY_PER_S_MAX and now_s - self._window_s < 2.0
            self._full_windows = self._full_windows + 1 if was_full else 0
            self._window_s, self._count = now_s, 0
        self._count += 1
        return self._full_windows >= limits.BLE_STORM_S


def _end(ended: asyncio.Future[str], kind: str) -> None:
    if not ended.done():
        ended.set_result(kind)


async def _quietly(client: BleakClient, log: Logger) -> None:
    try:
        async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
            await client.disconnect()
    except STACK_ERRORS as exc:
        log.debug("ble_disconnect", error=text_of(exc))
