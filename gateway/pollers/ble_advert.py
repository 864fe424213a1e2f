"""What a Bluetooth device says to everybody, and which of it is news.

A sensor repeats an advert several times a second, so that one gets through; all but the first are repeats. They
are known by their bytes, against the *latest* advert of that address only: a door that opens and closes again is
three adverts, whatever the first and the third have in common.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from gateway import limits

if TYPE_CHECKING:
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

_BASE_TAIL = "-0000-1000-8000-00805f9b34fb"


class Advert(NamedTuple):
    """One advert. UUIDs are lower case and whole; a rotating address is told as it was heard."""

    address: str  # "A4:C1:38:00:11:22"
    name: str  # "" when it has none
    rssi_dbm: int
    service_data: dict[str, bytes]  # by service UUID
    manufacturer_data: dict[int, bytes]  # by company id
    services: tuple[str, ...]  # UUIDs it says to have
    heard_s: float  # monotonic
    who: str = ""  # what it is known by, when that is not its address (ble_identity.py)


def uuid16(number: int) -> str:
    """The whole form of a 16-bit UUID of the Bluetooth SIG."""
    return f"{number:08x}{_BASE_TAIL}"


def short_uuid(uuid: str) -> str:
    """The form for people: `181A` for what the SIG numbers, else the UUID as it is."""
    if uuid.endswith(_BASE_TAIL) and uuid.startswith("0000"):
        return uuid[4:8].upper()
    return uuid


def advert_of(device: BLEDevice, data: AdvertisementData, heard_s: float) -> Advert:
    """What bleak heard, in our words."""
    return Advert(
        device.address.upper(),
        data.local_name or device.name or "",
        data.rssi,
        {uuid.lower(): bytes(value) for uuid, value in data.service_data.items()},
        {company: bytes(value) for company, value in data.manufacturer_data.items()},
        tuple(uuid.lower() for uuid in data.service_uuids),
        heard_s,
        device.address.upper(),
    )


class Repeats:
    """Knows the latest bytes of each sender; bounded, the one heard longest ago gives way."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._latest)

    def is_news(self, advert: Advert) -> bool:
        """Whether these bytes differ from the latest of that address, or are told again after BLE_REPEAT_S."""
        mark = hash((tuple(advert.service_data.items()), tuple(advert.manufacturer_data.items())))
        who = advert.who or advert.address
        known = self._latest.get(who)
        if known and known[0] == mark and advert.heard_s - known[1] < limits.BLE_REPEAT_S:
            return False
        self._latest[who] = (mark, advert.heard_s)
        self._latest.move_to_end(who)
        if len(self._latest) > limits.BLE_ADDRESSES_MAX:
            self._latest.popitem(last=False)
        return True
