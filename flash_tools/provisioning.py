"""The life of a unit, from a blank board to the end: who it is, how far it is, and what may come next.

    minted → flashed → verified → labelled → retired
       └────────┴──────────┴──────────┴────→ scrapped

A unit is a board (MAC) with an identity (address and key). It is minted before anything is written to the board, its
key sealed and on disk by then; the address is its name from there on. A scrapped or retired unit is over: its key and
its address are never used again, and its board, repaired, becomes another unit.

Everything is read from the book (book.py) and nothing is remembered beside it, so there is nothing to disagree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flash_tools import addresses
from flash_tools.addresses import Station
from flash_tools.book import Book, Entry
from flash_tools.errors import ProvisionError
from flash_tools.key_store import KeyStore, UnitKeys

MINTED, FLASHED, VERIFIED, LABELLED = "minted", "flashed", "verified", "labelled"
RETIRED, SCRAPPED = "retired", "scrapped"
# From where to where. A unit that is flashed again goes the way behind it once more; the dead go nowhere.
TRANSITIONS: Mapping[str, tuple[str, ...]] = {
    MINTED: (FLASHED, SCRAPPED),
    FLASHED: (FLASHED, VERIFIED, SCRAPPED),
    VERIFIED: (FLASHED, LABELLED, SCRAPPED),
    LABELLED: (FLASHED, RETIRED, SCRAPPED),
    RETIRED: (),
    SCRAPPED: (),
}
DEAD = (RETIRED, SCRAPPED)


@dataclass(frozen=True)
class Wanted:
    """What a board is to become."""

    node_type: str
    board: str
    area: str
    site: str | None = None
    latitude: float | None = None  # WGS-84, degrees
    longitude: float | None = None
    address: int | None = None  # None: the station's next
    settings: Mapping[str, int] = field(default_factory=dict)
    calibrations: tuple[str, ...] = ()  # as flash_tools/calibrations.py writes them
    radio: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Unit:
    """``facts``: by step, what was last found and done there. ``history``: (when, what), oldest first."""

    address: int
    mac: str
    state: str
    wanted: Wanted
    station: str
    sealed: str = field(repr=False)
    facts: Mapping[str, Mapping[str, Any]]
    history: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return f"{self.address:04x}"

    @property
    def is_known(self) -> bool:
        """Whether a gateway has its key, or a file for one."""
        return bool(self.facts.get("registered") or self.facts.get("exported"))

    @property
    def problem(self) -> str:
        """Why its last run failed; "" when something was done or found since that says it is good."""
        whats = [what for _, what in self.history if what != "exported"]
        return str(self.facts["failed"].get("why", "")) if whats and whats[-1] == "failed" else ""

    @property
    def is_alive(self) -> bool:
        return self.state not in DEAD


class Units:
    """The units of one book. Without a book for writing (``book`` None) they can be looked at only."""

    def __init__(
        self, entries: Collection[Entry], book: Book | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._units: dict[int, Unit] = {}
        self._latest: dict[str, int] = {}
        self._book = book
        self._clock = clock
        self._turn = threading.RLock()  # boards of one run are provisioned side by side
        for entry in entries:
            self._take(entry)

    # ---- looking ---------------------------------------------------------------------------------------------------

    def all(self) -> list[Unit]:
        return [self._units[address] for address in sorted(self._units)]

    def of_mac(self, mac: str) -> Unit | None:
        """The latest unit that this board was, the dead too."""
        address = self._latest.get(mac)
        return None if address is None else self._units[address]

    def of_address(self, address: int) -> Unit | None:
        return self._units.get(address)

    # ---- changing --------------------------------------------------------------------------------------------------

    def mint(
        self,
        mac: str,
        wanted: Wanted,
        station: Station,
        keys: KeyStore,
        taken: Collection[int] = (),
        *,
        again: bool = False,
        **facts: Any,
    ) -> Unit:
        """Give the board an identity: an address of the station that nobody has, and a key that nobody had.

        ``taken``: addresses that are known elsewhere, as at the gateway. ``again``: also a board whose unit is dead.
        """
        with self._turn:
            before = self.of_mac(mac)
            if before is not None and before.is_alive:
                raise ProvisionError(f"board {mac} is unit {before.name} already, and a key is minted once")
            if before is not None and not again:
                raise ProvisionError(
                    f"board {mac} was unit {before.name}, which is {before.state}. If it is mended and to be used "
                    "again, give --again: it becomes another unit, with another address and key"
                )
            address = self._address(wanted, station, {*taken, *self._units})
            made = self._fresh(keys)
            unit = {key: value for key, value in asdict(wanted).items() if value not in (None, {}, ())}
            sealed = keys.seal(mac, address, made)
            entry = {"unit": unit, "station": station.name, "sealed": sealed, "facts": facts}
            return self._write(address, mac, MINTED, entry)

    def advance(self, address: int, to: str, **facts: Any) -> Unit:
        """The unit's next state, with what was found on the way there. ProvisionError when it can not come next."""
        with self._turn:
            unit = self._need(address)
            if to not in TRANSITIONS[unit.state]:
                allowed = " or ".join(TRANSITIONS[unit.state]) or "nothing: its life is over"
                raise ProvisionError(f"unit {unit.name} is {unit.state}; next can be {allowed}, not {to}")
            return self._write(address, unit.mac, to, {"facts": facts})

    def note(self, address: int, what: str, **facts: Any) -> Unit:
        """Something that was done or found and changes no state, as `registered` or `failed`."""
        with self._turn:
            return self._write(address, self._need(address).mac, None, {"note": what, "facts": facts})

    def _need(self, address: int) -> Unit:
        unit = self._units.get(address)
        if unit is None:
            raise ProvisionError(f"there is no unit {address:04x} here. `tidegate provision list` shows all")
        return unit

    def _address(self, wanted: Wanted, station: Station, taken: Collection[int]) -> int:
        if wanted.address is None:
            return addresses.lowest_free(station, taken)
        if not station.holds(wanted.address):
            raise ProvisionError(
                f"address {wanted.address:04x} is not one of station {station.name} ({station.text}). Leave it out, "
                "or mint this unit where it belongs"
            )
        if wanted.address in taken:
            where = "here" if wanted.address in self._units else "by the gateway or the flash journal"
            raise ProvisionError(
                f"address {wanted.address:04x} is given out already ({where}). Leave it out, and the next free one "
                "is taken: an address is never given out twice, whatever became of its unit"
            )
        return wanted.address

    def _fresh(self, keys: KeyStore) -> UnitKeys:
        """A key that no unit of this book had. Random ones never meet; those of a broken source of randomness do."""
        made = keys.make()
        for unit in self._units.values():
            if keys.open(unit.mac, unit.address, unit.sealed).master_secret == made.master_secret:
                raise ProvisionError(
                    f"this machine's random numbers repeat: the new key is that of unit {unit.name}. Nothing was "
                    "minted. Mint on another machine"
                )
        return made

    def _write(self, address: int, mac: str, to: str | None, more: Entry) -> Unit:
        if self._book is None:
            raise ProvisionError("the book is open for reading only")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        entry: Entry = {"at": at, "address": f"{address:04x}", "mac": mac}
        if to is not None:
            entry["to"] = to
        entry |= more
        self._book.write(entry)
        return self._take(entry)

    # ---- from the book ---------------------------------------------------------------------------------------------

    def _take(self, entry: Entry) -> Unit:
        address, mac = int(entry["address"], 16), str(entry["mac"])
        if entry.get("to") == MINTED:
            if address in self._units:
                raise ProvisionError(
                    f"the book gives out address {address:04x} twice: it was put together by hand"
                )
            unit = Unit(
                address, mac, MINTED, _wanted(entry["unit"]), entry["station"], entry["sealed"], {}, ()
            )
            self._latest[mac] = address
        elif address not in self._units:
            raise ProvisionError(
                f"the book tells of unit {address:04x}, and not that it was minted: a line is missing. Put the book "
                "back from its copy"
            )
        else:
            unit = self._units[address]
        what = str(entry.get("to") or entry["note"])
        unit = replace(
            unit,
            state=entry.get("to", unit.state),
            facts={**unit.facts, what: entry.get("facts", {})},
            history=(*unit.history, (str(entry["at"]), what)),
        )
        self._units[address] = unit
        return unit


def _wanted(row: Mapping[str, Any]) -> Wanted:
    kept = dict(row)
    for name in ("calibrations", "radio"):
        if name in kept:
            kept[name] = tuple(kept[name])
    return Wanted(**kept)
