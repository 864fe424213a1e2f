"""The whole story of a frame, top to bottom.

    frame from a link
      → parse: which node, which PIV                    version, malformed, oversize, unknown_node
      → open in the node's channels, newest first       unknown_epoch, replay, auth
      → decode the message, decode the readings         cbor, message
      → quality: flags are added, values never altered
      → the ledger: new, a copy, or a conflict          conflict
      → the store's next transaction                    overload
      → committed: ack, and northbounds have it

Whatever is refused is counted under its reason and changes nothing else. A copy is acknowledged like its
original: it came because an ack was lost. A join (SPEC.md 3.2) is the one exchange that is not about records.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from struct import Struct
from typing import NamedTuple, Protocol

from gateway.batch import Batch
from gateway.boots import Boots
from gateway.channels import Channel, Channels, Node
from gateway.clock import Clock
from gateway.epoch import Epoch
from gateway.fingerprints import of_event, of_reading
from gateway.ledger import COPY, NEW, RUNS_MAX, Ledger
from gateway.limits import DN_PIV_LOW, UNCOMMITTED_FRAMES_MAX, UNPROVEN_PERIOD_S
from gateway.quality import merged
from gateway.records import KIND_EVENT, KIND_RESULT, NO_PIV, Event, Reading
from gateway.store import Store
from protocols.wire import messages, readings
from protocols.wire.envelope import Header, open_, parse
from protocols.wire.errors import DecodeError, FrameError, WireError
from protocols.wire.limits import MAX_FRAME, MAX_SEQ, NONCE_SIZE
from protocols.wire.messages import decode_up

log = logging.getLogger(__name__)

UNSYNCHRONISED = 3
_ACK_U16 = Struct(">BBBHB")
_ACK_U32 = Struct(">BBBIB")


class Link(Protocol):
    """What carries frames to and from nodes."""

    @property
    def name(self) -> str: ...

    @property
    def room(self) -> int:
        """Bytes of the largest frame that goes down in one piece."""
        ...

    def send(self, address: int, frame: bytes) -> bool:
        """Queue a frame for that node; False when it cannot go. Never blocks, never raises for a link that is down."""


class Heard(NamedTuple):
    """A frame that was opened, and is now committed. `ledgers` are the epochs its ack is about.

    `new` is False for copies, and for a first hello, which may be a recording.
    """

    link: Link
    node: Node
    channel: Channel
    piv: int
    message: messages.Up
    received_ms: int
    ledger: Ledger | None
    new: bool


class Ingest:
    """Takes frames in; one per gateway."""

    def __init__(
        self,
        store: Store,
        channels: Channels,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        on_heard: Callable[[list[Heard]], None],
    ) -> None:
        self.store = store
        self.channels = channels
        self.boots = Boots(store)
        self.refused: dict[str, int] = {}
        self._by_kid = channels.by_kid
        self._clock = clock
        self._random_bytes = random_bytes
        self._on_heard = on_heard
        store.on_commit.insert(0, self._committed)

    def frame(self, link: Link, frame: bytes) -> None:
        """One frame from a link. Never raises for what is in it."""
        self.frames(link, (frame,))

    def frames(self, link: Link, frames: Iterable[bytes]) -> None:
        """Frames that came together."""
        store = self.store
        if store.depth() >= UNCOMMITTED_FRAMES_MAX:
            for _ in frames:
                self.refuse("overload")
            return
        received_ms = self._clock.unix_ms()
        for frame in frames:
            try:
                self._take(link, frame, received_ms)
            except WireError as refusal:
                self.refuse(refusal.reason)
        if not store.batch.is_empty():
            store.schedule()

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    # ---- opening -------------------------------------------------------------------------------------------------

    def _take(self, link: Link, frame: bytes, received_ms: int) -> None:
        header = parse(frame, 2)
        piv, kid, kid_context, _ = header
        node = self._by_kid.get(kid) or self._find(kid)
        if kid_context:
            self._join(link, node, header, frame, received_ms)
            return
        if len(node.open) == 1 and piv > node.open[0].window.highest:  # nearly always
            channel = node.open[0]
            plain = open_(channel.up_key, header, frame)
        else:
            channel, plain = self._open(node, header, frame)
        message = decode_up(plain)
        ledger: Ledger | None
        has_row = new = True
        if type(message) is messages.Readings:
            if not self.store.takes_readings:
                self._turn_away(link, node, channel, piv, message, received_ms)
                return
            ledger, has_row = self._take_readings(channel, piv, message, received_ms)
            new = has_row
        elif isinstance(message, (messages.Event, messages.Result)):
            ledger, has_row = self._take_event(channel, piv, message, received_ms)
            new = has_row
        else:
            ledger = self._take_report(channel, message, received_ms)
            has_row = False
        # Only now, when nothing in it was refused.
        channel.window.accept(piv)
        channel.epoch.heard_ms = received_ms
        batch = self.store.batch
        if not has_row or ledger is not channel.ledger:  # a row in another epoch says nothing of this window
            batch.windows[channel.epoch.row_id] = channel.epoch
        batch.heard.append(Heard(link, node, channel, piv, message, received_ms, ledger, new))
        if channel.pivs_left < DN_PIV_LOW:
            channel.reserve(batch)

    def _turn_away(
        self, link: Link, node: Node, channel: Channel, piv: int, message: messages.Readings, received_ms: int
    ) -> None:
        """The disk is full: the node is there, and keeps what it wanted to hand over."""
        self.refuse("disk_full")
        channel.window.accept(piv)
        channel.epoch.heard_ms = received_ms
        self.store.batch.heard.append(Heard(link, node, channel, piv, message, received_ms, None, False))

    def _find(self, kid: bytes) -> Node:
        node = self.channels.find(kid)
        if node is None:
            raise FrameError("unknown_node", f"node {kid.hex()} is not enrolled here")
        return node

    def _open(self, node: Node, header: Header, frame: bytes) -> tuple[Channel, bytes]:
        """The channel that the frame was sealed in, and what it says."""
        refusal: FrameError | None = None
        for channel in node.open:
            if not channel.window.is_new(header.piv):
                refusal = FrameError(
                    "replay", f"PIV {header.piv} was accepted before, or is older than the window"
                )
                continue
            try:
                plain = open_(channel.up_key, header, frame)
            except FrameError as error:
                refusal = refusal or error
                continue
            node.heard_in(channel)
            return channel, plain
        raise refusal or FrameError(
            "unknown_epoch", f"node {node.address:04x} has no epoch here: it must join"
        )

    # ---- records -------------------------------------------------------------------------------------------------

    def _take_readings(
        self, channel: Channel, piv: int, message: messages.Readings, received_ms: int
    ) -> tuple[Ledger, bool]:
        schema_id, first_seq, held, time, body, epoch = message
        schema = readings.schema(schema_id)
        tq, times, rows, flags = readings.decode(schema, time, body)
        if first_seq + len(rows) - 1 > MAX_SEQ:
            raise DecodeError(
                f"{len(rows)} sets from seq {first_seq} on: the last one would be beyond {MAX_SEQ}"
            )
        ledger = channel.ledger
        if epoch is not None or len(ledger.runs) >= RUNS_MAX:
            ledger = self._ledger_of(channel, message)
        if first_seq - held > ledger.cum + 1:
            self._note_oldest(ledger, first_seq - held)
        if len(rows) == 1:
            flags_of = None if flags is None else flags[0]
            return ledger, self._offer_reading(
                channel, ledger, piv, first_seq, schema_id, tq, time, rows[0], flags_of, body, received_ms
            )
        # A batch is so many records: each is kept in the form it would have had alone, so that it is the same record
        # when it comes again in another batch, or alone.
        new = False
        conflict: FrameError | None = None
        for i, row in enumerate(rows):
            flags_of = None if flags is None else flags[i]
            body = readings.encode(schema, tq, (0,), (row,), None if flags_of is None else (flags_of,))
            try:
                new |= self._offer_reading(
                    channel,
                    ledger,
                    piv,
                    first_seq + i,
                    schema_id,
                    tq,
                    times[i],
                    row,
                    flags_of,
                    body,
                    received_ms,
                )
            except FrameError as error:
                conflict = error  # of this one record; the others are as good as ever
        if conflict is not None:
            raise conflict
        return ledger, new

    def _offer_reading(
        self, channel: Channel, ledger: Ledger, piv: int, seq: int, schema: int, tq: int, time: int,
        values: tuple[int | None, ...], flags: tuple[int, ...] | None, body: bytes, received_ms: int,
    ) -> bool:  # fmt: skip
        """Put one set into the batch if it is new; whether it is."""
        fingerprint = of_reading(ledger.row_id, seq, body, time, schema)
        backlog = seq < ledger.highest_set
        was_lost = seq <= ledger.cum
        verdict = ledger.offer(seq, fingerprint)
        if verdict != NEW:
            self._not_new(verdict, channel, ledger, piv, seq, received_ms, body)
            return False
        store = self.store
        batch = store.batch
        if was_lost:
            batch.found.append((ledger.row_id, seq))
        if not backlog:
            ledger.highest_set = seq
        boot_time = None
        if tq == UNSYNCHRONISED:
            boot_time = time
            time = self.boots.place(channel.address, boot_time, received_ms)
        flags = merged(schema, values, flags)
        row_id = store.next_reading
        store.next_reading = row_id + 1
        batch.reading_rows.append(
            (row_id, ledger.row_id, seq, _piv_in(ledger, channel, piv), fingerprint, int(backlog), received_ms, time,
             boot_time, tq, schema, None if flags is None else bytes(flags), body)
        )  # fmt: skip
        batch.readings.append(
            Reading(row_id, ledger, seq, int(backlog), received_ms, time, tq, schema, values, flags)
        )
        return True

    def _take_report(self, channel: Channel, message: messages.Up, received_ms: int) -> Ledger | None:
        """What is no record: it says how the node is, and nothing of it is kept here."""
        if isinstance(message, messages.Hello):
            channel.hear_dn_piv(message.dn_piv)
            self.boots.hear_hello(channel.address, message, received_ms)
            if message.epoch == channel.number:
                self._note_hello(channel.epoch, message.oldest)
            return channel.ledger
        if isinstance(message, messages.Status):
            channel.hear_dn_piv(message.dn_piv)
            self.boots.hear_status(channel.address, message, received_ms)
        return None

    def _take_event(
        self, channel: Channel, piv: int, message: messages.Event | messages.Result, received_ms: int
    ) -> tuple[Ledger, bool]:
        ledger = self._ledger_of(channel, message)
        oldest = message.seq - message.held
        if oldest > ledger.cum + 1:
            self._note_oldest(ledger, oldest)
        # After the kind: time, tq, code or command id, state or outcome, detail.
        time, tq, code, state, detail = message[2:7]
        text = json.dumps(detail)
        fingerprint = of_event(ledger.row_id, message.seq, message.KIND, time, tq, code, state, text)
        was_lost = message.seq <= ledger.cum
        verdict = ledger.offer(message.seq, fingerprint)
        if verdict != NEW:
            self._not_new(verdict, channel, ledger, piv, message.seq, received_ms, text.encode())
            return ledger, False
        store = self.store
        batch = store.batch
        if was_lost:
            batch.found.append((ledger.row_id, message.seq))
        boot_time = None
        if tq == UNSYNCHRONISED:
            boot_time = time
            time = self.boots.place(channel.address, boot_time, received_ms)
        row_id = store.next_event
        store.next_event = row_id + 1
        kind = KIND_EVENT if message.KIND == messages.Event.KIND else KIND_RESULT
        batch.event_rows.append(
            (
                row_id,
                kind,
                ledger.row_id,
                message.seq,
                _piv_in(ledger, channel, piv),
                fingerprint,
                received_ms,
                time,
                boot_time,
                tq,
                code,
                state,
                text,
            )
        )
        batch.events.append(
            Event(row_id, ledger, message.seq, kind, received_ms, time, tq, code, state, detail)
        )
        return ledger, True

    def _not_new(
        self,
        verdict: int,
        channel: Channel,
        ledger: Ledger,
        piv: int,
        seq: int,
        received_ms: int,
        content: bytes,
    ) -> None:
        if verdict == COPY:
            self.store.counters["copies"] += 1
            return
        self.store.batch.conflicts.append((ledger.row_id, seq, piv, received_ms, content))
        channel.window.accept(piv)  # authentic, and once is enough to look at it
        self.store.batch.windows[channel.epoch.row_id] = channel.epoch
        raise FrameError(
            "conflict", f"record {seq} of node {channel.address:04x} came before with other content"
        )

    def _ledger_of(
        self, channel: Channel, message: messages.Readings | messages.Event | messages.Result
    ) -> Ledger:
        """The ledger of a record: that of the channel, or of the epoch it names; with room for one more run."""
        ledger = channel.ledger
        if message.epoch is not None:
            epoch = self.channels.named(channel.node, message.epoch, message.seq - message.held)
            if epoch is None:
                raise FrameError(
                    "unknown_epoch",
                    f"epoch {message.epoch} of node {channel.address:04x}: too many unknown ones",
                )
            ledger = epoch.ledger
        if not ledger.has_room_for(message.seq):
            raise FrameError(
                "overload", f"record {message.seq} of node {channel.address:04x} would open one gap too many"
            )
        return ledger

    def _note_oldest(self, ledger: Ledger, oldest: int) -> None:
        """Of this epoch the node holds nothing below `oldest`."""
        noted = self.store.batch.oldest
        noted[ledger] = max(oldest, noted.get(ledger, 0))

    def _note_hello(self, epoch: Epoch | None, oldest: int) -> None:
        """Of the epoch that a hello names the node holds nothing below `oldest`; of others it tells nothing."""
        if epoch is not None and epoch.ledger.cum + 1 < oldest:
            self._note_oldest(epoch.ledger, oldest)

    # ---- joining -------------------------------------------------------------------------------------------------

    def _join(self, link: Link, node: Node, header: Header, frame: bytes, received_ms: int) -> None:
        """A hello outside of any epoch (SPEC.md 3.2)."""
        if len(header.kid_context) == NONCE_SIZE:
            hello = node.join.hello(header, frame)
            channel = None if hello.epoch is None else node.channel(hello.epoch)
            now_s = self._clock.monotonic()
            # This hello may be a recording. What it says must not end the silence after a restore, and an ack costs a
            # PIV that the node may never hear of, so few are given. A challenge costs nothing and lets a real node in.
            if channel is None or channel.epoch.dn_hold or now_s - node.unproven_s < UNPROVEN_PERIOD_S:
                answer = node.join.challenge(header, self._random_bytes(NONCE_SIZE), now_s)
                link.send(node.address, answer)
                return
            node.unproven_s = now_s
            channel.hear_dn_piv(hello.dn_piv)
            proven = False
        else:
            hello, id_context = node.join.agree(header, frame, self._clock.monotonic())
            channel = self.channels.agree(node, id_context, hello)
            channel.epoch.heard_ms = received_ms
            self.boots.hear_hello(node.address, hello, received_ms)
            if hello.epoch is not None:
                self._note_hello(node.by_number.get(hello.epoch), hello.oldest)
            proven = True
        batch = self.store.batch
        batch.heard.append(Heard(link, node, channel, header.piv, hello, received_ms, channel.ledger, proven))
        if channel.pivs_left < DN_PIV_LOW:
            channel.reserve(batch)

    # ---- after the commit ----------------------------------------------------------------------------------------

    def _committed(self, batch: Batch) -> None:
        if batch.heard:
            self._on_heard(batch.heard)

    def acks(self, heard: Iterable[Heard]) -> list[tuple[Link, int, bytes]]:
        """The acks that these frames are owed, sealed: one per node and epoch, by the way the last of them came."""
        owed: dict[Ledger, Heard] = {}
        for one in heard:
            ledger = one[6]
            if ledger is not None:
                owed[ledger] = one
        frames = []
        for ledger, one in owed.items():
            channel = one.channel
            frame = channel.seal(ack_of(ledger, channel.ledger, one.link.room - channel.overhead))
            if frame is None:
                self.refuse("ack_without_piv")
            else:
                frames.append((one.link, channel.address, frame))
        return frames


def _piv_in(ledger: Ledger, channel: Channel, piv: int) -> int:
    """The PIV as a row keeps it: a start brings the window of the row's epoch up to it. NO_PIV: it is another's."""
    return piv if ledger is channel.ledger else NO_PIV


def ack_of(ledger: Ledger, channel_ledger: Ledger, room: int = MAX_FRAME) -> bytes:
    """What a ledger acknowledges, as the message of SPEC.md 2.2. Of runs those that fit `room`, the newest first."""
    cum = ledger.cum
    if not ledger.runs and ledger is channel_ledger:
        # Nearly every ack there is, and every frame is owed one: [16, cum, []] without the general encoder.
        if cum > 0xFFFF:
            return _ACK_U32.pack(0x83, messages.Ack.KIND, 0x1A, cum, 0x80)
        if cum > 0xFF:
            return _ACK_U16.pack(0x83, messages.Ack.KIND, 0x19, cum, 0x80)
    runs = ledger.newest_runs()
    number = None if ledger is channel_ledger else ledger.number
    while True:
        plain = messages.encode(messages.Ack(cum, runs, number))
        if len(plain) <= room or not runs:
            return plain
        runs = runs[:-1]
