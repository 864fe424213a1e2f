"""Who may give out which addresses: a range or several for each provisioning station, in a table that all share.

    own = "bench-1"

    [[stations]]
    name = "bench-1"
    addresses = ["0001-00ff", "1000-10ff"]

    [[stations]]
    name = "bench-2"
    addresses = ["0100-01ff"]

Ranges that overlap are refused wherever the table is read, so two stations with one table never give out one address.
What the table can not know (a table that was not carried along, a node minted without it) the gateway's registry does.
An address that was given out once is never given out again, whatever became of the unit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Any

from flash_tools.errors import AddressError, MintError
from flash_tools.mint import parse_range

# As a first bench is made; nothing is assumed, since two benches with the same addresses would give each out twice.
INIT = "init --name bench-1 --addresses 0100-01ff"
_KEYS = ("own", "gateway", "stations")
_STATION_KEYS = ("name", "addresses")


@dataclass(frozen=True)
class Station:
    name: str
    ranges: tuple[range, ...]

    def holds(self, address: int) -> bool:
        return any(address in one for one in self.ranges)

    @property
    def text(self) -> str:
        return ", ".join(range_text(one) for one in self.ranges)


@dataclass(frozen=True)
class Table:
    """``own``: the station that reads it. ``gateway``: the configuration of the gateway it provisions for, if any."""

    own: Station
    stations: tuple[Station, ...]
    gateway: Path | None


def read(path: Path) -> Table:
    """AddressError names file, line and what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise AddressError(f"{path}: no such file. `tidegate provision {INIT}` makes a bench") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AddressError(f"{path}: can not be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Table:
    """What `read` reads; ``path`` is where it stands."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AddressError(f"{path}: is no TOML: {error}") from error
    return _Reader(path, text).table(table)


def lowest_free(station: Station, taken: Collection[int]) -> int:
    """The address that the next unit gets."""
    for one in station.ranges:
        for address in one:
            if address not in taken:
                return address
    count = sum(len(one) for one in station.ranges)
    raise AddressError(
        f"all {count} addresses of station {station.name} ({station.text}) are given out. Give it a further range in "
        "its bench.toml, and in those of the other stations"
    )


def range_text(one: range) -> str:
    return f"{one[0]:04x}-{one[-1]:04x}"


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def table(self, table: dict[str, Any]) -> Table:
        self._known(table, _KEYS, "")
        found = [self._station(row) for row in table.get("stations", [])]
        self._apart(found)
        own = table.get("own")
        names = [one.name for one in found]
        if own not in names:
            near = get_close_matches(str(own), names, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            there = ", ".join(names) or "none"
            raise self._error(
                "own", f"own = {own!r:.40} is no station of the table; there are: {there}.{hint}"
            )
        gateway = table.get("gateway")
        if gateway is not None and not isinstance(gateway, str):
            raise self._error("gateway", "gateway must be the path of a gateway.toml, in quotes")
        place = None if gateway is None else self._path.parent / gateway
        return Table(found[names.index(str(own))], tuple(found), place)

    def _station(self, row: Any) -> Station:
        if not isinstance(row, dict):
            raise self._error("stations", "write [[stations]] tables, each with name and addresses")
        self._known(row, _STATION_KEYS, "of [[stations]] ")
        name, texts = row.get("name"), row.get("addresses")
        if not isinstance(name, str) or not re.fullmatch(r"[0-9A-Za-z._-]{1,32}", name):
            raise self._error(
                "name", f"name = {name!r:.40}: allowed are 1 to 32 letters, digits, '.', '_' and '-'"
            )
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
            raise self._error("addresses", f'station {name}: write its addresses as ["0100-01ff"]')
        try:
            return Station(name, tuple(parse_range(one) for one in texts))
        except MintError as error:
            raise self._error(str(error).split("'")[1], f"station {name}: {error}") from error

    def _apart(self, found: Sequence[Station]) -> None:
        names = [one.name for one in found]
        for name in names:
            if names.count(name) > 1:
                raise self._error(name, f"station {name} stands in the table twice")
        pieces = [(station, one) for station in found for one in station.ranges]
        for (left, a), (right, b) in combinations(pieces, 2):
            if a[0] <= b[-1] and b[0] <= a[-1]:
                raise self._error(
                    range_text(b),
                    f"{range_text(b)} of station {right.name} overlaps {range_text(a)} of station {left.name}. Two "
                    "stations must never give out one address",
                )

    def _known(self, table: dict[str, Any], allowed: Sequence[str], where: str) -> None:
        for key in table:
            if key not in allowed:
                near = get_close_matches(key, allowed, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise self._error(
                    key, f"unknown key {where}{key!r:.40}. Allowed: {', '.join(allowed)}.{hint}"
                )

    def _error(self, word: str, problem: str) -> AddressError:
        """With the line where `word` stands; the last one, since the first of two is not the one that is wrong."""
        lines = [number for number, line in enumerate(self._lines, 1) if word.lower() in line.lower()]
        return AddressError(f"{self._path}:{lines[-1] if lines else 1}: {problem}")
