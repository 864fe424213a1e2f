"""The link over scripted radios on a virtual clock, and an observer that knows only what the radios were told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.links import radio as radios
from gateway.links.lora import LoraLink, Way
from gateway.links.radio import Transmission, Uplink
from hil_tests.world.clock import VirtualLoop
from protocols.wire import airtime
from protocols.wire.law import CN470, Law

FREQ_HZ = 474_300_000  # CN470, channel 20
# What a forwarder needs before a packet begins.
LEAD_S = 0.0425


class Taken(NamedTuple):
    """A transmission as a radio was told of it, in the world's time."""

    radio: str
    told_s: float
    begin_s: float
    end_s: float
    what: Transmission


class ScriptedRadio:
    """A radio whose counter began at `zero_us`; `verdict` says how each transmission ends, None: it does not tell."""

    def __init__(self, name: str, loop: VirtualLoop, zero_us: int = 0) -> None:
        self.name = name
        self.lead_s = 0.1
        self.is_ready = True
        self.problem = ""
        self.takes = True
        self.verdict: Callable[[Transmission], int | None] = lambda transmission: radios.SENT
        self.on_uplink: Callable[[Uplink], None] = lambda uplink: None
        self.on_result: Callable[[str, int, int], None] = lambda name, number, code: None
        self.taken: list[Taken] = []
        self.late = 0
        self._loop = loop
        self._zero_us = zero_us

    def counter(self, at_s: float) -> int:
        return (self._zero_us + round(at_s * 1e6)) % radios.COUNTER

    def send(self, transmission: Transmission) -> bool:
        if not (self.takes and self.is_ready):
            return False
        now_s = self._loop.now_s
        begin_s = now_s + self.lead_s
        if transmission.at_us is not None:
            begin_s = now_s + radios.later_us(transmission.at_us, self.counter(now_s)) / 1e6
        code = self.verdict(transmission)
        if begin_s - now_s < LEAD_S:
            self.late += 1
            code = radios.TOO_LATE
        if code in (radios.SENT, None):
            air_us = airtime.time_on_air_us(airtime.lora(transmission.sf), len(transmission.packet))
            self.taken.append(Taken(self.name, now_s, begin_s, begin_s + air_us / 1e6, transmission))
        if code is not None:
            self._loop.call_later(0.002, self.on_result, self.name, transmission.id, code)
        return True

    def picture(self) -> dict[str, float]:
        return {}


class NewSpent:
    """Of a radio that was never used."""

    def load(self) -> bytes:
        return b""

    def save(self, data: bytes) -> bool:
        return True


class AirRig:
    """Radios a, b, … over one link; what it hands up is kept, and answered by `answer` when that is set."""

    def __init__(
        self, count: int = 1, plan: int = CN470, freqs_hz: tuple[int, ...] = (FREQ_HZ,), hour_s: float = 0.0
    ) -> None:
        self.loop = VirtualLoop()
        self.freq_hz = freqs_hz[0]
        self.tasks: list[asyncio.Task[None]] = []  # of whoever works beside it
        # The second one's counter wraps after ten seconds.
        zeros = (5_000_000, radios.COUNTER - 10_000_000, 77, 4_000_000_000)
        self.radios = [ScriptedRadio("abcd"[n], self.loop, zeros[n]) for n in range(count)]
        self.frames: list[tuple[Way, bytes]] = []
        self.answer: Callable[[Way, bytes], None] = lambda way, frame: None
        self.law = Law(plan)
        self.known: set[int] = {0x12, 0x13}
        self.link = LoraLink(
            list(self.radios),
            lambda name: Law(plan, NewSpent()),
            freqs_hz,
            self.law.size_max,
            self.law.dbm_max,
            self._on_frame,
            lambda address: address in self.known,
            now_s=lambda: self.loop.now_s,
            call_later=self.loop.call_later,
            hour_s=hour_s,
        )

    def _on_frame(self, way: Any, frame: bytes) -> None:
        self.frames.append((way, frame))
        self.answer(way, frame)

    def hear(
        self,
        packet: bytes,
        *snrs: float | None,
        ended_s: float = 0.0,
        delay_s: float = 0.005,
        sf: int = 9,
        freq_hz: int = FREQ_HZ,
    ) -> None:
        """Let the radios hear a packet that ends at `ended_s`, each with its SNR; None: that one does not hear it."""
        for number, (radio, snr_db) in enumerate(zip(self.radios, snrs, strict=False)):
            if snr_db is not None:
                uplink = Uplink(radio.name, radio.counter(ended_s), freq_hz, sf, -80.0, snr_db, packet)
                at_s = ended_s + delay_s * (1 + number)
                self.loop.call_at(at_s, lambda radio=radio, uplink=uplink: radio.on_uplink(uplink))  # type: ignore[misc]

    def run(self, until_s: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(until_s - self.loop.now_s)

        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(wait())
        finally:
            asyncio.set_event_loop(None)

    @property
    def taken(self) -> list[Taken]:
        """All that was sent, in the order of its time."""
        return sorted((one for radio in self.radios for one in radio.taken), key=lambda one: one.begin_s)


def ask(number: int, size: int = 20) -> bytes:
    """A packet whose sender wants an answer; each number is another frame."""
    return bytes((0x2A,)) + number.to_bytes(2, "big") + bytes(size - 3)


def down(mark: int, size: int = 20) -> bytes:
    """A frame for a node that can be told from others."""
    return bytes((0x09,)) + mark.to_bytes(4, "big") + bytes(size - 5)


def offsets_ms(rig: AirRig, ended_s: float = 0.0) -> list[int]:
    """When everything began, after the end of the uplink."""
    return [round((one.begin_s - ended_s) * 1000) for one in rig.taken]
