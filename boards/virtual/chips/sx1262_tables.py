"""What the data sheet of the SX1262 has in tables: commands, registers, times. Numbers as in its rev 2.2."""

from enum import IntEnum, IntFlag
from typing import NamedTuple


class Status(IntEnum):
    """Of the latest command, table 13-77."""

    NONE = 0
    OK = 1  # "reserved" in the table, and what chips answer
    DATA = 2
    TIMEOUT = 3
    INVALID = 4
    FAILED = 5
    SENT = 6


class Irq(IntFlag):
    TX_DONE = 1 << 0
    RX_DONE = 1 << 1
    PREAMBLE = 1 << 2
    SYNC_WORD = 1 << 3
    HEADER_VALID = 1 << 4
    HEADER_ERROR = 1 << 5
    CRC_ERROR = 1 << 6
    CAD_DONE = 1 << 7
    CAD_DETECTED = 1 << 8
    TIMEOUT = 1 << 9


class Error(IntFlag):
    """Of the device, table 13-86."""

    RC64K = 1 << 0
    RC13M = 1 << 1
    PLL = 1 << 2
    ADC = 1 << 3
    IMAGE = 1 << 4
    XOSC_START = 1 << 5
    PLL_LOCK = 1 << 6
    PA_RAMP = 1 << 8


CALIBRATION_ERRORS = Error.PLL | Error.ADC | Error.IMAGE


class Register(IntEnum):
    RETENTION = 0x029F
    IQ_POLARITY = 0x0736
    SYNC_WORD = 0x0740
    RANDOM = 0x0819
    TX_MODULATION = 0x0889
    RX_GAIN = 0x08AC
    TX_CLAMP = 0x08D8
    OCP = 0x08E7
    RTC_CONTROL = 0x0902
    EVENT_MASK = 0x0944


# After a reset, table 12-1.
DEFAULTS = {
    Register.RETENTION: 0x00,
    Register.IQ_POLARITY: 0x0D,
    Register.SYNC_WORD: 0x14,
    Register.SYNC_WORD + 1: 0x24,
    Register.TX_MODULATION: 0x01,
    Register.RX_GAIN: 0x94,
    Register.TX_CLAMP: 0xC8,
    Register.OCP: 0x18,
}
# A warm start brings them back only when the retention list names them.
LOST_IN_WARM_SLEEP: set[int] = {Register.RX_GAIN, Register.TX_MODULATION, Register.IQ_POLARITY}

# Of time-outs and delays.
STEP_S = 15.625e-6
CONTINUOUS = 0xFFFFFF
# From the end of a reset, or of a sleep that kept nothing, to the first command; from one that kept its settings.
BOOT_S = 0.0035
WAKE_S = {False: 0.0035, True: 0.00034}
CALIBRATE_S = 0.0035
# What the TCXO of a board takes before it is steady.
TCXO_START_S = 0.001
TCXO_MV = (1600, 1700, 1800, 2200, 2400, 2700, 3000, 3300)
# How long BUSY is high when the mode changes, table 8-2.
SETTLE_S = {
    ("standby", "xosc"): 31e-6,
    ("standby", "fs"): 50e-6,
    ("standby", "rx"): 83e-6,
    ("standby", "cad"): 83e-6,
    ("standby", "tx"): 126e-6,
    ("xosc", "fs"): 40e-6,
    ("xosc", "rx"): 62e-6,
    ("xosc", "cad"): 62e-6,
    ("xosc", "tx"): 105e-6,
    ("fs", "rx"): 41e-6,
    ("fs", "cad"): 41e-6,
    ("fs", "tx"): 76e-6,
    ("rx", "fs"): 15e-6,
    ("rx", "tx"): 92e-6,
}
STATUS_CODE = {"off": 0, "sleep": 0, "standby": 2, "xosc": 3, "fs": 4, "rx": 5, "cad": 5, "tx": 6}
# With the 32 MHz running.
CLOCKED = {"xosc", "fs", "rx", "tx", "cad"}
BANDWIDTHS_HZ = {0x04: 125_000, 0x05: 250_000, 0x06: 500_000, 0x03: 62_500, 0x0A: 41_670, 0x02: 31_250}
# Duty cycle and size of the PA: what comes out when the power is set to 22, table 13-21.
PA_CAPS_DBM = {(4, 7): 22, (3, 5): 20, (2, 3): 17, (2, 2): 14}
FAULTS = ("dead", "stuck", "broken", "deaf")
# Without these a radio has nothing to do on the air.
COMPLETE = {"frequency", "modulation", "packet"}

CALM = frozenset(("standby", "xosc", "fs"))
ANY = CALM | {"rx", "tx", "cad"}
_RC = frozenset(("standby",))


class Command(NamedTuple):
    """``least`` and ``most``: bytes of arguments."""

    method: str
    least: int
    most: int
    modes: frozenset[str]


COMMANDS = {
    0x84: Command("_set_sleep", 1, 1, CALM),
    0x80: Command("_set_standby", 1, 1, ANY),
    0xC1: Command("_set_fs", 0, 0, ANY),
    0x83: Command("_set_tx", 3, 3, CALM | {"rx"}),
    0x82: Command("_set_rx", 3, 3, CALM | {"rx", "tx"}),
    0x9F: Command("_set_timer_stop", 1, 1, CALM),
    0xC5: Command("_set_cad", 0, 0, CALM),
    0x94: Command("_unmodelled", 6, 6, ANY),
    0xD1: Command("_unmodelled", 0, 0, ANY),
    0xD2: Command("_unmodelled", 0, 0, ANY),
    0x96: Command("_accept", 1, 1, CALM),
    0x89: Command("_calibrate", 1, 1, _RC),
    0x98: Command("_calibrate_image", 2, 2, CALM),
    0x95: Command("_set_pa", 4, 4, CALM),
    0x93: Command("_set_fallback", 1, 1, CALM),
    0x0D: Command("_write_registers", 3, 255, ANY),
    0x0E: Command("_write_buffer", 2, 257, ANY),
    0x08: Command("_set_irq", 8, 8, ANY),
    0x02: Command("_clear_irq", 2, 2, ANY),
    0x9D: Command("_set_dio2", 1, 1, CALM),
    0x97: Command("_set_dio3", 4, 4, _RC),
    0x86: Command("_set_frequency", 4, 4, CALM),
    0x8A: Command("_set_packet_type", 1, 1, CALM),
    0x8E: Command("_set_tx_params", 2, 2, CALM),
    0x8B: Command("_set_modulation", 4, 4, CALM),
    0x8C: Command("_set_packet", 6, 9, CALM),
    0x88: Command("_set_cad_params", 7, 7, CALM),
    0x8F: Command("_set_bases", 2, 2, CALM),
    0xA0: Command("_accept", 1, 1, CALM),
    0x07: Command("_clear_errors", 2, 2, ANY),
    0x00: Command("_clear_stats", 6, 6, ANY),
}
# Opcode: what answers, and which byte of the answer is its first.
READS = {
    0xC0: ("_read_status", 1),
    0x1D: ("_read_registers", 4),
    0x1E: ("_read_buffer", 3),
    0x12: ("_read_irq", 2),
    0x11: ("_read_packet_type", 2),
    0x13: ("_read_rx_buffer", 2),
    0x14: ("_read_packet_status", 2),
    0x15: ("_read_rssi", 2),
    0x17: ("_read_errors", 2),
    0x10: ("_read_stats", 2),
}
