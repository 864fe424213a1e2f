"""Who is known: nodes and their keys, sites, and which node served which site from when to when.

A site is not a device. Northbounds and regulators address sites; swapping a node closes one assignment
and opens another, and everything measured before keeps its site. Everything here is small, held in memory
and written through the store's one writer; each change leaves a line in the audit log with who and why.
"""

from __future__ import annotations

import asyncio
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple, Protocol, TypeVar

from gateway import limits, positions
from gateway.clock import Clock
from gateway.errors import KeyFileError, RegistryError
from gateway.keys import NodeKeys, Vault
from gateway.node_file import LEVEL, MintedNode
from gateway.positions import Position

T = TypeVar("T")

# Given to Store.open as extra_schema: one database, one writer, one backup.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS node (
        address INTEGER PRIMARY KEY,
        node_type TEXT NOT NULL,
        sealed_keys BLOB,              -- keys.py; null once removed
        added_ms INTEGER NOT NULL,
        removed_ms INTEGER
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS site (
        site TEXT PRIMARY KEY,
        area TEXT NOT NULL,
        title TEXT NOT NULL,
        added_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # A node serves at most one site at a time; a site may be served by several nodes.
    """CREATE TABLE IF NOT EXISTS assignment (
        node INTEGER NOT NULL,
        from_ms INTEGER NOT NULL,
        to_ms INTEGER,                 -- null: still
        site TEXT NOT NULL REFERENCES site (site),
        PRIMARY KEY (node, from_ms)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS audit (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT""",
)

UNASSIGNED = "unassigned"


class Node(NamedTuple):
    """A registered node. Its keys are fetched by `Registry.keys_of` only."""

    address: int
    node_type: str
    added_ms: int
    removed_ms: int | None


class Site(NamedTuple):
    site: str
    area: str
    title: str


class Assignment(NamedTuple):
    node: int
    from_ms: int
    to_ms: int | None
    site: str


class Place(NamedTuple):
    """Where a record belongs."""

    site: str
    area: str


class Imported(NamedTuple):
    """What an import did, in numbers and addresses."""

    added: list[int]
    replaced: list[int]
    unchanged: list[int]


class By(NamedTuple):
    """Who asks, and why: kept with every change."""

    who: str
    why: str


class Store(Protocol):
    """What the registry needs of the store."""

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T: ...

    def read(self, fn: Callable[[sqlite3.Connection], T]) -> T: ...


def audit(
    connection: sqlite3.Connection, at_ms: int, by: By, action: str, target: str, detail: str = ""
) -> None:
    """Note a change in the transaction that makes it."""
    connection.execute(
        "INSERT INTO audit (at_ms, who, why, action, target, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (at_ms, by.who, by.why, action, target, detail),
    )


class Registry:
    """Nodes, sites and assignments in memory, and how they change."""

    def __init__(self, store: Store, vault: Vault, clock: Clock, default_area: str) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._default_area = default_area
        self._nodes: dict[int, Node] = {}
        self._sealed: dict[int, bytes] = {}
        self._sites: dict[str, Site] = {}
        self._positions: dict[str, Position] = {}
        self._assignments: dict[int, list[Assignment]] = {}
        # A change is checked against what is in memory, so the one before it must have arrived there.
        self._changing = asyncio.Lock()
        self.on_changed: Callable[[int], None] = lambda address: None
        """Called with a node's address when its keys changed or went: cached contexts are void."""
        store.read(self._load)
        self._check_master_key()

    def _load(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute(
            "SELECT address, node_type, added_ms, removed_ms, sealed_keys FROM node"
        ):
            self._nodes[row[0]] = Node(*row[:4])
            if row[4] is not None:
                self._sealed[row[0]] = row[4]
        for row in connection.execute("SELECT site, area, title FROM site"):
            self._sites[row[0]] = Site(*row)
        self._positions = positions.load(connection)
        rows = connection.execute("SELECT node, from_ms, to_ms, site FROM assignment ORDER BY node, from_ms")
        for row in rows:
            self._assignments.setdefault(row[0], []).append(Assignment(*row))
            if row[3] not in self._sites:  # its row could not be salvaged
                self._sites[row[3]] = Site(row[3], self._default_area, "")

    def _check_master_key(self) -> None:
        """A wrong master key opens nothing: told at the start, not by nodes that are refused one by one."""
        refusal: KeyFileError | None = None
        for address, sealed in self._sealed.items():
            try:
                self._vault.open(address, sealed)
            except KeyFileError as exc:
                refusal = refusal or exc  # perhaps this row alone is damaged
            else:
                return
        if refusal is not None:
            raise refusal

    # --- reading ---------------------------------------------------------------------------------

    def keys_of(self, address: int) -> NodeKeys | None:
        """The keys of node `address`; None when it is not registered. KeyFileError: a damaged row."""
        sealed = self._sealed.get(address)
        return None if sealed is None else self._vault.open(address, sealed)

    def place_of(self, address: int, at_ms: int) -> Place:
        """The site that node `address` served at `at_ms`, and its area."""
        history = self._assignments.get(address, [])
        index = bisect_right(history, at_ms, key=lambda assignment: assignment.from_ms) - 1
        if index >= 0:
            found = history[index]
            if found.to_ms is None or at_ms < found.to_ms:
                return Place(found.site, self._sites[found.site].area)
        return Place(UNASSIGNED, self._default_area)

    def is_enrolled(self, address: int) -> bool:
        """Whether node `address` has keys here."""
        return address in self._sealed

    def now_ms(self) -> int:
        """The wall time by which changes are dated."""
        return self._clock.unix_ms()

    def node(self, address: int) -> Node | None:
        """The node `address`, removed ones too."""
        return self._nodes.get(address)

    def nodes(self) -> list[Node]:
        """Every node that has keys, by address."""
        return [self._nodes[address] for address in sorted(self._sealed)]

    def sites(self) -> list[Site]:
        """Every site, by name."""
        return [self._sites[name] for name in sorted(self._sites)]

    def position_of(self, site: str) -> Position | None:
        """Where a site is, when somebody has said so."""
        return self._positions.get(site)

    def assignments(self) -> list[Assignment]:
        """Every assignment, by node and time."""
        return [
            assignment for address in sorted(self._assignments) for assignment in self._assignments[address]
        ]

    # --- changing --------------------------------------------------------------------------------

    async def import_nodes(self, minted: Sequence[MintedNode], by: By, *, replace: bool = False) -> Imported:
        """Register `minted`. A known address with other keys is refused, with all the rest, unless `replace`.

        Written in batches, so that a large import holds up no frames; importing again finishes a broken one.
        """
        async with self._changing:
            done = self._sort(minted)
            if done.replaced and not replace:
                listed = ", ".join(f"{address:04x}" for address in done.replaced[:10])
                raise RegistryError(
                    f"{len(done.replaced)} of these nodes are registered with other keys ({listed}). If they "
                    f"were "
                    "minted again, import with --replace; if not, two nodes share an address: mint one anew."
                )
            if len(self._sealed) + len(done.added) > limits.NODES_MAX:
                raise RegistryError(f"a gateway holds at most {limits.NODES_MAX} nodes.")
            changed = {*done.added, *done.replaced}
            new = [node for node in minted if node.address in changed]
            for start in range(0, len(new), limits.NODE_IMPORT_BATCH):
                await self._import_batch(new[start : start + limits.NODE_IMPORT_BATCH], by)
            return done

    async def _import_batch(self, new: Sequence[MintedNode], by: By) -> None:
        now_ms = self._clock.unix_ms()
        sealed = {node.address: self._vault.seal(node.address, node.keys) for node in new}
        rows = [Node(node.address, node.node_type, now_ms, None) for node in new]
        sites = self._sites_of(new)
        # What a file says of a site that has a position is of the day on which it was minted.
        places = {
            node.site: node.position for node in new
            if node.site is not None and node.position is not None and node.site not in self._positions
        }  # fmt: skip
        assignments = [
            Assignment(node.address, now_ms if self._assignments.get(node.address) else 0, None, node.site)
            for node in new
            if node.site is not None and not self._serves(node.address)
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO node (address, node_type, added_ms, removed_ms, sealed_keys) "
                "VALUES (?, ?, ?, ?, ?)",
                [(*row, sealed[row.address]) for row in rows],
            )
            _insert_sites(connection, sites, now_ms)
            for site, position in places.items():
                positions.put(connection, site, position)
            connection.executemany(
                "INSERT INTO assignment (node, from_ms, to_ms, site) VALUES (?, ?, ?, ?)", assignments
            )
            for row in rows:
                audit(connection, now_ms, by, "node.import", f"{row.address:04x}", row.node_type)

        await self._store.write(write)
        self._sites.update((site.site, site) for site in sites)
        self._known_at(places)
        for assignment in assignments:
            self._assignments.setdefault(assignment.node, []).append(assignment)
        for row in rows:
            self._nodes[row.address] = row
            self._sealed[row.address] = sealed[row.address]
            self.on_changed(row.address)

    def _serves(self, address: int) -> bool:
        history = self._assignments.get(address, [])
        return bool(history) and history[-1].to_ms is None

    def _sort(self, minted: Iterable[MintedNode]) -> Imported:
        done = Imported([], [], [])
        for node in minted:
            if node.address not in self._sealed:
                done.added.append(node.address)
            elif self._known(node):
                done.unchanged.append(node.address)
            else:
                done.replaced.append(node.address)
        return done

    def _known(self, node: MintedNode) -> bool:
        try:
            return self.keys_of(node.address) == node.keys
        except KeyFileError:
            return False  # a damaged row is mended by importing again, with --replace

    def _sites_of(self, minted: Iterable[MintedNode]) -> list[Site]:
        """Sites that the file names and nobody made yet."""
        found: dict[str, Site] = {}
        for node in minted:
            if node.site is not None and node.site not in self._sites:
                found.setdefault(node.site, Site(node.site, node.area or self._default_area, node.site))
        return list(found.values())

    async def remove_node(self, address: int, by: By) -> None:
        """Forget the keys of a lost or stolen node: nothing it sends is accepted any more."""
        async with self._changing:
            node = self._nodes.get(address)
            if node is None or address not in self._sealed:
                raise RegistryError(
                    f"node {address:04x} is not registered. `tidegate gateway node list` shows who is."
                )
            now_ms = self._clock.unix_ms()

            def write(connection: sqlite3.Connection) -> None:
                connection.execute(
                    "UPDATE node SET sealed_keys = NULL, removed_ms = ? WHERE address = ?", (now_ms, address)
                )
                _end_assignment(connection, address, now_ms)
                audit(connection, now_ms, by, "node.remove", f"{address:04x}")

            await self._store.write(write)
            self._nodes[address] = node._replace(removed_ms=now_ms)
            del self._sealed[address]
            self._close_assignment(address, now_ms)
            self.on_changed(address)

    async def add_site(self, site: str, area: str | None, title: str | None, by: By) -> Site:
        """Make a site."""
        async with self._changing:
            for what, value in (("site", site), ("area", area)):
                if value is not None and not LEVEL.match(value):
                    raise RegistryError(
                        f"{what} {value!r:.80} is not allowed. Allowed are 1 to 64 characters without "
                        f"spaces, "
                        f"'/', '+' "
                        "and '#': it becomes a level of MQTT topics."
                    )
            if site in self._sites:
                raise RegistryError(f"site {site} is there already, in area {self._sites[site].area}.")
            if title is not None and (len(title) > limits.NAME_CHARS_MAX or not title.isprintable()):
                raise RegistryError(f"a title has at most {limits.NAME_CHARS_MAX} printable characters.")
            made = Site(site, area or self._default_area, title or site)
            now_ms = self._clock.unix_ms()

            def write(connection: sqlite3.Connection) -> None:
                _insert_sites(connection, [made], now_ms)
                audit(connection, now_ms, by, "site.add", site, made.area)

            await self._store.write(write)
            self._sites[site] = made
            return made

    async def locate(self, site: str, position: Position | None, by: By) -> None:
        """The site is there; None: nobody knows."""
        async with self._changing:
            if site not in self._sites:
                near = get_close_matches(site, self._sites, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise RegistryError(
                    f"there is no site {site!r:.80}.{hint} `tidegate gateway site list` shows all."
                )
            now_ms = self._clock.unix_ms()

            def write(connection: sqlite3.Connection) -> None:
                positions.put(connection, site, position)
                audit(connection, now_ms, by, "site.locate", site, "" if position is None else str(position))

            await self._store.write(write)
            self._known_at({site: position})

    def _known_at(self, found: Mapping[str, Position | None]) -> None:
        for site, position in found.items():
            self._positions.pop(site, None)
            if position is not None:
                self._positions[site] = position

    async def assign(self, site: str, address: int, by: By, from_ms: int | None = None) -> Assignment:
        """Let node `address` serve `site` from `from_ms` on (default now); what it served before ends there.

        The first assignment of a node reaches back to all it ever sent, unless `from_ms` says otherwise.
        """
        async with self._changing:
            if site not in self._sites:
                known = ", ".join(sorted(self._sites)[:20]) or "none yet"
                raise RegistryError(
                    f"there is no site {site!r:.80}. Known: {known}. Make it with `tidegate gateway site "
                    f"add`."
                )
            if address not in self._sealed:
                raise RegistryError(
                    f"node {address:04x} is not registered. `tidegate gateway node list` shows who is."
                )
            history = self._assignments.get(address, [])
            now_ms = self._clock.unix_ms()
            start_ms = from_ms if from_ms is not None else now_ms if history else 0
            if history and start_ms <= history[-1].from_ms:
                raise RegistryError(
                    f"node {address:04x} has served {history[-1].site} since {history[-1].from_ms} ms "
                    f"already; a "
                    f"new "
                    "assignment begins later. What was delivered under a site stays there."
                )
            made = Assignment(address, start_ms, None, site)

            def write(connection: sqlite3.Connection) -> None:
                connection.execute(
                    "UPDATE assignment SET to_ms = ? WHERE node = ? AND to_ms IS NULL", (start_ms, address)
                )
                connection.execute(
                    "INSERT INTO assignment (node, from_ms, to_ms, site) VALUES (?, ?, ?, ?)", made
                )
                audit(connection, now_ms, by, "site.assign", site, f"node {address:04x} from {start_ms}")

            await self._store.write(write)
            self._close_assignment(address, start_ms)
            self._assignments.setdefault(address, []).append(made)
            return made

    async def replace(
        self, site: str, address: int, by: By, old: int | None = None, *, forget: bool = False
    ) -> int:
        """Let node `address` serve `site` from now on instead of `old`, or of the one node that serves it.

        Name, area and history stay with the site. `forget`: the old node's keys, too: it is broken or stolen.
        Returns the address of the old node.
        """
        async with self._changing:
            old = self._served_by(site, old)
            self._check_swap(old, address)
            now_ms = self._clock.unix_ms()
            latest_ms = max((served[-1].from_ms for served in self._histories(old, address)), default=0)
            made = Assignment(address, max(now_ms, latest_ms + 1), None, site)

            def write(connection: sqlite3.Connection) -> None:
                for swapped in (old, address):
                    _end_assignment(connection, swapped, made.from_ms)
                connection.execute(
                    "INSERT INTO assignment (node, from_ms, to_ms, site) VALUES (?, ?, ?, ?)", made
                )
                detail = f"node {address:04x} instead of {old:04x} from {made.from_ms}"
                audit(connection, now_ms, by, "site.replace", site, detail)

            await self._store.write(write)
            for swapped in (old, address):
                self._close_assignment(swapped, made.from_ms)
            self._assignments.setdefault(address, []).append(made)
        if forget:
            await self.remove_node(old, by)
        return old

    def _histories(self, *addresses: int) -> list[list[Assignment]]:
        return [self._assignments[address] for address in addresses if self._assignments.get(address)]

    def _served_by(self, site: str, old: int | None) -> int:
        """The node that serves `site` now: `old` if it does, else the only one."""
        if site not in self._sites:
            near = get_close_matches(site, self._sites, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise RegistryError(
                f"there is no site {site!r:.80}.{hint} `tidegate gateway site list` shows all."
            )
        serving = [
            address
            for address, history in sorted(self._assignments.items())
            if history[-1].to_ms is None and history[-1].site == site and address in self._nodes
        ]
        names = ", ".join(f"{address:04x}" for address in serving) or "none"
        if old is not None and old not in serving:
            raise RegistryError(f"node {old:04x} does not serve site {site} now. Serving: {names}.")
        if old is None and len(serving) != 1:
            raise RegistryError(
                f"site {site} is served by {names}: "
                + ("name the one that goes with --instead-of." if serving else "use `site assign`.")
            )
        return serving[0] if old is None else old

    def _check_swap(self, old: int, new: int) -> None:
        if new not in self._sealed:
            raise RegistryError(
                f"node {new:04x} is not registered. Import it first: tidegate gateway node import FILE"
            )
        if new == old:
            raise RegistryError(f"node {new:04x} serves this site already.")
        types = self._nodes[old].node_type, self._nodes[new].node_type
        if types[0] != types[1]:
            raise RegistryError(
                f"node {new:04x} is of type {types[1]}, and {old:04x} which it would replace is of type {types[0]}: "
                "what the site says would change. Use `site assign` if that is wanted."
            )

    async def place(self, address: int, site: str, area: str | None, by: By) -> None:
        """Let the device at `address` serve `site` from now on; the first time, for all it said."""
        if self.place_of(address, self._clock.unix_ms()).site == site:
            return
        if site not in self._sites:
            await self.add_site(site, area, None, by)
        async with self._changing:
            now_ms = self._clock.unix_ms()
            history = self._assignments.get(address, [])
            made = Assignment(address, max(now_ms, history[-1].from_ms + 1) if history else 0, None, site)

            def write(connection: sqlite3.Connection) -> None:
                _end_assignment(connection, address, made.from_ms)
                connection.execute(
                    "INSERT INTO assignment (node, from_ms, to_ms, site) VALUES (?, ?, ?, ?)", made
                )
                audit(
                    connection, now_ms, by, "site.assign", site, f"device {address:08x} from {made.from_ms}"
                )

            await self._store.write(write)
            self._close_assignment(address, made.from_ms)
            self._assignments.setdefault(address, []).append(made)

    def _close_assignment(self, address: int, to_ms: int) -> None:
        history = self._assignments.get(address, [])
        if history and history[-1].to_ms is None:
            history[-1] = history[-1]._replace(to_ms=to_ms)


def _end_assignment(connection: sqlite3.Connection, address: int, to_ms: int) -> None:
    connection.execute("UPDATE assignment SET to_ms = ? WHERE node = ? AND to_ms IS NULL", (to_ms, address))


def _insert_sites(connection: sqlite3.Connection, sites: Iterable[Site], now_ms: int) -> None:
    connection.executemany(
        "INSERT INTO site (site, area, title, added_ms) VALUES (?, ?, ?, ?)",
        [(*site, now_ms) for site in sites],
    )
