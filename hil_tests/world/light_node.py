"""A node as light as it can be and still speak SPEC.md: a session, an outbox and a carrier, no flash and no sensors.

What goes over its line has the order and the spacing of firmware/uplink.py on a serial line, so a gateway that is
killed or away sees of a thousand of these what it would see of a thousand nodes. A power cut takes from it what RAM
would lose, and nothing else.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from firmware.uplink import ANSWER_MS, JOIN_AFTER, SILENT_AFTER, SPACING_MAX_MS, TURNAROUND_MS
from protocols.wire import envelope, messages, readings
from protocols.wire.errors import DecodeError, WireError
from protocols.wire.join import NodeJoin, epoch_number
from protocols.wire.limits import NONCE_SIZE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from typing import Protocol

    from gateway.keys import NodeKeys
    from hil_tests.world.sim_world import Event, World

    class Line(Protocol):
        world: World

        @property
        def is_heard(self) -> bool:
            """Whether anybody is at the other end."""

        def up(self, frame: bytes) -> None: ...


NODE_TYPE = "river"
SCHEMA = 1
_BOOT_S = 2.0
_SET_AFTER_S = 5.0
_JITTER_S = 30.0
_WINDOW_S = 10.0


class Channel:
    """Sealing and opening in one epoch. Its counters are durable, as those of firmware/durable.py."""

    def __init__(self, keys: NodeKeys, address: int) -> None:
        self._keys = keys
        self._address = address
        self.epoch: int | None = None
        self.dn_piv = -1
        self.piv = -1

    def begin(self, id_context: bytes, dn_piv: int) -> None:
        secret, salt = self._keys.master_secret, self._keys.master_salt
        self.epoch = epoch_number(id_context)
        self._up = envelope.sender_key(secret, salt, id_context, envelope.node_kid(self._address))
        self._down = envelope.sender_key(secret, salt, id_context, envelope.gateway_kid(self._address))
        self.dn_piv, self.piv = dn_piv, 0

    def seal(self, message: messages.Up) -> bytes:
        self.piv += 1
        return envelope.seal(self._up, self.piv, messages.encode(message))

    def open(self, header: envelope.Header, frame: bytes) -> messages.Down:
        if self.epoch is None or header.kid_context or header.piv <= self.dn_piv:
            raise DecodeError("of no epoch that is known, or not new")
        plain = envelope.open_(self._down, header, frame)
        self.dn_piv = header.piv
        return messages.decode_down(plain)


class LightNode:
    """``report_s``: between two sets of readings. ``log`` has what was sent up, by name, for whoever compares."""

    def __init__(self, line: Line, address: int, keys: NodeKeys, rng: random.Random, report_s: float) -> None:
        self.line = line
        self.world = line.world
        self.address = address
        self.rng = rng
        self.report_s = report_s
        self.keys = keys
        self.channel = Channel(keys, address)
        self._join = NodeJoin(keys.master_secret, keys.master_salt, address)
        self._is_joining = False
        self.is_on = False
        self.boots = 0
        self.next_seq = 1
        # seq -> epoch that it was kept in (None: the first that comes), whether it is an event, the message
        self.waiting: dict[int, tuple[int | None, bool, messages.Readings | messages.Event]] = {}
        self.acknowledged = 0
        self.frames_sent = 0
        self.log: list[str] = []
        self._life = 0  # counts starts: what was planned in an earlier one does not happen
        self._forget()

    def _forget(self) -> None:
        """What RAM holds."""
        self.is_awake = False  # there is a program that hears and sends
        self.must_hello = True
        self._unanswered = 0
        self._under_way = 0  # seq of the record that waits for its answer
        self._timer: Event | None = None
        self._sent_s = -_WINDOW_S

    # -- power -------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        self.is_on = True
        self.reset()

    def power_off(self) -> None:
        self.is_on = False
        self._life += 1

    def reset(self) -> None:
        """Another life begins, once the program has started."""
        self._life += 1
        self.boots += 1
        self._forget()
        self.after(_BOOT_S, self.start)

    def start(self) -> None:
        self.is_awake = True
        self.after(_SET_AFTER_S, self._measure)
        self.poll()

    def after(self, delay_s: float, action: Callable[[], None]) -> Event:
        """Then, unless this life has ended."""
        life = self._life
        return self.world.after(delay_s, lambda: action() if life == self._life else None)

    @property
    def now_unix(self) -> int:
        return self.world.unix_ms() // 1000

    # -- records -----------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        self.measured()
        # On the raster, as the firmware does it: a street of them speaks at nearly the same moment.
        left_s = self.report_s - self.world.now_s % self.report_s
        self.after(left_s + self.rng.uniform(0, _JITTER_S), self._measure)

    def measured(self) -> None:
        schema = readings.schema(SCHEMA)
        body = _body(len(schema.series))
        self._keep(False, messages.Readings(SCHEMA, self.next_seq, 0, self.now_unix, body, None))

    def keep_event(self, code: int, detail: list[int]) -> None:
        now = (self.now_unix, messages.SYNCHRONISED)
        self._keep(True, messages.Event(self.next_seq, 0, *now, code, messages.NOTE, detail, None))

    def _keep(self, is_event: bool, message: messages.Readings | messages.Event) -> None:
        self.waiting[self.next_seq] = (self.channel.epoch, is_event, message)
        self.next_seq += 1
        if self._timer is None and self.is_awake:
            self.poll()

    # -- up ----------------------------------------------------------------------------------------------------------

    def send(self, message: messages.Up, name: str) -> None:
        """Nothing waits for an answer to it."""
        self._write(self.channel.seal(message), name)

    def _write(self, frame: bytes, name: str) -> None:
        self.frames_sent += 1
        self._sent_s = self.world.now_s
        self.log.append(name)
        self.line.up(frame)

    def poll(self) -> None:
        """Send what is due, one frame."""
        self._stop_waiting()
        if self.must_hello or self.channel.epoch is None:
            self._send_hello()
        elif self.waiting:
            self._send_record()

    @property
    def firmware(self) -> str:
        return "0.1.0"

    def hello(self) -> messages.Hello:
        oldest = min(self.waiting, default=self.next_seq)
        channel = self.channel
        return messages.Hello(
            max(channel.dn_piv, 0), channel.epoch, oldest, self.next_seq, NODE_TYPE, "virtual", self.firmware,
            self.boots, 1,
        )  # fmt: skip

    def _send_hello(self) -> None:
        is_join = self.channel.epoch is None or self._unanswered >= JOIN_AFTER
        self._is_joining = self._is_joining or is_join
        frame = b""  # a day of these from a thousand nodes: where nobody is, nobody looks at a byte of them
        if not is_join:
            frame = self.channel.seal(self.hello()) if self.line.is_heard else b""
        elif self.line.is_heard:
            frame = self._join.start(self.rng.randbytes(NONCE_SIZE), self.hello())
        self._write(frame, "join" if is_join else "hello")
        self._await()

    def _send_record(self) -> None:
        events = [seq for seq, (_, is_event, _) in self.waiting.items() if is_event]
        self._under_way = seq = events[0] if events else next(iter(self.waiting))
        epoch, _, message = self.waiting[seq]
        named = None if epoch in (None, self.channel.epoch) else epoch
        held = seq - min(self.waiting)
        self._write(self.channel.seal(message._replace(held=held, epoch=named)), _name(message))
        self._await()

    def _await(self) -> None:
        spacing_ms = min(ANSWER_MS << min(self._unanswered, 5), SPACING_MAX_MS)
        self._timer = self.after(spacing_ms * (1 + self.rng.random() / 4) / 1000, self._time_is_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        self._unanswered += 1
        if not self.must_hello and self._unanswered >= SILENT_AFTER:
            self.must_hello = True
            self._unanswered = 0
        self.poll()

    def _answered(self) -> None:
        self._stop_waiting()
        self._unanswered = self._under_way = 0
        self._timer = self.after(TURNAROUND_MS / 1000, self.poll)

    # -- down --------------------------------------------------------------------------------------------------------

    def hear(self, frame: bytes) -> None:
        """A frame came over the line; one that is not to be believed changes nothing."""
        if not self.is_on or not self.is_awake:
            return
        try:
            header = envelope.parse(frame, envelope.KID_DOWN)
            if self._is_joining and self._hear_join(header, frame):
                return
            message = self.channel.open(header, frame)
        except WireError:
            return
        self._is_joining = False
        self.act(message)

    def _hear_join(self, header: envelope.Header, frame: bytes) -> bool:
        try:
            reply = self._join.receive(header, frame, self.rng.randbytes(NONCE_SIZE), self.hello())
        except WireError:
            return False
        if reply is not None:
            self._write(reply, "join")
            return True
        self.channel.begin(self._join.agreed, self._join.ack_piv)
        epoch = self.channel.epoch
        self.waiting = {
            seq: (epoch if of is None else of, is_event, message)
            for seq, (of, is_event, message) in self.waiting.items()
        }
        self._is_joining = False
        if self._join.ack is not None:
            self.act(self._join.ack)
        return True

    def act(self, message: messages.Down) -> None:
        if self.must_hello:
            self.must_hello = False
            self._answered()
        if isinstance(message, messages.Ack):
            self._acknowledged(message)
        elif isinstance(message, messages.Ping):
            self.send(
                messages.Status(max(self.channel.dn_piv, 0), self.now_unix, messages.SYNCHRONISED, {}),
                "status",
            )

    def is_timely(self, answers: int) -> bool:
        """Whether a downlink that changes something answers what was sent last, just now."""
        return answers == self.channel.piv and self.world.now_s - self._sent_s < _WINDOW_S

    def _acknowledged(self, ack: messages.Ack) -> None:
        epoch = self.channel.epoch if ack.epoch is None else ack.epoch
        for seq, (of, _, _) in list(self.waiting.items()):
            is_in_run = any(first <= seq < first + count for first, count in ack.runs)
            if of == epoch and (seq <= ack.cum or is_in_run):
                del self.waiting[seq]
                self.acknowledged += 1
        if self._under_way and self._under_way not in self.waiting:
            self._answered()


@functools.cache
def _body(series: int) -> bytes:
    """One set like any other: what it says is not what this is about."""
    return readings.encode(readings.schema(SCHEMA), messages.SYNCHRONISED, (0,), ((1,) * series,))


def _name(message: messages.Readings | messages.Event) -> str:
    if isinstance(message, messages.Readings):
        return "readings"
    return f"event {message.code} {message.detail}"
