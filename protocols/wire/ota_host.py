"""The sending side of a transfer: a state machine without clock or radio, told when time is over. OTA.md section 6.

It begins by inviting each receiver by itself, in a window of its own. Then rows go to all of them at once: the
fragments, and as much parity as half of the receivers will need. After each round everybody tells how much is missing,
and the next round is as long as the worst of them needs; a last few get their rows one by one. Whoever does not answer
any more is given up and holds nobody up. What is told of a receiver is what it said itself.

For the gateway; nodes do not carry this file.
"""

from __future__ import annotations

from typing import Any

from protocols.wire import ota, parity
from protocols.wire.errors import DecodeError, EncodeError

# Phases.
INVITING, SENDING, ASKING, COLLECTING, REPAIRING, ENDED = range(6)
# States of a receiver.
INVITED, TAKING, COMPLETE, REFUSED, GONE = "invited", "taking", "complete", "refused", "gone"
# Questions that a receiver may leave unanswered, one after the other: where 30 % is lost each way, in bursts that
# outlive a few of them, this is still one in a million. Each costs one short downlink for everybody.
SILENT_MAX = 16
# Receivers left over that get their rows by themselves; and how many rows that may cost more than another round.
STRAGGLERS_MAX, STRAGGLERS_ROWS = 3, 2
# The share of rows that a round is lengthened for. Where more is lost, another round follows and costs one question;
# rows too many would cost airtime for nothing.
LOSS = 0.1
# Rows needed beyond those that were lost: the parity of TS004 wants 1.2 to 2.3 on average, whatever the count.
EXTRA_ROWS = 2


class Receiver:
    """What is known of one of them."""

    def __init__(self) -> None:
        self.state = INVITED
        self.deficit: int | None = None  # as it told after the latest round
        self.refusal = 0
        self.silent = 0  # rounds of asking without an answer
        self.owed = 0  # rows for it alone
        self.is_stuck = False  # more is missing than it can work out: it wants the fragments themselves
        self.first = 1  # where it is asked for the next of them from
        self.wanted: list[int] = []

    def to_document(self) -> list[Any]:
        """What it wants is asked for again."""
        return [self.state, self.deficit, self.refusal, self.silent, self.owed, self.is_stuck]

    @classmethod
    def from_document(cls, document: list[Any]) -> Receiver:
        receiver = cls()
        receiver.state, receiver.deficit, receiver.refusal = document[:3]
        receiver.silent, receiver.owed, receiver.is_stuck = document[3:]
        return receiver


class OtaSender:
    """One session: `data` in fragments of `size` bytes to `addresses`.

    The caller sends what `broadcast` and `for_node` give, tells answers with `hear`, and says when a time is over:
    `begin` (nobody else is waited for) and `collected` (whoever wanted to answer has). `to_document` is all that a
    kill would lose.
    """

    def __init__(
        self, data: bytes, size: int, session: int, descriptor: int, addresses: list[int], delay: int = 0
    ) -> None:
        count = -(-len(data) // size)
        if not data or not 1 <= count <= parity.MAX_ROW // 2:
            raise EncodeError(
                f"an update of {len(data)} bytes in fragments of {size}: allowed are 1 to {parity.MAX_ROW // 2} of them"
            )
        padding = count * size - len(data)
        self.setup = ota.Setup(count, size, padding, descriptor, delay)
        self.session = session
        self.receivers = {address: Receiver() for address in addresses}
        self.phase = INVITING
        self.rows_sent = 0  # the number of the latest row; none is sent twice
        self.rounds = 0
        self._left = 0
        self._data = data + bytes(padding)

    # -- what goes out ----------------------------------------------------------------------------------------------

    def for_node(self, address: int) -> bytes | None:
        """What the receiver at `address` is owed for itself, in its own window; None when nothing."""
        receiver = self.receivers.get(address)
        if receiver is None:
            return None
        if self.phase == ENDED:
            return bytes((ota.DELETE, 0)) if receiver.state in (TAKING, GONE) else None
        if receiver.state == INVITED:
            return self.setup.encode()
        return self._repair(receiver) if self.phase == REPAIRING and receiver.state == TAKING else None

    def broadcast(self) -> bytes | None:
        """What goes to all of them next; None while there is nothing, or reports are awaited."""
        if self.phase == SENDING:
            self._left -= 1
            if not self._left:
                self.phase = ASKING
            return self._row()
        if self.phase == ASKING:
            self.phase = COLLECTING
            # Bit 0: whoever has all says so, too.
            return bytes((ota.STATUS, 1))
        return None

    def _repair(self, receiver: Receiver) -> bytes:
        if receiver.wanted:
            number = receiver.wanted.pop(0)
            return ota.data_fragment(number, self.row(number))
        if receiver.is_stuck:
            return bytes((ota.MISSING,)) + receiver.first.to_bytes(2, "little")
        if receiver.owed:
            receiver.owed -= 1
            return self._row()
        return bytes((ota.STATUS, 1))

    def _row(self) -> bytes:
        self.rows_sent += 1
        if self.rows_sent > parity.MAX_ROW:
            raise EncodeError(f"session {self.session}: all {parity.MAX_ROW} rows were sent; begin another")
        return ota.data_fragment(self.rows_sent, self.row(self.rows_sent))

    def row(self, number: int) -> bytes:
        """The content of row `number`."""
        size = self.setup.size
        total = 0
        for at in parity.members(parity.row(number, self.setup.fragments)):
            total ^= int.from_bytes(self._data[at * size : (at + 1) * size], "little")
        return total.to_bytes(size, "little")

    # -- what came in, and what time is over ------------------------------------------------------------------------

    def hear(self, address: int, answer: bytes) -> None:
        """Take an answer in. Raises DecodeError for one that no receiver gives."""
        receiver = self.receivers.get(address)
        if receiver is None or receiver.state in (COMPLETE, REFUSED):
            return
        if len(answer) == 2 and answer[0] == ota.SETUP:
            receiver.refusal = answer[1]
            receiver.state = REFUSED if answer[1] else TAKING
            # Who joins a pass that is on its way lacks what went before: nobody knows how much, until it says so.
            receiver.silent = 0
        elif len(answer) == 5 and answer[0] == ota.STATUS:
            self._told(receiver, answer[3], bool(answer[4] & ota.NO_MEMORY))
        elif len(answer) == 2 and answer[0] == ota.DELETE:
            receiver.state = GONE if receiver.state == TAKING else receiver.state
        elif len(answer) == 3 + ota.BITMAP and answer[0] == ota.MISSING:
            self._wants(receiver, int.from_bytes(answer[1:3], "little"), int.from_bytes(answer[3:], "little"))
        else:
            raise DecodeError(f"answer of {len(answer)} bytes to an update: {answer[:8].hex()}")

    def begin(self) -> None:
        """Nobody else is waited for: whoever said yes takes part, the others are gone."""
        if self.phase != INVITING:
            return
        for receiver in self.receivers.values():
            if receiver.state == INVITED:
                receiver.state = GONE
        lost = self.setup.fragments * LOSS / (1 - LOSS)
        self._next_round(self.setup.fragments + round(lost) + EXTRA_ROWS)

    def collected(self) -> None:
        """The time for answers is over: another round, single rows for the last few, or the end."""
        if self.phase not in (COLLECTING, REPAIRING):
            return
        taking = self._taking()
        for receiver in taking:
            receiver.silent = receiver.silent + 1 if receiver.deficit is None else 0
            if receiver.silent >= SILENT_MAX:
                receiver.state = GONE
        taking = self._taking()
        # Those that are stuck wait until nobody else needs a round: more rows are of no use to them.
        moving = [receiver for receiver in taking if not receiver.is_stuck]
        deficits = [receiver.deficit for receiver in moving if receiver.deficit]
        if not taking:
            self.phase = ENDED
        elif len(moving) == len(deficits) and _are_few(deficits):
            self.phase = REPAIRING
            for receiver in taking:
                receiver.owed, receiver.deficit = receiver.deficit or 0, None
        else:
            self._next_round(-(-max(deficits, default=0) // (1 - LOSS)))

    @property
    def is_ended(self) -> bool:
        return self.phase == ENDED

    # -- over a kill ------------------------------------------------------------------------------------------------

    def to_document(self) -> dict[str, Any]:
        """What `resume` needs beside the data; made durable before what it led to is sent, it repeats no row."""
        return {
            "session": self.session,
            "setup": list(self.setup),
            "phase": self.phase,
            "rows_sent": self.rows_sent,
            "rounds": self.rounds,
            "left": self._left,
            "receivers": {str(address): one.to_document() for address, one in self.receivers.items()},
        }

    @classmethod
    def resume(cls, data: bytes, document: dict[str, Any]) -> OtaSender:
        setup = ota.Setup(*document["setup"])
        sender = cls(data, setup.size, document["session"], setup.descriptor, [], setup.delay)
        sender.receivers = {
            int(address): Receiver.from_document(one) for address, one in document["receivers"].items()
        }
        sender.phase, sender.rows_sent = document["phase"], document["rows_sent"]
        sender.rounds, sender._left = document["rounds"], document["left"]
        return sender

    # -- inside -----------------------------------------------------------------------------------------------------

    def _taking(self) -> list[Receiver]:
        return [receiver for receiver in self.receivers.values() if receiver.state == TAKING]

    def _next_round(self, rows: float) -> None:
        """`rows` more for everybody, and then the question; with none, the question alone."""
        for receiver in self._taking():
            receiver.deficit = None
        self.rounds += 1
        self._left = min(int(rows), parity.MAX_ROW - self.rows_sent)
        self.phase = SENDING if self._left else ASKING

    def _wants(self, receiver: Receiver, first: int, bitmap: int) -> None:
        """It said which of the fragments from `first` on it has not."""
        receiver.wanted = [
            number for at in parity.members(bitmap) if (number := first + at) <= self.setup.fragments
        ]
        following = first + 8 * ota.BITMAP
        receiver.first = following if following <= self.setup.fragments else 1
        receiver.is_stuck, receiver.owed = False, 0  # until it says so again

    def _told(self, receiver: Receiver, missing: int, is_stuck: bool) -> None:
        receiver.silent = 0
        if receiver.state == GONE:
            receiver.state = TAKING
        if not missing:
            receiver.state, receiver.deficit = COMPLETE, 0
            return
        receiver.deficit, receiver.is_stuck = missing, is_stuck
        if self.phase == REPAIRING:
            receiver.owed = missing


def _are_few(deficits: list[int]) -> bool:
    """Whether sending each its own rows costs hardly more than another round for all."""
    return len(deficits) <= STRAGGLERS_MAX and sum(deficits) - max(deficits, default=0) <= STRAGGLERS_ROWS
