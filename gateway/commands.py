"""Commands to nodes: kept in the store from the moment they are accepted until their end is known, never
late.

A command has an id that only grows for its node, a deadline, who gave it and why. It travels in the
answer to an uplink with the seconds it has left; a node executes an id at most once, so sending it again
is safe. Its end:

    done, refused, failed, expired_on_node, unknown_operation   what the node's result says
    expired      the deadline passed and it was never sent
    unanswered   it was sent, and no result came by the deadline; a late result still replaces this

The wall clock may jump and the machine may restart. So a running gateway counts a deadline on the
monotonic clock, and one that starts trusts what was left of a deadline only while its clock is
synchronised.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway import limits
from gateway.clock import TrustedClock
from gateway.errors import CommandError
from gateway.rates import Rates
from gateway.registry import By, Registry, Store, audit
from protocols.wire import codes, messages
from protocols.wire.messages import Result

if TYPE_CHECKING:
    from protocols.wire.messages import Args

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS command (
        id INTEGER PRIMARY KEY,
        node INTEGER NOT NULL,
        command_id INTEGER NOT NULL,   -- on the wire
        op INTEGER NOT NULL,
        args TEXT,                     -- JSON: a number or an array of numbers; null: none
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        sent_ms INTEGER,               -- first time; null: never
        state TEXT NOT NULL,           -- open, or its end
        detail TEXT NOT NULL,
        ended_ms INTEGER,
        UNIQUE (node, command_id)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS command_open ON command (state) WHERE state = 'open'",
)

# What a person types → SPEC 2.2.
OPERATIONS = {
    "identify": codes.IDENTIFY,
    "reboot": codes.REBOOT,
    "read-now": codes.READ_NOW,
    "set-interval": codes.SET_INTERVAL,
    "report-settings": codes.REPORT_SETTINGS,
    "maintenance": codes.MAINTENANCE,
    "learn": codes.LEARN,
    "test-alarm": codes.TEST_ALARM,
    "calibrate": codes.CALIBRATE,
    "console": codes.CONSOLE,
    "set-radio": codes.SET_RADIO,
}
OUTCOMES = {
    messages.DONE: "done",
    messages.REFUSED: "refused",
    messages.FAILED: "failed",
    messages.EXPIRED: "expired_on_node",
    messages.UNKNOWN_OPERATION: "unknown_operation",
}
COMMAND_ID_MAX = (1 << 32) - 1
_BY = By("gateway", "end of a command")
REPORT_MAX = 200
# A result that came late is among so many events at the next start: a minute of a whole city's.
LATE_EVENTS_MAX = 20_000


@dataclass(slots=True)
class OpenCommand:
    """A command whose end is not known yet."""

    id: int
    node: int
    command_id: int
    op: int
    args: Args
    deadline_s: float  # monotonic
    sent_s: float | None = None
    is_sent: bool = False

    def ttl_s(self, now_s: float) -> int:
        """Whole seconds left, rounded down: a node must not begin later than the person allowed."""
        return min(limits.COMMAND_TTL_MAX_S, int(self.deadline_s - now_s))


class Report(NamedTuple):
    """A command as a person is told of it."""

    id: int
    node: int
    op: int
    args: Args
    who: str
    why: str
    created_ms: int
    expires_ms: int
    sent_ms: int | None
    state: str
    detail: str
    ended_ms: int | None


class Commands:
    """The queue of open commands, mirrored in memory."""

    def __init__(self, store: Store, registry: Registry, clock: TrustedClock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._open: dict[int, list[OpenCommand]] = {}
        self._rates = Rates(limits.COMMANDS_BURST, limits.COMMANDS_PERIOD_S, clock.monotonic)
        self.counters: dict[str, int] = {"accepted": 0}
        self.on_done: Callable[[int, OpenCommand], None] = lambda address, command: None
        """Called with a node's address and the command that it has done."""
        self.on_added: Callable[[int], None] = lambda address: None
        """Called with a node's address when a command for it was accepted."""

    async def recover(self) -> int:
        """Take up what the last run left open: ends that are in the store, deadlines that are left."""
        rows = self._store.read(_read_open)
        now_ms, now_s = self._clock.unix_ms(), self._clock.monotonic()
        for row, result in rows:
            if result is not None:
                await self._end(row.id, row.node, OUTCOMES[result[0]], result[1], None)
                continue
            left_s = min(row.expires_ms - now_ms, row.expires_ms - row.created_ms) / 1000
            if left_s <= 0 or not self._clock.synchronised():
                reason = (
                    "deadline passed while the gateway was down"
                    if left_s <= 0
                    else "restart without a trusted clock"
                )
                await self._end(row.id, row.node, "unanswered" if row.sent_ms else "expired", reason, None)
                continue
            command = OpenCommand(
                row.id, row.node, row.command_id, row.op, _unpacked(row.args), now_s + left_s
            )
            command.is_sent = row.sent_ms is not None
            self._open.setdefault(row.node, []).append(command)
        for node, command_id, outcome, detail in self._store.read(_read_late):
            await self._late_result(node, command_id, OUTCOMES[outcome], _told(json.loads(detail)))
        return sum(len(commands) for commands in self._open.values())

    async def add(self, address: int, op: int, args: Args, ttl_s: int, by: By) -> int:
        """Accept a command; returns its id once it is on the disk."""
        self._check(address, op, args, ttl_s, by)
        now_ms = self._clock.unix_ms()
        deadline_s = self._clock.monotonic() + ttl_s
        # Seconds as the lowest next id: it stays above the node's last one even if this database is an old
        # backup.
        least = now_ms // 1000 if self._clock.synchronised() else 1

        def write(connection: sqlite3.Connection) -> tuple[int, int]:
            row = connection.execute(
                "SELECT max(command_id) FROM command WHERE node = ?", (address,)
            ).fetchone()
            command_id = max(least, (row[0] or 0) + 1, _executed(connection, address) + 1)
            if command_id > COMMAND_ID_MAX:
                raise CommandError(f"node {address:04x} has used up its command ids; mint it again.")
            cursor = connection.execute(
                "INSERT INTO command (node, command_id, op, args, who, why, created_ms, expires_ms, state, "
                "detail) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open', '')",
                (address, command_id, op, _packed(args), by.who, by.why, now_ms, now_ms + ttl_s * 1000),
            )
            audit(
                connection,
                now_ms,
                by,
                "command.send",
                f"{address:04x}",
                f"id {cursor.lastrowid} op {op} args {args}",
            )
            return int(cursor.lastrowid or 0), command_id

        number, command_id = await self._store.write(write)
        self._open.setdefault(address, []).append(
            OpenCommand(number, address, command_id, op, args, deadline_s)
        )
        self.counters["accepted"] += 1
        self.on_added(address)
        return number

    def _check(self, address: int, op: int, args: Args, ttl_s: int, by: By) -> None:
        if self._registry.keys_of(address) is None:
            raise CommandError(
                f"node {address:04x} is not registered. `tidegate gateway node list` shows who is."
            )
        problem = codes.command_problem(op, args)
        if problem:
            raise CommandError(f"this command is not allowed: {problem}.")
        if not 1 <= ttl_s <= limits.COMMAND_TTL_MAX_S:
            raise CommandError(
                f"a deadline of {ttl_s} s is not allowed. Allowed are 1 to {limits.COMMAND_TTL_MAX_S} s."
            )
        if not by.why.strip() or len(by.why) > limits.WHY_CHARS_MAX:
            raise CommandError(
                f"say why in 1 to {limits.WHY_CHARS_MAX} characters: it is kept with the command."
            )
        if wait_s := self._rates.wait_s(address):
            raise CommandError(
                f"node {address:04x} was given {limits.COMMANDS_BURST} commands lately; the next may come in "
                f"{wait_s:.0f} s. A script that repeats itself takes a node's air and battery."
            )
        if len(self._open.get(address, ())) >= limits.COMMANDS_OPEN_MAX:
            raise CommandError(
                f"node {address:04x} has {limits.COMMANDS_OPEN_MAX} open commands already; wait for their "
                f"deadlines."
            )

    # --- for the downlink ------------------------------------------------------------------------

    def nodes(self) -> list[int]:
        """Nodes that have open commands."""
        return [address for address, commands in self._open.items() if commands]

    def due(self, address: int) -> OpenCommand | None:
        """The command to send to `address` now, None when there is none or it was sent a moment ago.

        One at a time and in order: a node keeps the result of its latest command only.
        """
        now_s = self._clock.monotonic()
        for command in self._open.get(address, ()):
            if command.ttl_s(now_s) < 1:
                continue  # `expire` will end it; it is not sent any more
            if command.sent_s is not None and now_s - command.sent_s < limits.COMMAND_RESEND_S:
                return None
            return command
        return None

    async def about_to_send(self, command: OpenCommand) -> None:
        """Note that `command` goes out, before it does: "never sent" must stay true through a kill."""
        command.sent_s = self._clock.monotonic()
        if command.is_sent:
            return
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE command SET sent_ms = ? WHERE id = ?", (now_ms, command.id))

        await self._store.write(write)
        command.is_sent = True

    async def result(self, address: int, result: Result) -> bool:
        """A node's result was committed. False when it belongs to no command of ours."""
        state, detail = OUTCOMES[result.outcome], _told(result.detail)
        for command in self._open.get(address, ()):
            if command.command_id == result.command_id:
                await self._end(command.id, address, state, detail, command)
                return True
        return await self._late_result(address, result.command_id, state, detail)

    async def _late_result(self, address: int, command_id: int, state: str, detail: str) -> bool:
        """After the deadline: the node began in time, its answer took long."""
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "UPDATE command SET state = ?, detail = ?, ended_ms = ? "
                "WHERE node = ? AND command_id = ? AND state IN ('unanswered', 'expired')",
                (state, detail, now_ms, address, command_id),
            )
            if cursor.rowcount:
                told = f"wire id {command_id}: its result came after the deadline {detail}".strip()
                audit(connection, now_ms, _BY, f"command.{state}", f"{address:04x}", told)
            return cursor.rowcount == 1

        return await self._store.write(write)

    async def expire(self) -> None:
        """End what has passed its deadline."""
        now_s = self._clock.monotonic()
        for address, commands in list(self._open.items()):
            for command in list(commands):
                if now_s >= command.deadline_s:
                    state = "unanswered" if command.is_sent else "expired"
                    await self._end(command.id, address, state, "no result by the deadline", command)

    async def _end(
        self, number: int, address: int, state: str, detail: str, command: OpenCommand | None
    ) -> None:
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE command SET state = ?, detail = ?, ended_ms = ? WHERE id = ?",
                (state, detail, now_ms, number),
            )
            audit(
                connection, now_ms, _BY, f"command.{state}", f"{address:04x}", f"id {number} {detail}".strip()
            )

        await self._store.write(write)
        self.counters[state] = self.counters.get(state, 0) + 1
        if command is not None and state == OUTCOMES[messages.DONE]:
            self.on_done(address, command)
        commands = self._open.get(address, [])
        if command in commands:
            commands.remove(command)
            if not commands:
                del self._open[address]

    def reports(self, number: int | None = None) -> list[Report]:
        """The latest commands, newest first, or the one called `number`."""
        columns = "id, node, op, args, who, why, created_ms, expires_ms, sent_ms, state, detail, ended_ms"
        where, values = ("WHERE id = ?", (number,)) if number is not None else ("", ())

        def read(connection: sqlite3.Connection) -> list[Report]:
            query = f"SELECT {columns} FROM command {where} ORDER BY id DESC LIMIT {REPORT_MAX}"
            return [_report(row) for row in connection.execute(query, values)]

        return self._store.read(read)


def _executed(connection: sqlite3.Connection, address: int) -> int:
    """The highest command id of the node's latest results: a bench gives commands, too, out of the same series."""
    row = connection.execute(
        "SELECT max(code) FROM event WHERE kind = ? AND epoch IN (SELECT id FROM epoch WHERE node = ?)"
        " AND id > (SELECT coalesce(max(id), 0) FROM event) - ?",
        (Result.KIND, address, limits.RESULTS_BACK_MAX),
    ).fetchone()
    return row[0] or 0


def _told(detail: object) -> str:
    """The detail of a result as text."""
    return "" if detail is None else str(detail)


def _packed(args: Args) -> str | None:
    return None if args is None else json.dumps(args)


def _unpacked(text: str | None) -> Args:
    args: Args = None if text is None else json.loads(text)
    return args


def _report(row: tuple[Any, ...]) -> Report:
    report = Report(*row)
    return report._replace(args=_unpacked(row[Report._fields.index("args")]))


class _Row(NamedTuple):
    id: int
    node: int
    command_id: int
    op: int
    args: str | None
    created_ms: int
    expires_ms: int
    sent_ms: int | None


def _read_open(connection: sqlite3.Connection) -> list[tuple[_Row, tuple[int, str] | None]]:
    """Open commands in order, each with the (outcome, detail) that its node has sent meanwhile, if it has."""
    rows = connection.execute(
        "SELECT id, node, command_id, op, args, created_ms, expires_ms, sent_ms FROM command "
        "WHERE state = 'open' ORDER BY node, command_id"
    ).fetchall()
    found = []
    for row in map(_Row._make, rows):
        result = connection.execute(
            "SELECT state, detail FROM event_view WHERE kind = ? AND node = ? AND code = ? LIMIT 1",
            (Result.KIND, row.node, row.command_id),
        ).fetchone()
        found.append((row, result and (result[0], _told(json.loads(result[1])))))
    return found


def _read_late(connection: sqlite3.Connection) -> list[tuple[int, int, int, str]]:
    """(node, command id, outcome, detail) of results that came after the deadline, and that a kill kept from the books.

    Among the latest: what else there is has been looked at by the starts before.
    """
    return connection.execute(
        "SELECT c.node, c.command_id, v.state, v.detail FROM"
        " (SELECT * FROM command ORDER BY id DESC LIMIT ?1) c"
        " JOIN event_view v ON v.kind = ?2 AND v.node = c.node AND v.code = c.command_id"
        " WHERE c.state IN ('unanswered', 'expired') AND v.id > (SELECT max(id) FROM event) - ?3",
        (REPORT_MAX, Result.KIND, LATE_EVENTS_MAX),
    ).fetchall()
