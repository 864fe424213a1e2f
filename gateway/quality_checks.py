"""What a person (or an analyser's own software) found when a probe was checked; platforms by HJ 1404 want to know it.

Nodes do not measure standards by themselves yet, so these results come from outside, through `tidegate gateway quality
add` or the management API. Each makes the rows (2062 to 2066) due of every platform that the site is reported to, in
the transaction that keeps it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from gateway import report_rows
from gateway.clock import Clock
from gateway.errors import CommandError
from gateway.registry import By, Registry, audit
from gateway.report_rows import Key, Mark
from protocols.measurands import registry as measurands
from protocols.northbound import hj1404
from protocols.northbound.aggregate import NORMAL, PRECEDENCE
from protocols.northbound.hj212 import Hj212Error

if TYPE_CHECKING:
    from gateway.operations import Operations
    from gateway.store import Store

# Given to Store.open as extra_schema.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS quality_check (
        id INTEGER PRIMARY KEY,
        site TEXT NOT NULL,
        kind TEXT NOT NULL,            -- standard, recovery, parallel, zero, span
        at_ms INTEGER NOT NULL,        -- when it was done; with site and kind the key of its row
        measurand TEXT NOT NULL,
        fields TEXT NOT NULL,          -- JSON, as HJ 1404 names them
        flag TEXT NOT NULL,
        who TEXT NOT NULL,
        added_ms INTEGER NOT NULL,
        UNIQUE (site, kind, at_ms, measurand)
    ) STRICT""",
)
FLAGS = (NORMAL, *PRECEDENCE)


class QualityChecks:
    """``platforms``: the sites that each northbound reports, by its name."""

    def __init__(
        self, store: Store, sites: Registry, clock: Clock, platforms: Mapping[str, Collection[str]]
    ) -> None:
        self._store = store
        self._sites = sites
        self._clock = clock
        self.platforms = platforms

    def serve(self, operations: Operations) -> None:
        """Offer `quality.add`."""
        operations.add("quality.add", self._do_add)

    async def _do_add(self, request: dict[str, Any], by: By) -> dict[str, Any]:
        fields = request.get("fields")
        if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
            raise CommandError('\'fields\' must be a table of texts, such as {"Check": "8.11"}.')
        at_ms = request.get("at_ms")
        if at_ms is not None and (not isinstance(at_ms, int) or isinstance(at_ms, bool)):
            raise CommandError(f"'at_ms' = {at_ms!r:.40} is not allowed. Allowed is a whole number.")
        names = {name: str(request.get(name) or "") for name in ("site", "kind", "measurand")}
        told = await self.add(
            **names, at_ms=at_ms, fields=fields, flag=str(request.get("flag") or NORMAL), by=by
        )
        return {"platforms": told}

    async def add(
        self, *, site: str, kind: str, measurand: str, at_ms: int | None, fields: Mapping[str, str], flag: str, by: By
    ) -> list[str]:  # fmt: skip
        """Keep a result; the platforms that it goes to. Again, with other figures, corrects it."""
        self._check(site, kind, measurand, fields, flag)
        now_ms = self._clock.unix_ms()
        at_ms = now_ms if at_ms is None else at_ms
        if not 0 <= at_ms <= now_ms + 60_000:
            raise CommandError("a check can not have been done in the future.")
        at_ms = at_ms // 1000 * 1000
        told = [name for name, known in self.platforms.items() if site in known]
        cn = hj1404.KINDS[kind].cn
        text = json.dumps(dict(fields))

        def write(connection: sqlite3.Connection) -> None:
            (number,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM quality_check").fetchone()
            connection.execute(
                "INSERT OR REPLACE INTO quality_check VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (number, site, kind, at_ms, measurand, text, flag, by.who, now_ms),
            )
            marks = {Mark(Key(site, cn, at_ms), now_ms, 0): number}
            for name in told:
                report_rows.mark_rows(connection, name, marks, now_ms)
            audit(connection, now_ms, by, f"quality.{kind}", site, f"{measurand} {text} {flag}")

        await self._store.write(write)
        return told

    def _check(self, site: str, kind: str, measurand: str, fields: Mapping[str, str], flag: str) -> None:
        for what, value, known in (
            ("site", site, [one.site for one in self._sites.sites()]), ("kind", kind, list(hj1404.KINDS)),
            ("measurand", measurand, list(measurands().by_name)), ("flag", flag, list(FLAGS)),
        ):  # fmt: skip
            if value not in known:
                near = get_close_matches(value, known, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]}?" if near else ""
                listed = f" Known: {', '.join(known)}." if len(known) <= 12 else ""
                raise CommandError(f"{what} {value!r:.64} is unknown.{listed}{hint}")
        try:
            hj1404.check_fields(kind, fields)
        except Hj212Error as error:
            raise CommandError(f"{error}.") from error


def of_row(
    connection: sqlite3.Connection, site: str, kind: str, at_ms: int
) -> list[tuple[str, dict[str, str], str]]:
    """(measurand, fields, flag) of what was checked at a site at one time."""
    rows = connection.execute(
        "SELECT measurand, fields, flag FROM quality_check"
        " WHERE site = ? AND kind = ? AND at_ms = ? ORDER BY measurand",
        (site, kind, at_ms),
    )
    return [(name, json.loads(fields), flag) for name, fields, flag in rows]
