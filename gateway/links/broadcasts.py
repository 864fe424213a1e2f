"""What a radio sends to whoever listens: when no answer needs the radio, in turns, as its plan allows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from gateway import update_limits
from gateway.links import radio as radios
from gateway.links.radio import Radio
from gateway.links.turns import Turns
from gateway.links.windows import Scheduler
from protocols.wire import airtime
from protocols.wire.airtime import AirRefused
from protocols.wire.errors import EncodeError


class Broadcasts:
    """`send` waits for its moment, and for the end of what it sent."""

    def __init__(
        self,
        scheduler: Scheduler,
        its_radios: Iterable[Radio],
        size_max: Callable[[int], int],
        *,
        now_s: Callable[[], float],
        hour_s: float = 0.0,
    ) -> None:
        self._scheduler = scheduler
        self._radios = {one.name: one for one in its_radios}
        self._turns = {name: Turns(hour_s) for name in self._radios}
        self._size_max = size_max
        self._now_s = now_s
        self.counters = {f"broadcast_{what}": 0 for what in ("answers_first", "duty_waits", "again")}
        self.air_s = 0.0

    async def send(self, radio: str, freq_hz: int, sf: int, packet: bytes, until_s: float) -> bool:
        """Have `packet` sent; False when it could not be by `until_s`.

        EncodeError, AirRefused: it never can.
        """

        async def make() -> bytes:
            return packet

        return await self.send_made(radio, freq_hz, sf, len(packet), make, until_s)

    async def send_made(
        self,
        radio: str,
        freq_hz: int,
        sf: int,
        size: int,
        make: Callable[[], Awaitable[bytes | None]],
        until_s: float,
    ) -> bool:
        """The same for a packet that says when it goes out: of `size` bytes, made anew each time that it would; None:
        it need not go out any more.
        """
        if size > self.size_max(sf):
            raise EncodeError(f"a broadcast of {size} bytes at SF{sf}: {self.size_max(sf)} fit there")
        air_s = airtime.time_on_air_us(airtime.lora(sf), size) / 1e6
        latest_s = until_s - air_s - self._radios[radio].lead_s
        while self._now_s() <= latest_s:
            wait_s = self.wait_s(radio, air_s)
            if not wait_s:
                packet = await make()
                if packet is None:
                    return False
                # Making it may have taken a moment.
                wait_s = self.wait_s(radio, air_s) or await self._try(radio, freq_hz, sf, packet, air_s)
                if not wait_s:
                    return True
            if self._now_s() + wait_s > latest_s:
                return False
            await asyncio.sleep(wait_s)
        return False

    def size_max(self, sf: int) -> int:
        """Bytes of the largest packet that is broadcast at this spreading factor; 0 for none."""
        fits = airtime.size_max(airtime.lora(sf), update_limits.BROADCAST_AIR_US)
        return max(0, min(self._size_max(sf), fits))

    def wait_s(self, name: str, air_s: float) -> float:
        """How long until it is worth trying; 0: now."""
        radio, now_s = self._radios[name], self._now_s()
        if not radio.is_ready:
            return update_limits.BROADCAST_LOOK_S
        turns = self._turns[name]
        wait_s = turns.wait_s(now_s, radio.lead_s + air_s, is_crowd=self._scheduler.is_crowd(name))
        if turns.is_full:
            self.counters["broadcast_duty_waits"] += 1
        if wait_s:
            return wait_s
        free_s = self._scheduler.free_from_s(name, now_s, now_s + radio.lead_s + air_s)
        self.counters["broadcast_answers_first"] += free_s > now_s
        return free_s - now_s

    async def _try(self, name: str, freq_hz: int, sf: int, packet: bytes, air_s: float) -> float:
        """0 when it was sent, as far as anybody knows; else how long to wait before the next try."""
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def ended(code: int) -> None:
            if not result.done():
                result.set_result(code)

        try:
            end_s = self._scheduler.broadcast(name, freq_hz, sf, packet, ended)
        except AirRefused as refused:
            if refused.wait_s is None:
                raise
            self.counters["broadcast_duty_waits"] += 1
            return max(update_limits.BROADCAST_LOOK_S, float(refused.wait_s))
        if not end_s:
            return update_limits.BROADCAST_LOOK_S
        # A radio that can tell says at once that it took it, or at the end that it sent it; another one says nothing.
        await asyncio.wait((result,), timeout=end_s - self._now_s())
        if result.done() and result.result() != radios.SENT:
            self.counters["broadcast_again"] += 1
            return update_limits.BROADCAST_LOOK_S
        self._turns[name].sent(end_s - air_s, air_s)
        self.air_s += air_s
        return 0.0

    def picture(self) -> dict[str, float]:
        """Counters for /metrics and status."""
        return {**self.counters, "broadcast_airtime_seconds": round(self.air_s, 3)}
