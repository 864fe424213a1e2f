"""A gateway's concentrator on the simulated air: many channels and all spreading factors at once.

As an SX1301 or SX1302 behind one antenna: every preamble is found, but only so many packets are demodulated at a time,
first come, first served; the next one is lost, and counted. While it sends it hears nothing. What follows a packet is
not held up by a second one on the same channel and spreading factor: whether either survives, the air decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from boards.virtual.ether import Reception, Signal, Tuning
from hil_tests.world.air import Air, Ear, Flight, Site, air_s
from hil_tests.world.propagation import Spot

PRIVATE_SYNC_WORD = 0x12
DEMODULATORS = 8
SPREADING = (7, 8, 9, 10, 11, 12)
_BW_HZ = 125_000


class _ConcentratorEar(Ear):
    TRIES_AGAIN = False  # its other demodulators listened all the time
    __slots__ = ("concentrator",)

    def __init__(self, site: Site, concentrator: Concentrator) -> None:
        super().__init__(site, concentrator)
        self.concentrator = concentrator

    def has_room(self) -> bool:
        if self.concentrator.busy < self.concentrator.demodulators:
            return True
        self.concentrator.counts["no demodulator"] += 1
        return False

    def take(self, flight: Flight) -> None:
        super().take(flight)
        self.concentrator.busy += 1

    def release(self, flight: Flight) -> None:
        super().release(flight)
        self.concentrator.busy -= 1


class Concentrator:
    """`on_packet` is told of each packet that ended, good or bad, as the chip tells it."""

    def __init__(
        self,
        air: Air,
        name: str,
        spot: Spot,
        freqs_hz: Sequence[int],
        spreading: Sequence[int] = SPREADING,
        demodulators: int = DEMODULATORS,
    ) -> None:
        self.air = air
        self.name = name
        self.freqs_hz = tuple(freqs_hz)
        self.demodulators = demodulators
        self.busy = 0
        self.counts: Counter[str] = Counter()
        self.on_packet: Callable[[Reception], None] = lambda reception: None
        self.sending_until_s = 0.0
        site = air.place(self, name, spot)
        for freq_hz in freqs_hz:
            for sf in spreading:
                air.listen(
                    _ConcentratorEar(site, self), Tuning(freq_hz, _BW_HZ, sf, PRIVATE_SYNC_WORD, False)
                )

    @property
    def is_sending(self) -> bool:
        return self.air.clock.now_s() < self.sending_until_s

    def send(self, signal: Signal) -> float:
        """Send at once; how long it takes. What was being received is lost."""
        self.counts["interrupted"] += self.busy
        self.counts["sent"] += 1
        self.sending_until_s = self.air.clock.now_s() + air_s(signal)
        return self.air.transmit(self, signal)

    # -- the air's side --------------------------------------------------------------------------------------

    def detected(self) -> None:
        self.counts["detected"] += 1

    def heard(self, reception: Reception) -> None:
        self.counts["heard" if reception.is_intact else "spoiled"] += 1
        self.on_packet(reception)
