"""Who may ask over the network: tokens with a role each, kept as digests.

A token is 32 random bytes, so its SHA-256 can be stored as it is: there is nothing to guess, and a copy of the
database opens nothing. The text is shown once, when the token is made. Only the command line makes and revokes
tokens: one that leaked can not make another.

Changes carry a key of the client's own (Idempotency-Key), which is kept for as long as the request could be sent
again and believed; a request that comes twice is answered with what became of it, and done once.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

from gateway import limits
from gateway.clock import TrustedClock
from gateway.errors import CommandError
from gateway.registry import By, Store, audit

# Each may what those before it may.
VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"
ROLES = (VIEWER, OPERATOR, ADMIN)
PREFIX = "tg_"
DAY_MS = 86_400_000

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS token (
        name TEXT PRIMARY KEY,
        role TEXT NOT NULL,
        digest BLOB NOT NULL,          -- SHA-256 of the text
        made_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # Changes that came over the network lately, by the key that the client gave them.
    """CREATE TABLE IF NOT EXISTS api_change (
        token TEXT NOT NULL,
        key TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        reply TEXT,                    -- null: it was begun, and the gateway was stopped before it answered
        PRIMARY KEY (token, key)
    ) STRICT, WITHOUT ROWID""",
    # Changes of before then may have been forgotten.
    """CREATE TABLE IF NOT EXISTS api_forgotten (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        before_ms INTEGER NOT NULL
    ) STRICT""",
)


class Token(NamedTuple):
    name: str
    role: str
    made_ms: int
    expires_ms: int


class Before(NamedTuple):
    """A change that came already: when, and how it was answered."""

    at_ms: int
    reply: str | None


class Tokens:
    """Tokens in memory and in the store."""

    def __init__(self, store: Store, clock: TrustedClock, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._by_digest: dict[bytes, Token] = store.read(_read)

    def list(self) -> list[Token]:
        return sorted(self._by_digest.values())

    def find(self, text: str) -> Token | None:
        """The token that is this text and has not expired."""
        token = self._by_digest.get(_digest(text))
        if token is None or self._clock.unix_ms() >= token.expires_ms:
            return None
        return token

    async def add(self, name: str, role: str, days: int, by: By) -> str:
        """Make a token; its text, which is told nobody else. Raises CommandError."""
        self._check(name, role, days, by)
        text = PREFIX + base64.urlsafe_b64encode(self._random_bytes(32)).decode().rstrip("=")
        digest, now_ms = _digest(text), self._clock.unix_ms()
        token = Token(name, role, now_ms, now_ms + days * DAY_MS)

        def write(connection: sqlite3.Connection) -> None:
            row = (token.name, token.role, digest, token.made_ms, token.expires_ms)
            connection.execute("INSERT INTO token VALUES (?, ?, ?, ?, ?)", row)
            audit(connection, now_ms, by, "token.add", name, f"{role} for {days} days")

        await self._store.write(write)
        self._by_digest[digest] = token
        return text

    def _check(self, name: str, role: str, days: int, by: By) -> None:
        if not 1 <= len(name) <= 64 or not name.isprintable() or " " in name:
            raise CommandError(f"a token can not be called {name!r:.80}: 1 to 64 characters without spaces.")
        if any(token.name == name for token in self._by_digest.values()):
            raise CommandError(f"there is a token {name} already. Revoke it first, or choose another name.")
        if role not in ROLES:
            near = get_close_matches(role, ROLES, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise CommandError(f"role {role!r:.40} is unknown. Known: {', '.join(ROLES)}.{hint}")
        if not 1 <= days <= limits.TOKEN_DAYS_MAX:
            raise CommandError(
                f"{days} days are not allowed. Allowed are 1 to {limits.TOKEN_DAYS_MAX}: a token that is "
                "forgotten has to end by itself."
            )
        if len(self._by_digest) >= limits.TOKENS_MAX:
            raise CommandError(f"there are {limits.TOKENS_MAX} tokens already. Revoke one that is not used.")
        if not by.why:
            raise CommandError("say why with --why: it is kept in the audit log.")

    async def revoke(self, name: str, by: By) -> None:
        """Void from now on. Raises CommandError when there is none of this name."""
        found = [digest for digest, token in self._by_digest.items() if token.name == name]
        if not found:
            names = [token.name for token in self._by_digest.values()]
            near = get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise CommandError(
                f"there is no token {name!r:.80}. There are: {', '.join(names) or 'none'}.{hint}"
            )
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM token WHERE name = ?", (name,))
            audit(connection, now_ms, by, "token.revoke", name)

        for digest in found:
            del self._by_digest[digest]  # first: whatever the disk says, it opens nothing now
        await self._store.write(write)

    # --- changes that come twice -----------------------------------------------------------------

    async def begin(self, token: Token, key: str, request_ms: int) -> Before | None:
        """Note a change before it is made; what is known of it when it came before. Raises CommandError when too
        many came lately to be told apart.

        A row is kept until nobody would believe the request any more (`limits.API_SKEW_S`); without a
        synchronised clock, which can not tell, it is kept, and nothing is done that is old enough to have been
        forgotten while there was one.
        """
        now_ms = self._clock.unix_ms()
        is_sure = self._clock.synchronised()
        forget_ms = now_ms - 2 * 1000 * limits.API_SKEW_S if is_sure else 0

        def write(connection: sqlite3.Connection) -> Before | None:
            row = connection.execute(
                "SELECT at_ms, reply FROM api_change WHERE token = ? AND key = ?", (token.name, key)
            ).fetchone()
            if row is not None:
                return Before(*row)
            found = connection.execute("SELECT before_ms FROM api_forgotten").fetchone()
            if not is_sure and found is not None and request_ms < found[0]:
                raise CommandError(
                    f"Request-Time {request_ms // 1000} is not believed: the gateway's clock is not synchronised, "
                    "and of changes so old it does not know any more whether they were done. Make it anew."
                )
            if connection.execute("DELETE FROM api_change WHERE at_ms < ?", (forget_ms,)).rowcount:
                before_ms = max(forget_ms, found[0] if found is not None else 0)
                connection.execute("INSERT OR REPLACE INTO api_forgotten VALUES (1, ?)", (before_ms,))
            (count,) = connection.execute("SELECT count(*) FROM api_change").fetchone()
            if count >= limits.API_CHANGES_MAX:
                raise CommandError(
                    f"{count} changes came over the network lately; try again in some minutes."
                )
            at_ms = max(now_ms, request_ms)
            connection.execute("INSERT INTO api_change VALUES (?, ?, ?, NULL)", (token.name, key, at_ms))
            return None

        return await self._store.write(write)

    async def ended(self, token: Token, key: str, reply: str) -> None:
        """Keep how a change was answered."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE api_change SET reply = ? WHERE token = ? AND key = ?", (reply, token.name, key)
            )

        await self._store.write(write)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _read(connection: sqlite3.Connection) -> dict[bytes, Token]:
    rows = connection.execute("SELECT digest, name, role, made_ms, expires_ms FROM token")
    return {row[0]: Token(*row[1:]) for row in rows}
