"""What goes up next, and when: hello first, then events, then fresh readings, then the backlog from its oldest record.

One frame is under way at a time, until the gateway has answered it or its time is up; an event does not wait for that.
What the gateway has is known from the outbox alone (acks are state, not replies to frames), so a lost ack or frame
costs a repetition and nothing else. Repetitions are spaced wider and wider, with jitter, so that a street of nodes
whose gateway was gone does not return in step. After a few without an answer only hellos go out, and after a few of
those the first hello of a join, which wears no flash: a gateway may be away for months.
"""

import gc

from firmware.outbox import EVENTS, READINGS
from protocols.wire.errors import WireError
from protocols.wire.limits import MAX_BODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware.carrier import Carrier
    from firmware.hal import Hal
    from firmware.health import Health
    from firmware.outbox import Outbox, Record
    from firmware.session import Session
    from protocols.wire.messages import Ack, Hello, Up

# How long a gateway may take to commit and answer on a serial line, with room for a slow SD card.
ANSWER_MS = 2000
# After an answer the gateway may still have a word (a time, a command) to the same uplink: sending the next one would
# make that late.
TURNAROUND_MS = 40
SPACING_MAX_MS = 60000
# Unanswered frames before the link counts as silent and hellos go out instead; unanswered hellos before joins do.
SILENT_AFTER = 3
JOIN_AFTER = 3
# A node that sleeps goes on for so many while an event waits, half a minute, on a line that may lose nearly everything;
# the spaces are doubled so often.
EVENT_TRIES = 6
_EVENT_DOUBLED_MAX = 2
# Acks that came after a record was sent and left it out, before it stands aside for a while: it may have met a
# conflict. Time-outs do not count: they tell of the line, not of the record.
LEFT_OUT_MAX = 4
ASIDE_S = 600
_DAY_S = 86400


class Uplink:
    """On a serial line. Over LoRa it is an AirUplink (air_uplink.py): what that changes has no underscore."""

    def __init__(
        self,
        hal: "Hal",
        carrier: "Carrier",
        outbox: "Outbox",
        session: "Session",
        health: "Health",
        hello: "Callable[[], Hello]",
    ) -> None:
        self.hal = hal
        self.carrier = carrier
        self.clock = hal.clock
        self.outbox = outbox
        self.session = session
        self.health = health
        self._hello = hello
        self.fresh_from = outbox.next_seq  # readings below are backlog
        self.newest_set = 0
        self.report_at_s = -1  # uptime at which the fresh sets are due; -1: there are none
        self.must_hello = True
        self.unanswered = 0  # frames in a row
        self.attempts = 0  # frames in a row that nobody answered, whatever went out between them
        self.tries_max = 0  # attempts after which nothing more is sent, until hurry(); 0: it goes on for ever
        # When a frame last went up or came down; at first long ago.
        self._moved_at_ms = self.clock.ticks_ms() - SPACING_MAX_MS
        self.room = MAX_BODY  # for the sets of a message
        self.last = 0  # seq of the latest set under way
        self.waiting = False
        self.is_answered = False  # what is waited for is the turn-around
        self.wait_from_ms = 0
        self.wait_ms = 0
        self.lane = -1  # of the frame under way; -1: it holds no records
        self.first = 0
        self.tried = (-1, 0)  # lane and seq of the record that was sent last
        self._left_out = 0  # acks that left it out
        self._sent_since_ack = False
        # Per lane: first and last seq of what stands aside, and until when (uptime).
        self._aside = [(0, 0, 0), (0, 0, 0)]

    @property
    def is_silent(self) -> bool:
        """Whether nobody seems to listen."""
        return self.must_hello

    @property
    def has_given_up(self) -> bool:
        """Whether it leaves the gateway alone for now."""
        if not 0 < self.tries_max <= self.attempts:
            return False
        return self.attempts >= EVENT_TRIES or self._unacked(EVENTS, 0) is None

    # -- what happens around it -----------------------------------------------------------------------------

    def kept_set(self, seq: int, report_s: int) -> None:
        """A set is in the outbox; it may wait that long for others to go with it."""
        self.newest_set = seq
        if self.report_at_s < 0:
            self.report_at_s = self.clock.uptime_s() + report_s

    def hurry(self) -> None:
        """Fresh sets go now: one of them raised an alarm, or somebody asked for it."""
        self.attempts = 0
        self.report_at_s = self.clock.uptime_s()

    def heard(self) -> None:
        """An authentic downlink came: somebody listens."""
        if self.must_hello:
            # What gathered in the silence is backlog; what the city waits for is the present state.
            self.must_hello = False
            if self.newest_set >= self.fresh_from:
                self.fresh_from = self.newest_set
                self.hurry()
            self._answered()
        self.unanswered = 0
        self.attempts = 0
        self._moved_at_ms = self.clock.ticks_ms()

    def acknowledged(self, ack: "Ack") -> None:
        """Take an ack in."""
        epoch = self.session.epoch if ack.epoch is None else ack.epoch
        if epoch is None or ack.cum is None:
            return
        if self.outbox.acknowledge(epoch, ack.cum, ack.runs):
            # What the gateway lost goes up in one ascending order behind what is measured from now on.
            self.fresh_from = self.outbox.next_seq
        self._judge_tried()
        if self.lane < 0 or not self.waiting:
            self._answered()
            return
        left = self.outbox.next_unacked(self.lane, self.first - 1)
        if left is None or left.seq != self.first:
            self._answered()

    def _judge_tried(self) -> None:
        """Whether the gateway, which answers, takes the record that was sent last."""
        lane, seq = self.tried
        if lane < 0:
            return
        left = self.outbox.next_unacked(lane, seq - 1)
        if left is None or left.seq != seq:
            self.tried = (-1, 0)
        elif self._sent_since_ack:
            self._sent_since_ack = False
            self._left_out += 1
            if self._left_out >= LEFT_OUT_MAX:
                self.tried = (-1, 0)
                self._stand_aside(lane, seq)

    # -- over a deep sleep -----------------------------------------------------------------------------------

    def quiet_ms(self) -> int:
        """Since a frame last went up or came down."""
        return self.clock.ticks_diff(self.clock.ticks_ms(), self._moved_at_ms)

    def rest_s(self) -> int:
        """Seconds until there is something to send, 0 when something is under way; a day when there is nothing."""
        if self.waiting or self.must_hello or self.session.epoch is None:
            return 0
        if self.next_record()[1] is not None:
            return 0
        return _DAY_S if self.report_at_s < 0 else max(0, self.report_at_s - self.clock.uptime_s())

    def rest(self) -> "tuple[int, int, int, int]":
        """What resume() needs after a deep sleep that begins now."""
        return int(self.must_hello), self.report_at_s, self.fresh_from, self.newest_set

    def resume(self, must_hello: int, report_at_s: int, fresh_from: int, newest_set: int) -> None:
        """After a deep sleep: nobody need be told that this node woke up."""
        self.must_hello = must_hello != 0
        self.report_at_s, self.fresh_from, self.newest_set = report_at_s, fresh_from, newest_set

    # -- sending --------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Send what is due, one frame at most; milliseconds until there may be more to do."""
        if self.waiting:
            left_ms = self.wait_ms - self.clock.ticks_diff(self.clock.ticks_ms(), self.wait_from_ms)
            if left_ms > 0 and not self._event_overtakes():
                return left_ms
            if left_ms <= 0:
                self._time_is_up()
        if self.has_given_up:
            return SPACING_MAX_MS
        if self.must_hello or self.session.epoch is None:
            return self.send_hello()
        lane, record = self.next_record()
        if record is None:
            return self._until_report_ms()
        return self._send_record(lane, record)

    def send_aside(self, message: "Up") -> None:
        """Send a status or a settings report between the records; nothing waits for its answer."""
        if self.session.epoch is not None:
            self.write(self.session.seal(message))

    def send_hello(self) -> int:
        hello = self._hello()
        if self.session.epoch is None or self.unanswered >= JOIN_AFTER:
            self.write(self.session.start_join(hello))
        else:
            self.write(self.session.seal(hello))
        self.lane = -1
        return self._await(self.spacing_ms())

    def _send_record(self, lane: int, record: "Record") -> int:
        try:
            if self.tried != (lane, record.seq):
                self.tried = (lane, record.seq)
                self._left_out = 0
            self._sent_since_ack = True
            message = self._message_of(lane, record)
            frame = self.session.seal(message)
        except (WireError, LookupError, TypeError, ValueError) as exc:
            # A record that this firmware cannot put on the wire, as of a release that was rolled back, must not stop
            # those behind it; it waits for one that can.
            self.hal.log("record %d stands aside: %r" % (record.seq, exc))
            self._stand_aside(lane, record.seq)
            return 0
        again = lane == self.lane and record.seq == self.first
        self.health.frames_resent += again
        self.lane = lane
        self.first = record.seq
        self.write(frame)
        return self._await(self.spacing_ms())

    def _message_of(self, lane: int, record: "Record") -> "Up":
        epoch = self.session.epoch
        assert epoch is not None
        from firmware import telling  # on the heap for this moment only

        try:
            if lane == EVENTS:
                return telling.event_message(self.outbox, record, epoch)
            # Alone once it was left out: it may be a later set of its batch that the gateway does not take, and on a
            # bad line a short frame has the better chance.
            alone = self._left_out > 0
            try:
                message, self.last = telling.readings_message(
                    self.outbox, record, epoch, lane, alone, self.room
                )
            except MemoryError:
                # What codes batches and its sets found no room between all else. A set alone needs little, and each
                # one that is acknowledged makes some: a node that only tried again would starve on its own backlog.
                gc.collect()
                self.hal.log("no room to code a batch: set %d goes alone" % record.seq)
                message, self.last = telling.readings_message(
                    self.outbox, record, epoch, lane, True, self.room
                )
            return message
        finally:
            telling.close()

    def write(self, frame: bytes) -> None:
        self.carrier.send(frame, True)
        self.health.frames_sent += 1
        self._moved_at_ms = self.clock.ticks_ms()

    # -- choosing -------------------------------------------------------------------------------------------

    def next_record(self) -> "tuple[int, Record | None]":
        record = self._unacked(EVENTS, 0)
        if record is not None:
            return EVENTS, record
        if 0 <= self.report_at_s <= self.clock.uptime_s():
            record = self._unacked(READINGS, self.fresh_from - 1)
            if record is not None:
                return READINGS, record
            self.report_at_s = -1
        record = self._unacked(READINGS, 0)
        if record is not None and record.seq >= self.fresh_from:
            record = None
        return READINGS, record

    def _unacked(self, lane: int, after: int) -> "Record | None":
        first, last, until_s = self._aside[lane]
        record = self.outbox.next_unacked(lane, after)
        if record is not None and first <= record.seq <= last and self.clock.uptime_s() < until_s:
            record = self.outbox.next_unacked(lane, last)
        return record

    def _event_overtakes(self) -> bool:
        """An event need not wait for the answer to a frame of readings; but nothing overtakes a hello."""
        if self.must_hello or self.lane != READINGS:
            return False
        return self._unacked(EVENTS, 0) is not None

    def _until_report_ms(self) -> int:
        if self.report_at_s < 0:
            return SPACING_MAX_MS
        return max(1, min(self.report_at_s - self.clock.uptime_s(), SPACING_MAX_MS // 1000) * 1000)

    # -- pacing ---------------------------------------------------------------------------------------------

    def _await(self, ms: int) -> int:
        self.waiting = True
        self.is_answered = False
        self.wait_from_ms = self.clock.ticks_ms()
        self.wait_ms = ms
        return ms

    def _answered(self) -> None:
        """The frame under way is done with; leave the gateway its word."""
        self.unanswered = 0
        self.lane = -1
        self._await(TURNAROUND_MS)
        self.is_answered = True

    def _time_is_up(self) -> None:
        self.waiting = False
        if self.is_answered:
            return
        self.unanswered += 1
        self.attempts += 1
        if self.must_hello:
            return
        if self.unanswered >= SILENT_AFTER:
            self.must_hello = True
            self.unanswered = 0

    def _stand_aside(self, lane: int, seq: int) -> None:
        """Let what is behind this record pass; what stands aside already goes on doing so."""
        now_s = self.clock.uptime_s()
        first = last = seq
        old_first, old_last, until_s = self._aside[lane]
        if now_s < until_s:
            first = min(first, old_first)
            last = max(last, old_last)
        self._aside[lane] = (first, last, now_s + ASIDE_S)

    def spacing_ms(self) -> int:
        """The time an answer may take, doubled with each that did not come, and a quarter of it at random on top."""
        is_event = self.tries_max and self._unacked(EVENTS, 0) is not None
        doubled = min(self.unanswered, _EVENT_DOUBLED_MAX if is_event else 5)
        spacing_ms = min(ANSWER_MS << doubled, SPACING_MAX_MS)
        return spacing_ms + spacing_ms * self.hal.random(1)[0] // 1024
