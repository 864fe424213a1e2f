"""What a node of each type has to say in a day, and how large it is on the air: for planning, without any firmware.

Intervals are the defaults of firmware/nodes; sizes are those of real messages, encoded by protocols/wire with numbers
of the registry's range, and sealed. How often something happens is an assumption, stated in EVENTS.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from firmware.nodes import MODULES, load
from firmware.settings import ALARM_REPEAT_S, INTERVAL_S, REPORT_S, STATUS_S
from protocols.measurands import registry
from protocols.wire import messages, readings

# Flag, a 2-byte PIV, kid, tag (SPEC.md section 3).
SEAL = 1 + 2 + 2 + 8
SEAL_DOWN = SEAL + 1
_TIME = 1_790_000_000
_SEQ, _HELD = 70_080, 3
_YEAR_D = 365.25


class Events(NamedTuple):
    """`a_day`: how often; each begins, and ends `lasts_s` later. `is_alarm`: somebody must hear of it at once."""

    a_day: float
    lasts_s: float
    code: int
    is_alarm: bool


# Covers: a dozen openings a year, as in energy.py. River: two alarms a month. Lift: 150 trips a day, told one by one.
_COVER = Events(12 / _YEAR_D, 1_200, 6, True)
EVENTS = {
    "cover": _COVER,
    "cover_gas": _COVER,
    "cover_level": _COVER,
    "river": Events(2 / 30, 7_200, 1, True),
    "river_solar": Events(2 / 30, 7_200, 1, True),
    "lift": Events(150, 0, 32, False),
}
# Wakes and seconds awake a day of a node that sleeps, beside what the radio needs: bench/cover_energy.py counted 4.4
# and 3.2 for a cover. Types that measure more often wake for each set, and a look takes as long.
_COVER_WAKES, _COVER_AWAKE_S, _COVER_SETS = 4.4, 3.2, 1.0


class Profile(NamedTuple):
    name: str
    schema_id: int
    interval_s: int
    report_s: int
    status_s: int
    repeat_s: int | None  # between sets while an alarm holds
    events: Events
    sleeps: bool

    @property
    def wakes_a_day(self) -> float:
        return _COVER_WAKES + 86_400 / self.interval_s - _COVER_SETS

    @property
    def awake_s_a_day(self) -> float:
        return self.wakes_a_day * _COVER_AWAKE_S / _COVER_WAKES


def profile(name: str) -> Profile:
    node_type = load(name)
    assert node_type is not None, name
    settings = node_type.settings
    return Profile(
        name,
        node_type.schema_id,
        settings[INTERVAL_S],
        settings[REPORT_S],
        settings[STATUS_S],
        settings.get(ALARM_REPEAT_S),
        EVENTS[name],
        node_type.sleeps is not None,
    )


NAMES = tuple(MODULES)


@functools.cache
def report_size(schema_id: int, sets: int, interval_s: int) -> int:
    """Bytes on the air of so many sets in a row whose values wander a little."""
    measurands = registry().of_schema(schema_id)
    rows = []
    for number in range(sets):
        row = []
        for column, measurand in enumerate(measurands):
            low, high = (measurand.scaled(limit) for limit in measurand.range)
            step = max(1, (high - low) // 1000)
            row.append(min(high, low + (high - low) // 3 + step * ((number * 7 + column * 3) % 5)))
        rows.append(row)
    times = [_TIME + interval_s * number for number in range(sets)]
    body = readings.encode(readings.schema(schema_id), readings.SYNCHRONISED, times, rows)
    return SEAL + len(
        messages.encode(messages.Readings(schema_id, _SEQ, _HELD + sets - 1, times[0], body, None))
    )


@functools.cache
def sets_that_fit(schema_id: int, sets: int, interval_s: int, room: int) -> int:
    """How many of them fit one packet; 0: not even one, which goes in fragments."""
    while sets and report_size(schema_id, sets, interval_s) > room:
        sets -= 1
    return sets


@functools.cache
def event_size(code: int) -> int:
    detail = [3, 4, 121, 1650] if code == 32 else 45
    return SEAL + len(messages.encode(messages.Event(_SEQ, _HELD, _TIME, 1, code, 1, detail, None)))


@functools.cache
def status_size() -> int:
    """As most of the keys at values of a node in its second year make it."""
    health: dict[int, int | str] = dict.fromkeys(range(1, 20), 700)
    health |= {0: 12, 1: 31_000_000, 16: 0, 21: 3_600, 24: -97, 25: -35, 26: 90_000}
    return SEAL + len(messages.encode(messages.Status(_SEQ, _TIME, 1, health)))


@functools.cache
def ack_size() -> int:
    return SEAL_DOWN + len(messages.encode(messages.Ack(_SEQ, (), None)))
