"""Frames over LoRa: a carrier (carrier.py) that keeps to SPEC.md sections 7.2 to 7.4, step by step and never waiting.

An exchange is one frame up, in fragments if it must, and the windows after it, in which the gateway may answer:

    send() -> busy channel: back off -> on the air -> 1 s, 2 s: windows -> 0.4 s after each downlink: another -> idle

The driver (radios/) listens before it talks and asks the law; here is what to do about their answers. When this node
gets none from its gateway, it speaks up: with full power, then with a higher spreading factor.
"""

from struct import calcsize, pack, unpack_from

from firmware.modules import forget
from firmware.radios import BAD, BUSY, FAULT, HEARD, SENT
from firmware.settings import RADIO_DBM, RADIO_SF
from protocols.wire.airtime import AirRefused, lora, time_on_air_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from firmware.hal.clock import Clock
    from firmware.radios import Event
    from firmware.settings import Settings
    from protocols.wire.fragments import Collector
    from protocols.wire.law import Law

# Windows, from the end of the uplink or of the downlink before.
FIRST_MS = 1000
SECOND_MS = 2000
NEXT_MS = 400
# Listening begins and ends so much off: what a gateway (10 ms) and a node that looks every LOOK_MS may be.
EARLY_MS = 60
LOOK_MS = 10
# The radio is woken so much before: until the end of an uplink is noticed, and its oscillator is steady.
_READY_MS = 20
CHAIN_MAX = 16
# A receiver with one radio reads the fragment before out of its chip.
_BETWEEN_FRAGMENTS_MS = 50
# Times that a channel may be found busy before the frame has to wait for its next turn: half a minute at SF10.
_BUSY_MAX = 8
_BUSY_DOUBLED_MAX = 5
_BACK_OFF_MS = 100
# Exchanges in a row without an answer, each time a spreading factor is added. Few would do for a node that is too far
# away; in a flood, where hundreds speak at once, slower packets are what makes it worse.
LOUDER_EVERY = 8
# A flood is over by then: what lasts longer is distance.
FLOOD_S = 900
# After a fault of the radio, or a channel that did not become free: before anything is tried again.
_FAULT_S = 30
_PATIENCE_MS = 10000
_SF_MIN = 7
# What the first byte says of a packet (protocols/wire/fragments.py, which is loaded when there are fragments).
_KIND = 0xE0
_WANTS_ANSWER = 0x20
_FRAGMENT = 0xE0
_KID_CONTEXT = 0x10
# spreading factor, dBm, those set || unanswered, tag, airtime ms, held back, RSSI, SNR || held until, silent from
_REST = ">BbBbBBIHhhII"
_NOT_HEARD = -32768

_IDLE = 0
_BACKING_OFF = 1
_SENDING = 2
_BETWEEN = 3  # the uplink, or a downlink, and the next window
_LISTENING = 4


class Lora:
    """``plan``: number, first channel, channels, fixed spreading factor or 0, as in the identity.

    ``dbm_max``: what plan and board allow. ``sf`` and ``dbm`` are those in force; ``has_failed``: what send() was given
    last did not go out.
    """

    def __init__(
        self,
        radio: "Any",
        law: "Law",
        clock: "Clock",
        random: "Callable[[int], bytes]",
        address: int,
        plan: "tuple[int, int, int, int]",
        dbm_max: int,
    ) -> None:
        self._radio = radio
        self._law = law
        self._clock = clock
        self._random = random
        self._address = address
        self._plan = plan
        self._dbm_max = dbm_max
        self.on_sent: "Callable[[], None]" = lambda: None
        self.line_errors = 0  # packets that were none of ours, or spoilt
        self.has_failed = False
        self.airtime_ms = 0
        self.held_back = 0
        self.rssi_dbm = _NOT_HEARD
        self.snr_tenth_db = 0
        self._tag = random(1)[0]
        self._unanswered = 0  # exchanges in a row that wanted an answer
        self._silent_from_s = 0  # uptime at the first of these
        self._held_until_s = 0  # uptime
        self._state = _IDLE
        self._from_ms = 0
        self._wait_ms = 0
        self._packets: "list[bytes]" = []
        self._wants = self._is_answered = False
        self._busy = 0  # times in a row
        self._at_sf = self._freq_hz = 0  # of this exchange
        self._ended_ms = 0  # ticks at the end of the uplink or of the latest downlink
        self._offset_ms = 0  # of the next window from there
        self._heard = 0  # downlinks in this exchange
        self._collector: "Collector | None" = None
        self._set = (0, 0)
        self.sf = plan[3] or _SF_MIN
        self.dbm = 0

    # -- what may be sent now --------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no exchange is under way: until then nothing else can be sent, and the node stays awake."""
        return self._state == _IDLE

    @property
    def is_busy(self) -> bool:
        return self._state > _BACKING_OFF

    @property
    def channels(self) -> int:
        return self._plan[2]

    @property
    def errors(self) -> int:
        """Faults of the radio."""
        return int(self._radio.errors)

    def health(self) -> "dict[int, int]":
        """What a status says of the air, by its keys (SPEC.md section 2.1)."""
        counters = {26: self.airtime_ms, 27: self.sf, 28: self.dbm, 29: self.held_back}
        if self.rssi_dbm != _NOT_HEARD:
            counters[24] = self.rssi_dbm
            counters[25] = self.snr_tenth_db
        return counters

    @property
    def room(self) -> int:
        """The largest frame that goes in one piece now."""
        return self._law.size_max(self.sf)

    def held_s(self) -> int:
        """Seconds for which nothing may be sent at all."""
        return max(0, self._held_until_s - self._clock.uptime_s())

    def apply(self, settings: "Settings") -> None:
        """Take the settings, if they have changed: what silence made of them is over then."""
        now = (self._plan[3] or settings[RADIO_SF], settings[RADIO_DBM])
        if now != self._set:
            self._set = now
            self.sf = min(now[0], self._law.sf_max)
            self.dbm = min(now[1], self._dbm_max)
            self._unanswered = 0

    def problem(self, sf: int, dbm: int) -> str:
        """Why these can not be set, or ""."""
        fixed = self._plan[3]
        if fixed and sf != fixed:
            return "this node was minted for SF%d alone" % fixed
        if sf > self._law.sf_max:
            return "SF%d: %s goes up to SF%d" % (sf, self._law.name, self._law.sf_max)
        if dbm > self._dbm_max:
            return "%d dBm: at most %d here" % (dbm, self._dbm_max)
        return ""

    # -- an exchange -----------------------------------------------------------------------------------------

    def send(self, frame: bytes, wants_answer: bool) -> None:
        """Begin an exchange. One that is under way ends: what answers in a window has the next uplink to itself."""
        if self._state != _IDLE:
            self._is_answered = True  # or there would be nothing to reply to
            self._end()
        self.has_failed = False
        self._is_answered = False
        self._wants = wants_answer
        self._busy = self._heard = 0
        self._pack(frame)
        self._pick_channel()
        self._transmit()

    def answered(self) -> None:
        """Something authentic came down."""
        self._is_answered = True
        self._unanswered = 0

    def poll(self) -> "list[bytes]":
        """Do what is due; the frames that have arrived."""
        state = self._state
        if state == _BACKING_OFF:
            if self._left_ms() <= 0:
                self._transmit()
        elif state == _BETWEEN:
            if self._left_ms() <= 0:
                self._open_window()
        elif state != _IDLE:
            event = self._radio.poll()
            if event is not None:
                return self._sent(event) if state == _SENDING else self._listened(event)
            if self._left_ms() < -_PATIENCE_MS:
                self._fail(_FAULT_S)
        return []

    def wait_ms(self) -> int:
        """Milliseconds until poll() has something to do."""
        left_ms = self._left_ms()
        if self._state in (_BACKING_OFF, _BETWEEN):
            return max(0, left_ms)
        if self._state == _SENDING and self._wait_ms - left_ms > (2 << self._at_sf) // 25:
            return max(LOOK_MS // 2, left_ms)  # nothing happens between the look at the channel and the end
        return LOOK_MS // 2

    # -- up --------------------------------------------------------------------------------------------------

    def _pack(self, frame: bytes) -> None:
        """The packets of a frame; 16 fragments hold any frame, at every spreading factor of a plan."""
        self._at_sf = self.sf
        if len(frame) <= self.room:
            self._packets = [bytes((frame[0] | _WANTS_ANSWER,)) + frame[1:] if self._wants else frame]
            return
        from protocols.wire import fragments

        self._wants = True
        self._tag = (self._tag + 1) & 0xFF
        self._packets = fragments.split(frame, self._address, self._tag, self.room)
        self._forget_fragments()

    def _pick_channel(self) -> None:
        _, first, count, _ = self._plan
        self._freq_hz = self._law.freq_hz(first + self._random(1)[0] % count)

    def _transmit(self) -> None:
        packet = self._packets[0]
        try:
            self._radio.start_send(self._freq_hz, self._at_sf, self.dbm, packet, False)
        except AirRefused as exc:
            self.held_back += 1
            self._fail(exc.wait_s or _FAULT_S)
            return
        self._go(_SENDING, self._air_ms(packet))

    def _sent(self, event: "Event") -> "list[bytes]":
        if event.kind == SENT:
            self.airtime_ms += self._air_ms(self._packets.pop(0))
            self._busy = 0
            if self._packets:
                self._go(_BACKING_OFF, _BETWEEN_FRAGMENTS_MS)
            else:
                self.on_sent()
                self._plan_window(event.at_ms, FIRST_MS)
        elif event.kind == BUSY:
            self._back_off()
        else:
            self._fail(_FAULT_S)
        return []

    def _back_off(self) -> None:
        """Somebody else speaks: later, and where there are several channels on another one."""
        if self._busy >= _BUSY_MAX:
            self.held_back += 1
            self._fail(1 + self._random(1)[0] // 32)
            return
        span_ms = (_BACK_OFF_MS + self._air_ms(self._packets[0])) << min(self._busy, _BUSY_DOUBLED_MAX)
        self._busy += 1
        self._pick_channel()
        self._radio.sleep()
        self._go(_BACKING_OFF, _BACK_OFF_MS // 2 + (span_ms * self._random(1)[0] >> 8))

    # -- down ------------------------------------------------------------------------------------------------

    def _plan_window(self, ended_ms: int, offset_ms: int) -> None:
        """Listen for what begins ``offset_ms`` after what ended then."""
        self._ended_ms = ended_ms
        self._offset_ms = offset_ms
        self._radio.sleep()
        self._go(_BETWEEN, 0)
        passed_ms = self._clock.ticks_diff(self._from_ms, ended_ms)
        self._wait_ms = offset_ms - EARLY_MS - _READY_MS - passed_ms

    def _open_window(self) -> None:
        passed_ms = self._clock.ticks_diff(self._clock.ticks_ms(), self._ended_ms)
        # A preamble of eight symbols that begins at the last moment is seen at its end.
        left_ms = self._offset_ms + EARLY_MS + (8 << self._at_sf) // 125 - passed_ms
        if left_ms <= 0:
            self._nothing()  # the node was kept from it
            return
        self._radio.start_listen(self._freq_hz, self._at_sf, True, left_ms)
        self._go(_LISTENING, left_ms)

    def _listened(self, event: "Event") -> "list[bytes]":
        if event.kind == HEARD and self._is_ours(event.payload):
            return self._hear(event)
        if event.kind == FAULT:
            self._end()  # the uplink is out
        else:
            if event.kind in (HEARD, BAD):
                self.line_errors += 1
            self._nothing()
        return []

    def _nothing(self) -> None:
        """Nothing for this node in that window."""
        if self._offset_ms == FIRST_MS:
            self._plan_window(self._ended_ms, SECOND_MS)
        else:
            self._end()

    def _hear(self, event: "Event") -> "list[bytes]":
        self.rssi_dbm = event.rssi_dbm
        self.snr_tenth_db = event.snr_tenth_db
        self._heard += 1
        if self._heard < CHAIN_MAX:
            self._plan_window(event.at_ms, NEXT_MS)
        else:
            self._end()
        frame: "bytes | None" = event.payload
        if event.payload[0] & _KIND == _FRAGMENT:
            frame = self._collect(event.payload)
        return [] if frame is None else [frame]

    def _collect(self, packet: bytes) -> "bytes | None":
        if self._collector is None:
            from protocols.wire.fragments import Collector

            self._collector = Collector(1)
        return self._collector.take(packet, self._clock.uptime_s())

    def _is_ours(self, packet: bytes) -> bool:
        """Whether a packet is for this node, as far as it says so itself: others are answered on this channel, too."""
        first = packet[0] if packet else 0xFF
        if first & _KIND == _FRAGMENT:
            at = 2
        elif first & _KIND:
            return False
        else:
            at = 1 + (first & 7)
            if first & _KID_CONTEXT and at < len(packet):
                at += 1 + packet[at]
        return int.from_bytes(packet[at : at + 2], "big") == self._address

    # -- its end ---------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """The exchange is over, with or without an answer."""
        self._radio.sleep()
        self._state = _IDLE
        self._packets = []
        if self._collector is not None:
            self._collector = None
            self._forget_fragments()
        if self._wants and not self._is_answered and not self.has_failed:
            if not self._unanswered:
                self._silent_from_s = self._clock.uptime_s()
            self._unanswered += 1
            self._speak_up()
        self._wants = False

    def _fail(self, pause_s: int) -> None:
        """What was to be sent did not go out; nothing is sent for so long."""
        self.has_failed = True
        self._held_until_s = self._clock.uptime_s() + pause_s
        self._end()

    def _speak_up(self) -> None:
        """SPEC.md section 7.4: who gets no answer to two in a row may be too quiet."""
        if self._unanswered == 2:
            self.dbm = self._dbm_max
        elif self._unanswered % LOUDER_EVERY == 0 and self._is_far() and self.sf < self._law.sf_max:
            self.sf += 1

    def _is_far(self) -> bool:
        """Whether it is distance, and not a flood, that keeps answers away."""
        if self._plan[3]:
            return False
        return self.rssi_dbm == _NOT_HEARD or self._clock.uptime_s() - self._silent_from_s >= FLOOD_S

    @staticmethod
    def _forget_fragments() -> None:
        forget("protocols.wire.fragments")

    # -- over a deep sleep -----------------------------------------------------------------------------------

    def rest(self) -> bytes:
        """What resume() needs after a deep sleep that begins now."""
        head = pack(
            _REST,
            self.sf,
            self.dbm,
            self._set[0],
            self._set[1],
            min(self._unanswered, 0xFF),
            self._tag,
            self.airtime_ms & 0xFFFFFFFF,
            min(self.held_back, 0xFFFF),
            self.rssi_dbm,
            self.snr_tenth_db,
            self._held_until_s,
            self._silent_from_s,
        )
        return head + self._law.rest(self._clock.uptime_s())

    def resume(self, rested: bytes) -> None:
        found = unpack_from(_REST, rested)
        if found[2:4] == self._set:
            self.sf, self.dbm = found[:2]
            self._unanswered = found[4]
        self._tag, self.airtime_ms, self.held_back, self.rssi_dbm, self.snr_tenth_db = found[5:10]
        self._held_until_s, self._silent_from_s = found[10:12]
        self._law.resume(self._clock.uptime_s(), rested[calcsize(_REST) :])

    # -- time ------------------------------------------------------------------------------------------------

    def _air_ms(self, packet: bytes) -> int:
        return time_on_air_us(lora(self._at_sf), len(packet)) // 1000 + 1

    def _go(self, state: int, wait_ms: int) -> None:
        self._state = state
        self._from_ms = self._clock.ticks_ms()
        self._wait_ms = wait_ms

    def _left_ms(self) -> int:
        return self._wait_ms - self._clock.ticks_diff(self._clock.ticks_ms(), self._from_ms)
