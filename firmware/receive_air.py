"""A pass over LoRa: in the windows after its own uplinks, or, in a broadcast, hearing all the time for as long as that
lasts. What it says goes through the carrier of every node (lora.py).

A broadcast is heard in windows of LISTEN_MS, each of which the chip ends by itself: whatever happens to the node, no
receiver stays on.
"""

from firmware import on_air
from firmware.durable import Document
from firmware.radios import HEARD
from firmware.receive import Call, Receiving, can_hear
from firmware.settings import Settings
from protocols.wire import ota, update
from protocols.wire.errors import WireError
from protocols.wire.group import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal
    from firmware.session import Identity
    from protocols.wire.update import Pass

LISTEN_MS = 10000
# Between two looks at the radio: a packet takes longer, and after each the sender pauses for much longer.
_POLL_MS = 40
# Rows come 30 s apart: so long is a burst of losses, or a gateway that is gone.
SILENCE_S = 120
# A sleep of 600 s by a clock that is 5 % off, and the 5 % that it is cut short by.
_EARLY_S = 68
# Uplinks without a word of the update in answer, and before it: so much doubled each time, up to so often.
TRIES_MAX = 6
_SPACING_S = 4
_DOUBLED_MAX = 3
# Uplinks that say "I have it all": the gateway will hear of the installed update, too.
_TOLD_MAX = 3
# After the span in which everybody says a status: for what is still said to this node alone.
_AFTER_S = 120
# Who has all says so within so many of these spans: a hundred nodes are answered one by one, and a gateway that answers
# is deaf to the alarms of others.
_WHOLE_SPANS = 4
_FIRST_BYTE_KIND = 0xE0

_LISTENING = 0
_ASKING = 1


class OnAir(Receiving):
    def __init__(self, hal: "Hal", who: "Identity", call: "Call") -> None:
        self._state = _LISTENING if call.freq_hz else _ASKING
        self._listener: "Listener | None" = None
        self._hears = False  # the radio
        self._asked = False  # an exchange is under way
        self._tries = 0  # asked in a row without a word of the update
        self._told = 0  # asked when it was whole
        self._got = False  # a word of the update came in this exchange
        self._is_answered = False  # anything authentic did
        self._ask_at_s = hal.clock.uptime_s()
        self._is_tail = False  # after a broadcast
        self._wants = True  # an answer
        self._answers: "list[bytes]" = []  # to what came in the windows
        Receiving.__init__(self, hal, who, call)
        if call.freq_hz:
            self._listener = Listener(call.secret, call.session)
            if self.is_whole():  # it came to say so
                self._is_tail = True
                self._leave()
                self._ask_at_s = hal.clock.uptime_s()

    def make_carrier(self, who: "Identity") -> "Any":
        made, self._radio, defaults = on_air.radio(self.hal, who)
        made.apply(Settings(Document(self.hal.state_fs, "settings"), defaults))
        made.on_sent = self._sent
        return made

    def _sent(self) -> None:
        self.session.sent(self.session.latest_piv)

    def can_hear(self, one: "Pass") -> bool:
        return can_hear(True, one)

    def turn(self) -> int:
        return self._listen() if self._state == _LISTENING else self._ask()

    # -- a broadcast ----------------------------------------------------------------------------------------

    def _listen(self) -> int:
        radio = self._radio
        event = radio.poll()
        if event is not None:
            self._hears = False
            if event.kind == HEARD:
                self._hear(event.payload)
        if self._state == _LISTENING:
            if self.is_whole() or self.clock.uptime_s() - self.heard_s >= SILENCE_S + self._early_s():
                self._leave(2)
            elif not self._hears:
                left_ms = (self.ends_s - self.clock.uptime_s()) * 1000
                radio.start_listen(self.call.freq_hz, self.call.sf, True, max(1, min(left_ms, LISTEN_MS)))
                self._hears = True
        return _POLL_MS

    def _early_s(self) -> int:
        """It may have come so much too early that nobody could speak yet."""
        return _EARLY_S if not self.receiver.heard else 0

    def _hear(self, packet: bytes) -> None:
        """Only what belongs to the pass; others speak on this channel, too."""
        if not packet or packet[0] & _FIRST_BYTE_KIND or self._listener is None:
            return
        try:
            command = self._listener.open(packet)
            self.heard_s = self.clock.uptime_s()
            if command[0] == ota.DATA:
                self.receiver.hear(self.call.session, command)
            elif command[0] == update.NEXT:
                self._told_of_next(update.decode_next(command))
            elif command[0] == ota.STATUS and self.receiver.hear(self.call.session, command) is not None:
                self._leave()
        except WireError as exc:
            self.health.refused(exc.reason)
        except OSError as exc:
            self.health.flash_failed(exc)

    def _leave(self, parts: int = 1) -> None:
        """Hear no more, and say how it stands at a moment of one's own. Who has all is at work until then, and comes to
        say it: that moment may be far. Nobody asked: within a part of the span, for few missed the question, and there
        is to be time to tell them of the next pass.
        """
        if self.is_whole() and not self._is_tail:
            self._come_again(_WHOLE_SPANS * self._moment())
            self.over("it has all")
        self._radio.sleep()
        self._hears = False
        self._state = _ASKING
        self._is_tail = True
        wait_s, span_s = self._moment() // parts, self._span_s()
        now_s = self.clock.uptime_s()
        self._ask_at_s = now_s + wait_s
        self.ends_s = now_s + span_s + _AFTER_S

    def _span_s(self) -> int:
        """In so many seconds everybody says how it stands."""
        setup = self.receiver.setup
        return 16 << (setup.delay if setup is not None else 0)

    def _moment(self) -> int:
        return self._span_s() * int.from_bytes(self.hal.random(2), "big") >> 16

    def _told_of_next(self, when: "tuple[int, int]") -> None:
        """The pass is over, and the next one named: who lacks something says so, and nobody need answer."""
        if not self.call.named:
            self._leave()  # now it wants to hear of it under its own key
            return
        if not self.is_whole():
            call = self._come_again(when[0] // 10)
            call.lasts_s = when[1]
            call.named -= 1
        self._leave()

    def _come_again(self, wait_s: int) -> "Call":
        """After so long, without a word of the gateway. Until then it is at work, or asleep."""
        self.next_at_s = self.clock.uptime_s() + wait_s
        self.next = Call(self.call.packed())
        self.is_named = True
        return self.next

    def time_is_up(self) -> None:
        if self._state == _LISTENING:
            self._leave(2)
        else:
            self.over("time is up")

    # -- in windows -----------------------------------------------------------------------------------------

    def _ask(self) -> int:
        carrier = self.carrier
        self.listen()
        if not carrier.is_idle:
            return int(carrier.wait_ms())
        if self._asked:
            self._asked = False
            self._judge()
        held_s = max(int(carrier.held_s()), self._ask_at_s - self.clock.uptime_s())
        if held_s > 0:
            return held_s * 1000
        self._asked = True
        self._got = self._is_answered = False
        answer = self._answers.pop(0) if self._answers else self.receiver.status()
        self._told += self.is_whole()
        self._wants = self.next is None or bool(self._answers) or answer[0] != ota.STATUS
        carrier.send(self.session.seal(self.status_of(answer)), self._wants)
        return int(carrier.wait_ms())

    def say(self, answer: bytes) -> None:
        """With the next uplink: in a window nobody else may speak. A status is what is said anyway."""
        if answer[0] != ota.STATUS:
            self._answers = self._answers[-1:] + [answer]

    def answered(self) -> None:
        self.carrier.answered()
        self._is_answered = True

    def take(self, session: int, command: bytes) -> None:
        self._got = True
        Receiving.take(self, session, command)

    def _judge(self) -> None:
        """An exchange is over: what next, and when."""
        now_s = self.clock.uptime_s()
        if self.is_whole() and (self._told >= _TOLD_MAX or (self._told and self._is_answered)):
            self.whole()
        if self._got:
            self._tries = 0
            self._ask_at_s = now_s
            return
        self._tries += 1
        if self._is_tail and (self._is_answered or not self._wants) and not self._answers:
            self.over("the pass has ended")
        if self._tries >= TRIES_MAX:
            self.over("nobody sends")
        spacing_s = _SPACING_S << min(self._tries, _DOUBLED_MAX)
        self._ask_at_s = now_s + spacing_s + (spacing_s * self.hal.random(1)[0] >> 8)

    def reset(self) -> None:
        self._radio.sleep()
        self.hal.reset()
