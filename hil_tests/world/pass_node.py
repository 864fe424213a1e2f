"""A node that comes to passes of an update, without firmware and keys: OTA.md section 6 on the simulated air.

It sleeps by a clock that is off, speaks and listens as SPEC.md section 7 has it, and keeps what it hears in the
receiver of the real thing (wire/ota.py). Messages are as long as sealed ones, and say only whom they are for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from boards.virtual.ether import Reception, Signal, Tuning
from hil_tests.world.air import Air
from hil_tests.world.concentrator import PRIVATE_SYNC_WORD
from hil_tests.world.propagation import Spot
from protocols.wire import ota, update
from protocols.wire.airtime import lora

_BW_HZ = 125_000
DBM = 14.0
# SPEC.md section 7.3.
_WINDOWS_S = (1.0, 2.0)
_GUARD_S, _GAP_S, _SEEN_SYMBOLS = 0.06, 0.4, 6
_BUSY_S, _BUSY_MAX_S = 0.3, 5.0
_SPACE_S, _DOUBLED_MAX = 4.0, 3
# Beginnings of what is said here; no sealed frame of any node has them after its flag byte.
UP, DOWN, GROUP = b"\x0f\xfe\x01", b"\x0f\xfe\x02", b"\x0f\xfe\x03"
WANTS_ANSWER = 0x20
# Of a sealed message, beside the command: envelope and message. OTA.md sections 6 and 6.3, SPEC.md section 3.
_UP_REST, _DOWN_REST, _GROUP_REST = 28, 21, 23
ACK_BYTES = 17
CALL = 0x41
COMES = 0
# OTA.md section 6.2.
PASS_MAX_S, SILENT_S, APPOINTMENT_S, CHECK_IN_SPREAD_S = 300.0, 120.0, 600.0, 200.0
_DRIFT = 0.05
# Passes that are named in a row before it wants to be told for itself; who is whole tells it within so many spans.
NAMED_MIN, NAMED_SPREAD, WHOLE_SPANS = 8, 8, 4
# A node with something missing and no appointment says so again.
_AGAIN_S = 60.0


def up_frame(address: int, count: int, answer: bytes) -> bytes:
    head = UP + address.to_bytes(2, "big") + count.to_bytes(2, "big") + bytes((len(answer),)) + answer
    return head + bytes(max(0, _UP_REST + len(answer) - len(head)))


def down_frame(address: int, command: bytes) -> bytes:
    head = DOWN + address.to_bytes(2, "big") + bytes((len(command),)) + command
    size = max(_DOWN_REST + len(command), ACK_BYTES if not command else 0)
    return head + bytes(size - len(head))


def group_frame(session: int, piv: int, command: bytes) -> bytes:
    head = GROUP + session.to_bytes(2, "big") + piv.to_bytes(3, "big") + bytes((len(command),)) + command
    return head + bytes(_GROUP_REST + len(command) - len(head))


def what_is_in(frame: bytes, head: int) -> bytes:
    return frame[head + 1 : head + 1 + frame[head]]


class Call(NamedTuple):
    """What is told in a 41, as far as it matters here."""

    begins_in_s: float
    lasts_s: int
    freq_hz: int
    sf: int

    def encode(self) -> bytes:
        return (
            bytes((CALL,))
            + bytes(5)
            + round(self.begins_in_s * 10).to_bytes(3, "little")
            + self.lasts_s.to_bytes(2, "little")
            + self.freq_hz.to_bytes(4, "little")
            + bytes((self.sf,))
            + bytes(16)
        )

    @classmethod
    def decode(cls, command: bytes) -> Call:
        number = [int.from_bytes(command[a:b], "little") for a, b in ((6, 9), (9, 11), (11, 15))]
        return cls(number[0] / 10, number[1], number[2], command[15])


class Losses(Protocol):
    """What does not reach this node although the air would have carried it."""

    def of_row(self, number: int) -> bool: ...


@dataclass
class Used:
    """Of one node."""

    rx_s: float = 0.0
    longest_s: float = 0.0  # continuous
    passes: int = 0
    check_ins: int = 0
    uplinks: int = 0


class PassNode:
    """`drift`: by which share more time goes by than its clock says while it sleeps."""

    def __init__(
        self,
        address: int,
        air: Air,
        name: str,
        spot: Spot,
        channels_hz: list[int],
        sf: int,
        losses: Losses,
        loss: float,
        room: int,
        store: ota.Store,
        rng: random.Random,
    ) -> None:
        self.address = address
        self.drift = rng.uniform(-_DRIFT, _DRIFT)
        self.ota = ota.OtaReceiver(store, room)
        self.used = Used()
        self.pass_began_s: float | None = None
        self._air, self._clock = air, air.clock
        self._channels_hz, self._sf, self._losses, self._loss, self._rng = channels_hz, sf, losses, loss, rng
        self._says: list[bytes] = []
        self._wants = True  # an answer
        self._named_left = 0
        self._count = self._tries = 0
        self._ended_s = 0.0
        self._heard: list[bytes] = []
        self._is_speaking = False
        self._tuning: Tuning | None = None
        self._since_s = 0.0
        self._is_following = False
        self._date = 0  # counts appointments
        self._has_date = False
        self._turn = 0  # timers of what is over do nothing
        self._last_heard_s = 0.0
        site = air.place(self, name, spot)
        site.has_own_losses = True

    # -- time ------------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, action: Callable[[], Any]) -> None:
        turn = self._turn
        self._clock.call_later(max(0.0, delay_s), lambda: action() if self._turn == turn else None)

    def _sleep(self, local_s: float, action: Callable[[], Any]) -> None:
        self._turn += 1
        self._later(local_s * (1 + self.drift), action)

    # -- what it says ----------------------------------------------------------------------------------------

    def say_status(self) -> None:
        self.say(self.ota.status() if self.ota.setup is not None else bytes((0, 3, 1)))

    def say(self, answer: bytes) -> None:
        self._says.append(answer)
        if not self._is_speaking and self._tuning is None:
            self._speak()

    def _speak(self) -> None:
        self._wants = True
        self._turn += 1
        self._is_speaking = True
        self._heard = []
        self._tries = 0
        self._count += 1
        self._send(0)

    def _send(self, busy: int) -> None:
        freq_hz = self._rng.choice(self._channels_hz)
        if self._air.is_active(self, Tuning(freq_hz, _BW_HZ, self._sf, PRIVATE_SYNC_WORD, False)):
            wait_s = min(_BUSY_S * 2**busy, _BUSY_MAX_S) * self._rng.uniform(0.5, 1.5)
            self._later(wait_s, lambda: self._send(busy + 1))
            return
        frame = up_frame(self.address, self._count & 0xFFFF, self._says[0])
        packet = bytes((frame[0] | WANTS_ANSWER if self._wants else frame[0],)) + frame[1:]
        self.used.uplinks += 1
        modulation = lora(self._sf)
        signal = Signal(
            freq_hz, _BW_HZ, self._sf, modulation.cr, modulation.preamble, False, True, modulation.has_ldro,
            PRIVATE_SYNC_WORD, False, DBM, packet,
        )  # fmt: skip
        seconds = self._air.transmit(self, signal)
        self._ended_s = self._clock.now_s() + seconds
        if not self._wants:
            self._says.clear()
            return
        down = Tuning(freq_hz, _BW_HZ, self._sf, PRIVATE_SYNC_WORD, True)
        self._later(seconds + _WINDOWS_S[0] - _GUARD_S, lambda: self._window(down, 0))

    def _window(self, tuning: Tuning, number: int) -> None:
        self._listen(tuning)
        length_s = 2 * _GUARD_S + _SEEN_SYMBOLS * 2**tuning.sf / _BW_HZ
        self._later(length_s, lambda: None if self._is_following else self._window_over(tuning, number))

    def _window_over(self, tuning: Tuning, number: int) -> None:
        self._stop()
        if self._heard or number + 1 == len(_WINDOWS_S):
            self._exchange_over()
        else:
            wait_s = self._ended_s + _WINDOWS_S[number + 1] - _GUARD_S - self._clock.now_s()
            self._later(wait_s, lambda: self._window(tuning, number + 1))

    def _exchange_over(self) -> None:
        if not self._heard:
            spacing_s = _SPACE_S * 2 ** min(self._tries, _DOUBLED_MAX)
            self._tries += 1
            self._later(spacing_s * self._rng.uniform(1, 2), lambda: self._send(0))
            return
        self._says.pop(0)
        self._is_speaking = False
        for command in self._heard:
            if command[:1] == bytes((CALL,)):
                self._says.append(bytes((CALL, COMES)))
                self._named_left = NAMED_MIN + self._rng.randrange(NAMED_SPREAD)
                self._appoint(Call.decode(command))
            elif command:
                answer = self.ota.hear(1, command)
                if answer is not None:
                    self._says.append(answer)
        if self._says:
            self._speak()
        elif not self.is_whole and not self._has_date:
            self._sleep(_AGAIN_S * self._rng.uniform(0.9, 1.1), self.say_status)

    def _appoint(self, call: Call) -> None:
        """It goes to a pass when that is due, whether what it says was answered or not. What is too far away is no
        appointment yet: then it asks again."""
        self._date += 1
        self._has_date = True
        wait_s = self._ended_s + call.begins_in_s - self._clock.now_s()
        if wait_s > APPOINTMENT_S:
            self._when(wait_s * 19 / 20 - 300 - self._rng.uniform(0, CHECK_IN_SPREAD_S), self._check_in)
        else:
            early_s = wait_s * _DRIFT + 1
            self._when(max(0.0, wait_s - early_s), lambda: self._come(call, early_s))

    def _named(self, command: bytes, call: Call) -> None:
        """The pass is over, and the next one is known: what it lacks it tells unasked, and nobody answers."""
        self._named_left -= 1
        self._stop()
        self._turn += 1
        self.pass_began_s = None
        if self.is_whole:
            self._later(self._rng.uniform(0, WHOLE_SPANS << (self._delay + 4)), self.say_status)
            return
        begins_in, lasts_s = update.decode_next(command)
        self._ended_s = self._clock.now_s()
        self._appoint(call._replace(begins_in_s=begins_in / 10, lasts_s=lasts_s))
        self._later(self._rng.uniform(0, 1 << (self._delay + 4)), self._tell)

    def _tell(self) -> None:
        self._says = [self.ota.status()]
        self._count += 1
        self._wants = False
        self._send(0)

    @property
    def _delay(self) -> int:
        return self.ota.setup.delay if self.ota.setup is not None else 0

    def _when(self, local_s: float, action: Callable[[], Any]) -> None:
        date = self._date
        due_s = local_s * (1 + self.drift)
        self._clock.call_later(due_s, lambda: action() if self._date == date else None)

    def _check_in(self) -> None:
        self._has_date = False
        self.used.check_ins += 1
        self.say(bytes((CALL, COMES)))

    @property
    def is_whole(self) -> bool:
        return self.ota.setup is not None and not self.ota.deficit()

    # -- a pass ----------------------------------------------------------------------------------------------

    def _come(self, call: Call, early_s: float) -> None:
        """Its clock says that the pass begins in `early_s`; it may as well have begun, or begin so much later."""
        if self._tuning is not None:
            self._stop()
        self._turn += 1
        self._says.clear()
        self._is_speaking = self._has_date = False
        self.used.passes += 1
        now_s = self._clock.now_s()
        self.pass_began_s = now_s
        self._last_heard_s = now_s + 2 * early_s
        self._call = call
        self._listen(Tuning(call.freq_hz, _BW_HZ, call.sf, PRIVATE_SYNC_WORD, True))
        self._later(min(PASS_MAX_S, 2 * early_s + call.lasts_s), lambda: self._pass_over(parts=2))
        self._later(2 * early_s + SILENT_S, self._is_it_silent)

    def _is_it_silent(self) -> None:
        left_s = self._last_heard_s + SILENT_S - self._clock.now_s()
        if left_s <= 0:
            self._pass_over(parts=2)
        else:
            self._later(left_s, self._is_it_silent)

    def _pass_over(self, parts: int = 1) -> None:
        """It says what it has within its span, or within a part of it when nobody asked: few missed the question."""
        self._stop()
        self._turn += 1
        self.pass_began_s = None
        spans = WHOLE_SPANS if self.is_whole else 1
        self._later(self._rng.uniform(0, (spans << (self._delay + 4)) / parts), self.say_status)

    def _row(self, frame: bytes) -> None:
        command = what_is_in(frame, 8)
        number = int.from_bytes(command[1:3], "little")
        if command[0] == ota.DATA:
            if self._losses.of_row(number):
                return
        elif self._rng.random() < self._loss:
            return
        self._last_heard_s = max(self._last_heard_s, self._clock.now_s())
        if command[0] == update.NEXT and self._named_left > 0:
            self._named(command, self._call)
            return
        if command[0] != update.NEXT:
            self.ota.hear(1, command)
        if command[0] in (ota.STATUS, update.NEXT) or self.is_whole:
            self._pass_over()

    # -- the radio -------------------------------------------------------------------------------------------

    def _listen(self, tuning: Tuning) -> None:
        self._tuning, self._since_s, self._is_following = tuning, self._clock.now_s(), False
        self._air.tune(self, tuning)

    def _stop(self) -> None:
        self._air.tune(self, None)
        listened_s = self._clock.now_s() - self._since_s
        self.used.rx_s += listened_s
        self.used.longest_s = max(self.used.longest_s, listened_s)
        self._tuning, self._is_following = None, False

    @property
    def is_listening(self) -> bool:
        return self._tuning is not None

    def detected(self) -> None:
        self._is_following = True

    def heard(self, reception: Reception) -> None:
        tuning = self._tuning
        if tuning is None:
            return
        payload = reception.signal.payload if reception.is_intact else b""
        if self.pass_began_s is not None:
            self._is_following = False
            if payload.startswith(GROUP):
                self._row(payload)
            return
        is_mine = payload.startswith(DOWN + self.address.to_bytes(2, "big"))
        if is_mine and self._rng.random() >= self._loss:
            self._stop()
            self._heard.append(what_is_in(payload, 5))
            self._turn += 1
            self._later(_GAP_S - _GUARD_S, lambda: self._window(tuning, len(_WINDOWS_S) - 1))
        else:
            self._turn += 1
            self._window_over(tuning, 0 if self._clock.now_s() < self._ended_s + _WINDOWS_S[1] else 1)
