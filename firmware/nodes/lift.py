"""An elevator monitor on the roof of a car: accelerometer, barometer, door contact, presence sensor; on the mains.

A set every ten minutes sums up what the watch saw (lift_watch.py); trips and faults go at once, as events. Contacts,
closed to the supply: "door" while the car door is shut, so that a torn wire is a door that stays open and is noticed,
"presence" while somebody is in the car, and "float", which is a cover's float switch on other nodes, while the
inspection switch is on.

The rated speed has to be set for each lift (settings, SPEC.md 2.4): until then nothing is overspeed.
"""

from firmware.lift_watch import LiftWatch, Summary
from firmware.nodes import NodeType
from firmware.sensors.bmp390 import Bmp390
from firmware.sensors.lis3dh import Lis3dh
from firmware.settings import INTERVAL_S, LONG_STAY_S, RATED_SPEED_MM_S, REPORT_S, STATUS_S, TRAPPED_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from firmware.hal import Hal
    from firmware.sensors import Sensor
    from firmware.settings import Settings
    from firmware.watch import Keep, Watch

SCHEMA_ID = 8  # lift
FLOORS = "floors"  # the document of the table
RATE_HZ = 100
# 25 Hz and eight measurements into one: every look finds a new one, with half a pascal of noise.
AIR_RATE_HZ = 25
AIR_OVERSAMPLING = 8


def watch(hal: "Hal", settings: "Settings", keep: "Keep") -> "Watch":
    i2c = hal.i2c("sensors")
    accelerometer = Lis3dh(i2c, RATE_HZ, fifo=True)
    barometer = Bmp390(i2c, AIR_RATE_HZ, AIR_OVERSAMPLING)
    return LiftWatch(accelerometer, barometer, hal, settings, keep(FLOORS))


def sensors(hal: "Hal", watch: "Any") -> "Sequence[Sensor]":
    """In the order of the schema."""
    return (Summary(watch),)


NODE_TYPE = NodeType(
    name="lift",
    schema_id=SCHEMA_ID,
    sensors=sensors,
    # What the watch sums up is tested there; counts and floors have no rate of change that would be wrong.
    limits=(),  # floors, counts and maxima: there is no value that could not be true
    rules=(),
    derive=None,
    settings={
        INTERVAL_S: 600,
        REPORT_S: 600,
        STATUS_S: 3600,
        TRAPPED_S: 60,
        RATED_SPEED_MM_S: 10000,
        LONG_STAY_S: 600,
    },
    watch=watch,
    sleeps=None,
)
