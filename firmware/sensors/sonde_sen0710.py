"""Register map of DFRobot's turbidity sensor SEN0710.

Checked against the maker's wiki (reference of SEN0710): 4800 8N1 and address 1 as delivered, functions 03 and 04 read,
06 and 10h write, high byte first, four characters of silence around a frame, turbidity in register 0000h. Not checked,
and to be compared with a standard on the first one that is mounted: that the register counts tenths of an NTU. Its
thermometer is left out for the same reason.
"""

from firmware.sensors.modbus_rtu import READ_HOLDING
from firmware.sensors.sonde import UINT16, Block, Channel, RegisterMap

REGISTER_MAP = RegisterMap(
    name="sen0710",
    address=1,
    baud_rate=4800,
    start=None,
    stop=None,
    warm_up_ms=0,
    blocks=(Block(READ_HOLDING, 0x0000, 1),),
    channels=(Channel("turbidity", 0, 0, UINT16, 0.1, None),),
)
