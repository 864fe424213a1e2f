"""A clock, an air in which every decibel is known, and antennas that keep what they hear."""

from __future__ import annotations

from boards.virtual.ether import Reception, Signal, Tuning
from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air
from hil_tests.world.propagation import Physics, Spot, open_air

FREQ_HZ = 470_300_000
NOISE_DBM = open_air().noise_dbm(125_000)


def signal(payload: bytes = bytes(20), sf: int = 9, **changes: object) -> Signal:
    base = Signal(FREQ_HZ, 125_000, sf, 5, 8, False, True, sf >= 11, 0x12, False, 14.0, payload)
    return base._replace(**changes)  # type: ignore[arg-type]


def tuning(sf: int = 9, **changes: object) -> Tuning:
    return Tuning(FREQ_HZ, 125_000, sf, 0x12, False)._replace(**changes)  # type: ignore[arg-type]


class Ear:
    """An antenna that keeps what it is told, and when."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.detections: list[float] = []
        self.receptions: list[Reception] = []
        self.times: list[float] = []

    def detected(self) -> None:
        self.detections.append(self._rig.clock.now_s())

    def heard(self, reception: Reception) -> None:
        self.receptions.append(reception)
        self.times.append(self._rig.clock.now_s())

    @property
    def intact(self) -> list[bytes]:
        return [one.signal.payload for one in self.receptions if one.is_intact]


class Rig:
    def __init__(self, physics: Physics | None = None, seed: int = 1) -> None:
        self.clock = Agenda()
        self.air = Air(self.clock, physics or open_air(), seed)
        self._count = 0

    def antenna(self, x_m: float = 0.0, y_m: float = 0.0, **spot: object) -> Ear:
        ear = Ear(self)
        self._count += 1
        self.air.place(ear, f"antenna {self._count}", Spot(x_m, y_m, **spot))  # type: ignore[arg-type]
        return ear

    def at_loss(self, ear: Ear, loss_db: float) -> Ear:
        """A further antenna whose packets come so much quieter at that one; from elsewhere it is at the origin."""
        other = self.antenna()
        one, two = self.air.site_of(ear), self.air.site_of(other)
        one.losses[two] = two.losses[one] = loss_db
        return other

    def run(self, seconds: float = 10.0) -> None:
        self.clock.run_until(self.clock.now_s() + seconds)
