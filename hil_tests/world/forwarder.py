"""The far side of the Semtech UDP protocol, version 2: what runs beside a concentrator in the field.

Written after PROTOCOL.TXT of Semtech's packet_forwarder, and, where that is silent, after what the program does: it
fetches packets every 10 ms and puts at most eight into a datagram, keeps at most 32 to send, refuses with the reasons
it knows, and drops one that is due while another is still going out. Its counter has 32 bits and wraps; so a packet
for a moment that has passed looks as if it were 71 minutes ahead, and is refused as too early.

No socket here: `datagram()` takes what came from the server, `send` takes what goes there. forwarder_udp.py has one.
"""

from __future__ import annotations

import base64
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from boards.virtual.ether import Reception, Signal
from hil_tests.world.air import AirClock, air_s
from hil_tests.world.concentrator import PRIVATE_SYNC_WORD, Concentrator
from protocols.wire.airtime import SIZE_MAX, needs_ldro

VERSION = 2
PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)

_COUNTER = 1 << 32
_FETCH_S = 0.01
_PACKETS_PER_DATAGRAM = 8
_QUEUE_MAX = 32
_JIT_S = 0.03  # so long before its moment a packet is handed to the chip
_START_US = 1_500
_MARGIN_US = 1_000
_ADVANCE_MAX_US = 512_000_000
_PREAMBLE, _PREAMBLE_MIN = 8, 6
# tx_lut of Semtech's global_conf.json.
POWERS_DBM = (-6, -3, 0, 3, 6, 10, 11, 12, 13, 14, 16, 20, 23, 25, 26, 27)
_DATR = re.compile(r"SF(\d{1,2})BW(\d{3})")
_CODR = {"4/5": 5, "4/6": 6, "2/3": 6, "4/7": 7, "4/8": 8, "1/2": 8}


class _Refused(Exception):
    """`reason` goes into the TX_ACK."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Planned(NamedTuple):
    at_us: int
    air_us: int
    signal: Signal


class Forwarder:
    """`send` takes a datagram for the server. Nothing happens before `start()`, nor after `stop()`.

    `is_strict`: a power that is not in the table is refused (SX1301 program); else the next lower one is taken, and
    the TX_ACK warns (SX1302 program).
    """

    def __init__(
        self,
        concentrator: Concentrator,
        clock: AirClock,
        eui: int,
        send: Callable[[bytes], object],
        *,
        unix_s: Callable[[], float],
        seed: int = 1,
        counter_start_us: int = 0,
        keepalive_s: float = 10.0,
        stat_s: float = 30.0,
        freqs_hz: tuple[int, int] = (400_000_000, 1_000_000_000),
        powers_dbm: tuple[int, ...] = POWERS_DBM,
        antenna_gain_dbi: int = 0,
        is_strict: bool = False,
        forwards_bad: bool = False,
    ) -> None:
        self.concentrator = concentrator
        self.clock = clock
        self.eui = eui.to_bytes(8, "big")
        self.send = send
        self.counts: Counter[str] = Counter()
        # Everything that is said: ("up" or "down", datagram).
        self.tap: Callable[[str, bytes], None] = lambda way, data: None
        self._unix_s = unix_s
        self._rng = random.Random(f"forwarder {seed} {eui}")
        self._counter_zero_s = clock.now_s() - counter_start_us / 1e6
        self._keepalive_s = keepalive_s
        self._stat_s = stat_s
        self._freqs_hz = freqs_hz
        self._powers_dbm = powers_dbm
        self._gain_dbi = antenna_gain_dbi
        self._is_strict = is_strict
        self._forwards_bad = forwards_bad
        self.is_running = False
        self._life = 0  # timers of an earlier life do nothing
        self._fetched: list[str] = []
        self._queue: list[_Planned] = []
        self._pushes: dict[int, None] = {}
        self._stat: Counter[str] = Counter()
        concentrator.on_packet = self._on_packet

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.is_running = True
        self._pull()
        self._later(self._stat_s, self._report)

    def stop(self) -> None:
        """As when its power is cut: what was to be sent is not."""
        self.is_running = False
        self._life += 1
        self._fetched.clear()
        self._queue.clear()

    def counter_us(self) -> int:
        """The concentrator's counter, as in `tmst`."""
        return round((self.clock.now_s() - self._counter_zero_s) * 1e6) % _COUNTER

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        life = self._life
        self.clock.call_later(delay_s, lambda: action() if life == self._life else None)

    def _send(self, kind: int, body: bytes, token: int | None = None) -> int:
        if token is None:
            token = self._rng.randrange(1 << 16)
        data = bytes([VERSION]) + token.to_bytes(2, "big") + bytes([kind]) + self.eui + body
        self.tap("up", data)
        self.send(data)
        return token

    # -- up --------------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        self._send(PULL_DATA, b"")
        self._later(self._keepalive_s, self._pull)

    def _on_packet(self, reception: Reception) -> None:
        if not self.is_running or not reception.has_header:
            return
        self._stat["rxnb"] += 1
        self._stat["rxok"] += reception.is_intact
        if reception.is_intact or self._forwards_bad:
            if not self._fetched:
                self._later(_FETCH_S, self._push)
            self._fetched.append(self._rxpk(reception))

    def _rxpk(self, reception: Reception) -> str:
        """As the reference program prints it: its order, its digits."""
        signal = reception.signal
        freqs_hz = self.concentrator.freqs_hz
        chan = min(range(len(freqs_hz)), key=lambda index: abs(freqs_hz[index] - signal.freq_hz))
        stat = (1 if reception.is_intact else -1) if signal.has_crc else 0
        return (
            f'{{"tmst":{self.counter_us()},"chan":{chan},"rfch":{int(chan >= 4)},"freq":{freqs_hz[chan] / 1e6:.6f},'
            f'"stat":{stat},"modu":"LORA","datr":"SF{signal.sf}BW{signal.bw_hz // 1000}","codr":"4/{signal.cr}",'
            f'"lsnr":{reception.snr_db:.1f},"rssi":{reception.rssi_dbm:.0f},"size":{len(signal.payload)},'
            f'"data":"{base64.b64encode(signal.payload).decode()}"}}'
        )

    def _push(self) -> None:
        packets, self._fetched = (
            self._fetched[:_PACKETS_PER_DATAGRAM],
            self._fetched[_PACKETS_PER_DATAGRAM:],
        )
        self._stat["rxfw"] += len(packets)
        self._push_json('{"rxpk":[' + ",".join(packets) + "]}")
        if self._fetched:
            self._later(_FETCH_S, self._push)

    def _report(self) -> None:
        stat, self._stat = self._stat, Counter()
        ackr = 100.0 * stat["acked"] / stat["pushed"] if stat["pushed"] else 0.0
        told = time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(self._unix_s()))
        self._push_json(
            f'{{"stat":{{"time":"{told}","rxnb":{stat["rxnb"]},"rxok":{stat["rxok"]},"rxfw":{stat["rxfw"]},'
            f'"ackr":{ackr:.1f},"dwnb":{stat["dwnb"]},"txnb":{stat["txnb"]}}}}}'
        )
        self._later(self._stat_s, self._report)

    def _push_json(self, told: str) -> None:
        token = self._send(PUSH_DATA, told.encode())
        self._stat["pushed"] += 1
        self._pushes[token] = None
        if len(self._pushes) > _QUEUE_MAX:  # the oldest will not be acknowledged any more
            del self._pushes[next(iter(self._pushes))]

    # -- down ------------------------------------------------------------------------------------------------

    def datagram(self, data: bytes) -> None:
        """What the server said."""
        if not self.is_running:
            return
        self.tap("down", data)
        if len(data) < 4 or data[0] != VERSION or data[3] not in (PUSH_ACK, PULL_ACK, PULL_RESP):
            self.counts["ignored"] += 1
            return
        token = int.from_bytes(data[1:3], "big")
        if data[3] == PUSH_ACK:
            self._stat["acked"] += self._pushes.pop(token, "unknown") is None
            self.counts["push acks"] += 1
        elif data[3] == PULL_ACK:
            self.counts["pull acks"] += 1
        else:
            self._respond(data[4:], token)

    def _respond(self, body: bytes, token: int) -> None:
        try:
            txpk = json.loads(body)["txpk"]
            at_us, signal = self._read(txpk)
        except _Refused as refused:
            self._answer(token, {"error": refused.reason})
            return
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            # The program prints a warning and says nothing to the server.
            self.counts["unreadable"] += 1
            return
        self._stat["dwnb"] += 1
        try:
            warning = self._plan(at_us, signal)
        except _Refused as refused:
            self._answer(token, {"error": refused.reason})
            return
        self._answer(token, warning)

    def _answer(self, token: int, verdict: dict[str, Any] | None) -> None:
        self.counts[str(verdict["error"]) if verdict and "error" in verdict else "accepted"] += 1
        body = b"" if verdict is None else json.dumps({"txpk_ack": verdict}, separators=(",", ":")).encode()
        self._send(TX_ACK, body, token)

    def _read(self, txpk: dict[str, Any]) -> tuple[int | None, Signal]:
        """When (None: at once) and what; the frequency is cut to whole hertz as the program does."""
        if txpk.get("imme") is True:
            at_us = None
        elif "tmst" in txpk:
            at_us = int(txpk["tmst"]) % _COUNTER
        elif "time" in txpk or "tmms" in txpk:
            raise _Refused("GPS_UNLOCKED")
        else:
            raise KeyError("tmst")
        if txpk["modu"] != "LORA":
            raise ValueError("only LoRa is simulated")
        matched = _DATR.match(txpk["datr"])
        if matched is None:
            raise ValueError("datr")
        int(txpk["rfch"])
        sf, bw_hz = int(matched[1]), int(matched[2]) * 1000
        if sf not in range(7, 13) or bw_hz not in (125_000, 250_000, 500_000):
            raise ValueError("datr")
        data = str(txpk["data"])
        payload = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)[
            : min(int(txpk["size"]), SIZE_MAX)
        ]
        return at_us, Signal(
            freq_hz=int(1.0e6 * txpk["freq"]),
            bw_hz=bw_hz,
            sf=sf,
            cr=_CODR[txpk["codr"]],
            preamble=min(max(int(txpk.get("prea", _PREAMBLE)), _PREAMBLE_MIN), 0xFFFF),
            is_implicit=False,
            has_crc=txpk.get("ncrc") is not True,
            has_ldro=needs_ldro(sf, bw_hz),
            sync_word=PRIVATE_SYNC_WORD,
            is_inverted=txpk.get("ipol") is True,
            dbm=float(int(txpk.get("powe", 0)) - self._gain_dbi),
            payload=payload,
        )

    def _plan(self, at_us: int | None, signal: Signal) -> dict[str, Any] | None:
        if not self._freqs_hz[0] <= signal.freq_hz <= self._freqs_hz[1]:
            raise _Refused("TX_FREQ")
        warning = None
        if signal.dbm not in self._powers_dbm:
            lower = [dbm for dbm in self._powers_dbm if dbm <= signal.dbm]
            if self._is_strict or not lower:
                raise _Refused("TX_POWER")
            warning = {"warn": "TX_POWER", "value": max(lower)}
            signal = signal._replace(dbm=float(max(lower)))
        now_us = self.counter_us()
        air_us = round(air_s(signal) * 1e6)
        if at_us is None:
            at_us = self._next_free_us(now_us, air_us)
        ahead_us = (at_us - now_us) % _COUNTER
        if ahead_us <= _START_US + _MARGIN_US:
            raise _Refused("TOO_LATE")
        if ahead_us > _ADVANCE_MAX_US:
            raise _Refused("TOO_EARLY")
        if len(self._queue) >= _QUEUE_MAX or any(_collide(one, at_us, air_us) for one in self._queue):
            raise _Refused("COLLISION_PACKET")
        planned = _Planned(at_us, air_us, signal)
        self._queue.append(planned)
        self._later(max(0.0, ahead_us / 1e6 - _JIT_S), lambda: self._hand_over(planned))
        return warning

    def _next_free_us(self, now_us: int, air_us: int) -> int:
        """For a packet that is to go at once: the first moment after the hand-over at which nothing is planned."""
        ahead_us = round(2 * _JIT_S * 1e6)
        for one in sorted(self._queue, key=lambda one: (one.at_us - now_us) % _COUNTER):
            if _collide(one, (now_us + ahead_us) % _COUNTER, air_us):
                ahead_us = (one.at_us - now_us) % _COUNTER + one.air_us + round(_JIT_S * 1e6) + _MARGIN_US
        return (now_us + ahead_us) % _COUNTER

    def _hand_over(self, planned: _Planned) -> None:
        self._queue.remove(planned)
        if self.concentrator.is_sending:
            self.counts["dropped, still sending"] += 1
            return
        wait_us = (planned.at_us - self.counter_us() + _COUNTER // 2) % _COUNTER - _COUNTER // 2
        self._later(max(0.0, wait_us / 1e6), lambda: self._transmit(planned.signal))

    def _transmit(self, signal: Signal) -> None:
        self._stat["txnb"] += 1
        self.concentrator.send(signal)


def _collide(planned: _Planned, at_us: int, air_us: int) -> bool:
    after_us = (at_us - planned.at_us) % _COUNTER
    before_us = (planned.at_us - at_us) % _COUNTER
    apart_us = _START_US + _MARGIN_US
    return after_us <= planned.air_us + apart_us or before_us <= air_us + apart_us
