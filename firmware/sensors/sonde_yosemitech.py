"""Register map of a multi-parameter sonde of the Yosemitech family (Y4000), as the river stations have it.

Checked against public descriptions of its protocol: 9600 8N1, functions 03 and 16 only; a measurement is started by
reading no register at 2500h and stopped by reading one at 2E00h, both answered without data; values are little-endian
floats from 2601h on, conductivity in mS/cm; the unit id is at 3000h. It wipes its windows and warms up for two seconds;
before that it answers NaN. Not the maker's: the last two channels, where ours carry an ammonium probe and a level
transmitter in the place of two algae probes.
"""

from firmware.sensors.modbus_rtu import READ_HOLDING
from firmware.sensors.sonde import FLOAT_DCBA, Action, Block, Channel, RegisterMap

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
