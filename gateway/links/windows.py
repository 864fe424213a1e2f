"""When which radio sends what to which node: the windows of SPEC 7.3, for several radios that do one thing at a time.

An exchange is what goes down after one uplink: a queue of packets, and the offset of the next one from the uplink's
end. The first goes into the first window or, if no radio is free then, into the second; each further one begins 400 ms
after the end of the one before. Each radio that heard the uplink has its own time for it, so any of them can send any
packet of the exchange, to the microsecond of its own counter.

A packet is handed to a radio a third of a second before its time, not earlier: until then the copies of an uplink come
in and the best radio is known. It is never handed over too late; what misses its windows is dropped, for the next
uplink asks again. Time on the air, power and duty cycle are the plan's, asked right before each hand-over.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from gateway import limits, update_limits
from gateway.links import radio as radios
from gateway.links.crowd import Crowd
from gateway.links.radio import Radio, RadioClock, Transmission, Uplink, later_us
from protocols.wire import airtime
from protocols.wire.airtime import AirRefused

FIRST_US = 1_000_000
SECOND_US = 2_000_000
GAP_US = 400_000
DOWNLINKS_MAX = 16
_KEPT_S = 1.0  # a booking, after its end


class Timer(Protocol):
    def cancel(self) -> None: ...


class Law(Protocol):
    """The part of protocols.wire.law.Law that is used; one for each radio, for each has its own duty cycle."""

    def check(self, now_s: int, freq_hz: int, modulation: airtime.Modulation, size: int, dbm: int) -> int: ...

    def sent(self, now_s: int, freq_hz: int, air_us: int) -> None: ...


class Exchange:
    """What goes down to one node after one uplink; `receptions` may still grow."""

    def __init__(self, receptions: list[Uplink], ended_s: float) -> None:
        self.receptions = receptions
        self.ended_s = ended_s
        self.queue: deque[bytes] = deque()
        self.offset_us = FIRST_US
        self.count = 0  # handed over
        self.latest = 0  # id of the last of them
        self.timer: Timer | None = None
        self.tried: set[str] = set()  # radios that said no to the packet at hand in this window
        self.is_over = False

    @property
    def freq_hz(self) -> int:
        return self.receptions[0].freq_hz

    @property
    def sf(self) -> int:
        return self.receptions[0].sf

    @property
    def begin_s(self) -> float:
        """When the next packet begins, by the gateway's clock."""
        return self.ended_s + self.offset_us / 1e6


class _Booking(NamedTuple):
    begin_us: int
    air_us: int
    until_s: float
    id: int


class _Handed(NamedTuple):
    exchange: Exchange
    radio: str
    packet: bytes
    offset_us: int
    begin_s: float


class Scheduler:
    """One for all radios. `offer` queues, timers do the rest, `on_result` hears how it went."""

    def __init__(
        self,
        radios_by_name: Mapping[str, Radio],
        law_of: Callable[[str], Law],
        dbm: int,
        *,
        now_s: Callable[[], float],
        call_later: Callable[[float, Callable[[Exchange], None], Exchange], Timer],
    ) -> None:
        self._radios = radios_by_name
        self._laws = {name: law_of(name) for name in radios_by_name}
        self._clocks = {name: RadioClock() for name in radios_by_name}
        self._crowds = {name: Crowd() for name in radios_by_name}
        self._bookings: dict[str, list[_Booking]] = {name: [] for name in radios_by_name}
        # Windows of uplinks heard just now, whose answers may still be under way to here: begin and end.
        self._promised: dict[str, deque[tuple[float, float]]] = {
            name: deque(maxlen=update_limits.BROADCAST_WINDOWS_MAX) for name in radios_by_name
        }
        self._drained: deque[Exchange] = deque(maxlen=update_limits.BROADCAST_WINDOWS_MAX)  # more may follow
        self._coming: dict[str, tuple[int, int]] = {}  # radio → when the rest of a frame is expected there
        self._handed: OrderedDict[int, _Handed] = OrderedDict()
        self._broadcasts: OrderedDict[int, Callable[[int], None]] = OrderedDict()
        self._waiting: set[Exchange] = set()
        self._last_id = 0
        self._dbm = dbm
        self._now_s = now_s
        self._call_later = call_later
        self.counters = dict.fromkeys(
            (
                "handed",
                "second_window",
                "dropped",
                "overload",
                "crowd",
                "air_refused",
                "not_taken",
                "broadcast",
                "broadcast_failed",
                *_RESULTS,
            ),
            0,
        )

    # --- what the link tells ---------------------------------------------------------------------

    def heard(self, uplink: Uplink) -> float:
        """A radio heard a packet just now; when it ended, by the gateway's clock."""
        now_s = self._now_s()
        self._crowds[uplink.radio].heard(now_s)
        if uplink.at_us is None:
            return now_s
        clock = self._clocks[uplink.radio]
        clock.heard(uplink.at_us, now_s)
        ended_s = min(now_s, clock.at_s(uplink.at_us))
        begin_s = ended_s + FIRST_US / 1e6
        answer_us = airtime.time_on_air_us(airtime.lora(uplink.sf), update_limits.BROADCAST_ANSWER_BYTES)
        self._promised[uplink.radio].append((begin_s, begin_s + answer_us / 1e6))
        return ended_s

    def expect(self, uplink: Uplink, air_us: int) -> None:
        """More of the same frame follows this packet: that radio should listen, if another one can send."""
        if uplink.at_us is not None:
            self._coming[uplink.radio] = (uplink.at_us, air_us + limits.FRAGMENT_PAUSE_US)

    def offer(self, exchange: Exchange, packets: list[bytes]) -> bool:
        """Queue `packets`, all of them or none; False when they can not go out any more."""
        if exchange.is_over or exchange.count + len(exchange.queue) + len(packets) > DOWNLINKS_MAX:
            return False
        if exchange not in self._waiting and len(self._waiting) >= limits.EXCHANGES_MAX:
            self.counters["overload"] += 1
            return False
        if not self.has_time(exchange):
            self._end(exchange)
            return False
        exchange.queue.extend(packets)
        if exchange.timer is None:
            self._arm(exchange)
        return True

    def on_result(self, name: str, number: int, code: int) -> None:
        """How a transmission ended, or that it was not begun."""
        if (told := self._broadcasts.pop(number, None)) is not None:
            self._broadcast_ended(name, number, code, told)
            return
        handed = self._handed.pop(number, None)
        if handed is None or handed.radio != name:
            return
        self.counters[_RESULTS[code] if 0 <= code < len(_RESULTS) else "fault"] += 1
        if code == radios.SENT:
            return
        self._bookings[name] = [one for one in self._bookings[name] if one.id != number]
        exchange = handed.exchange
        if exchange.latest != number or exchange.is_over:
            return  # the next one is on its way already: the node is not listening for this one
        exchange.queue.appendleft(handed.packet)
        exchange.count -= 1
        exchange.offset_us = handed.offset_us
        exchange.tried.add(name)
        self._due(exchange)

    def stop(self) -> None:
        """Forget everything that is not on its way yet."""
        for exchange in list(self._waiting):
            self._end(exchange)

    @property
    def queued(self) -> int:
        """Packets that wait for their time."""
        return sum(len(exchange.queue) for exchange in self._waiting)

    # --- time ------------------------------------------------------------------------------------

    def has_time(self, exchange: Exchange) -> bool:
        """Whether the next packet can still be handed over in time; the first one has two windows."""
        latest_s = self._now_s() + limits.HAND_OVER_MIN_S
        if exchange.count == 0 and exchange.offset_us == FIRST_US and exchange.begin_s < latest_s:
            self._second_window(exchange)
        return not exchange.is_over and exchange.begin_s >= latest_s

    def _second_window(self, exchange: Exchange) -> None:
        exchange.offset_us = SECOND_US
        exchange.tried.clear()
        self.counters["second_window"] += 1

    def _arm(self, exchange: Exchange) -> None:
        self._waiting.add(exchange)
        pause_s = max(0.0, exchange.begin_s - limits.HAND_OVER_S - self._now_s())
        exchange.timer = self._call_later(pause_s, self._due, exchange)

    def _due(self, exchange: Exchange) -> None:
        """Hand over the next packet of `exchange`, to whichever radio can."""
        if exchange.timer is not None:
            exchange.timer.cancel()
            exchange.timer = None
        if not exchange.queue:
            self._waiting.discard(exchange)
            return
        window_us = exchange.offset_us
        if not self.has_time(exchange):
            self._end(exchange)
        elif exchange.offset_us != window_us:
            self._arm(exchange)
        elif self._hand_over(exchange):
            self._next(exchange)
        elif exchange.count == 0 and exchange.offset_us == FIRST_US:
            self._second_window(exchange)
            self._arm(exchange)
        else:
            self._end(exchange)

    def _next(self, exchange: Exchange) -> None:
        exchange.tried.clear()
        if exchange.queue:
            self._arm(exchange)
        else:
            self._waiting.discard(exchange)  # more may come; then `offer` finds when it can begin
            self._drained.append(exchange)

    def _end(self, exchange: Exchange) -> None:
        if exchange.timer is not None:
            exchange.timer.cancel()
            exchange.timer = None
        self.counters["dropped"] += len(exchange.queue)
        exchange.queue.clear()
        exchange.is_over = True
        self._waiting.discard(exchange)

    # --- what answers nothing --------------------------------------------------------------------

    def free_from_s(self, name: str, begin_s: float, end_s: float) -> float:
        """When a radio that would send from `begin_s` to `end_s` can begin without getting in an answer's way.

        `begin_s` itself when nothing is in the way; else a moment at which it is worth asking again.
        """
        turn_s = limits.TURN_AROUND_US / 1e6
        for busy_s, until_s in self._busy(name):
            if begin_s < until_s + turn_s and busy_s < end_s + turn_s:
                return until_s + turn_s
        return begin_s

    def _busy(self, name: str) -> Iterable[tuple[float, float]]:
        """What this radio does, may have to do, or should hear."""
        now_s = self._now_s()
        for one in self._bookings[name]:
            end_s = one.until_s - _KEPT_S
            yield end_s - one.air_us / 1e6, end_s
        promised = self._promised[name]
        while promised and promised[0][0] - FIRST_US / 1e6 + update_limits.BROADCAST_ANSWER_S < now_s:
            promised.popleft()  # there is an answer by now, or there will be none
        yield from promised
        for exchange in self._waiting:
            if exchange.queue and any(one.radio == name for one in exchange.receptions):
                yield exchange.begin_s, exchange.begin_s + _air_s(exchange.sf, len(exchange.queue[0]))
        for exchange in self._drained:
            if exchange.begin_s > now_s and any(one.radio == name for one in exchange.receptions):
                yield (
                    exchange.begin_s,
                    exchange.begin_s + _air_s(exchange.sf, update_limits.BROADCAST_ANSWER_BYTES),
                )
        if name in self._coming:
            at_us, length_us = self._coming[name]
            begin_s = self._clocks[name].at_s(at_us)
            yield begin_s, begin_s + length_us / 1e6

    def is_crowd(self, name: str) -> bool:
        """Whether that radio hears many just now."""
        return self._crowds[name].is_on(self._now_s())

    def broadcast(
        self, name: str, freq_hz: int, sf: int, packet: bytes, ended: Callable[[int], None]
    ) -> float:
        """Have a radio send at once; when that will be over, 0 when it does not. AirRefused: the plan says no.

        `ended` is called with how it ended, by a radio that can tell.
        """
        radio, law, now_s = self._radios[name], self._laws[name], self._now_s()
        air_us = law.check(int(now_s), freq_hz, airtime.lora(sf), len(packet), self._dbm)
        self._last_id = self._last_id % 0xFFFF + 1
        if not radio.send(Transmission(self._last_id, None, freq_hz, sf, self._dbm, packet)):
            self.counters["not_taken"] += 1
            return 0.0
        law.sent(int(now_s), freq_hz, air_us)
        length_us = air_us + round(radio.lead_s * 1e6)
        end_s = now_s + length_us / 1e6
        clock = self._clocks[name]
        begin_us = clock.us_at(now_s) if clock.is_known else 0
        self._bookings[name].append(_Booking(begin_us, length_us, end_s + _KEPT_S, self._last_id))
        self._broadcasts[self._last_id] = ended
        while len(self._broadcasts) > limits.HANDED_MAX:
            self._broadcasts.popitem(last=False)
        self.counters["broadcast"] += 1
        return end_s

    def _broadcast_ended(self, name: str, number: int, code: int, told: Callable[[int], None]) -> None:
        if code != radios.SENT:
            self.counters["broadcast_failed"] += 1
            self._bookings[name] = [one for one in self._bookings[name] if one.id != number]
        told(code)

    # --- radios ----------------------------------------------------------------------------------

    def _hand_over(self, exchange: Exchange) -> bool:
        packet = exchange.queue[0]
        air_us = airtime.time_on_air_us(airtime.lora(exchange.sf), len(packet))
        free = [one for one in self._candidates(exchange) if self._is_free(exchange, one, air_us)]
        free = [one for one in free if self._may_send(one.radio, air_us)]
        # Who is about to hear the rest of a frame comes last.
        free.sort(key=lambda one: self._is_coming(exchange, one, air_us))
        if free and exchange.count == 0 and exchange.offset_us == FIRST_US:
            free = [one for one in free if not self._is_coming(exchange, one, air_us)]
        return any(self._give(exchange, one, packet) for one in free)

    def _may_send(self, name: str, air_us: int) -> bool:
        may_send = self._crowds[name].may_send(self._now_s(), air_us / 1e6)
        self.counters["crowd"] += not may_send
        return may_send

    def _candidates(self, exchange: Exchange) -> list[Uplink]:
        """The radios that heard the uplink and can send, best first."""
        able = [
            one
            for one in exchange.receptions
            if one.at_us is not None and one.radio not in exchange.tried and self._radios[one.radio].is_ready
        ]
        return sorted(able, key=lambda one: -one.snr_db)

    def _is_free(self, exchange: Exchange, reception: Uplink, air_us: int) -> bool:
        """Whether that radio does nothing else then. What follows a first packet gives way to other nodes' first."""
        begin_us = _begin_us(exchange, reception)
        now_s = self._now_s()
        bookings = [one for one in self._bookings[reception.radio] if one.until_s > now_s]
        self._bookings[reception.radio] = bookings
        if any(_overlap(begin_us, air_us, one.begin_us, one.air_us) for one in bookings):
            return False
        return exchange.count == 0 or not self._is_claimed(reception.radio, begin_us, air_us)

    def _is_claimed(self, name: str, begin_us: int, air_us: int) -> bool:
        for other in self._waiting:
            if other.count or not other.queue:
                continue
            best = next(iter(self._candidates(other)), None)
            if best is None or best.radio != name:
                continue
            its_us = airtime.time_on_air_us(airtime.lora(other.sf), len(other.queue[0]))
            if _overlap(begin_us, air_us, _begin_us(other, best), its_us):
                return True
        return False

    def _is_coming(self, exchange: Exchange, reception: Uplink, air_us: int) -> bool:
        coming = self._coming.get(reception.radio)
        return coming is not None and _overlap(_begin_us(exchange, reception), air_us, *coming)

    def _give(self, exchange: Exchange, reception: Uplink, packet: bytes) -> bool:
        """Hand `packet` to one radio, if its plan allows it."""
        name, modulation = reception.radio, airtime.lora(exchange.sf)
        law, now_s = self._laws[name], int(self._now_s())
        try:
            air_us = law.check(now_s, exchange.freq_hz, modulation, len(packet), self._dbm)
        except AirRefused:
            self.counters["air_refused"] += 1
            return False
        self._last_id = self._last_id % 0xFFFF + 1  # as wide as a bridge takes
        begin_us = _begin_us(exchange, reception)
        transmission = Transmission(self._last_id, begin_us, exchange.freq_hz, exchange.sf, self._dbm, packet)
        if not self._radios[name].send(transmission):
            self.counters["not_taken"] += 1
            return False
        law.sent(now_s, exchange.freq_hz, air_us)
        self._crowds[name].sent(self._now_s(), air_us / 1e6)
        self._book(exchange, name, begin_us, air_us)
        return True

    def _book(self, exchange: Exchange, name: str, begin_us: int, air_us: int) -> None:
        number, begin_s = self._last_id, exchange.begin_s
        until_s = begin_s + air_us / 1e6 + _KEPT_S
        self._bookings[name].append(_Booking(begin_us, air_us, until_s, number))
        packet = exchange.queue.popleft()
        self._handed[number] = _Handed(exchange, name, packet, exchange.offset_us, begin_s)
        while len(self._handed) > limits.HANDED_MAX:
            self._handed.popitem(last=False)
        self.counters["handed"] += 1
        exchange.count += 1
        exchange.latest = number
        exchange.offset_us += air_us + GAP_US


_RESULTS = radios.RESULT_NAMES


def best_of(receptions: Iterable[Uplink]) -> Uplink:
    """The strongest of the copies of a packet."""
    return max(receptions, key=lambda one: one.snr_db)


def _begin_us(exchange: Exchange, reception: Uplink) -> int:
    """That radio's counter when the next packet begins."""
    return ((reception.at_us or 0) + exchange.offset_us) % radios.COUNTER


def _overlap(begin_us: int, air_us: int, its_begin_us: int, its_air_us: int) -> bool:
    """Whether two transmissions of one radio, each with the time it takes to turn around, meet."""
    later = later_us(begin_us, its_begin_us)
    return -(air_us + limits.TURN_AROUND_US) < later < its_air_us + limits.TURN_AROUND_US


def _air_s(sf: int, size: int) -> float:
    return airtime.time_on_air_us(airtime.lora(sf), size) / 1e6
