"""Settings a node shall have: one wanted document per node, sent until the node reports that it has it.

A wish is state, not an order: it has no deadline, survives restarts, and is sent again when the node
reports another version than the one it had taken (it lost its settings, or somebody else changed them).
Versions only grow, and as command ids do, they are at least the seconds since 1970: a gateway restored
from a backup asks for nothing old.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway import limits
from gateway.clock import TrustedClock
from gateway.errors import CommandError
from gateway.registry import By, Registry, Store, audit
from protocols.node_types import allowed, settings_of, settings_problem
from protocols.wire.codes import SETTING_NAMES
from protocols.wire.messages import SettingsReport

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS wish (
        node INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        document TEXT NOT NULL,        -- JSON, names of settings to numbers
        state TEXT NOT NULL,           -- open, applied, refused
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        set_ms INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL    -- of state
    ) STRICT""",
)
VERSION_MAX = (1 << 32) - 1


@dataclass(slots=True)
class Wish:
    """What one node shall have, and whether it has it."""

    version: int
    document: dict[int, int]
    state: str
    sent_s: float | None = None
    denials: int = 0  # reports of other settings, each after it was sent


class Report(NamedTuple):
    """A wish as a person is told of it."""

    node: int
    version: int
    document: dict[str, int]
    state: str
    who: str
    why: str
    set_ms: int
    changed_ms: int


class Wishes:
    """The wanted settings of every node, mirrored in memory."""

    def __init__(self, store: Store, registry: Registry, clock: TrustedClock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._wishes = {
            row.node: Wish(row.version, _numbered(row.document), row.state) for row in store.read(_read)
        }

    async def set(self, address: int, changes: Mapping[str, int], by: By) -> int:
        """Want `changes` on top of what is wanted already; returns the new version."""
        before = self._wishes.get(address)
        document = {**(before.document if before else {}), **self._checked(address, changes, by)}
        now_ms = self._clock.unix_ms()
        least = now_ms // 1000 if self._clock.synchronised() else 1
        version = max(least, (before.version if before else 0) + 1)
        if version > VERSION_MAX:
            raise CommandError(f"node {address:04x} has used up its settings versions; mint it again.")
        text = json.dumps(_named(document))

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO wish (node, version, document, state, who, why, set_ms, changed_ms) "
                "VALUES (?, ?, ?, 'open', ?, ?, ?, ?)",
                (address, version, text, by.who, by.why, now_ms, now_ms),
            )
            audit(connection, now_ms, by, "settings.set", f"{address:04x}", text)

        await self._store.write(write)
        self._wishes[address] = Wish(version, document, "open")
        return version

    def _checked(self, address: int, changes: Mapping[str, int], by: By) -> dict[int, int]:
        if self._registry.keys_of(address) is None:
            raise CommandError(
                f"node {address:04x} is not registered. `tidegate gateway node list` shows who is."
            )
        node = self._registry.node(address)
        node_type = "" if node is None else node.node_type
        if not changes:
            raise CommandError(
                f"no setting is named. A {node_type} node has {allowed(settings_of(node_type))}, as name=number."
            )
        problem = settings_problem(node_type, changes)
        if problem:
            raise CommandError(f"{problem}.")
        document = _numbered(changes)
        if not by.why.strip() or len(by.why) > limits.WHY_CHARS_MAX:
            raise CommandError(
                f"say why, with --why, in 1 to {limits.WHY_CHARS_MAX} characters: it is kept with the settings."
            )
        return document

    # --- for the downlink ------------------------------------------------------------------------

    def nodes(self) -> list[int]:
        """Nodes that do not have yet what is wanted."""
        return [address for address, wish in self._wishes.items() if wish.state == "open"]

    def due(self, address: int) -> Wish | None:
        """What to send to `address` now; None when it has it, refused it, or was sent it a moment ago."""
        wish = self._wishes.get(address)
        if wish is None or wish.state != "open":
            return None
        if wish.sent_s is not None and self._clock.monotonic() - wish.sent_s < limits.COMMAND_RESEND_S:
            return None
        return wish

    def sent(self, wish: Wish) -> None:
        """`wish` has just gone out."""
        wish.sent_s = self._clock.monotonic()

    async def reported(self, address: int, version: int, report: SettingsReport | None = None) -> None:
        """The node says which version it has: in a status, or in the `report` that answers a document."""
        wish = self._wishes.get(address)
        if wish is None:
            return
        if version == wish.version:
            state = "applied"
            wish.denials = 0
        elif report is not None and wish.sent_s is not None and wish.state == "open":
            wish.denials += 1
            wish.sent_s = None
            if wish.denials < limits.SETTINGS_DENIALS:
                return
            state = "refused"  # it answers a document that it did not take with what it keeps
        elif wish.state == "applied":
            state = "open"
        else:
            return
        if state != wish.state:
            await self._change(address, wish, state, version)

    async def _change(self, address: int, wish: Wish, state: str, version: int) -> None:
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE wish SET state = ?, changed_ms = ? WHERE node = ? AND version = ?",
                (state, now_ms, address, wish.version),
            )
            by = By("gateway", f"the node reports version {version}")
            audit(connection, now_ms, by, f"settings.{state}", f"{address:04x}", f"version {wish.version}")

        await self._store.write(write)
        wish.state = state
        wish.sent_s = None

    def reports(self) -> list[Report]:
        """Every wish, by node."""
        return self._store.read(_read)


def _numbered(document: Mapping[str, int]) -> dict[int, int]:
    return {SETTING_NAMES.index(name): value for name, value in document.items()}


def _named(document: Mapping[int, int]) -> dict[str, int]:
    return {SETTING_NAMES[key]: value for key, value in sorted(document.items())}


def _read(connection: sqlite3.Connection) -> list[Report]:
    rows = connection.execute(
        "SELECT node, version, document, state, who, why, set_ms, changed_ms FROM wish ORDER BY node"
    )
    return [Report(row[0], row[1], json.loads(row[2]), *row[3:]) for row in rows]
