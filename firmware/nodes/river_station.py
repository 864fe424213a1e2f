"""A river water-quality station: one multi-parameter sonde on RS-485, a set every 15 minutes, reported hourly.

Alarm limits are class III of GB 3838-2002 (drinking water source of the second grade, fish, swimming), with an on-delay
of two sets so that a fish in front of the probe calls nobody out.
"""

from firmware.alarms import HIGH_AMMONIA, LOW_DISSOLVED_OXYGEN, PH_OUT_OF_RANGE, above, below, outside
from firmware.nodes import NodeType
from firmware.sensors.modbus_rtu import READ_HOLDING, Master
from firmware.sensors.sonde import FLOAT_DCBA, Action, Block, Channel, RegisterMap, Sonde
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware.hal import Hal
    from firmware.sensors import Sensor
    from firmware.watch import Watch

SCHEMA_ID = 1  # river8

# A sonde of the Yosemitech family: a measurement is started by reading no register at 2500h and stopped by reading one
# at 2E00h, both answered without data; values are little-endian floats, conductivity in mS/cm. It wipes its windows
# and warms up for two seconds; before that it answers NaN.
REGISTER_MAP = RegisterMap(
    name="yosemitech",
    address=1,
    baud_rate=9600,
    start=Action(READ_HOLDING, 0x2500, 0, 0),
    stop=Action(READ_HOLDING, 0x2E00, 1, 0),
    warm_up_ms=2200,
    blocks=(Block(READ_HOLDING, 0x2601, 16),),
    channels=(
        Channel("water_temperature", 0, 8, FLOAT_DCBA, 1.0, None),
        Channel("ph", 0, 6, FLOAT_DCBA, 1.0, None),
        Channel("dissolved_oxygen", 0, 0, FLOAT_DCBA, 1.0, None),
        Channel("conductivity", 0, 4, FLOAT_DCBA, 1000.0, None),
        Channel("turbidity", 0, 2, FLOAT_DCBA, 1.0, None),
        Channel("orp", 0, 10, FLOAT_DCBA, 1.0, None),
        Channel("ammonia_nitrogen", 0, 12, FLOAT_DCBA, 1.0, None),
        Channel("level", 0, 14, FLOAT_DCBA, 1.0, None),
    ),
)

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
    sleeps=False,
)
