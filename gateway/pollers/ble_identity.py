"""Who advertises, where the address alone does not tell.

A device that guards its privacy takes another address every few minutes. It is known

* by its identity resolving key (IRK): half of such an address is random, the other half is what the key makes of it
  (Core Specification 5.4, vol. 3, part H, 2.2.2), so whoever has the key knows its own;
* by an address of its own within what it says: where the profile says where that stands (`advert.address_at`), or where
  a BTHome advert carries one.

A name is not taken for this: many devices of a model have the same one, and a passive scan hears none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway import limits
from gateway.pollers import bthome
from gateway.pollers.ble_advert import Advert
from gateway.pollers.ble_survey import advert_data
from gateway.profiles import AdvertProfile, Profile

_HALF = 3
_ADDRESS_BYTES = 6


class Identities:
    """Tells who an advert is of. Bounded: of the addresses that were tried, the one heard longest ago gives way."""

    def __init__(self, known: Mapping[str, Profile], irks: Mapping[str, bytes]) -> None:
        """`known`: profiles of devices by their address; `irks`: keys by what their devices are called."""
        self._known = dict(known)
        # Tools write a key in either order, and nothing in it tells which.
        self._ciphers = [
            (who, Cipher(algorithms.AES(key), modes.ECB()))
            for who, irk in irks.items()
            for key in dict.fromkeys((irk, irk[::-1]))
        ]
        parts = [profile.advert for profile in known.values() if profile.advert is not None]
        self._parts: list[AdvertProfile] = list(
            {id(one): one for one in parts if one.address_at is not None}.values()
        )
        self._has_bthome = any(profile.bthome is not None for profile in known.values())
        self._tried: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tried)

    def of(self, advert: Advert) -> str:
        """What the sender is called: an address, or the name of a key."""
        said = self._said(advert)
        if said in self._known:
            return said
        return self._resolved(advert.address) if self._ciphers else advert.address

    def resolved(self, address: str) -> str:
        """What an address alone tells."""
        return self._resolved(address) if self._ciphers else address

    def _said(self, advert: Advert) -> str:
        for part in self._parts:
            data = advert_data(part, advert)
            if data is not None and part.address_at is not None:
                return text(data[part.address_at : part.address_at + _ADDRESS_BYTES])
        if self._has_bthome:
            own = bthome.own_address(advert.service_data.get(bthome.UUID, b""))
            if own:
                return own
        return advert.address

    def _resolved(self, address: str) -> str:
        found = self._tried.get(address)
        if found is None:
            found = self._tried[address] = next(
                (who for who, cipher in self._ciphers if _is_of(cipher, address)), address
            )
            if len(self._tried) > limits.BLE_ADDRESSES_MAX:
                self._tried.popitem(last=False)
        else:
            self._tried.move_to_end(address)
        return found


def text(address: bytes) -> str:
    """An address as it is printed."""
    return ":".join(f"{byte:02X}" for byte in address)


def is_resolvable(address: str) -> bool:
    """Whether it has the form of an address that changes: only with random ones that form means it."""
    return int(address[:2], 16) >> 6 == 0b01


def _is_of(cipher: Cipher[modes.ECB], address: str) -> bool:
    if not is_resolvable(address):
        return False
    octets = bytes.fromhex(address.replace(":", ""))
    encryptor = cipher.encryptor()
    return encryptor.update(octets[:_HALF].rjust(16, b"\0"))[-_HALF:] == octets[_HALF:]
