"""What goes up over LoRa, and when: as on a serial line (uplink.py), and what the air adds (SPEC.md section 7.4).

Most frames of readings want no answer. Nobody knows whether those came until the gateway says so, in answer to the next
frame that asks: what it leaves out of that ack is backlog. Everything else is sent until it is answered, in spaces that
grow and are never quite the same, for hundreds of nodes may have begun at the same moment.
"""

from struct import calcsize, pack, unpack_from

from firmware.outbox import EVENTS, READINGS
from firmware.uplink import TURNAROUND_MS, Uplink
from protocols.wire import cbor
from protocols.wire.limits import MAX_BODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.lora import Lora
    from firmware.outbox import Record
    from protocols.wire.messages import Ack, Up

# Between two tries: so much doubled each time and up to twice that; an event up to half a minute, all else two hours.
SPACING_MS = 4000
_EVENT_DOUBLED_MAX = 2
# Where there is one channel, an event that was lost twice is one of many, and all of these are in each other's way: one
# doubling is skipped, and there is one more.
_ALONE_TRIES = 2
_DOUBLED_MAX = 10
# One frame of fresh readings in so many asks for an answer, and one after so long without any.
ASK_EVERY = 4
ASK_AFTER_S = 6 * 3600
# Unanswered frames before hellos go out instead, and before a node that sleeps leaves the gateway alone: in a flood,
# it is the others that are in the way.
SILENT_AFTER = 8
# With an event that waits it goes on for so many: a flood may last five minutes.
EVENT_TRIES = 12
# A report is put off by up to a twelfth of its time: sets stand on the raster of the clock, on every node.
_JITTER_OF = 12
_JITTER_MAX_S = 300
# flag, kid and tag; the PIV comes on top.
_ENVELOPE_BYTES = 11
_QUIET_MS = 60000
_ASIDES_MAX = 2
_SLOT = "air"
# readings from here on may not have come | heard at | frames since || latest set kept at, seldom
_REST = ">IIBIB"


class AirUplink(Uplink):
    def __init__(self, *parts: "Any") -> None:
        Uplink.__init__(self, *parts)
        self.air: "Lora" = self.carrier  # type: ignore[assignment]
        self.air.on_sent = self._sent
        self._unsure_from = self.fresh_from  # readings from there to fresh_from were sent and not asked after
        self._unasked = 0  # such frames since an answer
        self._heard_at_s = self.clock.uptime_s()
        self._kept_at_s = 0  # uptime when the latest set was kept; 0: there was none
        self._is_rare = (
            True  # sets come so seldom that the fourth would be late with the news that one is missing
        )
        self._is_confirmed = True  # the frame under way
        self._asides: "list[Up]" = []
        self._is_aside = False  # the frame under way is the first of these
        self._piv_bytes = 2

    @property
    def has_given_up(self) -> bool:
        if not self.tries_max or self.attempts < SILENT_AFTER:
            return False
        return self.attempts >= EVENT_TRIES or self._unacked(EVENTS, 0) is None

    # -- what happens around it -----------------------------------------------------------------------------

    def kept_set(self, seq: int, report_s: int) -> None:
        now_s = self.clock.uptime_s()
        self._is_rare = not self._kept_at_s or now_s - self._kept_at_s > ASK_AFTER_S // ASK_EVERY
        self._kept_at_s = now_s
        jitter_s = min(report_s // _JITTER_OF, _JITTER_MAX_S)
        Uplink.kept_set(self, seq, report_s + jitter_s * self.hal.random(1)[0] // 256)

    def hurry(self) -> None:
        Uplink.hurry(self)
        # Spaces after a hello or a status become hours long; what hurries waits for none of them.
        if not self.is_answered and (self.must_hello or self._is_aside):
            self.unanswered = 0
            self.waiting = False

    def heard(self) -> None:
        self.air.answered()
        self._heard_at_s = self.clock.uptime_s()
        self._unasked = 0
        if self._is_aside:
            self._is_aside = False
            self._asides.pop(0)
            self._answered()
        Uplink.heard(self)

    def acknowledged(self, ack: "Ack") -> None:
        Uplink.acknowledged(self, ack)
        if ack.epoch is None:
            # It tells of all that had been sent: what is not in it did not come.
            self._unsure_from = self.fresh_from

    def send_aside(self, message: "Up") -> None:
        """Queue it: it goes when no event waits, and until it is answered. A new one replaces one of its kind."""
        # By name: what the class is in may have been loaded anew since (wire/update.py).
        kept = [aside for aside in self._asides if type(aside).__name__ != type(message).__name__]
        if self._is_aside and kept[:1] != self._asides[:1]:
            self._is_aside = False
        self._asides = kept[: _ASIDES_MAX - 1] + [message]

    # -- sending --------------------------------------------------------------------------------------------

    def poll(self) -> int:
        wait_ms = self._turn() if self.air.is_idle else _QUIET_MS
        # An exchange has its own moments, long before the next frame may go.
        return wait_ms if self.air.is_idle else min(wait_ms, self.air.wait_ms())

    def _turn(self) -> int:
        """Send what is next, if anything may be; milliseconds until more may."""
        air = self.air
        self._conclude()
        held_s = air.held_s()
        if held_s:
            return min(held_s * 1000, _QUIET_MS)
        if self.waiting and self._left_ms() <= 0:
            self._time_was_up()
        if self._asides and not self.waiting and self._may_turn_aside():
            return self._send_first_aside()
        return Uplink.poll(self)

    def send_hello(self) -> int:
        """Every other time an event goes in the place of a hello: its answer says as much, and it is half as long."""
        record = self._unacked(EVENTS, 0)
        if record is None or self.session.epoch is None or self.unanswered & 1:
            return Uplink.send_hello(self)
        return self._send_record(EVENTS, record)

    def next_record(self) -> "tuple[int, Record | None]":
        lane, record = Uplink.next_record(self)
        if record is None or lane == EVENTS:
            return lane, record
        if self._unsure_from <= record.seq < self.fresh_from:
            return lane, None
        items = cbor.loads(record.payload)
        # All of a message but its body: two bytes stand for the length of that.
        rest = [1, items[0], record.seq, self.outbox.held(record.seq), items[1], 0xFF]
        if record.epoch != self.session.epoch:
            rest.append(record.epoch)
        self.room = min(MAX_BODY, self.air.room - _ENVELOPE_BYTES - self._piv_bytes - len(cbor.dumps(rest)))
        return lane, record

    def write(self, frame: bytes) -> None:
        self._is_confirmed = self._must_confirm() or len(frame) > self.air.room
        self._piv_bytes = frame[0] & 7
        self.air.send(frame, self._is_confirmed)
        self.health.frames_sent += 1
        self._is_aside = False
        if not self._is_confirmed:
            self._unasked += 1
            self.fresh_from = self.last + 1
            self.tried = (-1, 0)

    def spacing_ms(self) -> int:
        """Doubled with each answer that did not come, and up to as much again."""
        if not self._is_confirmed:
            return TURNAROUND_MS
        doubled, most = self.attempts, _DOUBLED_MAX
        if self._unacked(EVENTS, 0) is not None:
            most = _EVENT_DOUBLED_MAX
            if self.air.channels == 1 and doubled >= _ALONE_TRIES:
                doubled, most = doubled + 1, most + 1
        spacing_ms = SPACING_MS << min(doubled, most)
        return spacing_ms + (spacing_ms * self.hal.random(1)[0] >> 8)

    def _sent(self) -> None:
        """The windows count from the end of the uplink, and so does the time in which its answer is believed."""
        self.session.sent(self.session.latest_piv)

    def _must_confirm(self) -> bool:
        return (
            self.must_hello
            or self.lane != READINGS
            or self.first < self.fresh_from
            or self._is_rare
            or self._unasked >= ASK_EVERY - 1
            or self.clock.uptime_s() - self._heard_at_s >= ASK_AFTER_S
        )

    def _conclude(self) -> None:
        """What became of the exchange that is over."""
        air = self.air
        if air.has_failed:
            air.has_failed = False
            self.attempts += 1
            self.waiting = False
            if not self._is_confirmed:
                self._take_back()
        elif not self._is_confirmed:
            self.waiting = False
        self._is_confirmed = True

    def _take_back(self) -> None:
        """The report under way did not even go out: its sets are as fresh as before."""
        self.fresh_from = self.first
        self.lane = -1
        self._unasked -= 1

    def _left_ms(self) -> int:
        return self.wait_ms - self.clock.ticks_diff(self.clock.ticks_ms(), self.wait_from_ms)

    def _time_was_up(self) -> None:
        self.waiting = False
        self._is_aside = False
        if self.is_answered:
            return
        self.unanswered += 1
        self.attempts += 1
        if not self.must_hello and self.unanswered >= SILENT_AFTER:
            self.must_hello = True
            self.unanswered = 0

    # -- between the records --------------------------------------------------------------------------------

    def _may_turn_aside(self) -> bool:
        return not (
            self.must_hello
            or self.has_given_up
            or self.session.epoch is None
            or self._unacked(EVENTS, 0) is not None
        )

    def _send_first_aside(self) -> int:
        self.lane = -1
        self.write(self.session.seal(self._asides[0]))
        self._is_aside = True
        return self._await(self.spacing_ms())

    # -- over a deep sleep -----------------------------------------------------------------------------------

    def quiet_ms(self) -> int:
        """The windows are all there is: nothing comes after an exchange."""
        return _QUIET_MS if self.air.is_idle else 0

    def rest_s(self) -> int:
        if self.air.has_failed:
            return 0  # what follows from that comes first
        held_s = self.air.held_s()
        if held_s and self.air.is_idle:
            return held_s
        return 0 if self._asides and self._may_turn_aside() else Uplink.rest_s(self)

    def rest(self) -> "tuple[int, int, int, int]":
        """What the air adds is kept in a slot of its own."""
        kept = pack(
            _REST, self._unsure_from, self._heard_at_s, self._unasked, self._kept_at_s, int(self._is_rare)
        )
        self.hal.cache.save(_SLOT, kept + self.air.rest())
        return Uplink.rest(self)

    def resume(self, must_hello: int, report_at_s: int, fresh_from: int, newest_set: int) -> None:
        Uplink.resume(self, must_hello, report_at_s, fresh_from, newest_set)
        kept = self.hal.cache.load(_SLOT)
        if kept:
            self.hal.cache.save(_SLOT, b"")  # once: time on the air must not be forgotten
            found = unpack_from(_REST, kept)
            self._unsure_from, self._heard_at_s, self._unasked, self._kept_at_s = found[:4]
            self._is_rare = found[4] != 0
            self.air.resume(kept[calcsize(_REST) :])
