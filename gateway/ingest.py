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
from typing import TYPE_CHECKING, NamedTuple, Protocol
from zlib import crc32

from gateway.boots import Boots
from gateway.channels import Channel, Channels, Node
from gateway.clock import Clock
from gateway.ledger import CONFLICT, COPY, NEW, Ledger
from gateway.limits import UNCOMMITTED_FRAMES_MAX
from gateway.records import KIND_EVENT, KIND_RESULT, Event, Reading
from gateway.store import Batch, Store
from protocols.wire import messages, readings
from protocols.wire.envelope import Header, open_, parse
from protocols.wire.errors import FrameError, WireError
from protocols.wire.limits import NONCE_SIZE

if TYPE_CHECKING:
    from gateway.epoch import Epoch

log = logging.getLogger(__name__)

UNSYNCHRONISED = 3


class Link(Protocol):
    """What carries frames to and from nodes."""

    name: str

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
        received_ms = self._clock.unix_ms()
        for frame in frames:
            if store.depth() >= UNCOMMITTED_FRAMES_MAX:
                self.refuse("overload")
                continue
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
        node = self.channels.by_kid.get(header.kid) or self._find(header.kid)
        if header.kid_context:
            self._join(link, node, header, frame, received_ms)
            return
        channel, plain = self._open(node, header, frame)
        message = messages.decode_up(plain)
        ledger: Ledger | None
        has_row = new = True
        if type(message) is messages.Readings:
            ledger, has_row = self._take_readings(channel, header.piv, message, received_ms)
            new = has_row
        elif isinstance(message, (messages.Event, messages.Result)):
            ledger, has_row = self._take_event(channel, header.piv, message, received_ms)
            new = has_row
        else:
            ledger = self._take_report(channel, message, received_ms)
            has_row = False
        # Only now, when nothing in it was refused.
        channel.window.accept(header.piv)
        batch = self.store.batch
        if not has_row:
            batch.windows[channel.epoch.row_id] = channel.epoch
        batch.heard.append(Heard(link, node, channel, header.piv, message, received_ms, ledger, new))
        if channel.needs_pivs():
            channel.reserve(batch)

    def _find(self, kid: bytes) -> Node:
        node = self.channels.find(kid)
        if node is None:
            raise FrameError("unknown_node", f"node {kid.hex()} is not enrolled here")
        return node

    def _open(self, node: Node, header: Header, frame: bytes) -> tuple[Channel, bytes]:
        """The channel that the frame was sealed in, and what it says."""
        refusal = FrameError("unknown_epoch", f"node {node.address:04x} has no epoch here: it must join")
        for channel in node.open:
            if not channel.window.is_new(header.piv):
                refusal = FrameError(
                    "replay", f"PIV {header.piv} was accepted before, or is older than the window"
                )
                continue
            try:
                plain = open_(channel.up_key, header, frame)
            except FrameError as error:
                refusal = error
                continue
            node.heard_in(channel)
            return channel, plain
        raise refusal

    # ---- records -------------------------------------------------------------------------------------------------

    def _take_readings(
        self, channel: Channel, piv: int, message: messages.Readings, received_ms: int
    ) -> tuple[Ledger, bool]:
        schema = readings.schema(message.schema)
        sets = readings.decode(schema, message.time, message.body)
        ledger = channel.ledger if message.epoch is None else self._named(channel, message)
        first_seq = message.seq
        bodies: tuple[bytes, ...] = (message.body,)
        if len(sets.rows) > 1:
            # A batch is so many records: each is kept in the form it would have had alone, so that it is the same
            # record when it comes again in another batch, or alone.
            bodies = tuple(
                readings.encode(
                    schema, sets.tq, (0,), (row,), None if sets.flags is None else (sets.flags[i],)
                )
                for i, row in enumerate(sets.rows)
            )
        oldest = first_seq - message.held
        if oldest > ledger.cum + 1:
            self._note_oldest(ledger, oldest)
        new = False
        for i, body in enumerate(bodies):
            flags = None if sets.flags is None else sets.flags[i]
            new |= self._offer_reading(
                channel,
                ledger,
                piv,
                first_seq + i,
                message.schema,
                sets.tq,
                sets.times[i],
                sets.rows[i],
                flags,
                body,
                received_ms,
            )
        return ledger, new

    def _offer_reading(
        self, channel: Channel, ledger: Ledger, piv: int, seq: int, schema: int, tq: int, time: int,
        values: tuple[int | None, ...], flags: tuple[int, ...] | None, body: bytes, received_ms: int,
    ) -> bool:  # fmt: skip
        """Put one set into the batch if it is new; whether it is."""
        fingerprint = crc32(body, (time ^ time >> 32 ^ schema * 2654435761) & 0xFFFFFFFF) & 0x7FFFFFFF or 1
        backlog = seq < ledger.highest
        was_lost = seq <= ledger.cum
        verdict = ledger.offer(seq, fingerprint)
        if verdict != NEW:
            self._not_new(verdict, channel, ledger, piv, seq, received_ms, body)
            return False
        store = self.store
        batch = store.batch
        if was_lost:
            batch.found.append((ledger.row_id, seq))
        boot_time = None
        if tq == UNSYNCHRONISED:
            boot_time = time
            time = self.boots.place(channel.address, boot_time, received_ms)
        row_id = store.next_reading
        store.next_reading = row_id + 1
        batch.reading_rows.append(
            (row_id, ledger.row_id, seq, piv, fingerprint, int(backlog), received_ms, time, boot_time, tq, schema,
             None if flags is None else bytes(flags), body)
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
            return channel.ledger
        if isinstance(message, messages.Status):
            channel.hear_dn_piv(message.dn_piv)
            self.boots.hear_status(channel.address, message, received_ms)
        return None

    def _take_event(
        self, channel: Channel, piv: int, message: messages.Event | messages.Result, received_ms: int
    ) -> tuple[Ledger, bool]:
        ledger = channel.ledger if message.epoch is None else self._named(channel, message)
        oldest = message.seq - message.held
        if oldest > ledger.cum + 1:
            self._note_oldest(ledger, oldest)
        # After the kind: time, tq, code or command id, state or outcome, detail.
        time, tq, code, state, detail = message[2:7]
        text = json.dumps(detail)
        fingerprint = crc32(f"{message.KIND} {time} {tq} {code} {state} {text}".encode()) & 0x7FFFFFFF or 1
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
                piv,
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
        if verdict == CONFLICT:
            self.store.batch.conflicts.append((ledger.row_id, seq, piv, received_ms, content))
            channel.window.accept(piv)  # authentic, and once is enough to look at it
            self.store.batch.windows[channel.epoch.row_id] = channel.epoch
            raise FrameError(
                "conflict", f"record {seq} of node {channel.address:04x} came before with other content"
            )
        raise FrameError(
            "overload", f"record {seq} of node {channel.address:04x} would open one gap too many"
        )

    def _named(
        self, channel: Channel, message: messages.Readings | messages.Event | messages.Result
    ) -> Ledger:
        """The ledger of a record that names its epoch."""
        number = channel.number if message.epoch is None else message.epoch
        epoch = self.channels.named(channel.node, number, message.seq - message.held)
        if epoch is None:
            raise FrameError(
                "unknown_epoch", f"epoch {number} of node {channel.address:04x}: too many unknown ones"
            )
        return epoch.ledger

    def _note_oldest(self, ledger: Ledger, oldest: int) -> None:
        """The node holds nothing below `oldest`, in this epoch and in those it came from."""
        noted = self.store.batch.oldest
        epoch: Epoch | None = self.store.epochs[ledger.row_id]
        while epoch is not None and epoch.ledger.cum + 1 < oldest:
            noted[epoch.ledger] = max(oldest, noted.get(epoch.ledger, 0))
            oldest = min(oldest, epoch.ledger.first_seq)
            epoch = None if epoch.previous is None else self.store.epochs.get(epoch.previous)

    # ---- joining -------------------------------------------------------------------------------------------------

    def _join(self, link: Link, node: Node, header: Header, frame: bytes, received_ms: int) -> None:
        """A hello outside of any epoch (SPEC.md 3.2)."""
        if len(header.kid_context) == NONCE_SIZE:
            hello = node.join.hello(header, frame)
            channel = None if hello.epoch is None else node.channel(hello.epoch)
            if channel is None:
                answer = node.join.challenge(header, self._random_bytes(NONCE_SIZE), self._clock.monotonic())
                link.send(node.address, answer)
                return
            channel.hear_dn_piv(hello.dn_piv)
            proven = False
        else:
            hello, id_context = node.join.agree(header, frame, self._clock.monotonic())
            channel = self.channels.agree(node, id_context, hello)
            self.boots.hear_hello(node.address, hello, received_ms)
            proven = True
        batch = self.store.batch
        batch.heard.append(Heard(link, node, channel, header.piv, hello, received_ms, channel.ledger, proven))
        if channel.needs_pivs():
            channel.reserve(batch)

    # ---- after the commit ----------------------------------------------------------------------------------------

    def _committed(self, batch: Batch) -> None:
        if batch.heard:
            self._on_heard(batch.heard)

    def acks(self, heard: Iterable[Heard]) -> list[tuple[Link, int, bytes]]:
        """The acks that these frames are owed, sealed: one per node and epoch, by the way the last of them came."""
        owed: dict[Ledger, Heard] = {}
        for one in heard:
            if one.ledger is not None:
                owed[one.ledger] = one
        frames = []
        for ledger, one in owed.items():
            channel = one.channel
            epoch = None if ledger is channel.ledger else ledger.number
            frame = channel.seal(messages.encode(messages.Ack(ledger.cum, ledger.newest_runs(), epoch)))
            if frame is None:
                self.refuse("ack_without_piv")
            else:
                frames.append((one.link, channel.address, frame))
        return frames
