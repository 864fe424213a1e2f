"""A pass (OTA.md section 6): the life of a node that does nothing but receive an update, for a few minutes at most.

It is stepped like a node (main.py), and always ends with a reset into ordinary life: when the update is whole, when its
time is over, when nobody says anything, and as soon as an input is high that would wake this node from a sleep. What
came is in pieces.py, durable with each piece, so nothing is lost by an end at any moment. Here is the serial line;
receive_air.py has the windows of LoRa and broadcasts.
"""

from struct import calcsize, pack, unpack_from

from firmware import assembly, boots, carry, offers, pending, reports
from firmware.appointment import DOCUMENT, HEAD, named
from firmware.durable import Document
from firmware.errors import StorageError
from firmware.health import Health
from firmware.modules import forget
from firmware.pieces import Pieces
from firmware.session import Session
from protocols.wire import update
from protocols.wire.errors import FrameError, WireError
from protocols.wire.ota import OtaReceiver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.filling import Filling
    from firmware.hal import Hal
    from firmware.session import Identity
    from protocols.wire.messages import Hello
    from protocols.wire.update import Pass

# On a line somebody who brings an update says something at least so often.
SILENCE_S = 30
# What an input may wait for being looked at.
_LOOK_MS = 1000
_KID_CONTEXT = 0x10
_SECRET_BYTES = 16


class Call:
    """What a start is called to: the document that appointment.py wrote."""

    def __init__(self, data: bytes) -> None:
        found = unpack_from(HEAD, data)
        self.wait_s, self.lasts_s, self.silent, self.session, self.named, self.freq_hz, self.sf = found[:7]
        at = calcsize(HEAD)
        self.channel = data[at : at + found[7]]
        at += found[7]
        self.secret = data[at : at + _SECRET_BYTES] if self.freq_hz else b""
        names = data[at + len(self.secret) :].decode()
        self.pins = names.split(",") if names else []

    def packed(self, rest: bytes = b"") -> bytes:
        """For the pass after this one. Without `rest` a start between them says what its channel goes on from."""
        head = (
            self.wait_s,
            self.lasts_s,
            self.silent,
            self.session,
            self.named,
            self.freq_hz,
            self.sf,
            len(rest),
        )
        return pack(HEAD, *head) + rest + self.secret + ",".join(self.pins).encode()


def life(hal: "Hal", call: bytes) -> "Receiving":
    """The life that this start is called to."""
    said = Call(call)
    who = assembly.identity(hal.state_fs)
    hal.configure(who.board)
    made: "Receiving"
    if who.radio is None:
        made = Receiving(hal, who, said)
    else:
        from firmware.receive_air import OnAir

        made = OnAir(hal, who, said)
    for name in ("assembly", "boots", "on_air"):
        forget("firmware." + name)
    return made


class Receiving:
    """On a serial line. ``has_measured``, ``nap``: it never does, it has none."""

    has_measured = False
    nap = None

    def __init__(self, hal: "Hal", who: "Identity", call: "Call") -> None:
        self.hal = hal
        self.call = call
        self.clock = hal.clock
        self.health = Health(hal, Document(hal.state_fs, "traceback"), boots.counted(hal.state_fs, False))
        self.session = Session(hal.state_fs, who, hal.clock, hal.random)
        if call.channel:
            carry.go_on(self.session.channel, call.channel)
        self.carrier = self.make_carrier(who)
        self.receiver = OtaReceiver(Pieces(hal.state_fs), 0)
        self.release = reports.release(hal)
        now_s = hal.clock.uptime_s()
        self.ends_s = now_s + call.lasts_s
        self.heard_s = now_s  # of the update
        self.filling: "Filling | None" = None  # of MicroPython itself
        self.next: "Call | None" = None  # the pass after this one
        self.next_at_s = 0
        self.is_named = False  # by the broadcast itself
        self._looked = -1  # rows that had come when it was last worked out whether they are enough
        hal.log("receiving update %d, for %d s" % (call.session, call.lasts_s))

    def make_carrier(self, who: "Identity") -> "Any":
        from firmware.carrier import SerialLine

        return SerialLine(self.hal.link)

    # -- one step -------------------------------------------------------------------------------------------

    def step(self) -> int:
        """Do what is due; milliseconds until there is more to do, unless something arrives before."""
        hal = self.hal
        hal.feed_watchdog()
        for pin in self.call.pins:
            if hal.read_pin(pin):
                self.over("%s is high" % pin)
        if self.session.epoch is None or self.receiver.session != self.call.session:
            self.over("there is no such session")
        if self.clock.uptime_s() >= self.ends_s:
            self.time_is_up()
        return min(self.turn(), _LOOK_MS)

    def turn(self) -> int:
        self.listen()
        if self.is_whole():
            self.say(self.receiver.status())
            self.whole()
        if self.clock.uptime_s() - self.heard_s >= SILENCE_S:
            self.over("nobody sends")
        return _LOOK_MS

    def time_is_up(self) -> None:
        self.over("time is up")

    # -- what comes in --------------------------------------------------------------------------------------

    def listen(self) -> None:
        for frame in self.carrier.poll():
            try:
                self._open(frame)
            except WireError as exc:
                self.health.refused(exc.reason)
            except (StorageError, OSError) as exc:
                self.health.flash_failed(exc)  # a row that could not be kept comes again as another

    def _open(self, frame: bytes) -> None:
        if frame and frame[0] & _KID_CONTEXT:
            raise FrameError("unknown_epoch", "nobody joins in a pass")
        message, _ = self.session.open(frame, _no_hello)
        self.answered()
        command = getattr(message, "command", b"")
        if command:
            self.take(message.session, command)  # type: ignore[union-attr]

    def fill(self, command: bytes) -> "bytes | None":
        """A piece of MicroPython itself; with the last one this life is over."""
        if self.filling is None:
            from firmware.filling import Filling

            self.filling = Filling(self.hal, self.call.silent)
        answer = self.filling.hear(command)
        if self.filling.is_full:
            if answer is not None:
                self.say(answer)
            self.reset()
        return answer

    def answered(self) -> None:
        """An authentic frame came down."""

    def take(self, session: int, command: bytes) -> None:
        if command[0] == update.WHO:
            self.say(update.I_AM)
        elif command[0] == update.COME:
            one = update.decode_pass(command)
            self.say(bytes((update.COME, self.come(session, one))))
        elif session == self.call.session:
            self.heard_s = self.clock.uptime_s()
            if command[0] == offers.FILL:
                answer = self.fill(command)
            else:
                answer = self.receiver.hear(session, command)
            if answer is not None:
                self.say(answer)

    def come(self, session: int, one: "Pass") -> int:
        """The pass after this one; on its own link one that begins now lengthens this."""
        if not self.session.is_timely(one.answers):
            raise FrameError("late", "it answers uplink %d" % one.answers)
        if session != self.call.session:
            return update.NO_SESSION
        if one.lasts_s > update.LASTS_MAX_S:
            return update.TOO_LONG
        if one.freq_hz and not self.can_hear(one):
            return update.NO_RADIO
        if one.begins_in > 10 * update.APPOINTMENT_S:
            return update.NOT_NOW  # as a node at work it is told again
        call = Call(self.call.packed())
        self.next_at_s = self.session.latest_at_s + one.begins_in // 10
        call.lasts_s, call.freq_hz, call.sf, call.secret = one.lasts_s, one.freq_hz, one.sf, one.secret
        call.named = named(self.hal)
        self.next = call
        return update.COMES

    def can_hear(self, one: "Pass") -> bool:
        return False

    def say(self, answer: bytes) -> None:
        self.carrier.send(self.session.seal(self.status_of(answer)), True)

    def status_of(self, answer: bytes) -> "Any":
        return update.UpdateStatus(self.release, self.call.session, answer)

    def is_whole(self) -> bool:
        """Whether enough came; it is only worked out anew when something did."""
        if self.receiver.heard != self._looked:
            self._looked = self.receiver.heard
            self.receiver.deficit()
        return self.receiver.setup is not None and self.receiver.is_solved

    # -- its end --------------------------------------------------------------------------------------------

    def whole(self) -> None:
        """The next start, which is now, installs it."""
        if pending.received(self.hal, self.call.silent):
            self.hal.log("update %d is whole" % self.call.session)
        self.reset()

    def over(self, why: str) -> None:
        self.hal.log("update %d: %s, %d rows are missing" % (self.call.session, why, self.receiver.deficit()))
        if self.next is not None:
            # Never at once: a node is at work between them, and says where its channel goes on unless it was named.
            self.next.wait_s = max(1, self.next_at_s - self.clock.uptime_s())
            rest = carry.counters(self.session.channel) if self.is_named else b""
            try:
                Document(self.hal.state_fs, DOCUMENT).save(self.next.packed(rest))
            except (StorageError, OSError) as exc:
                self.hal.log("flash: %r" % exc)
        self.reset()

    def reset(self) -> None:
        self.hal.reset()


def _no_hello() -> "Hello":
    raise FrameError("unknown_epoch", "nobody joins in a pass")


# It is offers.py that knows what a driver can listen to.
can_hear = offers.can_hear
