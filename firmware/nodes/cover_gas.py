"""A manhole cover with a gas head for methane on a 4-20 mA loop, of the kind that measures between two looks.

A set every ten minutes, and alarms at a tenth and a fifth of the lower explosive limit. The place for hydrogen sulfide
is in the schema; this node has no head for it.
"""

from firmware.alarms import SUPPLY_LOW
from firmware.cover_watch import CoverWatch, Tilt
from firmware.nap import Nap
from firmware.nodes import NodeType
from firmware.rules import above, below
from firmware.sensors.absent import Absent
from firmware.sensors.loop import Loop
from firmware.sensors.supply import Supply
from firmware.settings import (
    ALARM_REPEAT_S,
    BATTERY_LOW_MV,
    DISPLACED_DEG,
    INTERVAL_S,
    REPORT_S,
    STATUS_S,
    TILT_DEG,
    TILT_HOLD_S,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from firmware.alarms import Rule
    from firmware.hal import Hal
    from firmware.sensors import Sensor
    from firmware.settings import Settings

SCHEMA_ID = 7  # cover_gas
GAS_WARNING = 11
GAS_ALARM = 12
_SUPPLY = 2
_METHANE = 4
_HYDROGEN_SULFIDE = 5


def sensors(hal: "Hal", watch: "Any") -> "Sequence[Sensor]":
    """In the order of the schema; methane in tenths of a percent of its lower explosive limit."""
    return Tilt(watch), Absent(), Supply(hal), Absent(), Loop(hal, 0, 1000), Absent()


def rules(settings: "Settings") -> "Sequence[Rule]":
    """Methane in tenths of a percent LEL, hydrogen sulfide in tenths of a ppm; both told as [series, reading]."""
    low = settings[BATTERY_LOW_MV] // 10
    found = [below(SUPPLY_LOW, _SUPPLY, on=low, off=low + 10, on_count=3, detail_factor=10)]
    for series in (_METHANE, _HYDROGEN_SULFIDE):
        # Beyond, not at: a reading of exactly ten percent warns.
        found.append(above(GAS_WARNING, series, on=99, off=80, on_count=1, detail_factor=0))
        found.append(above(GAS_ALARM, series, on=199, off=180, on_count=1, detail_factor=0))
    return found


NODE_TYPE = NodeType(
    name="cover_gas",
    schema_id=SCHEMA_ID,
    sensors=sensors,
    limits=None,
    rules=rules,
    derive=None,
    settings={
        INTERVAL_S: 600,
        REPORT_S: 21600,
        STATUS_S: 86400,
        ALARM_REPEAT_S: 600,
        TILT_DEG: 15,
        TILT_HOLD_S: 5,
        DISPLACED_DEG: 5,
        BATTERY_LOW_MV: 3300,
    },
    watch=CoverWatch,
    sleeps=Nap,
)
