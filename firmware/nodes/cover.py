"""A manhole cover: an accelerometer that wakes the node when the cover is moved, a float switch below it, a battery.

It sleeps. A set a day says that it is alive, one every ten minutes while an alarm is raised. Li-SOCl2 cells (3.6 V)
hold their voltage until they are nearly empty.
"""

from firmware.alarms import SUPPLY_LOW
from firmware.cover_watch import CoverWatch, Tilt
from firmware.nap import Nap
from firmware.nodes import NodeType
from firmware.rules import below
from firmware.sensors.absent import Absent
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

SCHEMA_ID = 6  # cover
_SUPPLY = 2


def sensors(hal: "Hal", watch: "Any") -> "Sequence[Sensor]":
    """In the order of the schema."""
    return Tilt(watch), Absent(), Supply(hal), Absent()


def rules(settings: "Settings") -> "Sequence[Rule]":
    """The battery, in millivolts, ten to a step of the reading; three sets, which are three days."""
    low = settings[BATTERY_LOW_MV] // 10
    return (below(SUPPLY_LOW, _SUPPLY, on=low, off=low + 10, on_count=3, detail_factor=10),)


NODE_TYPE = NodeType(
    name="cover",
    schema_id=SCHEMA_ID,
    sensors=sensors,
    limits=None,
    rules=rules,
    derive=None,
    settings={
        INTERVAL_S: 86400,
        REPORT_S: 1,
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
