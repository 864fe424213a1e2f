"""A river water-quality station: one multi-parameter sonde on RS-485, a set every 15 minutes, reported hourly.

Alarm limits are class III of GB 3838-2002 (drinking water source of the second grade, fish, swimming), with an on-delay
of two sets so that a fish in front of the probe calls nobody out.
"""

from firmware.alarms import HIGH_AMMONIA, LOW_DISSOLVED_OXYGEN, PH_OUT_OF_RANGE, above, below, outside
from firmware.nodes import NodeType
from firmware.sensors.modbus_rtu import Master
from firmware.sensors.sonde import Sonde
from firmware.sensors.sonde_yosemitech import REGISTER_MAP
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware.hal import Hal
    from firmware.sensors import Sensor
    from firmware.watch import Watch

SCHEMA_ID = 1  # river8

# Scaled integers of river8: pH and mg/L in hundredths.
_PH = 1
_DISSOLVED_OXYGEN = 2
_AMMONIA = 6
RULES = (
    below(LOW_DISSOLVED_OXYGEN, _DISSOLVED_OXYGEN, on=500, off=530),
    above(HIGH_AMMONIA, _AMMONIA, on=100, off=90),
    outside(PH_OUT_OF_RANGE, _PH, low=600, high=900, margin=10),
)


def sensors(hal: "Hal", watch: "Watch | None") -> "Sequence[Sensor]":
    """In the order of the schema."""
    master = Master(hal.uart("rs485", REGISTER_MAP.baud_rate), hal.clock, REGISTER_MAP.baud_rate)
    return (Sonde(master, REGISTER_MAP, SCHEMA_ID),)


NODE_TYPE = NodeType(
    name="river",
    schema_id=SCHEMA_ID,
    sensors=sensors,
    limits=None,
    rules=RULES,
    settings={INTERVAL_S: 900, REPORT_S: 3600, STATUS_S: 86400},
    watch=None,
    sleeps=None,
)
