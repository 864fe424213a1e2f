"""A river water-quality station: one multi-parameter sonde on RS-485, a set every 15 minutes, reported hourly."""

from firmware import river
from firmware.nodes import NodeType
from firmware.sensors.modbus_rtu import Master
from firmware.sensors.sonde import Sonde
from firmware.sensors.sonde_yosemitech import REGISTER_MAP
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S, TARGET_CLASS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware.hal import Hal
    from firmware.sensors import Sensor
    from firmware.watch import Watch

SCHEMA_ID = 1  # river8


def sensors(hal: "Hal", watch: "Watch | None") -> "Sequence[Sensor]":
    """In the order of the schema."""
    return (sonde(hal, SCHEMA_ID),)


def sonde(hal: "Hal", schema_id: int) -> Sonde:
    """As that schema has its readings: the image of a node type knows no other."""
    master = Master(hal.uart("rs485", REGISTER_MAP.baud_rate), hal.clock, REGISTER_MAP.baud_rate)
    return Sonde(master, REGISTER_MAP, schema_id)


NODE_TYPE = NodeType(
    name="river",
    schema_id=SCHEMA_ID,
    sensors=sensors,
    limits=None,
    rules=river.rules,
    derive=river.derive,
    settings={INTERVAL_S: 900, REPORT_S: 3600, STATUS_S: 86400, TARGET_CLASS: 3},
    watch=None,
    sleeps=None,
)
