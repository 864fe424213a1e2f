"""A bridge: a board with one radio on a serial port, which speaks SPEC 8 on channel 02 of the framing.

It is a radio like a concentrator, that hears one channel and one spreading factor, so it is tuned. What it was told
is void when it restarts or its cable is pulled; it says its state after a start, and is asked for it when the port
opens.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812  (the standard library's lower-case class)
from typing import Any, NamedTuple

from gateway import limits
from gateway.links.port import SerialPort
from gateway.links.radio import PACKET_BYTES_MAX, RadioClock, Transmission, Uplink
from gateway.log import Logger, printable

CHANNEL = 2
FORMAT = 1
_HEARD, _SENT, _STATE, _SEND, _TUNE, _ASK = 0x01, 0x02, 0x03, 0x11, 0x12, 0x13
_HEARD_HEAD = Struct(">BIIBhh")
_SENT_HEAD = Struct(">BHB")
_STATE_HEAD = Struct(">BBBBBI")
_SEND_HEAD = Struct(">BHIIBb")
_TUNE_ALL = Struct(">BIB")
# Wrong states in a row that are answered with a tune.
_TUNES_MAX = 5
_SILENT = "does not tell its state: is the board on this port a bridge, and does it run?"


class Wanted(NamedTuple):
    """Where the nodes speak."""

    plan_id: int
    channel: int
    freq_hz: int
    sf: int


class Bridge(SerialPort):
    """One bridge: a Radio on its cable."""

    lead_s = limits.BRIDGE_LEAD_S

    def __init__(
        self,
        name: str,
        path: str,
        baud: int,
        wanted: Wanted,
        log: Logger,
        *,
        on_progress: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        super().__init__(name, path, baud, log, on_progress=self._turn, **options)
        self.on_uplink: Callable[[Uplink], None] = lambda uplink: None
        self.on_result: Callable[[str, int, int], None] = lambda name, number, code: None
        self.air = dict.fromkeys(("packets_in", "packets_out", "results", "states", "tunes", "malformed"), 0)
        self.firmware = ""
        self.last_refusal = ""
        self._wanted = wanted
        self._told_progress = on_progress
        self._tunes_left = _TUNES_MAX
        self._asked_s = float("-inf")
        self._said_s = float("-inf")
        self._state_problem = _SILENT
        self._clock = RadioClock()

    # --- what it is to the link ------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether it hears what it should, and said so lately."""
        return self.is_open and not self.problem

    @property
    def problem(self) -> str:
        """Why it is not ready, for a person."""
        if not self.is_open:
            return self.last_error or "closed"
        if self._monotonic() - self._said_s > limits.BRIDGE_SILENT_S:
            return _SILENT
        return self._state_problem

    def send(self, transmission: Transmission) -> bool:
        """Hand `transmission` to the bridge, which keeps its time."""
        if not self.is_ready:
            return False
        number, at_us, freq_hz, sf, dbm, packet = transmission
        if at_us is None:
            # It knows no "at once"; its own word of its counter is never older than BRIDGE_SILENT_S.
            at_us = self._clock.us_at(self._monotonic() + self.lead_s / 2)
        if not self._put(_SEND_HEAD.pack(_SEND, number, at_us, freq_hz, sf, dbm) + packet, CHANNEL):
            return False
        self.air["packets_out"] += 1
        return True

    def picture(self) -> dict[str, float]:
        """Counters for /metrics and status."""
        return {**super().picture(), **self.air, "open": float(self.is_ready)}

    # --- its state -------------------------------------------------------------------------------

    def _opened(self) -> None:
        """It may have been replaced or started by the opening: nothing is known of it."""
        self._said_s = float("-inf")
        self._state_problem = _SILENT
        self._clock = RadioClock()
        self._tunes_left = _TUNES_MAX
        self._ask()

    def _turn(self) -> None:
        """Every two seconds: ask while it is not ready, and else now and then, for it may start anew unnoticed."""
        self._told_progress()
        pause_s = limits.BRIDGE_ASK_S if self.is_ready else 0.0
        if self.is_open and self._monotonic() - self._asked_s >= pause_s:
            self._ask()

    def _ask(self) -> None:
        self._asked_s = self._monotonic()
        self._put(bytes((_ASK,)), CHANNEL)

    def _state(self, payload: bytes) -> None:
        _, form, plan_id, channel, sf, at_us = _STATE_HEAD.unpack_from(payload)
        self.air["states"] += 1
        self._said_s = self._monotonic()
        self._clock.heard(at_us, self._said_s)
        self.firmware = printable(payload[_STATE_HEAD.size :][:24].decode("utf-8", "replace"))
        wanted = self._wanted
        if form != FORMAT:
            self._state_problem = f"speaks format {form} of the bridge messages; known here is {FORMAT}"
        elif plan_id != wanted.plan_id:
            self._state_problem = (
                f"was minted for plan {plan_id}, the config names plan {wanted.plan_id}: mint it again"
            )
        elif (channel, sf) == (wanted.channel, wanted.sf):
            self._state_problem = ""
            self._tunes_left = _TUNES_MAX
        else:
            self._state_problem = (
                f"listens on channel {channel} at SF{sf}, "
                f"the config says channel {wanted.channel} at SF{wanted.sf}"
            )
            self._tune()

    def _tune(self) -> None:
        """Have it listen where the nodes speak; one that does not do it is not told for ever."""
        if self._tunes_left:
            self._tunes_left -= 1
            self.air["tunes"] += 1
            self._put(_TUNE_ALL.pack(_TUNE, self._wanted.freq_hz, self._wanted.sf), CHANNEL)

    # --- what it says ----------------------------------------------------------------------------

    def _take(self, channel: int, payload: bytes) -> bool:
        if channel != CHANNEL:
            return False
        try:
            if payload[0] == _HEARD:
                self._heard(payload)
            elif payload[0] == _SENT:
                self._sent(payload)
            elif payload[0] == _STATE:
                self._state(payload)
            else:
                self.air["malformed"] += 1
        except (StructError, IndexError):  # shorter than its head
            self.air["malformed"] += 1
        return True

    def _heard(self, payload: bytes) -> None:
        _, at_us, freq_hz, sf, rssi_dbm, snr_tenth_db = _HEARD_HEAD.unpack_from(payload)
        packet = payload[_HEARD_HEAD.size :]
        if not 7 <= sf <= 12 or not 0 < len(packet) <= PACKET_BYTES_MAX:
            self.air["malformed"] += 1
            return
        self.air["packets_in"] += 1
        self.on_uplink(Uplink(self.name, at_us, freq_hz, sf, float(rssi_dbm), snr_tenth_db / 10, packet))

    def _sent(self, payload: bytes) -> None:
        _, number, code = _SENT_HEAD.unpack_from(payload)
        self.air["results"] += 1
        if code:
            text = payload[_SENT_HEAD.size :][:64].decode("utf-8", "replace")
            self.last_refusal = printable(text)
            self._log.info("bridge_did_not_send", code=code, reason=self.last_refusal)
        self.on_result(self.name, number, code)
