"""The link "lora": sealed frames over any number of radios.

    packet from a radio
      → of the plan's channels?                          off_plan
      → a copy of what another radio heard just now?     noted: the best of them answers
      → its first byte (SPEC 7.2)                        kind
      → a fragment: collected, bounded                   fragment
      → a frame, by the way it came                      → ingest

The way of an uplink is a link of its own to whoever takes the frame. So an answer finds the windows of the very uplink
that was opened, and a forged packet in a node's name can not draw them to itself. (The very packet, sent again on its
channel within two seconds and heard louder by another radio, can: then the node asks once more.)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from gateway import limits
from gateway.config_lora import NAME
from gateway.links.broadcasts import Broadcasts
from gateway.links.radio import Radio, Uplink
from gateway.links.windows import Exchange, Law, Scheduler, Timer, best_of
from protocols.wire import airtime, fragments
from protocols.wire.errors import EncodeError

_KIND = 0xE0  # the top three bits of a packet's first byte
_FRAME = 0x00
_FRAME_WANTS_ANSWER = 0x20
_LAST_FRAGMENT = 0x10


class Arrival:
    """One packet, by however many radios it was heard."""

    __slots__ = ("ended_s", "first_s", "receptions")

    def __init__(self, uplink: Uplink, now_s: float, ended_s: float) -> None:
        self.receptions = [uplink]
        self.first_s = now_s
        self.ended_s = ended_s


class Way:
    """How one uplink came, and how its answers go: a link to one node for a few seconds."""

    name = NAME
    listens = False

    __slots__ = ("_arrival", "_exchange", "_link", "room", "wants_answer")

    def __init__(self, link: LoraLink, arrival: Arrival, room: int, *, wants_answer: bool) -> None:
        self.wants_answer = wants_answer
        self.room = room
        self._link = link
        self._arrival = arrival
        self._exchange: Exchange | None = None

    @property
    def best(self) -> Uplink:
        """The strongest copy so far."""
        return best_of(self._arrival.receptions)

    @property
    def ended_s(self) -> float:
        """When the uplink ended, by the gateway's clock: what an appointment counts from."""
        return self._arrival.ended_s

    @property
    def radios(self) -> list[str]:
        """The radios that heard it."""
        return [one.radio for one in self._arrival.receptions]

    @property
    def heard_by(self) -> int:
        """How many radios heard it."""
        return len(self._arrival.receptions)

    @property
    def can_answer(self) -> bool:
        """Whether a window of this uplink is still to come."""
        return self._link.scheduler.has_time(self._its_exchange())

    def _its_exchange(self) -> Exchange:
        if self._exchange is None:
            self._exchange = Exchange(self._arrival.receptions, self._arrival.ended_s)
        return self._exchange

    def send(self, address: int, frame: bytes) -> bool:
        """Queue `frame` for the next window of the node that sent this uplink; False when there is none left."""
        return self._link.answer(self._its_exchange(), address, frame, self.room)


class LoraLink:
    """All radios of a gateway. `on_frame(way, frame)` gets each frame once."""

    name = NAME

    def __init__(
        self,
        radios: list[Radio],
        law_of: Callable[[str], Law],
        channels_hz: tuple[int, ...],
        size_max: Callable[[int], int],
        dbm: int,
        on_frame: Callable[[Any, bytes], None],
        is_known: Callable[[int], bool],
        *,
        now_s: Callable[[], float],
        call_later: Callable[..., Timer] | None = None,
        hour_s: float = 0.0,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.radios = radios
        self.refused: dict[str, int] = {}
        self.counters = dict.fromkeys(
            ("packets_in", "copies", "frames_in", "frames_out", "fragments_in", "frames_cut"), 0
        )
        self._channels_hz = channels_hz
        self._size_max = size_max
        self._on_frame = on_frame
        self._is_known = is_known
        self._now_s = now_s
        self._on_progress = on_progress
        self._arrivals: OrderedDict[bytes, Arrival] = OrderedDict()
        self._collectors: OrderedDict[int, fragments.Collector] = OrderedDict()
        self._ends: OrderedDict[bytes, Arrival] = OrderedDict()  # of fragmented frames: by tag and address
        self._tag = 0
        self.scheduler = Scheduler(
            {radio.name: radio for radio in radios},
            law_of,
            dbm,
            now_s=now_s,
            call_later=call_later or _call_later,
        )
        self.broadcasts = Broadcasts(self.scheduler, radios, size_max, now_s=now_s, hour_s=hour_s)
        for radio in radios:
            radio.on_uplink = self.heard
            radio.on_result = self.scheduler.on_result

    async def run(self) -> None:
        """Everything happens when a radio hears or a timer fires; this only shows that the loop goes round."""
        try:
            while True:
                self._on_progress()
                await asyncio.sleep(limits.LORA_TURN_S)
                self._forget()
        finally:
            self.scheduler.stop()

    # --- up --------------------------------------------------------------------------------------

    def heard(self, uplink: Uplink) -> None:
        """A packet from a radio. Never raises for what is in it."""
        self.counters["packets_in"] += 1
        freq_hz = self._channel_hz(uplink.freq_hz)
        if freq_hz is None:
            self._refuse("off_plan")
            return
        uplink = uplink._replace(freq_hz=freq_hz)
        now_s, ended_s = self._now_s(), self.scheduler.heard(uplink)
        arrival = self._arrivals.get(uplink.packet)
        if arrival is not None and now_s - arrival.first_s <= limits.COPIES_S:
            self._copy(arrival, uplink, ended_s)
            return
        arrival = Arrival(uplink, now_s, ended_s)
        self._arrivals[uplink.packet] = arrival
        self._arrivals.move_to_end(uplink.packet)
        if len(self._arrivals) > limits.ARRIVALS_MAX:
            self._arrivals.popitem(last=False)
        self._sort(uplink, arrival)

    def _channel_hz(self, freq_hz: int) -> int | None:
        """The channel that a radio means; a concentrator gives its frequency a few hundred hertz off."""
        nearest_hz = min(self._channels_hz, key=lambda its_hz: abs(its_hz - freq_hz))
        return nearest_hz if abs(nearest_hz - freq_hz) <= limits.CHANNEL_OFF_HZ else None

    def _copy(self, arrival: Arrival, uplink: Uplink, ended_s: float) -> None:
        """Another radio heard it, too. A radio hears a packet once: what repeats it there is a forgery or a replay.

        So is what comes on another channel or spreading factor: it has no windows that the node listens in.
        """
        self.counters["copies"] += 1
        first = arrival.receptions[0]
        if (uplink.freq_hz, uplink.sf) != (first.freq_hz, first.sf):
            return
        if all(uplink.radio != one.radio for one in arrival.receptions):
            arrival.receptions.append(uplink)
            arrival.ended_s = min(arrival.ended_s, ended_s)

    def _sort(self, uplink: Uplink, arrival: Arrival) -> None:
        packet = uplink.packet
        kind = packet[0] & _KIND
        if kind == _FRAME:
            self._take(arrival, packet, wants_answer=False)
        elif kind == _FRAME_WANTS_ANSWER:
            self._take(arrival, bytes((packet[0] & ~_KIND,)) + packet[1:], wants_answer=True)
        elif kind == fragments.FRAGMENT:
            self._fragment(uplink, arrival)
        else:
            self._refuse("kind")

    def _take(self, arrival: Arrival, frame: bytes, *, wants_answer: bool) -> None:
        self.counters["frames_in"] += 1
        room = self._size_max(arrival.receptions[0].sf)
        self._on_frame(Way(self, arrival, room, wants_answer=wants_answer), frame)

    def _fragment(self, uplink: Uplink, arrival: Arrival) -> None:
        """Collect what a registered node sends in pieces; its windows count from the last one."""
        packet = uplink.packet
        address = int.from_bytes(packet[2 : fragments.HEAD], "big")
        if len(packet) <= fragments.HEAD or not self._is_known(address):
            self._refuse("fragment")
            return
        self.counters["fragments_in"] += 1
        key = packet[1 : fragments.HEAD]
        if packet[0] & _LAST_FRAGMENT:
            self._ends[key] = arrival
            self._ends.move_to_end(key)
            if len(self._ends) > limits.FRAGMENTING_NODES_MAX:
                self._ends.popitem(last=False)
        else:
            room = self._size_max(uplink.sf)
            self.scheduler.expect(uplink, airtime.time_on_air_us(airtime.lora(uplink.sf), max(room, 0)))
        frame = self._collector(address).take(packet, int(self._now_s()))
        if frame is not None:
            end = self._ends.pop(key, arrival)
            self._take(end, bytes((frame[0] & ~_KIND,)) + frame[1:], wants_answer=True)

    def _collector(self, address: int) -> fragments.Collector:
        collector = self._collectors.get(address)
        if collector is None:
            collector = self._collectors[address] = fragments.Collector(limits.FRAGMENTED_PER_NODE_MAX)
            if len(self._collectors) > limits.FRAGMENTING_NODES_MAX:
                self._collectors.popitem(last=False)
                self._refuse("fragment_overload")
        self._collectors.move_to_end(address)
        return collector

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _forget(self) -> None:
        """Packets that no copy can come of any more."""
        before_s = self._now_s() - limits.COPIES_S
        while self._arrivals:
            packet, arrival = next(iter(self._arrivals.items()))
            if arrival.first_s >= before_s:
                break
            del self._arrivals[packet]

    # --- down ------------------------------------------------------------------------------------

    def answer(self, exchange: Exchange, address: int, frame: bytes, room: int) -> bool:
        """Queue `frame`, in pieces if it has to be; all of it or nothing."""
        try:
            packets = fragments.split(frame, address, self._tag, room)
        except EncodeError:
            self._refuse("too_long_down")
            return False
        if not self.scheduler.offer(exchange, packets):
            return False
        self.counters["frames_out"] += 1
        if len(packets) > 1:
            self.counters["frames_cut"] += 1
            self._tag = (self._tag + 1) & 0xFF
        return True

    # --- what it says of itself ------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether any radio is there."""
        return any(radio.is_ready for radio in self.radios)

    @property
    def last_error(self) -> str:
        return "" if self.is_open else "no radio is there"

    def picture(self) -> dict[str, float]:
        """Counters for /metrics and status."""
        refused = {f"refused_{reason}": count for reason, count in self.refused.items()}
        sent = {f"down_{name}": count for name, count in self.scheduler.counters.items()}
        return {
            **self.counters,
            **refused,
            **sent,
            **self.broadcasts.picture(),
            "open": float(self.is_open),
            "queued": self.scheduler.queued,
        }


def _call_later(delay_s: float, function: Callable[..., None], *arguments: Any) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, function, *arguments)
