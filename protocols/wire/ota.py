"""The transfer of an update: a sender and a receiver that know no clock, no radio and no flash. OTA.md section 6.

Commands have the bytes of LoRaWAN TS004-1.0.0: setup 02, status 01, delete 03, data fragment 08; what it has not, the
fragments that are missing, is command 40h. Each travels in a message of its own that names the session, which only
grows: a recorded setup of an earlier one is refused, and a setup that comes again begins nothing anew.

What is received is not trusted: whether it is an update is decided by its signature, when it is whole (manifest.py).
So what a receiver checks here is only that nothing of it goes beyond what was agreed in the setup.
"""

from collections import namedtuple

from protocols.wire import parity
from protocols.wire.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NamedTuple, Protocol

    class _Setup(NamedTuple):
        fragments: int
        size: int
        padding: int
        descriptor: int
        delay: int

    class Store(Protocol):
        """Where a receiver keeps pieces; what was put stays, whatever the power does, from the return of put on."""

        def put(self, number: int, data: bytes) -> None: ...
        def get(self, number: int) -> bytes: ...
        def numbers(self) -> "Iterable[int]":
            """Of what was put, in any order."""

        def clear(self) -> None: ...

else:
    _Setup = namedtuple("Setup", ("fragments", "size", "padding", "descriptor", "delay"))

STATUS, SETUP, DELETE, DATA, MISSING = 0x01, 0x02, 0x03, 0x08, 0x40
# Bits of the answer to a setup.
NO_CODING, NO_ROOM, NO_INDEX, NOT_WANTED = 1, 2, 4, 8
# Bits of a status: rows came that there was no room for.
NO_MEMORY = 1
NO_SESSION = 4  # of the answer to a delete
# Where a receiver keeps the setup, and its rows of parity after known fragments were taken out of them.
HEAD = 0
REDUCED = 0x4000
# One bitmap of missing fragments fits the smallest answer of a radio at SF10 with all around it.
BITMAP = 32
SATURATED = 255


class Setup(_Setup):
    """So many `fragments` of `size` bytes, the last `padding` of them none of the update; `descriptor` is the sender's.

    Whoever is asked by a broadcast answers after a random time of at most 2 ** (`delay` + 4) seconds.
    """

    __slots__ = ()

    def encode(self) -> bytes:
        return (
            bytes((SETUP, 0x01))
            + self.fragments.to_bytes(2, "little")
            + bytes((self.size, self.delay, self.padding))
            + self.descriptor.to_bytes(4, "little")
        )

    @property
    def length(self) -> int:
        """Of the update, in bytes."""
        return self.fragments * self.size - self.padding


def decode_setup(command: bytes) -> Setup:
    """Raises DecodeError for what is no setup, or one that nobody can mean."""
    if len(command) != 11 or command[0] != SETUP:
        raise DecodeError("setup of %d bytes: it has 11 and begins with 02" % len(command))
    count, size, padding = int.from_bytes(command[2:4], "little"), command[4], command[6]
    if not 1 <= count <= parity.MAX_ROW or not size or padding >= size:
        raise DecodeError("setup of %d fragments of %d bytes with %d of padding" % (count, size, padding))
    return Setup(count, size, padding, int.from_bytes(command[7:11], "little"), command[5] & 7)


def data_fragment(number: int, data: bytes) -> bytes:
    return bytes((DATA,)) + number.to_bytes(2, "little") + data


def status(received: int, missing: int, flags: int = 0) -> bytes:
    """The answer to a status request; more missing than a byte can say stay 255."""
    missing = missing if missing < SATURATED else SATURATED
    return bytes((STATUS,)) + received.to_bytes(2, "little") + bytes((missing, flags))


class OtaReceiver:
    """One session at a time, kept in `store`: after a reset it goes on with all that was put there.

    `room` is the largest update that is taken, in bytes, and `wants(descriptor)` says whether it is wanted at all.
    """

    def __init__(self, store: "Store", room: int, wants: "Callable[[int], bool] | None" = None) -> None:
        self._store = store
        self._room = room
        self._wants = wants
        self.session = 0
        self.setup: "Setup | None" = None
        self.heard = 0  # rows of this session that came, new or not; counted anew after a reset
        self._known = 0  # the fragments that are there, as parity.row has them
        self._missing = 0  # how many are not
        self._rows: "list[int]" = []  # of parity, those that were found to say nothing new left out
        self._solver: "parity.Solver | None" = None
        self._reduced: "set[int]" = set()
        self._resume()

    # -- what came in -----------------------------------------------------------------------------------------------

    def hear(self, session: int, command: bytes) -> "bytes | None":
        """Take a command in; the answer that it wants, if any. Raises DecodeError for what no sender may say."""
        if not command:
            raise DecodeError("an update message without a command")
        kind = command[0]
        if kind == SETUP:
            return self._begin(session, decode_setup(command))
        is_ours = self.setup is not None and session == self.session
        if kind == DELETE and len(command) == 2:
            if not is_ours:
                return bytes((DELETE, NO_SESSION))
            self.forget()
            return bytes((DELETE, 0))
        if not is_ours:
            return None
        if kind == DATA and len(command) > 3:
            self._take(int.from_bytes(command[1:3], "little"), bytes(command[3:]))
            return None
        if kind == STATUS and len(command) == 2:
            # Bit 0: those that have all are asked as well.
            return self.status() if self.deficit() or command[1] & 1 else None
        if kind == MISSING and len(command) == 3:
            return self._bitmap(int.from_bytes(command[1:3], "little"))
        raise DecodeError("update command %02x of %d bytes" % (kind, len(command)))

    def status(self) -> bytes:
        deficit = self.deficit()
        received = 0 if self.setup is None else self.setup.fragments - self._missing + len(self._rows)
        is_stuck = deficit and self._missing > parity.MAX_MISSING
        return status(received, deficit, NO_MEMORY if is_stuck else 0)

    def deficit(self) -> int:
        """How many more rows are needed at least. Where enough seem to be there, it is worked out whether they are."""
        while self._is_worth_solving() and not self._solve():
            pass
        return 0 if self.is_solved else self._missing - len(self._rows) or 1

    @property
    def is_solved(self) -> bool:
        """Whether enough came; `work` may still have to be done."""
        if self.setup is None:
            return False
        return not self._missing or (self._solver is not None and self._solver.is_solved)

    def forget(self) -> None:
        """Give the session up: an update that turned out to be none, or that nobody wants any more.

        Its number is kept, so that nothing of it is taken for new.
        """
        self._clear()
        self.setup = None
        self._store.clear()
        self._store.put(HEAD, self.session.to_bytes(2, "little"))

    # -- what is made of it -----------------------------------------------------------------------------------------

    def work(self) -> bool:
        """Do one piece of what is left when enough came: a row or a fragment. True when every fragment is there."""
        setup, solver = self.setup, self._solver
        if setup is None or not self._missing:
            return setup is not None
        if not self.is_solved:
            if self._is_worth_solving():
                self._solve()
            return False
        for number in solver.used if solver is not None else ():
            if number not in self._reduced:
                self._reduce(number)
                return False
        for at, rows in solver.solutions() if solver is not None else ():
            if not self._known >> at & 1:
                self._work_out(at, rows, setup.size)
                break
        if not self._missing:
            self._solver, self._rows = None, []
        return not self._missing

    def read(self, number: int) -> bytes:
        """Fragment `number`, from 1, without the padding of the last one; all of them must be there."""
        setup = self.setup
        if setup is None or self._missing:
            raise DecodeError("the update is not whole")
        data = self._store.get(number)
        return data[: setup.size - setup.padding] if number == setup.fragments else data

    # -- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, session: int, setup: Setup) -> bytes:
        if session == self.session and setup == self.setup:
            return bytes((SETUP, 0))  # it came again
        refusal = 0
        if setup.length > self._room:
            refusal |= NO_ROOM
        if session <= self.session or (self._wants is not None and not self._wants(setup.descriptor)):
            refusal |= NOT_WANTED
        if refusal:
            return bytes((SETUP, refusal))
        self._store.clear()
        self._store.put(HEAD, session.to_bytes(2, "little") + setup.encode())
        self._clear()
        self.session, self.setup, self._missing = session, setup, setup.fragments
        return bytes((SETUP, 0))

    def _clear(self) -> None:
        self._known, self._missing, self.heard = 0, 0, 0
        self._rows, self._solver, self._reduced = [], None, set()

    def _take(self, number: int, data: bytes) -> None:
        setup = self.setup
        if setup is None or len(data) != setup.size or not 1 <= number <= parity.MAX_ROW:
            raise DecodeError("row %d of %d bytes: not of this session" % (number, len(data)))
        self.heard += 1
        if self.is_solved:
            return
        if number > setup.fragments:
            # More rows than can be worked out would only fill the flash.
            if number in self._rows or len(self._rows) >= parity.MAX_MISSING:
                return
            self._store.put(number, data)
            self._rows.append(number)
        elif not self._known >> (number - 1) & 1:
            self._store.put(number, data)
            self._known |= 1 << (number - 1)
            self._missing -= 1
        else:
            return
        self._solver = None  # what it knew is less than what we know now

    def _is_worth_solving(self) -> bool:
        if self.setup is None or self.is_solved:
            return False
        return self._missing <= parity.MAX_MISSING and len(self._rows) >= self._missing

    def _solve(self) -> bool:
        """One more row; whether it is known now if there are enough."""
        setup = self.setup
        if setup is None:
            return True
        if self._solver is None:
            self._solver = parity.Solver(setup.fragments, self._known, self._rows)
            self._reduced = set()
        if not self._solver.step():
            return False
        if not self._solver.is_solved:
            self._rows, self._solver = self._solver.used, None
        return True

    def _reduce(self, number: int) -> None:
        """Take what is known out of a row."""
        setup = self.setup
        data = self._store.get(number)
        for at in parity.members(parity.row(number, setup.fragments if setup else 1) & self._known):
            data = parity.add(data, self._store.get(at + 1))
        self._store.put(REDUCED + number, data)
        self._reduced.add(number)

    def _work_out(self, at: int, rows: "list[int]", size: int) -> None:
        data = bytes(size)
        for number in rows:
            data = parity.add(data, self._store.get(REDUCED + number))
        self._store.put(at + 1, data)
        self._known |= 1 << at
        self._missing -= 1

    def _bitmap(self, first: int) -> bytes:
        """Which of the fragments from `first` on did not come."""
        setup = self.setup
        if setup is None or not 1 <= first <= setup.fragments:
            raise DecodeError("fragments missing from %d on: there is none" % first)
        missing = (1 << setup.fragments) - 1 & ~self._known
        window = missing >> (first - 1) & ((1 << 8 * BITMAP) - 1)
        return bytes((MISSING,)) + first.to_bytes(2, "little") + window.to_bytes(BITMAP, "little")

    def _resume(self) -> None:
        numbers = sorted(self._store.numbers())
        if not numbers or numbers[0] != HEAD:
            return
        head = self._store.get(HEAD)
        self.session = int.from_bytes(head[:2], "little")
        if len(head) == 2:
            return
        self.setup = setup = decode_setup(head[2:])
        for number in numbers:
            if 1 <= number <= setup.fragments:
                self._known |= 1 << (number - 1)
            elif setup.fragments < number <= parity.MAX_ROW:
                self._rows.append(number)
        self._missing = setup.fragments - parity.size(self._known)
