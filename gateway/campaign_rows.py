"""The tables of campaigns, and the statements on them. What the rows mean is told in campaigns.py."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, NamedTuple

from gateway.campaign_limits import KEPT_MAX, RESERVE_ROWS, SESSION_JUMP_MAX, SESSION_NAMED_MAX
from gateway.registry import By, audit

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS campaign (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        state TEXT NOT NULL,           -- running, paused, halted, aborted, ended
        told TEXT NOT NULL,            -- why it is so
        plan TEXT NOT NULL,            -- JSON (campaign_plan.py)
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL,
        wave INTEGER NOT NULL,         -- the latest that is open
        active_s INTEGER NOT NULL,     -- for so long it was running, and a gateway worked on it
        settled_s INTEGER,             -- active_s at which nobody of the open waves was waited for any more
        base_failed INTEGER NOT NULL,  -- failures and ends that the threshold does not count: before it was resumed
        base_ended INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS campaign_payload (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        campaign INTEGER NOT NULL,
        node_type TEXT NOT NULL,
        board TEXT NOT NULL,
        sequence INTEGER NOT NULL,     -- the release that it brings
        base INTEGER,                  -- the release that it starts from; null: the whole
        data BLOB NOT NULL             -- envelope length u16 | envelope | payload
    ) STRICT""",
    # What is sent of a payload in fragments of one size. Its number is never used again.
    """CREATE TABLE IF NOT EXISTS campaign_session (
        session INTEGER PRIMARY KEY,
        payload INTEGER NOT NULL,
        size INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        delay INTEGER NOT NULL,        -- of the reports after a broadcast (OTA.md section 6)
        key BLOB NOT NULL,             -- of its broadcasts
        pivs INTEGER NOT NULL,         -- PIVs below may have been used under the key
        rows INTEGER NOT NULL          -- rows up to here may have been sent to all
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS campaign_node (
        campaign INTEGER NOT NULL,
        node INTEGER NOT NULL,
        wave INTEGER NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,          -- of the state: a name of campaign_reasons.py; empty: none
        target INTEGER,                -- the sequence that it shall run; null: its board is not known yet
        ran INTEGER,                   -- the sequence that it ran when it was asked; null: it did not say yet
        payload INTEGER,
        session INTEGER,
        deficit INTEGER,               -- rows that it said are missing; null: it did not say
        rows INTEGER NOT NULL,         -- rows up to here may have been sent to it alone
        tries INTEGER NOT NULL,        -- sessions that came to nothing
        vanished TEXT NOT NULL,        -- of one that is gone: the state it was in
        changed_ms INTEGER NOT NULL,
        since_s INTEGER NOT NULL,      -- active_s of the campaign when there was progress last
        PRIMARY KEY (campaign, node)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS campaign_node_of ON campaign_node (node)",
    # One row: events up to here were looked at; the highest session that any node has named.
    """CREATE TABLE IF NOT EXISTS campaign_cursor (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        event INTEGER NOT NULL,
        session INTEGER NOT NULL
    ) STRICT""",
)

# States of a campaign.
RUNNING, PAUSED, HALTED, ABORTED, ENDED = "running", "paused", "halted", "aborted", "ended"
OPEN = (RUNNING, PAUSED, HALTED)
# States of a node, in their order.
WAITING, ASKED, OFFERED, RECEIVING, RECEIVED, TRYING = (
    "waiting", "asked", "offered", "receiving", "received", "trying",
)  # fmt: skip
INSTALLED, ROLLED_BACK, REFUSED, GONE = "installed", "rolled back", "refused", "gone"
NODE_STATES = (
    WAITING, ASKED, OFFERED, RECEIVING, RECEIVED, TRYING, INSTALLED, ROLLED_BACK, REFUSED, GONE,
)  # fmt: skip
FINAL = (INSTALLED, ROLLED_BACK, REFUSED)


class Campaign(NamedTuple):
    """A row of `campaign`."""

    id: int
    name: str
    state: str
    told: str
    plan: str
    who: str
    why: str
    created_ms: int
    changed_ms: int
    wave: int
    active_s: int
    settled_s: int | None
    base_failed: int
    base_ended: int

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.plan)
        return found


class Member(NamedTuple):
    """A row of `campaign_node`."""

    campaign: int
    node: int
    wave: int
    state: str
    reason: str
    target: int | None
    ran: int | None
    payload: int | None
    session: int | None
    deficit: int | None
    rows: int
    tries: int
    vanished: str
    changed_ms: int
    since_s: int


class Payload(NamedTuple):
    """A row of `campaign_payload` without its bytes."""

    id: int
    campaign: int
    node_type: str
    board: str
    sequence: int
    base: int | None
    size: int


class Session(NamedTuple):
    """A row of `campaign_session`."""

    session: int
    payload: int
    size: int
    attempt: int
    delay: int
    key: bytes
    pivs: int
    rows: int


_CAMPAIGN = ", ".join(Campaign._fields)
_MEMBER = ", ".join(Member._fields)
_SESSION = ", ".join(Session._fields)


def insert(connection: sqlite3.Connection, campaign: Campaign, payloads: list[tuple[Any, ...]]) -> int:
    """A new campaign with its payloads, (node type, board, sequence, base, data) each; its id."""
    columns, marks = ", ".join(Campaign._fields[1:]), ", ".join("?" * (len(Campaign._fields) - 1))
    done = connection.execute(f"INSERT INTO campaign ({columns}) VALUES ({marks})", campaign[1:])
    number = int(done.lastrowid or 0)
    connection.executemany(
        "INSERT INTO campaign_payload (campaign, node_type, board, sequence, base, data) VALUES (?, ?, ?, ?, ?, ?)",
        [(number, *payload) for payload in payloads],
    )
    _drop_old(connection)
    return number


def _drop_old(connection: sqlite3.Connection) -> None:
    """Of campaigns that are over the oldest go, with all that is theirs; numbers of sessions stay used."""
    rows = connection.execute(
        "SELECT id FROM campaign WHERE state IN (?, ?) ORDER BY id DESC LIMIT -1 OFFSET ?",
        (ABORTED, ENDED, KEPT_MAX),
    ).fetchall()
    for (number,) in rows:
        highest = connection.execute(
            "SELECT max(session) FROM campaign_session WHERE payload IN"
            " (SELECT id FROM campaign_payload WHERE campaign = ?)", (number,)
        ).fetchone()[0]  # fmt: skip
        note_session(connection, highest or 0)
        connection.execute(
            "DELETE FROM campaign_session WHERE payload IN (SELECT id FROM campaign_payload WHERE campaign = ?)",
            (number,),
        )
        for table, key in (
            ("campaign_payload", "campaign"),
            ("campaign_node", "campaign"),
            ("campaign", "id"),
        ):
            connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (number,))


def add_members(connection: sqlite3.Connection, members: list[Member]) -> None:
    marks = ", ".join("?" * len(Member._fields))
    connection.executemany(f"INSERT INTO campaign_node ({_MEMBER}) VALUES ({marks})", members)


def save_member(connection: sqlite3.Connection, member: Member) -> None:
    columns = ", ".join(f"{name} = ?" for name in Member._fields[2:])
    connection.execute(
        f"UPDATE campaign_node SET {columns} WHERE campaign = ? AND node = ?",
        (*member[2:], member.campaign, member.node),
    )


def update(connection: sqlite3.Connection, number: int, **columns: Any) -> None:
    words = ", ".join(f"{column} = ?" for column in columns)
    connection.execute(f"UPDATE campaign SET {words} WHERE id = ?", (*columns.values(), number))


def change_state(
    connection: sqlite3.Connection, campaign: Campaign, state: str, told: str, at_ms: int, by: By
) -> None:
    """With who and why, in the audit log."""
    update(connection, campaign.id, state=state, told=told, changed_ms=at_ms)
    audit(connection, at_ms, by, f"campaign.{state}", str(campaign.id), told)


def get(connection: sqlite3.Connection, number: int) -> Campaign | None:
    row = connection.execute(f"SELECT {_CAMPAIGN} FROM campaign WHERE id = ?", (number,)).fetchone()
    return None if row is None else Campaign(*row)


def campaigns(connection: sqlite3.Connection) -> list[Campaign]:
    """The newest first."""
    return [
        Campaign(*row) for row in connection.execute(f"SELECT {_CAMPAIGN} FROM campaign ORDER BY id DESC")
    ]


def member(connection: sqlite3.Connection, campaign: int, node: int) -> Member | None:
    row = connection.execute(
        f"SELECT {_MEMBER} FROM campaign_node WHERE campaign = ? AND node = ?", (campaign, node)
    ).fetchone()
    return None if row is None else Member(*row)


def members(connection: sqlite3.Connection, campaign: int) -> list[Member]:
    rows = connection.execute(
        f"SELECT {_MEMBER} FROM campaign_node WHERE campaign = ? ORDER BY wave, node", (campaign,)
    )
    return [Member(*row) for row in rows]


def memberships(connection: sqlite3.Connection, node: int) -> list[Member]:
    """Of a node, the newest first."""
    rows = connection.execute(
        f"SELECT {_MEMBER} FROM campaign_node WHERE node = ? ORDER BY campaign DESC", (node,)
    )
    return [Member(*row) for row in rows]


Counts = dict[tuple[int, str, str, str], int]


def counts(connection: sqlite3.Connection, campaign: int) -> Counts:
    """(wave, state, reason, the state before it vanished) → how many."""
    rows = connection.execute(
        "SELECT wave, state, reason, vanished, count(*) FROM campaign_node WHERE campaign = ?"
        " GROUP BY wave, state, reason, vanished", (campaign,)
    )  # fmt: skip
    return {tuple(row[:4]): row[4] for row in rows}


def payloads(connection: sqlite3.Connection, campaign: int) -> list[Payload]:
    rows = connection.execute(
        "SELECT id, campaign, node_type, board, sequence, base, length(data) FROM campaign_payload"
        " WHERE campaign = ? ORDER BY id", (campaign,)
    )  # fmt: skip
    return [Payload(*row) for row in rows]


def data_of(connection: sqlite3.Connection, payload: int) -> tuple[int, bytes]:
    """(the sequence that it brings, its bytes). KeyError: it is gone."""
    row = connection.execute(
        "SELECT sequence, data FROM campaign_payload WHERE id = ?", (payload,)
    ).fetchone()
    if row is None:
        raise KeyError(payload)
    return int(row[0]), bytes(row[1])


def session(connection: sqlite3.Connection, number: int) -> Session | None:
    row = connection.execute(
        f"SELECT {_SESSION} FROM campaign_session WHERE session = ?", (number,)
    ).fetchone()
    return None if row is None else Session(*row)


def sessions(connection: sqlite3.Connection, campaign: int) -> dict[int, Session]:
    """All of a campaign, by number."""
    rows = connection.execute(
        f"SELECT {_SESSION} FROM campaign_session WHERE payload IN"
        " (SELECT id FROM campaign_payload WHERE campaign = ?)", (campaign,)
    )  # fmt: skip
    return {row[0]: Session(*row) for row in rows}


def session_for(connection: sqlite3.Connection, payload: int, size: int, attempt: int) -> Session | None:
    """The one that is there already for nodes that get this payload in fragments of that size."""
    row = connection.execute(
        f"SELECT {_SESSION} FROM campaign_session WHERE payload = ? AND size = ? AND attempt >= ?"
        " ORDER BY attempt LIMIT 1", (payload, size, attempt)
    ).fetchone()  # fmt: skip
    return None if row is None else Session(*row)


def campaign_of(connection: sqlite3.Connection, session: int) -> int:
    """0: it is gone."""
    row = connection.execute(
        "SELECT campaign FROM campaign_payload WHERE id ="
        " (SELECT payload FROM campaign_session WHERE session = ?)", (session,)
    ).fetchone()  # fmt: skip
    return 0 if row is None else int(row[0])


def add_session(connection: sqlite3.Connection, found: Session) -> None:
    connection.execute(
        f"INSERT INTO campaign_session ({_SESSION}) VALUES ({', '.join('?' * len(Session._fields))})", found
    )


def reserve(connection: sqlite3.Connection, number: int, column: str) -> int:
    """Of `pivs` or `rows` of a session, the first of a block that may be used from now on. KeyError: it is gone."""
    found = connection.execute(
        f"SELECT {column} FROM campaign_session WHERE session = ?", (number,)
    ).fetchone()
    if found is None:
        raise KeyError(number)
    connection.execute(
        f"UPDATE campaign_session SET {column} = {column} + ? WHERE session = ?", (RESERVE_ROWS, number)
    )
    return int(found[0])


def next_session(connection: sqlite3.Connection) -> int:
    """Above all that were given, and all that any node has named: an older one would be refused."""
    given = connection.execute("SELECT coalesce(max(session), 0) FROM campaign_session").fetchone()[0]
    return int(max(given, cursor(connection)[1])) + 1


def cursor(connection: sqlite3.Connection) -> tuple[int, int]:
    """(events looked at, highest session that a node named)."""
    row = connection.execute("SELECT event, session FROM campaign_cursor").fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def note_event(connection: sqlite3.Connection, event: int) -> None:
    connection.execute(
        "INSERT INTO campaign_cursor VALUES (1, ?, 0) ON CONFLICT (id) DO UPDATE SET event = excluded.event",
        (event,),
    )


def named_session(connection: sqlite3.Connection, number: int) -> None:
    """A node named it. One that is far above all that were given is no trace of an earlier gateway, and not believed:
    there are 65535, and whoever could use them up with a word would end all updates.
    """
    given = connection.execute("SELECT coalesce(max(session), 0) FROM campaign_session").fetchone()[0]
    if number <= min(given + SESSION_JUMP_MAX, SESSION_NAMED_MAX):
        note_session(connection, number)


def note_session(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(
        "INSERT INTO campaign_cursor VALUES (1, 0, ?)"
        " ON CONFLICT (id) DO UPDATE SET session = max(session, excluded.session)",
        (number,),
    )
