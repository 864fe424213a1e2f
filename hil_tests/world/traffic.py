"""Nodes and a gateway that only have to do with the air: the rules of SPEC.md section 7 in a few dozen lines.

For planning and for measuring the air itself: a thousand nodes for a day take seconds. There is no firmware here, no
key and no byte of a message: an item has a size, is wanted or not, and is stored when all of its packets were heard.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from boards.virtual.ether import Reception, Signal, Tuning
from hil_tests.world.air import Air
from hil_tests.world.concentrator import PRIVATE_SYNC_WORD, Concentrator
from hil_tests.world.profiles import (
    Events,
    Profile,
    ack_size,
    event_size,
    report_size,
    sets_that_fit,
    status_size,
)
from hil_tests.world.propagation import SNR_MIN_DB, Spot
from protocols.wire.airtime import AirRefused, Modulation, lora
from protocols.wire.law import Law

_BW_HZ = 125_000
# SPEC.md section 7.3.
_WINDOWS_S = (1.0, 2.0)
_GUARD_S = 0.06
_NEXT_WINDOW_S = 0.4
# A preamble that begins when it should has been seen by then.
_SEEN_SYMBOLS = 6
_CAD_SYMBOLS = 4
# Back-off when the channel is busy, and spacing of repetitions: from, doubled up to; with jitter.
_BUSY_S, _BUSY_MAX_S, _BUSY_TIMES = 0.3, 5.0, 8
_RETRY_S, _RETRY_MAX_S, _RETRY_ALARM_MAX_S = 4.0, 600.0, 60.0
# Routine that asks for an answer all the same: every fourth frame of it, and after so long without one.
_ASK_EVERY, _ASK_AFTER_S = 4, 6 * 3600
_UNANSWERED_TO_FULL_POWER = 2
_MARGIN_DB, _STEP_DB, _DBM_MIN = 10.0, 3, 2
# From the end of a packet until it is on disk, and until a gateway knows which of its radios heard it best.
_COMMIT_S, _GATHER_S = 0.05, 0.2
_FRAGMENT_HEAD = 4


@dataclass(eq=False)
class Item:
    """Something to be told: a report of so many sets, an event, a status."""

    born_s: float
    size: int
    records: int
    wants_answer: bool
    is_alarm: bool = False
    tries: int = 0
    stored_s: float | None = None


class _Memory:
    """Where a law keeps its bound: a power cut is not part of a plan."""

    def __init__(self) -> None:
        self._data = b""

    def load(self) -> bytes:
        return self._data

    def save(self, data: bytes) -> bool:
        self._data = data
        return True


class Packet:
    """What the air carries here, found again by its number in the payload."""

    __slots__ = ("item", "missing", "node", "part", "wants_answer")

    def __init__(self, node: Node, item: Item, part: int, missing: set[int], wants_answer: bool) -> None:
        self.node, self.item, self.part, self.wants_answer = node, item, part, wants_answer
        self.missing = missing  # parts of this try, shared by them


@dataclass
class Used:
    """What a node's radio did."""

    tx_s: float = 0.0
    rx_s: float = 0.0
    awake_s: float = 0.0
    frames: int = 0
    packets: int = 0
    heard: int = 0  # of the packets, by a gateway
    busy: int = 0
    unanswered: int = 0
    held_back: int = 0
    by_hour: Counter[int] = field(default_factory=Counter)


class Town:
    """The air, the gateways of one daemon, and the nodes."""

    def __init__(self, air: Air, plan_id: int, channels: list[int], seed: int) -> None:
        self.air = air
        self.clock = air.clock
        self.plan_id = plan_id
        self.channels = channels
        self.seed = seed
        self.law = Law(plan_id, _Memory())
        self.radios: list[Concentrator] = []
        self.laws: dict[Concentrator, Law] = {}
        self.nodes: list[Node] = []
        self.counts: Counter[str] = Counter()
        self.down_s = 0.0
        self._packets: dict[bytes, Packet] = {}
        self._order: deque[bytes] = deque()
        self._count = 0
        # What was heard just now, and the radios that did, best first.
        self._fresh: dict[Packet, list[tuple[float, Concentrator]]] = {}

    def add_radio(self, name: str, spot: Spot, spreading: tuple[int, ...], demodulators: int) -> None:
        freqs_hz = [self.law.freq_hz(channel) for channel in self.channels]
        radio = Concentrator(self.air, name, spot, freqs_hz, spreading, demodulators)
        radio.on_packet = lambda reception: self._heard(radio, reception)
        self.radios.append(radio)
        self.laws[radio] = Law(self.plan_id, _Memory())

    # -- payloads: a number that finds the packet, and nothing else --------------------------------------------

    def payload(self, packet: Packet, size: int) -> bytes:
        self._count += 1
        number = self._count.to_bytes(6, "big")
        self._packets[number] = packet
        self._order.append(number)
        if len(self._order) > 10_000:  # nothing is on the air for so long
            del self._packets[self._order.popleft()]
        return number + bytes(max(0, size - len(number)))

    def packet(self, payload: bytes) -> Packet | None:
        return self._packets.get(payload[:6])

    # -- the gateway ---------------------------------------------------------------------------------------------

    def _heard(self, radio: Concentrator, reception: Reception) -> None:
        packet = self.packet(reception.signal.payload) if reception.is_intact else None
        if packet is None:
            return
        fresh = self._fresh.get(packet)
        if fresh is not None:
            fresh.append((reception.snr_db, radio))
            return
        self._fresh[packet] = [(reception.snr_db, radio)]
        packet.node.used.heard += 1
        item = packet.item
        packet.missing.discard(packet.part)
        if not packet.missing and item.stored_s is None:
            item.stored_s = self.clock.now_s() + _COMMIT_S
        ended_s = self.clock.now_s()
        self.clock.call_later(_GATHER_S, lambda: self._decide(packet, reception.signal, ended_s))

    def _decide(self, packet: Packet, up: Signal, ended_s: float) -> None:
        heard = self._fresh.pop(packet)
        if not packet.missing and (packet.wants_answer or packet.node.has_gap()):
            radios = [radio for _, radio in sorted(heard, key=lambda one: -one[0])]
            self._answer_in(packet, up, ended_s, radios, 0)

    def _answer_in(
        self, packet: Packet, up: Signal, ended_s: float, radios: list[Concentrator], window: int
    ) -> None:
        if window < len(_WINDOWS_S):
            wait_s = ended_s + _WINDOWS_S[window] - self.clock.now_s()
            self.clock.call_later(wait_s, lambda: self._answer(packet, up, ended_s, radios, window))
        else:
            self.counts["answers not sent"] += 1

    def _answer(
        self, packet: Packet, up: Signal, ended_s: float, radios: list[Concentrator], window: int
    ) -> None:
        for radio in radios:
            signal = up._replace(
                is_inverted=True,
                dbm=float(self.law.dbm_max),
                payload=self.payload(Packet(packet.node, packet.item, 0, set(), False), ack_size()),
            )
            if not radio.is_sending and self._may_send(radio, signal):
                self.counts["answers"] += 1
                self.down_s += radio.send(signal)
                return
        self._answer_in(packet, up, ended_s, radios, window + 1)

    def _may_send(self, radio: Concentrator, signal: Signal) -> bool:
        tuning = Tuning(signal.freq_hz, _BW_HZ, signal.sf, PRIVATE_SYNC_WORD, False)
        if self.law.needs_listening and self.air.is_active(radio, tuning):
            return False
        now_s, law = int(self.clock.now_s()), self.laws[radio]
        try:
            air_us = law.check(now_s, signal.freq_hz, lora(signal.sf), len(signal.payload), int(signal.dbm))
        except AirRefused:
            return False
        law.sent(now_s, signal.freq_hz, air_us)
        return True


class Node:
    """`sf` and `dbm` are where its link settled: fixed, or as ADR leaves it. It begins there, climbs when it is not
    answered, and is set back by the next answer, as a gateway's ADR would."""

    def __init__(self, town: Town, name: str, profile: Profile, spot: Spot, sf: int, dbm: int) -> None:
        self.town = town
        self.name = name
        self.profile = profile
        self.settled = (sf, dbm)
        self.sf, self.dbm = sf, dbm
        self.is_fixed = False
        self.used = Used()
        self.law = Law(town.plan_id, _Memory())
        self._rng = random.Random(f"node {town.seed} {name}")
        self._clock = town.clock
        self.items: list[Item] = []  # everything that it ever had to tell
        self._queue: list[Item] = []
        self._unacked: list[Item] = []
        self._is_busy = False
        self._wants = False  # an answer to what is being sent
        self._unanswered = 0
        self._quiet_until_s = 0.0
        self._answered_s = 0.0
        self._routine = 0
        self._opened_s = 0.0
        self._following = False
        self._window = 0
        self._sending: Item | None = None
        self.site = town.air.place(self, name, spot)
        town.nodes.append(self)

    # -- what it has to say ----------------------------------------------------------------------------------

    def live(self, until_s: float) -> None:
        """Have it measure, report and alarm until then."""
        profile = self.profile
        every_s = max(profile.interval_s, profile.report_s)
        sets = max(1, profile.report_s // profile.interval_s)
        self._every(every_s, until_s, lambda: self._report(sets))
        self._every(profile.status_s, until_s, lambda: self.tell(status_size(), 0, wants_answer=True))
        self._now_and_then(profile.events, until_s)

    def _every(self, period_s: float, until_s: float, action: Callable[[], object]) -> None:
        def due() -> None:
            if self._clock.now_s() < until_s:
                action()
                self._clock.call_later(period_s * self._rng.uniform(0.98, 1.02), due)

        self._clock.call_later(self._rng.uniform(0, period_s), due)

    def _now_and_then(self, events: Events, until_s: float) -> None:
        def due() -> None:
            if self._clock.now_s() < until_s:
                self.happen()
                self._clock.call_later(self._rng.expovariate(events.a_day / 86_400), due)

        self._clock.call_later(self._rng.expovariate(events.a_day / 86_400), due)

    def happen(self) -> None:
        """An alarm is raised, repeated by sets, and cleared; or what this type tells one by one."""
        events = self.profile.events
        self.alarm()
        if events.lasts_s:
            self._clock.call_later(events.lasts_s, self.alarm)
        if self.profile.repeat_s:
            for number in range(1, int(events.lasts_s // self.profile.repeat_s) + 1):
                self._clock.call_later(number * self.profile.repeat_s, lambda: self._report(1))

    def alarm(self) -> Item:
        events = self.profile.events
        return self.tell(event_size(events.code), 1, wants_answer=True, is_alarm=events.is_alarm)

    def _report(self, sets: int) -> None:
        profile, room = self.profile, self.law.size_max(self.sf)
        while sets:
            fit = sets_that_fit(profile.schema_id, sets, profile.interval_s, room) or 1
            self._routine += 1
            asks = self._routine % _ASK_EVERY == 0 or self._clock.now_s() - self._answered_s > _ASK_AFTER_S
            self.tell(report_size(profile.schema_id, fit, profile.interval_s), fit, wants_answer=asks)
            sets -= fit

    def tell(self, size: int, records: int, wants_answer: bool, is_alarm: bool = False) -> Item:
        item = Item(self._clock.now_s(), size, records, wants_answer, is_alarm)
        self.items.append(item)
        if is_alarm:
            self._queue.insert(sum(one.is_alarm for one in self._queue), item)
            self._quiet_until_s = 0.0  # an alarm does not wait for what was not answered before it
        else:
            self._queue.append(item)
        self._pump()
        return item

    def has_gap(self) -> bool:
        """Whether a gateway sees, by what the latest frame says, that something before it is missing."""
        return any(item.stored_s is None for item in self._unacked)

    # -- sending ---------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        if self._is_busy or not self._queue:
            return
        wait_s = self._quiet_until_s - self._clock.now_s()
        if wait_s > 1e-6:
            self._clock.call_later(wait_s, self._pump)
            return
        self._is_busy = True
        item = self._queue.pop(0)
        self._sending = item
        item.tries += 1
        self.used.frames += 1
        room = self.law.size_max(self.sf)
        parts = [item.size] if item.size <= room else _fragments(item.size, room)
        wants = self._wants = item.wants_answer or item.tries > 1 or len(parts) > 1
        missing = set(range(len(parts)))
        packets = [Packet(self, item, number, missing, wants) for number in range(len(parts))]
        self._send(list(zip(packets, parts, strict=True)), 0)

    def _send(self, packets: list[tuple[Packet, int]], busy: int) -> None:
        """The first of these, when the channel is free and the law allows it."""
        town, (packet, size) = self.town, packets[0]
        freq_hz = town.law.freq_hz(self._rng.choice(town.channels))
        modulation = lora(self.sf)
        try:
            air_us = self.law.check(int(self._clock.now_s()), freq_hz, modulation, size, self.dbm)
        except AirRefused as refused:
            if refused.wait_s is None:
                raise  # nothing in the model may send what is never allowed
            self.used.held_back += 1
            self._clock.call_later(refused.wait_s + 1.0, lambda: self._send(packets, busy))
            return
        symbol_s = 2**self.sf / _BW_HZ
        self.used.rx_s += _CAD_SYMBOLS * symbol_s
        self.used.awake_s += _CAD_SYMBOLS * symbol_s
        tuning = Tuning(freq_hz, _BW_HZ, self.sf, PRIVATE_SYNC_WORD, True)
        if self.law.needs_listening and town.air.is_active(self, tuning):
            self.used.busy += 1
            if busy >= _BUSY_TIMES:
                self._over(False)
                return
            wait_s = min(_BUSY_S * 2**busy, _BUSY_MAX_S) * self._rng.uniform(0.5, 1.5)
            self._clock.call_later(wait_s, lambda: self._send(packets, busy + 1))
            return
        self.law.sent(int(self._clock.now_s()), freq_hz, air_us)
        self._begin(
            _signal(freq_hz, modulation, float(self.dbm), town.payload(packet, size)), packets, tuning
        )

    def _begin(self, signal: Signal, packets: list[tuple[Packet, int]], tuning: Tuning) -> None:
        used = self.used
        seconds = self.town.air.transmit(self, signal)
        used.packets += 1
        used.tx_s += seconds
        used.awake_s += seconds
        used.by_hour[int(self._clock.now_s() // 3600)] += round(seconds * 1e6)
        if len(packets) > 1:
            wait_s = seconds + self._rng.uniform(0.05, 0.15)
            self._clock.call_later(wait_s, lambda: self._send(packets[1:], 0))
        else:
            self._clock.call_later(seconds + _WINDOWS_S[0] - _GUARD_S, lambda: self._open(0, tuning))

    # -- windows ---------------------------------------------------------------------------------------------

    def _open(self, window: int, tuning: Tuning) -> None:
        self._window = window
        self._opened_s = self._clock.now_s()
        self._following = False
        self.town.air.tune(self, tuning)
        length_s = 2 * _GUARD_S + _SEEN_SYMBOLS * 2**tuning.sf / _BW_HZ
        opened_s = self._opened_s
        self._clock.call_later(length_s, lambda: self._close_unless_following(opened_s, tuning))

    def _close_unless_following(self, opened_s: float, tuning: Tuning) -> None:
        if self._opened_s == opened_s and not self._following:
            self._close(tuning)

    def _close(self, tuning: Tuning) -> None:
        """Nothing for this node came in this window."""
        opened_s = self._opened_s
        self._stop_listening()
        if self._window + 1 < len(_WINDOWS_S):
            at_s = opened_s + _WINDOWS_S[self._window + 1] - _WINDOWS_S[self._window]
            wait_s = max(0.0, at_s - self._clock.now_s())
            self._clock.call_later(wait_s, lambda: self._open(self._window + 1, tuning))
        else:
            self.used.awake_s += _WINDOWS_S[-1]
            self._over(False)

    def _stop_listening(self) -> None:
        self.town.air.tune(self, None)
        self.used.rx_s += self._clock.now_s() - self._opened_s
        self._opened_s = -1.0  # the timer that would close it finds another window
        self._following = False

    def detected(self) -> None:
        self._following = True

    def heard(self, reception: Reception) -> None:
        if not self._following:
            return
        packet = self.town.packet(reception.signal.payload) if reception.is_intact else None
        if packet is not None and packet.node is self:
            self._stop_listening()
            # One more window after it, in which nothing begins.
            self.used.rx_s += 2 * _GUARD_S
            self.used.awake_s += _WINDOWS_S[self._window] + _NEXT_WINDOW_S + _GUARD_S
            self._clock.call_later(_NEXT_WINDOW_S + _GUARD_S, lambda: self._over(True))
        else:
            signal = reception.signal
            self._close(Tuning(signal.freq_hz, _BW_HZ, signal.sf, PRIVATE_SYNC_WORD, True))

    # -- afterwards ------------------------------------------------------------------------------------------

    def _over(self, is_answered: bool) -> None:
        item, self._sending = self._sending, None
        assert item is not None
        self._is_busy = False
        if is_answered:
            self._answered(item)
        elif self._wants:
            self._not_answered(item)
        else:
            self._unacked.append(item)
        self._pump()

    def _answered(self, item: Item) -> None:
        """The answer tells all that is stored; what is not goes again."""
        self._unanswered = 0
        self._quiet_until_s = 0.0
        self._answered_s = self._clock.now_s()
        self.sf, self.dbm = self.settled
        waiting = [*self._unacked, item]
        self._unacked = []
        self._queue += [one for one in waiting if one.stored_s is None]

    def _not_answered(self, item: Item) -> None:
        self.used.unanswered += 1
        self._unanswered += 1
        if self._unanswered >= _UNANSWERED_TO_FULL_POWER:
            self.dbm = self.law.dbm_max
            steps = (self._unanswered - _UNANSWERED_TO_FULL_POWER) // 2
            if not self.is_fixed:
                self.sf = min(self.settled[0] + steps, self.law.sf_max)
        most_s = _RETRY_ALARM_MAX_S if item.is_alarm else _RETRY_MAX_S
        spacing_s = min(_RETRY_S * 2 ** min(self._unanswered - 1, 10), most_s)
        self._quiet_until_s = self._clock.now_s() + spacing_s * self._rng.uniform(0.75, 1.25)
        self._queue.insert(0 if item.is_alarm else sum(one.is_alarm for one in self._queue), item)


def settle(town: Town, node_site_losses_db: list[float], sf_max: int) -> tuple[int, int] | None:
    """Spreading factor and power that ADR comes to, with 10 dB left; the most there is where that is not to be had,
    None when the best gateway does not hear the node at all."""
    best_dbm = town.law.dbm_max - min(node_site_losses_db)
    snr_db = best_dbm - town.air.physics.noise_dbm(_BW_HZ)
    if snr_db < SNR_MIN_DB[sf_max]:
        return None
    fitting = [sf for sf in range(7, sf_max + 1) if snr_db - SNR_MIN_DB[sf] >= _MARGIN_DB]
    sf = fitting[0] if fitting else sf_max
    spare_db = snr_db - SNR_MIN_DB[sf] - _MARGIN_DB
    dbm = town.law.dbm_max - _STEP_DB * max(0, math.floor(spare_db / _STEP_DB))
    return sf, max(dbm, _DBM_MIN)


def _fragments(size: int, room: int) -> list[int]:
    """Sizes of the packets that carry a frame of this size."""
    most = room - _FRAGMENT_HEAD
    whole, rest = divmod(size, most)
    return [room] * whole + ([rest + _FRAGMENT_HEAD] if rest else [])


def _signal(freq_hz: int, modulation: Modulation, dbm: float, payload: bytes) -> Signal:
    return Signal(
        freq_hz,
        modulation.bw_hz,
        modulation.sf,
        modulation.cr,
        modulation.preamble,
        modulation.is_implicit,
        modulation.has_crc,
        modulation.has_ldro,
        PRIVATE_SYNC_WORD,
        False,
        dbm,
        payload,
    )
