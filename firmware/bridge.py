"""A bridge: a board with a radio on a gateway's serial line (SPEC.md section 8). It is no node: it measures nothing,
keeps nothing and opens no frame.

What it hears it hands on at once, with the microsecond of its end. What it is given it sends at the stated microsecond,
as near as its clock allows, if the law does: it keeps the plan of its minting like any node. Nothing that comes down
the line can stop it: what is no message is skipped, what does not fit the queue is answered so.

Its image begins here and has none of a node in it (flash_tools/images.py).
"""

import sys
from struct import pack, unpack_from

from firmware import radios
from firmware.durable import read_file
from firmware.no_start import NoIdentity, WrongFirmware
from firmware.radios.sx126x import Sx126x
from firmware.spent import Spent
from protocols.wire import framing, identity
from protocols.wire.airtime import AirRefused
from protocols.wire.errors import DecodeError
from protocols.wire.law import Law

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal, RadioPort

FIRMWARE = "0.1.0"
NODE_TYPE = "bridge"
CHANNEL = 2  # of the serial framing
FORMAT = 1
HEARD, RESULT, STATE = 0x01, 0x02, 0x03
SEND, TUNE, ASK = 0x11, 0x12, 0x13
# How a packet to send ended.
SENT, TOO_LATE, TOO_EARLY, REFUSED, BUSY, FAULT, CUT_SHORT, ANOTHER = range(8)
_SEND_HEAD = ">BHIIBb"
_SEND_BYTES = 13

# Packets that wait for their moment: two windows of four nodes. A new one that finds no room is refused.
QUEUE_MAX = 8
# A window is 2 s after its uplink, and 16 downlinks may follow each other in it: who asks for more has a wrong clock.
_EARLY_US = 30_000_000
# A node listens 60 ms beyond the moment, by a clock that is a little off: what begins later than this is not heard.
_LATE_US = 10_000
_WAIT_US = 40_000
# SF7 to SF12 is what the driver speaks.
_SF_MIN, _SF_MAX = 7, 12
# The serial line is looked at this often; so late may the end of a packet be noticed.
_LOOK_MS = 2
_IDLE_MS = 100
# Pause before a radio that failed is tried again, doubled up to the longest.
_RETRY_MS, _RETRY_MAX_MS = 500, 60000
_MASK_32 = (1 << 32) - 1
_MASK_30 = (1 << 30) - 1
_DETAIL_MAX = 64
_NO_IDENTITY_MS = 10000
_PATH = "/identity"


class Bridge:
    """From a start to the next reset: begin(), then step() for ever, waiting as many milliseconds as each says."""

    def __init__(self, hal: "Hal") -> None:
        """NoIdentity, WrongFirmware: it can not be one."""
        self._hal = hal
        who = _identity(hal)
        hal.configure(who.board)
        port = hal.radio()
        if port is None or who.radio is None:
            raise NoIdentity("a bridge needs a board with a radio, and its plan; mint it with one")
        self._port: "RadioPort" = port
        self._plan_id, self._channel, _, self._sf = who.radio
        self._law = Law(self._plan_id, Spent(hal.state_fs))
        self._freq_hz = self._law.freq_hz(self._channel)
        self.radio = Sx126x(port, self._law, hal.clock)
        self._decoder = framing.Decoder(keep_log=False)
        # (id, at, freq, sf, dbm, packet), in no order.
        self._queue: "list[tuple[int, int, int, int, int, bytes]]" = []
        self._sending: "tuple[int, int, int, int, int, bytes] | None" = None
        self._was_sent = False  # something else was on the air since the queue was last empty
        self._is_listening = False
        self._retry_ms = _RETRY_MS
        self._failed_ms: "int | None" = None
        self._ticks = port.ticks_us()
        self._now_us = 0

    def begin(self) -> None:
        if not self.radio.begin():
            self._hal.log("the radio does not answer: the bridge goes on trying")
        self._tell_state()

    def step(self) -> int:
        """Milliseconds to the next, less when something arrives on the line."""
        self._count()
        data = self._hal.link.read()
        if data:
            for channel, payload in self._decoder.feed(data):
                if channel == CHANNEL and payload:
                    self._take(payload)
        event = self.radio.poll()
        self._count()
        if event is not None:
            self._happened(event)
        if self._sending is None:
            self._next()
        if self._sending is not None:
            return 1
        return _LOOK_MS if self._is_listening or self._queue else _IDLE_MS

    @property
    def is_idle(self) -> bool:
        """Whether it listens, and only a packet or the line can give it something to do."""
        return self._is_listening and not self._queue and self._sending is None

    # -- from the gateway ------------------------------------------------------------------------------------

    def _take(self, message: bytes) -> None:
        kind = message[0]
        if kind == SEND and len(message) > _SEND_BYTES:
            self._enqueue(message)
        elif kind == TUNE and len(message) == 6:
            self._tune(*unpack_from(">IB", message, 1))
        elif kind == ASK and len(message) == 1:
            self._tell_state()

    def _enqueue(self, message: bytes) -> None:
        _, number, at_us, freq_hz, sf, dbm = unpack_from(_SEND_HEAD, message)
        left_us = self._left_us(at_us)
        if not _SF_MIN <= sf <= _SF_MAX:
            self._tell(number, REFUSED, "SF%d: SF7 to SF12 are known" % sf)
        elif left_us > _EARLY_US:
            self._tell(number, TOO_EARLY, "%d ms ahead: at most %d" % (left_us // 1000, _EARLY_US // 1000))
        elif len(self._queue) >= QUEUE_MAX:
            self._tell(number, TOO_EARLY, "%d packets wait already" % QUEUE_MAX)
        else:
            self._queue.append((number, at_us, freq_hz, sf, dbm, message[_SEND_BYTES:]))

    def _tune(self, freq_hz: int, sf: int) -> None:
        """Listen there, if the plan has such a channel; the state says where it listens now."""
        if _SF_MIN <= sf <= _SF_MAX:
            for channel in range(self._law.channels):
                if self._law.freq_hz(channel) == freq_hz:
                    self._channel, self._freq_hz, self._sf = channel, freq_hz, sf
                    self._is_listening = False
                    break
        self._tell_state()

    # -- to the gateway --------------------------------------------------------------------------------------

    def _tell_state(self) -> None:
        self._count()
        head = pack(">BBBBBI", STATE, FORMAT, self._plan_id, self._channel, self._sf, self._now_us)
        self._write(head + FIRMWARE.encode())

    def _tell(self, number: int, code: int, detail: str = "") -> None:
        self._write(pack(">BHB", RESULT, number, code) + detail.encode()[:_DETAIL_MAX])

    def _write(self, message: bytes) -> None:
        self._hal.link.write(framing.encode(message, CHANNEL))

    # -- the radio -------------------------------------------------------------------------------------------

    def _happened(self, event: "radios.Event") -> None:
        kind = event.kind
        if kind == radios.HEARD:
            ended_us = self._now_us - (self._ticks - self.radio.raised_us & _MASK_30)
            head = (HEARD, ended_us & _MASK_32, self._freq_hz, self._sf, event.rssi_dbm, event.snr_tenth_db)
            self._write(pack(">BIIBhh", *head) + event.payload)
        elif kind == radios.FAULT:
            self._is_listening = False
            self._failed()
        elif kind == radios.BUSY and self._sending is not None:
            self._listened_in_vain(self._sending)
            return
        sending = self._sending
        if sending is None or kind not in (radios.SENT, radios.FAULT):
            return
        self._sending = None
        if kind == radios.SENT:
            self._was_sent = True
            self._retry_ms = _RETRY_MS
            self._tell(sending[0], SENT)
        else:
            self._tell(sending[0], FAULT, "the radio did not do as told")

    def _listened_in_vain(self, sending: "tuple[int, int, int, int, int, bytes]") -> None:
        """Somebody else is on the air: once more while it is heard by who waits for it, and then never."""
        self._sending = None
        if self._left_us(sending[1]) + _WAIT_US > self._shortest_us(sending[3]):
            self._send(sending)
        else:
            self._tell(sending[0], BUSY, "somebody else is on the air")

    def _next(self) -> None:
        """Begin what is due, or listen."""
        for waiting in list(self._queue):
            left_us = self._left_us(waiting[1])
            if left_us + _LATE_US < self._shortest_us(waiting[3]):
                self._queue.remove(waiting)
                if self._was_sent:
                    self._tell(waiting[0], ANOTHER, "another was sent instead")
                else:
                    self._tell(waiting[0], TOO_LATE, "%d ms before its time" % max(0, left_us // 1000))
        if not self._queue:
            self._was_sent = False
        for waiting in list(self._queue):
            if self._left_us(waiting[1]) < self.radio.lead_us(waiting[3]) + 1000 * _LOOK_MS:
                self._queue.remove(waiting)
                self._send(waiting)
                if self._sending is not None:
                    return
        if not self._is_listening:
            self._listen()

    def _send(self, waiting: "tuple[int, int, int, int, int, bytes]") -> None:
        number, at_us, freq_hz, sf, dbm, packet = waiting
        at_ticks = self._ticks + self._left_us(at_us) & _MASK_30
        try:
            self.radio.start_send(freq_hz, sf, dbm, packet, True, at_ticks)
        except AirRefused as exc:
            self._tell(number, REFUSED, "%s: %s" % (exc.rule, exc))
            return
        self._is_listening = False
        self._sending = waiting

    def _listen(self) -> None:
        if self._sf == 0 or not self._may_retry():
            return
        self.radio.start_listen(self._freq_hz, self._sf, False, 0)
        self._is_listening = True

    def _failed(self) -> None:
        self._failed_ms = self._hal.clock.ticks_ms()
        self._hal.log("radio fault %d, next try in %d ms" % (self.radio.errors, self._retry_ms))

    def _may_retry(self) -> bool:
        if self._failed_ms is None:
            return True
        clock = self._hal.clock
        if clock.ticks_diff(clock.ticks_ms(), self._failed_ms) < self._retry_ms:
            return False
        self._failed_ms = None
        self._retry_ms = min(2 * self._retry_ms, _RETRY_MAX_MS)
        return True

    # -- its time --------------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Bring the counter of 32 bits up to date; the port's ticks wrap after 17 minutes."""
        ticks = self._port.ticks_us()
        self._now_us = self._now_us + (ticks - self._ticks & _MASK_30) & _MASK_32
        self._ticks = ticks

    def _left_us(self, at_us: int) -> int:
        """Until then; negative when it has passed."""
        self._count()
        left_us = at_us - self._now_us & _MASK_32
        return left_us - (1 << 32) if left_us >> 31 else left_us

    def _shortest_us(self, sf: int) -> int:
        """What it takes at least to find the channel free and begin: the lead without its reserve."""
        return self.radio.lead_us(sf) - 10_000


def _identity(hal: "Hal") -> "identity.Identity":
    data = read_file(hal.state_fs, _PATH, 256)
    if data is None:
        raise NoIdentity("no file %s on the state partition; mint this bridge" % _PATH)
    try:
        who = identity.decode(data)
    except DecodeError as exc:
        raise NoIdentity("%s does not hold one (%s); mint this bridge again" % (_PATH, exc))
    if who.node_type != NODE_TYPE:
        raise NoIdentity("this is the image of a bridge, and the identity that of a %s node" % who.node_type)
    return who


def start(hal: "Hal") -> "Bridge":
    """A bridge, once it can be one; until then it can only say why not."""
    while True:
        try:
            bridge = Bridge(hal)
            bridge.begin()
            return bridge
        except NoIdentity as exc:
            hal.log("no identity: %s" % exc)
        except WrongFirmware as exc:
            hal.log("wrong firmware: %s" % exc)
        except AirRefused as exc:
            hal.log("no such air: %s" % exc)
        hal.idle(_NO_IDENTITY_MS)
        hal.feed_watchdog()


def loop(hal: "Hal", bridge: "Bridge") -> None:
    try:
        while True:
            hal.idle(bridge.step())
            hal.feed_watchdog()
    except BaseException as exc:  # whatever it is: said on the console, and the bridge begins anew
        show = getattr(sys, "print_exception", None)
        if show is not None:
            show(exc)
        hal.reset()
        raise


def run() -> None:
    """What the app image's main.py calls; does not return."""
    from firmware.hal.board import Board

    board = Board()
    loop(board, start(board))
