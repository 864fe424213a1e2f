"""Drivers of a radio, on CPython or on the real MicroPython, against simulated chips in a simulated air."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.rom_image import micropython
from firmware.radios import Event
from firmware.radios.sx126x import Sx126x
from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air, Flight
from hil_tests.world.propagation import Physics, Spot, open_air
from protocols.wire.airtime import AirRefused
from protocols.wire.law import CN470
from tests.firmware.radio_laws import law_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
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


class RemoteRadio:
    """The driver in a MicroPython of its own (mpy_radio.py); same methods, same answers."""

    def __init__(self, port: Port, clock: Clock, plan_id: int | None) -> None:
        self._objects = (port, clock)
        script = str(Path(__file__).with_name("mpy_radio.py"))
        self.process = subprocess.Popen(
            [micropython(), script, str(ROOT), str(plan_id), str(port.tcxo_mv)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def begin(self) -> bool:
        return bool(self._call("begin", ()))

    def sleep(self) -> None:
        self._call("sleep", ())

    def start_cad(self, *arguments: Any) -> None:
        self._call("start_cad", arguments)

    def start_send(self, *arguments: Any) -> None:
        self._call("start_send", arguments)

    def start_listen(self, *arguments: Any) -> None:
        self._call("start_listen", arguments)

    def poll(self) -> Event | None:
        found = self._call("poll", ())
        return None if found is None else Event(*found)

    def lead_us(self, sf: int) -> int:
        return int(self._call("lead_us", (sf,)))

    @property
    def errors(self) -> int:
        return int(self._call("errors", None))

    @property
    def bad(self) -> int:
        return int(self._call("bad", None))

    @property
    def is_ready(self) -> bool:
        return bool(self._call("is_ready", None))

    def _call(self, name: str, arguments: tuple[Any, ...] | None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name} {arguments!r}\n" if arguments is not None else f"{name}\n")
        while True:
            line = self.process.stdout.readline().strip()
            assert line, "MicroPython ended: what it said stands above"
            if line[0] == "=":
                return ast.literal_eval(line[2:])
            if line[0] == "!":
                raise AirRefused(*ast.literal_eval(line[2:]))
            self.process.stdin.write(self._answer(*line.split()) + "\n")

    def _answer(self, name: str, argument: str = "") -> str:
        if name == "transfer":
            data = bytearray.fromhex(argument)
            self._objects[0].transfer(data)
            return data.hex()
        found: Callable[..., Any] = next(getattr(one, name) for one in self._objects if hasattr(one, name))
        answer = found(int(argument)) if argument else found()
        return str(0 if answer is None else int(answer))


class Station:
    """A chip in its place, and its driver."""

    def __init__(self, rig: Rig, name: str, x_m: float, plan_id: int | None, **chip: Any) -> None:
        self.chip = Sx1262(rig.air, seed=rig.seed, **chip)
        self.site = rig.air.place(self.chip, name, Spot(x_m, 0.0))
        self.chip.connect(rig.agenda)
        self.port = Port(rig.agenda, self.chip, tcxo_mv=chip.get("tcxo_mv", 1800))
        self.radio: Any
        if rig.is_micropython:
            self.radio = RemoteRadio(self.port, Clock(rig.agenda), plan_id)
        else:
            law = law_of(plan_id)  # type: ignore[no-untyped-call]
            self.radio = Sx126x(self.port, law, Clock(rig.agenda))  # type: ignore[arg-type]
        self.events: list[Event] = []
        self._asked_s = 0.0
        self._rig = rig

    def poll(self) -> None:
        """Asking the other interpreter in vain takes time: it is asked when there is something, or now and then."""
        now_s = self._rig.agenda.now_s()
        if self._rig.is_micropython and not self.chip.dio1.level and now_s < self._asked_s + 0.005:
            return
        self._asked_s = now_s
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
    """``is_micropython``: the drivers run there."""

    def __init__(
        self, physics: Physics | None = None, seed: int = 1, *, is_micropython: bool = False
    ) -> None:
        self.is_micropython = is_micropython
        self.agenda = Agenda()
        self.seed = seed
        self.air = Air(self.agenda, physics or open_air(), seed)
        self.flights: list[Flight] = []
        self.air.taps.append(self.flights.append)
        self.stations: list[Station] = []

    def station(
        self, x_m: float = 500.0, plan_id: int | None = CN470, *, begin: bool = True, **chip: Any
    ) -> Station:
        """``plan_id`` None: under no law."""
        count = len(self.stations) + 1
        made = Station(self, f"station {count}", x_m * count, plan_id, **chip)
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

    def close(self) -> None:
        if self.is_micropython:
            for station in self.stations:
                station.radio.close()
