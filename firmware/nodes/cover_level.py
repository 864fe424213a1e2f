"""A manhole cover with an ultrasonic sensor that looks down at the water.

A set an hour. The level counts from HEIGHT_MM below the sensor; the limits are settings, for no two shafts are alike.
"""

from firmware.alarms import SUPPLY_LOW
from firmware.cover_watch import CoverWatch, Tilt
from firmware.nap import Nap
from firmware.nodes import NodeType
from firmware.rules import above, below
from firmware.sensors.absent import Absent
from firmware.sensors.supply import Supply
from firmware.sensors.ultrasonic import BAUD_RATE, Ultrasonic
from firmware.settings import (
    ALARM_REPEAT_S,
    BATTERY_LOW_MV,
    DISPLACED_DEG,
    INTERVAL_S,
    LEVEL_HIGH,
    LEVEL_VERY_HIGH,
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
HIGH = 9
VERY_HIGH = 10
# Level zero, below the sensor. The reading is in millimetres: tenths of the registry's centimetres.
HEIGHT_MM = 3000
_HYSTERESIS_MM = 50
_LEVEL = 1
_SUPPLY = 2


def sensors(hal: "Hal", watch: "Any") -> "Sequence[Sensor]":
    """In the order of the schema."""
    level = Ultrasonic(hal.uart("ultrasonic", BAUD_RATE), HEIGHT_MM)
    return Tilt(watch), level, Supply(hal), Absent()


def rules(settings: "Settings") -> "Sequence[Rule]":
    """Both levels with five centimetres of hysteresis, at once; the battery after three sets."""
    low = settings[BATTERY_LOW_MV] // 10
    high, very_high = settings[LEVEL_HIGH], settings[LEVEL_VERY_HIGH]
    return (
        above(HIGH, _LEVEL, on=high, off=high - _HYSTERESIS_MM, on_count=1),
        above(VERY_HIGH, _LEVEL, on=very_high, off=very_high - _HYSTERESIS_MM, on_count=1),
        below(SUPPLY_LOW, _SUPPLY, on=low, off=low + 10, on_count=3, detail_factor=10),
    )


NODE_TYPE = NodeType(
    name="cover_level",
    schema_id=SCHEMA_ID,
    sensors=sensors,
    limits=None,
    rules=rules,
    derive=None,
    settings={
        INTERVAL_S: 3600,
        REPORT_S: 21600,
        STATUS_S: 86400,
        ALARM_REPEAT_S: 600,
        TILT_DEG: 15,
        TILT_HOLD_S: 5,
        DISPLACED_DEG: 5,
        LEVEL_HIGH: 2000,
        LEVEL_VERY_HIGH: 2500,
        BATTERY_LOW_MV: 3300,
    },
    watch=CoverWatch,
    sleeps=Nap,
)
