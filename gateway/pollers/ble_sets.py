"""From characteristics of configured devices to sets: what was read or told together is one record."""

from __future__ import annotations

from collections.abc import Callable

from gateway import limits
from gateway.accept import Accept
from gateway.clock import Clock
from gateway.devices import Device
from gateway.errors import GatewayError
from gateway.pollers.ble_gatt import GattDevice, GattPoint
from gateway.pollers.ble_writes import Write
from gateway.profiles import GattPoint as ProfilePoint
from gateway.profiles import GattProfile, full_uuid
from protocols.fields import FieldError, encode

Layout = dict[GattPoint, list[ProfilePoint]]


def layout(device: Device, profile: GattProfile) -> Layout:
    """What is to be read and listened to, and the points of the profile in each; several may share a characteristic."""
    found: Layout = {}
    periods: dict[tuple[str, str, str], float] = {}
    for point in profile.point:
        where = (full_uuid(point.service or profile.service), full_uuid(point.characteristic), point.mode)
        period_s = device.period_s(point.key) or profile.period_s
        periods[where] = min(periods.get(where, period_s), period_s)
    for point in profile.point:
        service, characteristic = full_uuid(point.service or profile.service), full_uuid(point.characteristic)
        period_s = periods[(service, characteristic, point.mode)]
        found.setdefault(GattPoint(service, characteristic, point.mode, period_s), []).append(point)
    return found


class GattSets:
    """Takes what one device read or told, and how it is."""

    def __init__(self, accept: Accept, device: Device, profile: GattProfile, clock: Clock) -> None:
        self.device = device
        self.layout = layout(device, profile)
        self._accept = accept
        self._clock = clock
        self._started_s = clock.monotonic()
        self._kept_s: dict[str, float] = {}

    def values(self, _device: GattDevice, raw: dict[GattPoint, bytes]) -> None:
        """One set, of those points whose period is over. A value that cannot be read is one that is missing."""
        now_s = self._clock.monotonic()
        values: dict[str, float | None] = {}
        for where, data in raw.items():
            for point in self.layout[where]:
                if where.mode == "notify" and not self._is_due(point.key, where.period_s, now_s):
                    self._count("passed_over")
                    continue
                self._kept_s[point.key] = now_s
                values[point.key] = self._value(point, data)
        if values:
            self._accept.accept(self.device, values)

    def _is_due(self, key: str, period_s: float, now_s: float) -> bool:
        # A tenth is forgiven, or a device that tells every 60 s would be kept every second time.
        return now_s - self._kept_s.get(key, float("-inf")) >= 0.9 * period_s

    def _value(self, point: ProfilePoint, data: bytes) -> float | None:
        try:
            value = point.value(data)
        except FieldError:
            self._count("bad_values")
            return None
        return None if isinstance(value, str) else value

    def _count(self, what: str) -> None:
        self.device.counters[what] = self.device.counters.get(what, 0) + 1

    # --- writes ----------------------------------------------------------------------------------

    def check_write(self, key: str, value: float) -> tuple[GattPoint, ProfilePoint]:
        """Where such a value is written. Raises GatewayError when it may not be."""
        name = self.device.name
        found = [
            (where, point) for where, points in self.layout.items() for point in points if point.key == key
        ]
        limit = found[0][1].writable if found else None
        if limit is None:
            known = [point.key for points in self.layout.values() for point in points if point.writable]
            allowed = ", ".join(known) or "none of its points"
            raise GatewayError(f"{name}: {key} cannot be written. Its profile lets be written: {allowed}.")
        where, point = found[0]
        if not limit.min <= value <= limit.max:
            raise GatewayError(
                f"{name}: {key} = {value:g} is not allowed. Allowed is {limit.min:g} to {limit.max:g} {point.unit}."
            )
        try:
            encode(point.form, value, bytes(point.form.length))
        except FieldError as exc:
            raise GatewayError(f"{name}: {key}: {exc}.") from exc
        return where, point

    def write(
        self, gatt: GattDevice, key: str, value: float, ttl_s: float, on_done: Callable[[str, str], None]
    ) -> None:
        """Write `value`, in the point's unit, within `ttl_s` or not at all. Raises GatewayError when it may not be."""
        where, point = self.check_write(key, value)
        is_part = point.at > 0 or point.bits is not None or self._is_shared(where)
        refusal = gatt.writes.add(Write(where, point.at, point.form, value, is_part, on_done), ttl_s)
        if refusal:
            raise GatewayError(f"{self.device.name}: {key} was not written: {refusal}.")

    def _is_shared(self, where: GattPoint) -> bool:
        """Whether several points stand in that characteristic."""
        there = [points for one, points in self.layout.items() if one[:2] == where[:2]]
        return sum(map(len, there)) > 1

    def look(self, gatt: GattDevice) -> None:
        """Tell how the device is; down needs time and not only a fault. Called every few seconds."""
        device = self.device
        since_s = self._started_s if device.heard_s is None else device.heard_s
        silent_s = self._clock.monotonic() - since_s
        longest_s = max(where.period_s for where in self.layout)
        reason = (
            gatt.last_error or f"not heard for {int(gatt.seen_s()) if gatt.was_seen else int(silent_s)} s"
        )
        if silent_s > max(limits.OVERHEARD_SILENT_S, limits.OVERHEARD_SILENT_PERIODS * longest_s):
            self._accept.state(device, "down", reason)
        elif gatt.last_error and not gatt.is_connected and device.state != "down":
            self._accept.state(device, "suspect", gatt.last_error)
