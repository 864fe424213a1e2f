"""The way in for values of devices: what was polled or overheard becomes a record like a node's.

    values of a poller
      → scaled integers in the point's unit and decimals       no value: MISSING
      → quality: the poller's flags, the profile's ranges,     values are never altered
        rate of change and flat line (device_quality.py)
      → an id: (address, epoch of the gateway's own, seq)      minted here; durable with the record itself
      → the store's next transaction                           too many waiting: dropped, counted, listed as lost
      → committed: northbounds have it

A node sends again what was not acknowledged; a device does not. So a set whose commit failed is kept and offered to the
next one under the same id, and a set for which there is no room uses up an id that is listed as lost: the books balance
(audit.py), and no id is ever given to two sets.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from gateway.batch import Batch
from gateway.clock import TrustedClock
from gateway.device_quality import Trend, trend_of
from gateway.devices import Device, Devices, Last, Quantity, State
from gateway.fingerprints import of_reading
from gateway.limits import DEVICE_SETS_WAITING_MAX
from gateway.own_epochs import OwnEpochs
from gateway.records import NO_PIV, OWN_EPOCHS, Reading
from gateway.restamp import since_boot
from gateway.store import Store
from protocols.device_schemas import DeviceSchema
from protocols.wire import quality, readings
from protocols.wire.limits import MAX_VALUE
from protocols.wire.schemas import FAIL, GOOD, MISSING, SUSPECT, SYNCHRONISED, UNSYNCHRONISED

_PUT_SCHEMA = "INSERT OR IGNORE INTO device_schema (id, name, series) VALUES (?, ?, ?)"

# Tells the silence of a device, and its end: (address, is it down, seconds since its last set).
OnDown = Callable[[int, bool, int | None], None]


class Sink(Protocol):
    """What a poller is given: Accept.accept."""

    def __call__(
        self,
        device: Device,
        values: Mapping[str, float | None],
        *,
        flags: Mapping[str, int] | None = None,
        at_ms: int | None = None,
    ) -> bool: ...


class Accept:
    """Takes values in; one per gateway."""

    def __init__(self, store: Store, clock: TrustedClock, epochs: OwnEpochs, devices: Devices) -> None:
        self.store = store
        self.devices = devices
        self.on_down: OnDown = lambda address, is_down, waited_s: None
        self._clock = clock
        self._epochs = epochs
        self._saved = devices.stored_schemas
        self._trends: dict[tuple[int, str], Trend] = {}
        self.know(devices.by_name.values())
        store.on_undo.append(self._undo)

    def know(self, devices: Iterable[Device]) -> None:
        """Look at the values of these anew: they are new, or other than before."""
        devices = list(devices)
        anew = {device.address for device in devices}
        self._trends = {key: trend for key, trend in self._trends.items() if key[0] not in anew}
        for device in devices:
            for name, quantity in device.quantities.items() if device.section.trend else ():
                trend = trend_of(quantity)
                if trend is not None:
                    self._trends[device.address, name] = trend

    def accept(
        self,
        device: Device,
        values: Mapping[str, float | None],
        *,
        flags: Mapping[str, int] | None = None,
        at_ms: int | None = None,
    ) -> bool:
        """Keep one set: values by point key, in the measurand's unit, None for one that could not be had.

        `flags`: QARTOD flags of points that are not GOOD; `at_ms`: unix time of the measurement, else now. A point that
        was not asked is left out; a device that does not answer gives no set, but `state(device, "down")`. Never
        blocks; False when there was no room, which is counted and listed.
        """
        keys = tuple(key for key in device.quantities if key in values)
        if not keys:
            return True
        schema = self.devices.schema_of(device, keys)
        if schema is None:  # too many kinds of sets: each value alone is one that every device may have
            alone = [self.accept(device, {key: values[key]}, flags=flags, at_ms=at_ms) for key in keys]
            return all(alone)
        now_ms = self._clock.unix_ms()
        at_ms = now_ms if at_ms is None else at_ms
        row = []
        of_row = []
        for key in keys:
            quantity = device.quantities[key]
            scaled = _scaled(quantity, values[key])
            if scaled is None and values[key] is not None:
                device.counters["no_room"] += 1
            told = GOOD if flags is None else flags.get(key, GOOD)
            flag = MISSING if scaled is None else quality.worst(told, _range_flag(quantity, scaled))
            if flag == MISSING:
                scaled = None
            trend = self._trends.get((device.address, key))
            if trend is not None:
                flag = quality.worst(flag, trend.next(since_boot(self._clock, at_ms, now_ms), scaled))
            row.append(scaled)
            of_row.append(flag)
            device.last[key] = Last(None if scaled is None else values[key], flag, at_ms)
        all_good = of_row.count(GOOD) == len(of_row)
        is_kept = self._keep(device, schema, at_ms, now_ms, tuple(row), None if all_good else tuple(of_row))
        device.counters["sets" if is_kept else "dropped"] += 1
        device.heard_s = self._clock.monotonic()
        self.state(device, "up")
        return is_kept

    def state(self, device: Device, state: State, reason: str = "") -> None:
        """How the device is, by its poller; down is an event of the device, and so is its return."""
        now_s = self._clock.monotonic()
        if state != device.state:
            device.state = state
            device.since_s = now_s
        device.reason = reason
        if state in ("up", "down"):
            waited_s = None if device.heard_s is None else int(now_s - device.heard_s)
            self.on_down(device.address, state == "down", waited_s)

    # ---- records -------------------------------------------------------------------------------------------------

    def _keep(
        self, device: Device, schema: DeviceSchema, at_ms: int, now_ms: int, row: tuple[int | None, ...],
        flags: tuple[int, ...] | None,
    ) -> bool:  # fmt: skip
        store = self.store
        ledger = self._epochs.of(device.address).ledger
        seq = ledger.highest + 1
        if store.depth() >= DEVICE_SETS_WAITING_MAX or not store.takes_readings:
            ledger.highest = seq
            store.batch.gone(ledger, seq)
            store.schedule()
            return False
        time, tq, boot_time = at_ms // 1000, SYNCHRONISED, None
        if not self._clock.synchronised():  # restamp.py places it when the clock is
            tq, boot_time = UNSYNCHRONISED, since_boot(self._clock, at_ms, now_ms)
        body = readings.encode(
            readings.schema(schema.id), tq, (0,), (row,), None if flags is None else (flags,)
        )
        said = time if boot_time is None else boot_time
        fingerprint = of_reading(ledger.row_id, seq, body, said, schema.id)
        ledger.offer(seq, fingerprint)
        ledger.highest_set = seq
        row_id = store.next_reading
        store.next_reading = row_id + 1
        batch = store.batch
        batch.sets += 1
        batch.reading_rows.append(
            (row_id, ledger.row_id, seq, NO_PIV, fingerprint, 0, now_ms, time, boot_time, tq, schema.id,
             None if flags is None else bytes(flags), body)
        )  # fmt: skip
        batch.readings.append(Reading(row_id, ledger, seq, 0, now_ms, time, tq, schema.id, row, flags))
        if schema.id not in self._saved:
            self._save(schema)
        store.schedule()
        return True

    def _save(self, schema: DeviceSchema) -> None:
        """In the transaction of the first set that has it, so that no record is without its schema."""
        self._saved.add(schema.id)
        row = schema.id, schema.name, schema.text()
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def ended(future: asyncio.Future[object]) -> None:
            if future.cancelled() or future.exception() is not None:
                self._saved.discard(schema.id)

        done.add_done_callback(ended)
        self.store.batch.jobs.append((lambda writer: writer.execute(_PUT_SCHEMA, row), done))

    def _undo(self, batch: Batch) -> None:
        """The commit failed: nobody sends these again, so they go with the next one."""
        store = self.store
        for old, reading in zip(batch.reading_rows, batch.readings, strict=True):
            ledger, seq = reading.ledger, reading.seq
            if ledger.number < OWN_EPOCHS:
                continue
            if ledger.row_id not in store.epochs:
                ledger = self._epochs.of(ledger.node).ledger
                seq = ledger.highest + 1
            said = old[7] if old[8] is None else old[8]
            fingerprint = of_reading(ledger.row_id, seq, old[12], said, old[10])
            ledger.offer(seq, fingerprint)
            is_late = int(seq < ledger.highest_set)
            ledger.highest_set = max(seq, ledger.highest_set)
            row_id = store.next_reading
            store.next_reading = row_id + 1
            store.batch.sets += 1
            store.batch.reading_rows.append(
                (row_id, ledger.row_id, seq, old[3], fingerprint, is_late, *old[6:])
            )
            store.batch.readings.append(reading._replace(id=row_id, ledger=ledger, seq=seq, backlog=is_late))
        again = {reading.schema for reading in batch.readings}
        for device in (*self.devices.by_name.values(), *self.devices.retired):
            for schema in device.schemas.values():
                if schema.id in again:
                    again.remove(schema.id)
                    self._save(schema)


def _scaled(quantity: Quantity, value: float | None) -> int | None:
    """As a record keeps it; None when there is no number, or none that a record can hold."""
    if value is None or not math.isfinite(value):
        return None
    scaled = math.floor(value * float(10**quantity.decimals) + 0.5)
    return scaled if -MAX_VALUE <= scaled <= MAX_VALUE else None


def _range_flag(quantity: Quantity, scaled: int) -> int:
    series = quantity.series
    value = scaled / 10**quantity.decimals
    if not series.low <= value <= series.high:
        return FAIL
    if series.suspect_low is not None and value < series.suspect_low:
        return SUSPECT
    if series.suspect_high is not None and value > series.suspect_high:
        return SUSPECT
    return GOOD
