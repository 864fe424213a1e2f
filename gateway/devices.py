"""The devices that this gateway polls or overhears: who they are, how they are, and what they said last.

A device is a node without keys. Its address is minted here, once, from its name: 2^31 and above, where no node is, kept
in the database for ever, so that a device that is taken out of the configuration and put back is the same one.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from gateway import limits
from gateway.clock import Clock
from gateway.config_devices import DeviceSection
from gateway.errors import RegistryError
from gateway.profiles import Point, Profile
from gateway.registry import By, Registry, audit
from gateway.store import Store
from protocols import device_schemas
from protocols.device_schemas import DeviceSchema, DeviceSeries
from protocols.measurands import registry

# Given to Store.open as extra_schema.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS device (
        address INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        profile TEXT NOT NULL,
        source TEXT NOT NULL,
        added_ms INTEGER NOT NULL
    ) STRICT""",
    # What the sets of devices hold: a row for each kind of set that a device ever gave, for ever.
    """CREATE TABLE IF NOT EXISTS device_schema (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        series TEXT NOT NULL           -- JSON (protocols/device_schemas.py)
    ) STRICT""",
)

FIRST_ADDRESS = 1 << 31
_COUNTED = ("sets", "dropped", "no_room")
# unknown: not tried yet; suspect: failed lately, still tried as ever; down: tried seldom; probing: being tried.
State = Literal["unknown", "up", "suspect", "down", "probing"]
_BY = By("gateway", "in the configuration")


class Quantity(NamedTuple):
    """A point with everything that making a reading of it takes."""

    key: str
    point: Point
    unit: str
    decimals: int
    series: DeviceSeries
    measurand_decimals: int


class Last(NamedTuple):
    """What a point said last; value None: it had none."""

    value: float | None
    flag: int
    at_ms: int


class Known(NamedTuple):
    """A device as its records name it, configured now or not."""

    name: str
    profile: str
    source: str


@dataclass(eq=False)
class Device:
    """One configured device. Pollers read what it is and write how it is; values come in through accept.py."""

    section: DeviceSection
    profile: Profile
    address: int
    quantities: Mapping[str, Quantity]
    state: State = "unknown"
    reason: str = ""
    since_s: float = 0.0  # monotonic: in this state
    heard_s: float | None = None  # monotonic: its last set
    rssi_dbm: int | None = None  # of its latest advert
    last: dict[str, Last] = field(default_factory=dict)
    # Of accept.py (sets, dropped, no_room, schemas), and whatever its poller counts, by name.
    counters: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    schemas: dict[tuple[str, ...], DeviceSchema] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.section.name

    @property
    def source(self) -> str:
        return self.profile.source

    def period_s(self, key: str) -> float | None:
        """How often that point is read: by the configuration, else by the profile; None where it speaks by itself."""
        if key in self.section.periods:
            return self.section.periods[key]
        if self.section.period_s is not None:
            return self.section.period_s
        own: float | None = getattr(self.quantities[key].point, "period_s", None)
        part = next(self.profile.parts())
        return own if own is not None else getattr(part, "period_s", None)


def quantities(profile: Profile) -> dict[str, Quantity]:
    """The points of a checked profile by key, in the order of the file."""
    known = registry().by_name
    found = {}
    for point in profile.points:
        measurand = known[point.measurand]
        decimals = measurand.decimals if point.decimals is None else point.decimals
        low, high = point.range or measurand.range
        suspect = point.suspect or (None, None)
        series = DeviceSeries(point.key, point.measurand, decimals, float(low), float(high), *suspect)
        found[point.key] = Quantity(point.key, point, measurand.unit, decimals, series, measurand.decimals)
    return found


class Devices:
    """All devices by name. One per gateway; `begin` before the first part runs."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        sections: Iterable[DeviceSection],
        profiles: Mapping[str, Profile],
        *,
        gateway_name: str = "gateway",
    ) -> None:
        self._store = store
        self._clock = clock
        self._gateway_name = gateway_name
        self._known: dict[int, Known] = {}
        self.stored_schemas: set[int] = set()
        store.read(self._load)
        self._new: list[Device] = []
        self.by_name: dict[str, Device] = {}
        # Taken out of the configuration while we run: what they said last may not be committed yet.
        self.retired: deque[Device] = deque(maxlen=limits.DEVICES_MAX)
        self.exchange(sections, profiles)

    def exchange(self, sections: Iterable[DeviceSection], profiles: Mapping[str, Profile]) -> list[Device]:
        """From now on these are the devices; those that are new or other than before. The rest stays as it is."""
        before = dict(self.by_name)
        addresses = {known.name: address for address, known in self._known.items()}
        self.by_name.clear()
        made = []
        for section in sections:
            if not section.enabled:
                continue
            profile = profiles[section.profile]
            device = before.get(section.name)
            if device is None or device.section != section or device.profile != profile:
                address = addresses.get(section.name)
                device = self._make(
                    section, profile, self._mint(section.name) if address is None else address
                )
                made.append(device)
            self.by_name[section.name] = device
        self.retired.extend(
            device for device in before.values() if device is not self.by_name.get(device.name)
        )
        return made

    def _make(self, section: DeviceSection, profile: Profile, address: int) -> Device:
        device = Device(section, profile, address, quantities(profile), since_s=self._clock.monotonic())
        if self._known.get(address) != (row := Known(section.name, section.profile, device.source)):
            self._known[address] = row
            self._new.append(device)
        return device

    def _load(self, connection: sqlite3.Connection) -> None:
        for address, *row in connection.execute("SELECT address, name, profile, source FROM device"):
            self._known[address] = Known(*row)
        for schema_id, name, series in connection.execute("SELECT id, name, series FROM device_schema"):
            # Now, for records that wait to be delivered are read back by these.
            device_schemas.define(device_schemas.parse(schema_id, name, series))
            self.stored_schemas.add(schema_id)

    def _mint(self, name: str) -> int:
        """From the names, so that a gateway which lost its database gives the same; the next free one after that."""
        digest = sha256(f"{self._gateway_name}\0{name}".encode()).digest()
        address = FIRST_ADDRESS | int.from_bytes(digest[:4], "big")
        while address in self._known:
            address = FIRST_ADDRESS | (address + 1)
        return address

    async def begin(self, sites: Registry | None = None) -> None:
        """Make what is new durable: addresses, and which sites the devices serve."""
        if self._new:
            now_ms = self._clock.unix_ms()
            rows = [(device.address, *self._known[device.address], now_ms) for device in self._new]

            def write(connection: sqlite3.Connection) -> None:
                connection.executemany(
                    "INSERT INTO device (address, name, profile, source, added_ms) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (address) DO UPDATE SET profile = excluded.profile, source = excluded.source",
                    rows,
                )
                for address, name, profile, *_ in rows:
                    audit(connection, now_ms, _BY, "device.add", f"{address:08x}", f"{name}: {profile}")

            await self._store.write(write)
            self._new = []
        for device in self.by_name.values():
            if sites is not None and device.section.site is not None:
                await sites.place(device.address, device.section.site, device.section.area, _BY)

    def known(self, address: int) -> Known | None:
        """The device at that address, None for a node."""
        return self._known.get(address)

    def on_bus(self, name: str) -> list[Device]:
        """The devices of one [[modbus]] or [[ble]]."""
        return [each for each in self.by_name.values() if name in (each.section.modbus, each.section.ble)]

    def schema_of(self, device: Device, keys: tuple[str, ...]) -> DeviceSchema | None:
        """The schema of a set of these points; None when the device has too many kinds of sets already."""
        schema = device.schemas.get(keys)
        if schema is None:
            if len(device.schemas) >= limits.DEVICE_SCHEMAS_MAX and len(keys) > 1:
                return None
            series = tuple(device.quantities[key].series for key in keys)
            schema = device_schemas.make(device.section.profile, series)
            device_schemas.define(schema)
            device.schemas[keys] = schema
        return schema

    # ---- how they are ----------------------------------------------------------------------------------------------

    def rows(self, place_of: Any = None) -> list[dict[str, Any]]:
        """What `tidegate gateway devices` shows."""
        now_s, now_ms = self._clock.monotonic(), self._clock.unix_ms()
        return [self._row(each, now_s, now_ms, place_of) for each in self.by_name.values()]

    def _row(self, device: Device, now_s: float, now_ms: int, place_of: Any) -> dict[str, Any]:
        section = device.section
        place = None if place_of is None else place_of(device.address, now_ms)
        return {
            "device": device.name,
            "node": f"{device.address:08x}",
            "profile": section.profile,
            "source": device.source,
            "bus": section.modbus or section.ble,
            "at": section.place if section.unit is None else section.unit,
            "site": section.site if place is None else place.site,
            "area": section.area if place is None else place.area,
            "state": device.state,
            "reason": device.reason,
            "state_s": now_s - device.since_s,
            "rssi_dbm": device.rssi_dbm,
            "age_s": None if device.heard_s is None else now_s - device.heard_s,
            "counters": dict(device.counters),
            "values": {
                key: {
                    "v": last.value,
                    "u": device.quantities[key].unit,
                    "q": last.flag,
                    "decimals": device.quantities[key].decimals,
                    "age_s": max(0.0, (now_ms - last.at_ms) / 1000),
                }
                for key, last in device.last.items()
            },
        }

    def picture(self) -> dict[str, dict[str, float]]:
        """Counters and gauges by device, for /metrics."""
        now_s = self._clock.monotonic()
        return {
            device.name: {
                "up": float(device.state == "up"),
                **({} if device.heard_s is None else {"age_seconds": now_s - device.heard_s}),
                **device.counters,
            }
            for device in self.by_name.values()
        }

    def get(self, name: str) -> Device:
        """The device of that name."""
        device = self.by_name.get(name)
        if device is None:
            near = get_close_matches(name, self.by_name, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            known = ", ".join(self.by_name) or "none"
            raise RegistryError(f"there is no device {name!r:.64}. Configured: {known}.{hint}")
        return device
