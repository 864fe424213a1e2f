"""Where sites are: degrees of WGS 84, as a receiver of GPS or BeiDou shows them.

A position is its site's, not its node's: it stays when the node is swapped. Maps of China are drawn in GCJ-02, a few
hundred metres off; whoever shows a position on one converts it.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, NamedTuple

from gateway.errors import RegistryError

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS site_position (
        site TEXT PRIMARY KEY,
        lat REAL NOT NULL,
        lon REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
)
# A tenth of a metre: more is noise.
_DIGITS = 6
_TEXT = re.compile(
    r"\s*([+-]?[0-9]{1,3}(?:\.[0-9]{1,15})?)\s*[,;\s]\s*([+-]?[0-9]{1,3}(?:\.[0-9]{1,15})?)\s*"
)
_ALLOWED = "Allowed are a latitude of -90 to 90 and a longitude of -180 to 180, in degrees of WGS 84: 30.274,120.155."


class Position(NamedTuple):
    lat: float
    lon: float

    def __str__(self) -> str:
        return f"{self.lat:.6f},{self.lon:.6f}"


def check(lat: Any, lon: Any) -> Position:
    """Raises RegistryError for what is nowhere, or where no site can be."""
    for name, value in (("lat", lat), ("lon", lon)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and -1000 < value < 1000):  # NaN and infinity are not, either
            raise RegistryError(f"{name} = {value!r:.40} is not allowed. {_ALLOWED}")
    if abs(lat) > 90 or abs(lon) > 180:
        is_swapped = abs(lon) <= 90 and abs(lat) <= 180
        hint = f" Did you mean {Position(float(lon), float(lat))}, the latitude first?" if is_swapped else ""
        raise RegistryError(f"{lat},{lon} is no place on Earth. {_ALLOWED}{hint}")
    if lat == lon == 0:
        raise RegistryError("0,0 is in the sea off Africa: what a receiver shows that knows nothing yet.")
    return Position(round(float(lat), _DIGITS), round(float(lon), _DIGITS))


def parse(text: str) -> Position:
    """``30.274,120.155``."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise RegistryError(f"{text!r:.60} is no position. {_ALLOWED}")
    return check(float(found[1]), float(found[2]))


def load(connection: sqlite3.Connection) -> dict[str, Position]:
    return {
        row[0]: Position(*row[1:]) for row in connection.execute("SELECT site, lat, lon FROM site_position")
    }


def of_site(connection: sqlite3.Connection, site: str) -> Position | None:
    row = connection.execute("SELECT lat, lon FROM site_position WHERE site = ?", (site,)).fetchone()
    return None if row is None else Position(*row)


def put(connection: sqlite3.Connection, site: str, position: Position | None) -> None:
    """None forgets it."""
    connection.execute("DELETE FROM site_position WHERE site = ?", (site,))
    if position is not None:
        connection.execute("INSERT INTO site_position VALUES (?, ?, ?)", (site, *position))
