"""Who is on a bus: every unit id at every line setting that it may have, how well it answers, which profile fits.

Any intact answer proves a device, an exception too. What answers is then asked a number of times more, so that the
report can say how well; and the points of each profile are read once, to tell which of them it could be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gateway.pollers import modbus_identity
from gateway.pollers.modbus_identity import Identity
from gateway.pollers.modbus_plan import cut
from gateway.pollers.modbus_ports import PortSettings
from gateway.pollers.modbus_profile import FUNCTIONS
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import (
    ANSWERED,
    READ_HOLDING,
    REFUSED,
    SPOILT,
    Device,
    Outcome,
    Request,
    Span,
)
from gateway.profiles import ModbusPoint, ModbusProfile, Profile, Register
from protocols import fields
from protocols.measurands import registry

TRIALS = 20


class Asker(Protocol):
    """What a scan asks with: modbus_client.Client."""

    async def exchange(self, request: Request, timeout_s: float) -> Outcome: ...


class Fit(NamedTuple):
    """How well a profile describes a device: points that could be read, and those of them that make sense."""

    profile: str
    points: int
    readable: int
    plausible: int
    identity: str
    is_said: bool = False  # by the device itself

    @property
    def score(self) -> float:
        return self.is_said + (self.readable + 2 * self.plausible) / (3 * self.points)


@dataclass
class Finding:
    """One device that answered."""

    unit: int
    settings: PortSettings
    asked: int = 0
    answered: int = 0
    spoilt: int = 0
    silent: int = 0
    latencies_s: list[float] = field(default_factory=list)
    fits: list[Fit] = field(default_factory=list)
    says: Identity = field(default_factory=Identity)

    @property
    def answered_share(self) -> float:
        return self.answered / self.asked if self.asked else 0.0

    @property
    def latency_s(self) -> float:
        """The median."""
        return sorted(self.latencies_s)[len(self.latencies_s) // 2] if self.latencies_s else 0.0


class Scan:
    """A scan of one bus. `noise` says at which settings something was heard that nobody could read."""

    def __init__(
        self, line_of: Callable[[PortSettings], Line], monotonic: Callable[[], float], timeout_s: float = 0.1
    ) -> None:
        self.found: list[Finding] = []
        self.noise: dict[PortSettings, int] = {}
        self._line_of = line_of
        self._monotonic = monotonic
        self._timeout_s = timeout_s

    async def sweep(
        self,
        asker: Asker,
        settings: PortSettings,
        units: Iterable[int],
        on_step: Callable[[int], None],
        on_again: Callable[[int], None] = lambda count: None,
    ) -> list[Finding]:
        """Ask each unit id once. Where anybody answers, the settings are right: the silent ones are asked once more
        (`on_again` is told how many), for a bad line loses one answer in ten."""
        found: list[Finding] = []
        silent = await self._round(asker, settings, units, on_step, found)
        if found and silent:
            on_again(len(silent))
            await self._round(asker, settings, silent, on_step, found)
        found.sort(key=lambda finding: finding.unit)
        self.found += found
        return found

    async def _round(
        self,
        asker: Asker,
        settings: PortSettings,
        units: Iterable[int],
        on_step: Callable[[int], None],
        found: list[Finding],
    ) -> list[int]:
        """Those that did not answer; a spoilt answer is asked for again."""
        silent = []
        for unit in units:
            on_step(unit)
            outcome = await self._ask(asker, settings, Request(unit, READ_HOLDING, 0, 1))
            if outcome.kind == SPOILT:
                self.noise[settings] = self.noise.get(settings, 0) + 1
                outcome = await self._ask(asker, settings, Request(unit, READ_HOLDING, 0, 1))
            if outcome.kind in (ANSWERED, REFUSED):
                found.append(Finding(unit, settings))
            else:
                silent.append(unit)
        return silent

    async def _ask(self, asker: Asker, settings: PortSettings, request: Request) -> Outcome:
        device = Device("", request.unit, (), timeout_s=self._timeout_s)
        return await asker.exchange(request, self._line_of(settings).timeout_s(device, request))

    async def try_out(self, asker: Asker, finding: Finding, trials: int = TRIALS) -> None:
        """Ask a device that was found a number of times more."""
        for _ in range(trials):
            began_s = self._monotonic()
            outcome = await self._ask(asker, finding.settings, Request(finding.unit, READ_HOLDING, 0, 1))
            finding.asked += 1
            if outcome.kind in (ANSWERED, REFUSED):
                finding.answered += 1
                finding.latencies_s.append(self._monotonic() - began_s)
            elif outcome.kind == SPOILT:
                finding.spoilt += 1
            else:
                finding.silent += 1

    async def identify(self, asker: Asker, finding: Finding, profiles: Mapping[str, Profile]) -> None:
        """Who it says it is, and which profiles describe it, the likeliest first."""
        finding.says = await modbus_identity.read(
            lambda request: self._ask(asker, finding.settings, request), finding.unit
        )
        for name, profile in profiles.items():
            if profile.modbus is not None:
                fit = await self._fit(asker, finding, name, profile.modbus)
                if fit.readable:
                    finding.fits.append(fit)
        finding.fits.sort(key=lambda fit: (-fit.score, fit.profile))

    async def _fit(self, asker: Asker, finding: Finding, name: str, profile: ModbusProfile) -> Fit:
        registers: list[Register] = [*profile.point, *profile.identity]
        values = await self._read(asker, finding, profile, registers)
        points = [(point, values.get(index)) for index, point in enumerate(profile.point)]
        told, is_other = [], False
        for index, each in enumerate(profile.identity, len(points)):
            if index in values:
                said = _decoded(profile, each, values[index])
                told.append(f"{each.name} {said}")
                if each.expect not in (None, said):
                    is_other = True
                    told[-1] += f", not {each.expect}"
        expected = profile.identification
        if expected is not None and finding.says.contradicts(expected):
            is_other = True
        plausible = sum(found is not None and _is_plausible(profile, point, found) for point, found in points)
        return Fit(
            name,
            len(points),
            sum(found is not None for _point, found in points),
            0 if is_other else plausible,  # it says itself that it is something else
            ", ".join(told),
            expected is not None and not is_other and finding.says.confirms(expected),
        )

    async def _read(
        self, asker: Asker, finding: Finding, profile: ModbusProfile, registers: Sequence[Register]
    ) -> dict[int, tuple[int, ...]]:
        """The registers that can be read, by index; a device that falls silent is not asked for the rest."""
        values: dict[int, tuple[int, ...]] = {}
        for function in dict.fromkeys(FUNCTIONS[register.function] for register in registers):
            members = [i for i, register in enumerate(registers) if FUNCTIONS[register.function] == function]
            spans = [Span(profile.wire_address(registers[i]), profile.length(registers[i])) for i in members]
            maximum = profile.max_bits if function < READ_HOLDING else profile.max_registers
            # Only what touches is read together: holes of a stranger may be illegal.
            for span, inside in cut(spans, lambda count: 30.0 + count, maximum, hole_max=0):
                outcome = await self._ask(
                    asker, finding.settings, Request(finding.unit, function, span.address, span.quantity)
                )
                if outcome.kind not in (ANSWERED, REFUSED):
                    return values
                for i in inside if outcome.kind == ANSWERED else ():
                    begin = spans[i].address - span.address
                    values[members[i]] = outcome.values[begin : begin + spans[i].quantity]
        return values


def _decoded(profile: ModbusProfile, register: Register, registers: tuple[int, ...]) -> fields.Value | None:
    if getattr(register, "type", "") == "bit":
        return registers[0]
    try:
        form = profile.form(register)  # type: ignore[arg-type]
        return fields.decode(form, fields.registers_to_bytes(registers))
    except fields.FieldError:
        return None


def _is_plausible(profile: ModbusProfile, point: ModbusPoint, registers: tuple[int, ...]) -> bool:
    value = _decoded(profile, point, registers)
    if not isinstance(value, (int, float)) or not any(registers):
        return False  # a register full of zeros says nothing of what it is
    low, high = point.range or registry().by_name[point.measurand].range
    return low <= value <= high
