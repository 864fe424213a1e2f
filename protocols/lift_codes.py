"""What platforms call the events of a lift; on the host only. The data is in lift_codes.toml.

codes = lift_codes()                   the default set, GB/T 24476
codes.of_event(33)                     -> "4"
lift_codes("city").of_event(13)        -> "0101"
codes.of_service(2)                    -> "43"
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.wire.codes import EVENT_NAMES

_PATH = Path(__file__).with_name("lift_codes.toml")
# The alarms of a lift in SPEC.md 2.3; notes (a trip, floors learned) and the service mode are none.
LIFT_ALARMS = (13, 33, 34, 35, 36, 37, 38, 39, 40, 42)
SERVICE_MODES = range(8)


class LiftCodesError(Exception):
    """A set that is not there, or data that contradicts itself."""


@dataclass(frozen=True, slots=True)
class LiftCodes:
    """One set. ``flags``: event -> the platform's item for it; ``no_fault``: what "no fault" is called, if anything."""

    name: str
    title: str
    codes: Mapping[int, str]
    flags: Mapping[int, str]
    service: Mapping[int, str]
    no_fault: str | None

    def of_event(self, event: int) -> str | None:
        """The fault code of an event, None where the set has none."""
        return self.codes.get(event)

    def of_service(self, mode: int) -> str | None:
        """What a change to that service mode is called."""
        return self.service.get(mode)


@functools.cache
def lift_code_sets() -> Mapping[str, LiftCodes]:
    """Every set of the file, checked."""
    data = tomllib.loads(_PATH.read_text(encoding="utf-8"))
    return {name: read_set(name, entry) for name, entry in data.items() if name != "default"}


def lift_codes(name: str = "") -> LiftCodes:
    """The set of that name, the file's default without one."""
    sets = lift_code_sets()
    wanted = name or tomllib.loads(_PATH.read_text(encoding="utf-8"))["default"]
    if wanted not in sets:
        raise LiftCodesError(f"no set {wanted!r} in {_PATH.name}; it has {', '.join(sorted(sets))}")
    return sets[wanted]


def read_set(name: str, entry: Mapping[str, Any]) -> LiftCodes:
    """A set as it is written; LiftCodesError says which event is missing, unknown or there twice."""
    numbers = {EVENT_NAMES[event]: event for event in LIFT_ALARMS}
    named = [*entry["codes"], *entry["flags"], *entry["absent"]]
    for event in named:
        if event not in numbers:
            known = ", ".join(sorted(numbers))
            raise LiftCodesError(f"set {name}: {event!r} is no alarm of a lift; they are {known}")
        if named.count(event) > 1:
            raise LiftCodesError(f"set {name}: {event} is there twice; a platform calls an event one thing")
    missing = sorted(set(numbers) - set(named))
    if missing:
        raise LiftCodesError(f"set {name}: nothing is said of {', '.join(missing)}; list them as `absent`")
    service = {int(mode): code for mode, code in entry["service"].items()}
    if not set(service) <= set(SERVICE_MODES):
        raise LiftCodesError(f"set {name}: service modes are 0 to 7, not {sorted(service)}")
    return LiftCodes(
        name,
        entry["title"],
        {numbers[event]: code for event, code in entry["codes"].items()},
        {numbers[event]: item for event, item in entry["flags"].items()},
        service,
        entry.get("no_fault"),
    )
