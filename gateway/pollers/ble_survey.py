"""What is in the air: each Bluetooth device that is heard, what it seems to be, and which profile fits it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bleak.uuids import uuidstr_to_str

from gateway import limits
from gateway.errors import ConfigError
from gateway.pollers.ble_advert import Advert, short_uuid, uuid16
from gateway.profile_library import Library
from gateway.profiles import AdvertProfile, Profile, full_uuid

BTHOME = uuid16(0xFCD2)
BTHOME_ENCRYPTED = 0x01


@dataclass
class Found:
    """One address, and what it said."""

    address: str
    name: str
    rssi_dbm: int  # of its latest advert
    best_dbm: int
    count: int
    latest: Advert

    def seems(self) -> str:
        """What it seems to be, in a few words."""
        return ", ".join(dict.fromkeys(_seems(self.latest))) or "unknown"


class Survey:
    """Everything heard; bounded, whoever else advertises."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self.dropped = 0

    def heard(self, advert: Advert) -> None:
        """Take note of one advert. What one leaves out, the one before may have said."""
        known = self.found.get(advert.address)
        if known is None:
            if len(self.found) >= limits.BLE_ADDRESSES_MAX:
                self.dropped += 1
                return
            rssi = advert.rssi_dbm
            self.found[advert.address] = Found(advert.address, advert.name, rssi, rssi, 1, advert)
            return
        known.count += 1
        known.name = advert.name or known.name
        known.rssi_dbm = advert.rssi_dbm
        known.best_dbm = max(known.best_dbm, advert.rssi_dbm)
        known.latest = advert._replace(
            service_data={**known.latest.service_data, **advert.service_data},
            manufacturer_data={**known.latest.manufacturer_data, **advert.manufacturer_data},
            services=tuple(dict.fromkeys((*known.latest.services, *advert.services))),
        )

    def by_strength(self) -> list[Found]:
        """The nearest first."""
        return sorted(self.found.values(), key=lambda one: (-one.best_dbm, one.address))


def _seems(advert: Advert) -> Iterator[str]:
    said = advert.service_data.get(BTHOME)
    if said:
        yield "BTHome, encrypted" if said[0] & BTHOME_ENCRYPTED else "BTHome"
    for uuid in (*advert.services, *advert.service_data):
        if uuid != BTHOME:
            text = uuidstr_to_str(uuid)
            yield f"service {short_uuid(uuid)}" if text in ("Unknown", "Vendor specific") else text
    for company in advert.manufacturer_data:
        yield f"company {company:04X}"


def profiles(library: Library) -> dict[str, Profile]:
    """The Bluetooth profiles of `library` that are in order; a broken one is for `tidegate gateway check` to tell."""
    usable = {}
    for name in library.names():
        try:
            profile = library.get(name)
        except ConfigError:
            continue
        if profile.source == "ble":
            usable[name] = profile
    return usable


def fits(profile: Profile, advert: Advert) -> bool:
    """Whether a device that advertises so may be of this profile."""
    if profile.bthome is not None:
        return BTHOME in advert.service_data
    if profile.gatt is not None:
        return full_uuid(profile.gatt.service) in advert.services
    return profile.advert is not None and advert_data(profile.advert, advert) is not None


def advert_data(profile: AdvertProfile, advert: Advert) -> bytes | None:
    """The data that an advert profile describes, None when the advert has none of it."""
    data = None
    if profile.company is not None:
        data = advert.manufacturer_data.get(profile.company)
    elif profile.service is not None:
        data = advert.service_data.get(full_uuid(profile.service))
    return data if data is not None and profile.matches(data) else None


def fitting(known: dict[str, Profile], advert: Advert) -> list[str]:
    """Names of the profiles that fit, the most particular last named first: a layout of its own says most."""
    names = [name for name, profile in known.items() if fits(profile, advert)]
    return sorted(names, key=lambda name: (known[name].vendor == "any", name))


def patterns_of(known: Iterable[Profile]) -> tuple[list[int], list[int]]:
    """16-bit services and companies that these profiles are heard by, for the patterns of a passive scan."""
    services, companies = [int(BTHOME[4:8], 16)], []
    for profile in known:
        one = profile.advert
        if one is not None and one.company is not None:
            companies.append(one.company)
        if one is not None and one.service is not None and len(short_uuid(full_uuid(one.service))) == 4:
            services.append(int(short_uuid(full_uuid(one.service)), 16))
    return services, companies
