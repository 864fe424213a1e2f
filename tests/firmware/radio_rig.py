"""Drivers of a radio against simulated chips in a simulated air, on a clock that jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boards.virtual.chips.sx1262 import Sx1262
from firmware.radios.sx126x import Sx126x
from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air, Flight
from hil_tests.world.propagation import Physics, Spot, open_air
from protocols.wire.law import CN470, Law

if TYPE_CHECKING:
    from firmware.radios import Event

FREQ_HZ = 470_300_000
_TICKS = 1 << 30


class Clock:
    """As firmware.hal.clock.Clock, as far as a driver needs it; ticks start a second before they wrap."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda

    def uptime_s(self) -> int:
        return int(self._agenda.now_s())

    def ticks_ms(self) -> int:
        return (_TICKS - 1000 + int(self._agenda.now_s() * 1000)) % _TICKS

    def ticks_diff(self, later: int, earlier: int) -> int:
        return (later - earlier + _TICKS // 2) % _TICKS - _TICKS // 2

    def sleep_ms(self, ms: int) -> None:
        self._agenda.run_until(self._agenda.now_s() + ms / 1000)


class Port:
    """Implements firmware.hal.RadioPort: 8 MHz, and each look at a pin takes its time."""

    chip = "sx1262"

    def __init__(self, agenda: Agenda, chip: Sx1262, *, tcxo_mv: int | None = 1800) -> None:
        self._agenda = agenda
        self._chip = chip
        self.tcxo_mv = tcxo_mv
        self.dio2_switches = True
        self.dbm_max = 22
        self.switched: list[bool] = []
        self.resets = 0

    def transfer(self, data: bytearray) -> None:
        data[:] = self._chip.transfer(bytes(data))
        self._pass_us(20 + len(data))

    def is_busy(self) -> bool:
        self._pass_us(5)
        return self._chip.is_busy

    def is_raised(self) -> bool:
        self._pass_us(5)
        return bool(self._chip.dio1.level)

    def reset(self) -> None:
        self.resets += 1
        self._chip.reset()

    def switch(self, is_receiving: bool) -> None:
        self.switched.append(is_receiving)

    def ticks_us(self) -> int:
        return int(self._agenda.now_s() * 1e6) % _TICKS

    def _pass_us(self, us: int) -> None:
        self._agenda.run_until(self._agenda.now_s() + us * 1e-6)


class Station:
    """A chip in its place, and its driver."""

    def __init__(self, rig: Rig, name: str, x_m: float, law: Any = None, **chip: Any) -> None:
        self.chip = Sx1262(rig.air, seed=rig.seed, **chip)
        rig.air.place(self.chip, name, Spot(x_m, 0.0))
        self.chip.connect(rig.agenda)
        self.port = Port(rig.agenda, self.chip, tcxo_mv=chip.get("tcxo_mv", 1800))
        self.law = law or Law(CN470)
        self.radio = Sx126x(self.port, self.law, Clock(rig.agenda))  # type: ignore[arg-type]
        self.events: list[Event] = []
        self._rig = rig

    def poll(self) -> None:
        found = self.radio.poll()
        if found is not None:
            self.events.append(found)

    def event(self, within_s: float = 5.0) -> Event | None:
        """What comes next of what was started."""
        end_s = self._rig.agenda.now_s() + within_s
        while not self.events and self._rig.agenda.now_s() < end_s:
            self._rig.run(0.001)
        return self.events.pop(0) if self.events else None

    @property
    def kind(self) -> int:
        found = self.event()
        assert found is not None, "nothing came of it"
        return found.kind


class Rig:
    def __init__(self, physics: Physics | None = None, seed: int = 1) -> None:
        self.agenda = Agenda()
        self.seed = seed
        self.air = Air(self.agenda, physics or open_air(), seed)
        self.flights: list[Flight] = []
        self.air.taps.append(self.flights.append)
        self.stations: list[Station] = []

    def station(self, x_m: float = 500.0, law: Any = None, *, begin: bool = True, **chip: Any) -> Station:
        count = len(self.stations) + 1
        made = Station(self, f"station {count}", x_m * count, law, **chip)
        self.stations.append(made)
        if begin:
            assert made.radio.begin()
        return made

    def run(self, seconds: float = 1.0) -> None:
        """Let time go by, and let everybody look every millisecond what has come of it."""
        end_s = self.agenda.now_s() + seconds
        while self.agenda.now_s() < end_s:
            for station in self.stations:
                station.poll()
            self.agenda.run_until(min(end_s, self.agenda.now_s() + 0.001))
