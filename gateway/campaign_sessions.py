"""Sessions: what is sent of a payload in fragments of one size, to whoever gets it in such, alone or with others.

A session's number, its group key and how far its rows and PIVs may have been used are durable before they are used.
The rows themselves are worked out of the payload when they are sent.
"""

from __future__ import annotations

import math
import sqlite3
from collections import OrderedDict
from collections.abc import Callable

from gateway import campaign_limits as limits
from gateway import campaign_rows as rows
from gateway.campaign_rows import Payload, Session
from gateway.errors import CommandError
from gateway.registry import Store
from protocols.wire import ota, parity
from protocols.wire.ota_host import OtaSender

KEY_BYTES = 16
# Payloads held in memory at a time, a megabyte each at most; the others are read again.
_HELD = 8


class Sessions:
    """The open ones, and the rows of those that are sent just now."""

    def __init__(self, store: Store, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._random_bytes = random_bytes
        self._senders: OrderedDict[int, OtaSender] = OrderedDict()
        self._reserved: dict[tuple[int, str], tuple[int, int]] = {}  # the next, and how far it is durable

    async def open(self, payload: Payload, size: int, attempt: int, count: int) -> int:
        """The session in which nodes get this payload in fragments of that size; `count`: nodes that may share it."""
        key = self._random_bytes(KEY_BYTES)

        def write(connection: sqlite3.Connection) -> int:
            found = rows.session_for(connection, payload.id, size, attempt)
            if found is None:
                number = rows.next_session(connection)
                if number > limits.SESSION_MAX:
                    raise CommandError(
                        "all 65535 sessions of updates are used up; see the maintainer's page."
                    )
                found = Session(number, payload.id, size, attempt, _delay(count), key, 0, 0)
                rows.add_session(connection, found)
            return found.session

        number = await self._store.write(write)
        self.load(number)
        return number

    def load(self, number: int) -> OtaSender:
        """Have its rows at hand. KeyError: there is no such session."""
        sender = self._senders.get(number)
        if sender is None:
            found = self._store.read(lambda reader: rows.session(reader, number))
            if found is None:
                raise KeyError(number)
            sequence, data = self._store.read(lambda reader: rows.data_of(reader, found.payload))
            sender = OtaSender(data, found.size, number, sequence, [], found.delay)
            self._senders[number] = sender
            if len(self._senders) > _HELD:
                self._senders.popitem(last=False)
        self._senders.move_to_end(number)
        return sender

    def setup(self, number: int) -> bytes:
        return self.load(number).setup.encode()

    def fragments(self, number: int) -> int:
        return self.load(number).setup.fragments

    def size(self, number: int) -> int:
        return self.load(number).setup.size

    def campaign(self, number: int) -> int:
        """Whose it is."""
        return self._store.read(lambda reader: rows.campaign_of(reader, number))

    def report_s(self, number: int) -> int:
        """Within so many seconds everybody tells what a broadcast left missing (OTA.md section 6)."""
        return 1 << (self.load(number).setup.delay + 4)

    def row(self, number: int, row: int) -> bytes:
        """The command that carries this row; beyond the last one there is, the first ones come again."""
        fitting = (row - 1) % parity.MAX_ROW + 1
        return ota.data_fragment(fitting, self.load(number).row(fitting))

    def missing(self, number: int, first: int, bitmap: bytes) -> list[int]:
        """The fragments that a node said are missing."""
        bits = int.from_bytes(bitmap, "little")
        try:
            last = self.fragments(number)
        except KeyError:
            return []
        return [first + at for at in parity.members(bits) if first + at <= last]

    def key(self, number: int) -> bytes:
        found = self._store.read(lambda reader: rows.session(reader, number))
        if found is None:
            raise KeyError(number)
        return found.key

    def broadcast(self, number: int) -> int:
        """The highest row that may have gone to everybody."""
        found = self._store.read(lambda reader: rows.session(reader, number))
        return 0 if found is None else found.rows

    async def take_piv(self, number: int) -> int:
        """For the next broadcast of a session: it was not used before under its key, nor will be again."""
        return await self._take(number, "pivs")

    async def take_row(self, number: int) -> int:
        """The row that goes to everybody next."""
        return 1 + await self._take(number, "rows")

    async def _take(self, number: int, column: str) -> int:
        """The next of a count that is durable ahead: a kill leaves some of it unused."""
        following, bound = self._reserved.get((number, column), (0, 0))
        if following >= bound:
            following = await self._store.write(lambda connection: rows.reserve(connection, number, column))
            bound = following + limits.RESERVE_ROWS
        self._reserved[number, column] = following + 1, bound
        return following


def _delay(count: int) -> int:
    """So that reports make no crowd; the standard's delay is 2 ** (this + 4) s."""
    return min(5, max(0, math.ceil(math.log2(max(1, count) * limits.REPORT_EACH_S / 16))))
