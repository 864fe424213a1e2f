"""The area tree: grid, street, district, city, as [[area]] tables say it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

LEVELS = ("grid", "street", "district", "city")


class AreaTable(Protocol):
    @property
    def code(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def level(self) -> str: ...
    @property
    def handler(self) -> str: ...
    @property
    def escalate_after_min(self) -> int: ...


class Tier(NamedTuple):
    """One that an alarm is told to; after ``escalate_after_s`` without an acknowledgement the next one is. 0: never."""

    code: str
    name: str
    level: str
    handler: str
    escalate_after_s: int


class Areas:
    """``tiers(code)``: from the area itself up to the city."""

    def __init__(self, tables: Iterable[AreaTable] = ()) -> None:
        self._tables = {table.code: table for table in tables}

    def tiers(self, code: str) -> list[Tier]:
        """An area that is in no table belongs to the one with the longest code that its own begins with."""
        known: str | None = code
        if code not in self._tables:
            known = max((c for c in self._tables if code.startswith(c)), key=len, default=None)
        found: list[Tier] = []
        while known is not None and known in self._tables and len(found) < len(LEVELS):
            table = self._tables[known]
            after_s = 60 * table.escalate_after_min
            found.append(Tier(table.code, table.name, table.level, table.handler, after_s))
            known = table.parent
        return found or [Tier(code, code, "", "", 0)]


def escalation_ms(areas: Areas, area: str, tier: int, now_ms: int) -> int | None:
    """When an alarm that was told to that tier goes on to the next; None when there is none."""
    tiers = areas.tiers(area)
    if tier + 1 >= len(tiers) or not tiers[tier].escalate_after_s:
        return None
    return now_ms + 1000 * tiers[tier].escalate_after_s
