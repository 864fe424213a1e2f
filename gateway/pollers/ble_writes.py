"""Writes to one connected device: sent before they expire or not at all, read back, told once how they ended.

    add → (connect) → look, where the value is a part of a characteristic → write → read back

A write that was sent and not answered may have been carried out. It is read back by the next connection, and sent once
more only when that shows that it did not arrive, and only before it expires. What is on its way when the connection
is given up cannot arrive later: it goes with the connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from bleak.exc import BleakGATTProtocolError

from gateway import limits
from gateway.clock import Clock
from gateway.pollers.ble_advert import short_uuid
from gateway.pollers.ble_faults import AUTH, STACK_ERRORS, BleFault, classify, kind_within, text_of, told
from gateway.pollers.modbus_types import DECLINED, DIFFERS, DONE, EXPIRED, UNKNOWN
from protocols.fields import FieldError, Form, decode, encode

if TYPE_CHECKING:
    from bleak import BleakClient
    from bleak.backends.characteristic import BleakGATTCharacteristic

    from gateway.pollers.ble_gatt import GattPoint

OnDone = Callable[[str, str], None]


class Write(NamedTuple):
    """A value for `form` at byte `at` of a characteristic; `is_part`: the characteristic holds more than that."""

    where: GattPoint
    at: int
    form: Form
    value: float
    is_part: bool
    on_done: OnDone


class _Pending:
    def __init__(self, write: Write, expires_s: float) -> None:
        self.write = write
        self.expires_s = expires_s
        self.attempts = 0
        self.is_sent = False  # and must be read back before anything else is said of it
        self.is_acknowledged = False
        self.is_over = False
        self.timer: asyncio.TimerHandle | None = None


class GattWrites:
    """Writes of one device, in order; bounded. `wake` is called when there is something to do."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._wake = wake
        self._queue: deque[_Pending] = deque()

    @property
    def are_waiting(self) -> bool:
        return bool(self._queue)

    def add(self, write: Write, ttl_s: float) -> str:
        """Queue a write. Returns "" or why it is not taken."""
        if len(self._queue) >= limits.BLE_WRITES_MAX:
            return "too many writes are waiting already; wait for them to end"
        pending = _Pending(write, self._clock.monotonic() + ttl_s)
        pending.timer = asyncio.get_running_loop().call_later(ttl_s, self._late, pending)
        self._queue.append(pending)
        self._wake()
        return ""

    def give_up(self) -> None:
        """The adapter is being left: whatever waits ends now."""
        for pending in list(self._queue):
            if pending.is_sent:
                self._end(pending, UNKNOWN, "sent, not read back: the gateway stops")
            else:
                self._end(pending, EXPIRED, "never sent: the gateway stops")

    def _late(self, pending: _Pending) -> None:
        """Its time is over; what was sent has a little more, to be read back."""
        if not pending.is_sent:
            self._end(pending, EXPIRED, "never sent: the device was not connected in time")
        elif self._clock.monotonic() < pending.expires_s + limits.BLE_READ_BACK_S:
            loop = asyncio.get_running_loop()
            pending.timer = loop.call_later(limits.BLE_READ_BACK_S, self._late, pending)
        else:
            answered = "taken by the device" if pending.is_acknowledged else "sent, not answered"
            self._end(pending, UNKNOWN, f"{answered}, not read back")

    def _end(self, pending: _Pending, result: str, detail: str = "") -> None:
        if pending.is_over:
            return
        pending.is_over = True
        if pending.timer is not None:
            pending.timer.cancel()
        self._queue.remove(pending)
        self.counters[result] += 1
        pending.write.on_done(result, detail)

    # --- while it is connected -------------------------------------------------------------------

    async def serve(
        self,
        client: BleakClient,
        characteristics: dict[GattPoint, BleakGATTCharacteristic],
        ended: asyncio.Future[str],
    ) -> None:
        """Do what waits. Raises BleFault when the connection does not serve any more; what was sent stays."""
        while self._queue and not ended.done():
            pending = self._queue[0]
            characteristic = characteristics[pending.write.where]
            if not pending.is_sent:
                await self._send(client, characteristic, pending)
            if pending.is_sent and not pending.is_over:
                await self._read_back(client, characteristic, pending)

    async def _send(
        self, client: BleakClient, characteristic: BleakGATTCharacteristic, pending: _Pending
    ) -> None:
        name = short_uuid(characteristic.uuid)
        has_answer = "write" in characteristic.properties
        if not has_answer and "write-without-response" not in characteristic.properties:
            self._end(
                pending, DECLINED, f"the device does not let {name} be written; its profile says it does"
            )
            return
        data = await self._data(client, characteristic, pending)
        if data is None or pending.is_over:
            return
        left_s = pending.expires_s - self._clock.monotonic()
        if left_s <= 0:
            self._late(pending)
            return
        pending.is_sent = True
        pending.attempts += 1
        try:
            async with asyncio.timeout(min(left_s, limits.BLE_READ_TIMEOUT_S)):
                await client.write_gatt_char(characteristic, data, response=has_answer)
        except BleakGATTProtocolError as exc:
            self._refused(pending, exc, f"write {name}")
        except STACK_ERRORS as exc:
            raise BleFault(kind_within(exc), f"write {name}: {text_of(exc)}") from exc
        else:
            pending.is_acknowledged = has_answer

    def _refused(self, pending: _Pending, error: BleakGATTProtocolError, what: str) -> None:
        """The device answered, and will not have it."""
        kind = classify(error)
        self._end(pending, DECLINED, told(kind, text_of(error)))
        if kind == AUTH:
            raise BleFault(AUTH, f"{what}: {text_of(error)}") from error

    async def _data(
        self, client: BleakClient, characteristic: BleakGATTCharacteristic, pending: _Pending
    ) -> bytes | None:
        """What to write: with the rest of the characteristic as it is now. None when it cannot be known."""
        write = pending.write
        if not write.is_part:
            return encode(write.form, write.value)
        whole = await self._look(client, characteristic, pending)
        if whole is None:
            return None
        end = write.at + write.form.length
        try:
            return whole[: write.at] + encode(write.form, write.value, whole[write.at : end]) + whole[end:]
        except FieldError as exc:
            self._end(pending, DECLINED, str(exc))
            return None

    async def _look(
        self, client: BleakClient, characteristic: BleakGATTCharacteristic, pending: _Pending
    ) -> bytes | None:
        """The characteristic as it is; None when the write has ended by that."""
        name = short_uuid(characteristic.uuid)
        write = pending.write
        if "read" not in characteristic.properties:
            self._end(pending, DECLINED, f"{name} holds more than this value, and the rest cannot be read")
            return None
        try:
            async with asyncio.timeout(limits.BLE_READ_TIMEOUT_S):
                whole = bytes(await client.read_gatt_char(characteristic))
        except BleakGATTProtocolError as exc:
            self._refused(pending, exc, f"read {name}")
            return None
        except STACK_ERRORS as exc:
            raise BleFault(kind_within(exc), f"read {name}: {text_of(exc)}") from exc
        if len(whole) < write.at + write.form.length:
            self._end(
                pending,
                DECLINED,
                f"{name} has {len(whole)} bytes: the device is another than its profile says",
            )
            return None
        return whole

    async def _read_back(
        self, client: BleakClient, characteristic: BleakGATTCharacteristic, pending: _Pending
    ) -> None:
        write = pending.write
        if "read" not in characteristic.properties:
            if pending.is_acknowledged:
                self._end(pending, DONE, "not read back: the device does not let it be read")
            else:
                self._end(pending, UNKNOWN, "sent without an answer, and it cannot be read back")
            return
        try:
            async with asyncio.timeout(limits.BLE_READ_TIMEOUT_S):
                whole = bytes(await client.read_gatt_char(characteristic))
        except BleakGATTProtocolError as exc:
            self._end(pending, UNKNOWN, f"cannot be read back: {text_of(exc)}")
            return
        except STACK_ERRORS as exc:
            raise BleFault(
                kind_within(exc), f"read back {short_uuid(characteristic.uuid)}: {text_of(exc)}"
            ) from exc
        self._compare(pending, whole[write.at : write.at + write.form.length])

    def _compare(self, pending: _Pending, found: bytes) -> None:
        """Written into what was read, the value changes nothing: then it is there."""
        write = pending.write
        if len(found) == write.form.length and encode(write.form, write.value, found) == found:
            self._end(pending, DONE)
        elif pending.is_acknowledged:
            self._end(pending, DIFFERS, f"reads back {_words(write.form, found)}")
        elif pending.attempts < limits.BLE_WRITE_ATTEMPTS_MAX and self._clock.monotonic() < pending.expires_s:
            pending.is_sent = False  # it did not arrive: once more
        else:
            self._end(pending, UNKNOWN, f"sent {pending.attempts} times, not taken")


def _words(form: Form, data: bytes) -> str:
    try:
        value = decode(form, data)
    except FieldError as exc:
        return str(exc)
    return "no value" if value is None else f"{value:g}" if isinstance(value, (int, float)) else value
