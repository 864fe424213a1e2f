"""The other end of the line for tests of the node: as much of a gateway as SPEC.md asks of one, in memory.

It answers at once, keeps every record it hears, and can be told to be deaf or mute. It judges as it listens: a PIV that
comes twice under one key, or a record that comes again with other content, is an AssertionError on the spot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.wire import envelope, framing, join, messages, readings
from protocols.wire.envelope import ReplayWindow
from protocols.wire.errors import WireError
from protocols.wire.messages import Ack, Event, Hello, Readings, Result, Time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from protocols.wire.envelope import Header
    from protocols.wire.identity import Identity

RUNS_MAX = 8
# A gateway that lost its database goes on this far above what the node has heard (SPEC.md 3.1).
RESTORED_GAP = 1 << 16


class Epoch:
    """One agreed context: keys, counters, and the seqs received in it."""

    def __init__(self, identity: Identity, id_context: bytes) -> None:
        secret, salt = identity.master_secret, identity.master_salt
        self.number = join.epoch_number(id_context)
        self.up = envelope.sender_key(secret, salt, id_context, envelope.node_kid(identity.address))
        self.down = envelope.sender_key(secret, salt, id_context, envelope.gateway_kid(identity.address))
        self.window = ReplayWindow()
        self.pivs: set[int] = set()
        self.next_piv = 0
        self.received: set[int] = set()
        self.lost_below = 0

    def seal(self, message: Any) -> bytes:
        frame = envelope.seal(self.down, self.next_piv, messages.encode(message))
        self.next_piv += 1
        return frame


class Named:
    """An epoch known by its name only: a bench agreed it, and records that were made in it came in a later one."""

    def __init__(self) -> None:
        self.received: set[int] = set()
        self.lost_below = 0


class Peer:
    """feed(bytes from the node) -> bytes for the node."""

    def __init__(self, identity: Identity, nonce: Callable[[int], bytes], unix_s: Callable[[], int]) -> None:
        self.identity = identity
        self.sends_time = True
        self.deaf = False
        self.mute = False
        self.acks = True
        self.is_restored = False
        self.conflicts: set[int] = (
            set()
        )  # seqs it has with other content: a frame with one of them gets no answer
        self.messages: list[Any] = []  # everything authentic and new, in order
        self.records: dict[tuple[int, int], Any] = {}  # (epoch, seq): what it says
        self.refused: dict[str, int] = {}
        self.joins = 0
        self.latest_piv = -1  # of an uplink
        self.decoder = framing.Decoder()
        self.epochs: dict[int, Epoch] = {}
        self.named: dict[int, Named] = {}
        self._nonce = nonce
        self._unix_s = unix_s
        self._current: Epoch | None = None
        self._joining = join.GatewayJoin(identity.master_secret, identity.master_salt, identity.address)

    @property
    def epoch(self) -> Epoch:
        assert self._current is not None, "the node has not joined"
        return self._current

    def feed(self, data: bytes) -> bytes:
        frames = [frame for _, frame in self.decoder.feed(data)]
        replies = [reply for frame in frames for reply in self.answers(frame)]
        return b"".join(framing.encode(reply) for reply in replies)

    def send(self, message: Any) -> bytes:
        """The bytes of one message down, in the current epoch."""
        return framing.encode(self.epoch.seal(message))

    def of(self, kind: type) -> list[Any]:
        """The messages of one kind, in order."""
        return [message for message in self.messages if isinstance(message, kind)]

    def seqs(self) -> set[int]:
        return {seq for _, seq in self.records}

    def forget_since(self, seq: int) -> None:
        """Become the gateway of yesterday: a backup from when this seq had not come yet."""
        for epoch in self.epochs.values():
            epoch.received = {known for known in epoch.received if known < seq}
            epoch.next_piv = 0
        self.is_restored = True
        self.records = {key: value for key, value in self.records.items() if key[1] < seq}

    def ack(self, number: int | None = None) -> Ack:
        """The whole of what is known of an epoch, the current one unless another is named."""
        epoch = self.epoch if number is None else self._book(number)
        received = epoch.received
        cum = max(0, epoch.lost_below - 1)
        while cum + 1 in received:
            cum += 1
        runs: list[tuple[int, int]] = []
        for seq in sorted(seq for seq in received if seq > cum):
            if runs and sum(runs[-1]) == seq:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((seq, 1))
        return Ack(cum, tuple(runs[::-1][:RUNS_MAX]), number)

    def answers(self, frame: bytes) -> list[bytes]:
        """Hear a frame; the frames that it is answered with."""
        if self.deaf:
            return []
        try:
            replies = self._hear(frame)
        except WireError as error:
            self._refuse(error.reason)
            return []
        return [] if self.mute else replies

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _hear(self, frame: bytes) -> list[bytes]:
        header = envelope.parse(frame, envelope.KID_UP)
        if len(header.kid_context) == 8:
            self.messages.append(self._joining.hello(header, frame))
            return [self._joining.challenge(header, self._nonce(8), self._unix_s())]
        if header.kid_context:
            hello, id_context = self._joining.agree(header, frame, self._unix_s())
            self.joins += 1
            self._current = Epoch(self.identity, id_context)
            assert self._current.number not in self.epochs, "two epochs with one ID Context"
            self.epochs[self._current.number] = self._current
            return self._took(self._current, header, hello)
        return self._in_epoch(header, frame)

    def _in_epoch(self, header: Header, frame: bytes) -> list[bytes]:
        for epoch in self.epochs.values():
            try:
                plain = envelope.open_(epoch.up, header, frame)
            except WireError:
                continue
            if not epoch.window.is_new(header.piv):
                self._refuse("replay")
                return []
            self._current = epoch
            return self._took(epoch, header, messages.decode_up(plain))
        self._refuse("auth")
        return []

    def _took(self, epoch: Epoch, header: Header, message: Any) -> list[bytes]:
        assert header.piv not in epoch.pivs, f"PIV {header.piv} came twice"
        epoch.pivs.add(header.piv)
        epoch.window.accept(header.piv)
        self.latest_piv = header.piv
        self.messages.append(message)
        if any(seq in self.conflicts for seq, _ in contents(message)):
            self._refuse("conflict")
            return []
        if isinstance(message, Readings | Event | Result):
            self._note_lost(
                epoch.number if message.epoch is None else message.epoch, message.seq - message.held
            )
        for seq, content in contents(message):
            self._keep(epoch.number if message.epoch is None else message.epoch, seq, content)
        return self._replies(epoch, message)

    def _note_lost(self, number: int, oldest: int) -> None:
        book = self._book(number)
        book.lost_below = max(book.lost_below, oldest)

    def _keep(self, number: int, seq: int, content: Any) -> None:
        known = self.records.setdefault((number, seq), content)
        assert known == content, f"record {seq} came again with other content: {known} and {content}"
        self._book(number).received.add(seq)

    def _book(self, number: int) -> Epoch | Named:
        return self.epochs[number] if number in self.epochs else self.named.setdefault(number, Named())

    def _replies(self, epoch: Epoch, message: Any) -> list[bytes]:
        if isinstance(message, Hello):
            gap = RESTORED_GAP if self.is_restored else 1
            epoch.next_piv = max(epoch.next_piv, message.dn_piv + gap if message.dn_piv else 0)
            self.is_restored = False
            replies = [epoch.seal(self.ack())]
            if self.sends_time:
                replies.append(epoch.seal(Time(self.latest_piv, self._unix_s(), 0)))
            return replies
        if isinstance(message, Readings | Event | Result) and self.acks:
            return [epoch.seal(self.ack(message.epoch))]
        return []


def contents(message: Any) -> Iterator[tuple[int, Any]]:
    """(seq, content) of every record in a message, however it is packed."""
    if isinstance(message, Readings):
        sets = readings.decode(readings.schema(message.schema), message.time, message.body)
        good = (readings.GOOD,) * len(sets.rows[0])
        for i, row in enumerate(sets.rows):
            flags = good if sets.flags is None else sets.flags[i]
            yield message.seq + i, (message.schema, sets.tq, sets.times[i], row, flags)
    elif isinstance(message, Event | Result):
        detail = tuple(message.detail) if isinstance(message.detail, list) else message.detail
        yield message.seq, (*message[2:-2], detail)
