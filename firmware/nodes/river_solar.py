"""A river station that lives on a solar panel: the river station, and its supply voltage as a ninth reading.

A 12 V lead battery is empty below 11.8 V at rest, and its charger has it above 12.6 V on a clear day.
"""

from firmware import river
from firmware.nodes import NodeType, river_station
from firmware.sensors.supply import Supply
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S, TARGET_CLASS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware.hal import Hal
    from firmware.sensors import Sensor
    from firmware.watch import Watch

SCHEMA_ID = 3  # river9: river8 and the supply voltage


def sensors(hal: "Hal", watch: "Watch | None") -> "Sequence[Sensor]":
    """In the order of the schema."""
    return river_station.sonde(hal, SCHEMA_ID), Supply(hal)


NODE_TYPE = NodeType(
    name="river_solar",
    schema_id=SCHEMA_ID,
    sensors=sensors,
    limits=None,
    # Told in millivolts, ten to a step of the reading; three sets, so that a cloud or a pump does not raise it.
    rules=river.solar_rules,
    derive=river.derive,
    settings={INTERVAL_S: 900, REPORT_S: 3600, STATUS_S: 86400, TARGET_CLASS: 3},
    watch=None,
    sleeps=None,
)
