"""What an SX1262 has been told and keeps: registers, buffer and settings, with the commands that change them."""

import random
import struct

from boards.virtual.chips import sx1262_tables as tables
from boards.virtual.chips.sx1262_tables import Register, Status
from boards.virtual.ether import Signal, Tuning

FIFO = 256
_XTAL_HZ = 32_000_000


class Settings:
    def __init__(self, dio2_switches: bool, rng: random.Random) -> None:
        self._dio2_switches = dio2_switches
        self._random = rng
        self._forget_settings()

    def _forget_settings(self) -> None:
        self._registers = dict(tables.DEFAULTS)
        self._fifo = bytearray(self._random.randbytes(FIFO))
        self._irq_mask = self._dio1_mask = 0
        self._packet_type = 0
        self._configured: set[str] = set()
        self._freq_hz = 0
        self._modulation = (7, 125_000, 5, False)
        self._packet = (8, False, 255, True, False)  # preamble, implicit, length, CRC, inverted
        self._pa: tuple[int, int, int] | None = None
        self._power_dbm = 0
        self._cad = (0, 0, 0, 0, 0)
        self._tx_base = self._rx_base = 0
        self._fallback = "standby"
        self._stops_on_preamble = False
        self._dio2 = False
        self._dio3: tuple[int, float] | None = None
        self._image_hz = (902_000_000, 928_000_000)
        self._is_calibrated = False

    def _set_packet_type(self, arguments: bytes) -> None:
        self._packet_type = arguments[0]
        self._configured.clear()

    def _set_frequency(self, arguments: bytes) -> None:
        self._freq_hz = round(int.from_bytes(arguments, "big") * _XTAL_HZ / (1 << 25))
        self._configured.add("frequency")

    def _set_modulation(self, arguments: bytes) -> int | None:
        sf, width, rate, ldro = arguments
        if (
            self._packet_type != 1
            or not 5 <= sf <= 12
            or width not in tables.BANDWIDTHS_HZ
            or not 1 <= rate <= 4
        ):
            return Status.INVALID
        self._modulation = (sf, tables.BANDWIDTHS_HZ[width], rate + 4, bool(ldro))
        self._configured.add("modulation")
        return None

    def _set_packet(self, arguments: bytes) -> int | None:
        if self._packet_type != 1 or len(arguments) != 6:
            return Status.INVALID
        preamble, implicit, length, crc, inverted = struct.unpack(">HBBBB", arguments)
        self._packet = (preamble, bool(implicit), length, bool(crc), bool(inverted))
        self._configured.add("packet")
        return None

    def _set_tx_params(self, arguments: bytes) -> int | None:
        power_dbm = (arguments[0] ^ 0x80) - 0x80
        if not -9 <= power_dbm <= 22 or arguments[1] > 7:
            return Status.INVALID
        self._power_dbm = power_dbm
        return None

    def _set_pa(self, arguments: bytes) -> None:
        self._pa = (arguments[0], arguments[1], arguments[2])
        self._registers[Register.OCP] = (
            0x18 if arguments[2] else 0x38
        )  # the command brings a limit of its own

    def _set_cad_params(self, arguments: bytes) -> int | None:
        symbols, peak, least, leave = arguments[:4]
        if symbols > 4 or leave not in (0x00, 0x01, 0x10):
            return Status.INVALID
        self._cad = (symbols, peak, least, leave, int.from_bytes(arguments[4:], "big"))
        return None

    def _set_bases(self, arguments: bytes) -> None:
        self._tx_base, self._rx_base = arguments

    def _set_fallback(self, arguments: bytes) -> int | None:
        modes = {0x20: "standby", 0x30: "xosc", 0x40: "fs"}
        if arguments[0] not in modes:
            return Status.INVALID
        self._fallback = modes[arguments[0]]
        return None

    def _set_irq(self, arguments: bytes) -> None:
        self._irq_mask, self._dio1_mask, _, _ = struct.unpack(">HHHH", arguments)

    def _set_dio2(self, arguments: bytes) -> None:
        self._dio2 = bool(arguments[0])

    def _set_dio3(self, arguments: bytes) -> int | None:
        if arguments[0] >= len(tables.TCXO_MV):
            return Status.INVALID
        self._dio3 = (tables.TCXO_MV[arguments[0]], int.from_bytes(arguments[1:], "big") * tables.STEP_S)
        self._is_calibrated = False  # what was calibrated without it is worth nothing
        return None

    def _set_timer_stop(self, arguments: bytes) -> None:
        self._stops_on_preamble = bool(arguments[0])

    def _accept(self, arguments: bytes) -> None:
        """Settings that change nothing here: regulator, symbol time-out."""

    def _write_registers(self, arguments: bytes) -> None:
        first = int.from_bytes(arguments[:2], "big")
        for i, value in enumerate(arguments[2:]):
            self._registers[first + i] = value

    def _write_buffer(self, arguments: bytes) -> None:
        for i, value in enumerate(arguments[1:]):
            self._fifo[(arguments[0] + i) % FIFO] = value

    def _retained(self) -> set[int]:
        count = min(4, self._register(Register.RETENTION))
        pairs = [Register.RETENTION + 1 + 2 * i for i in range(count)]
        return {self._register(at) << 8 | self._register(at + 1) for at in pairs}

    def _signal(self) -> Signal:
        sf, bw_hz, cr, has_ldro = self._modulation
        preamble, is_implicit, length, has_crc, is_inverted = self._packet
        payload = bytes(self._fifo[(self._tx_base + i) % FIFO] for i in range(length))
        lost_db = 0 if self._dio2 or not self._dio2_switches else 60
        modulation = (self._freq_hz, bw_hz, sf, cr, preamble, is_implicit, has_crc, has_ldro)
        return Signal(*modulation, self._sync_word(), is_inverted, self._dbm() - lost_db, payload)

    def _tuning(self) -> Tuning:
        sf, bw_hz, _, _ = self._modulation
        return Tuning(self._freq_hz, bw_hz, sf, self._sync_word(), self._packet[4])

    def _sync_word(self) -> int:
        """14 24 are 12h: the low half of each byte is fixed."""
        high, low = self._register(Register.SYNC_WORD), self._register(Register.SYNC_WORD + 1)
        return high & 0xF0 | low >> 4

    def _dbm(self) -> int:
        assert self._pa is not None
        return self._power_dbm - 22 + tables.PA_CAPS_DBM.get(self._pa[:2], 22)

    def _bw_hz(self) -> int:
        return self._modulation[1]

    def _symbol_s(self) -> float:
        return (1 << self._modulation[0]) / self._modulation[1]

    def _register(self, address: int) -> int:
        return self._registers.get(address, 0)
