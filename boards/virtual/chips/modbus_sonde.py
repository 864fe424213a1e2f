"""A multi-parameter water sonde: a Modbus RTU slave at the level of bytes and registers, with its bad days.

Serial-line rules are those of "Modbus over Serial Line V1.02": a request ends with a silence of 3.5 characters, a
frame with a wrong CRC or another address gets no answer. What a sonde measures is given as a function of time; what
it makes of that (register layout, byte order, start command, wiping, warming up) is a RegisterMap, which is data.
"""

import math
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from boards.virtual.i2c import Timer
from boards.virtual.uart import Line

Quantities = Callable[[float], Mapping[str, float]]

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE = 1, 2, 3, 4
FAULTS = ("silent", "crc", "garbage", "slow", "stuck", "out_of_range", "exception")

# Byte of the big-endian number that stands at each place on the wire. A is the most significant byte.
_ORDERS = {
    "ABCD": (0, 1, 2, 3),
    "CDAB": (2, 3, 0, 1),
    "BADC": (1, 0, 3, 2),
    "DCBA": (3, 2, 1, 0),
    "AB": (0, 1),
}
_INT16_ABSENT = 0x7FFF
_COUNT_MAX = 125
_OUT_OF_RANGE = 30000.0


@dataclass(frozen=True)
class Channel:
    """One measured value. ``order`` ABCD, CDAB, BADC or DCBA: a float32; AB: a signed 16-bit integer.

    The number in the registers is value * factor.
    """

    register: int
    measurand: str
    order: str
    factor: float = 1.0

    @property
    def width(self) -> int:
        return len(_ORDERS[self.order]) // 2

    def words(self, value: float) -> bytes:
        raw = value * self.factor
        if self.order == "AB":
            number = _INT16_ABSENT if math.isnan(raw) else max(-32768, min(32766, math.floor(raw + 0.5)))
            return struct.pack(">h", number)
        big = struct.pack(">f", raw)
        return bytes(big[i] for i in _ORDERS[self.order])


@dataclass(frozen=True)
class RegisterMap:
    """``start`` and ``stop``: registers that command by being read (function 3, any count: the reply carries no
    data) or written (6, 16). Without ``start`` the sonde measures all the time.

    A value is absent (NaN, or 0x7FFF as an integer) until ``wipe_s + warm_up_s`` after the start.
    """

    name: str
    channels: tuple[Channel, ...]
    baudrate: int = 9600
    functions: tuple[int, ...] = (3, 4, 6, 16)
    start: int | None = None
    stop: int | None = None
    unit_id_register: int | None = None
    wipe_s: float = 0.0
    warm_up_s: float = 0.0
    turnaround_s: float = 0.005
    constants: Mapping[int, int] = field(default_factory=dict)


_RIVER = (
    "dissolved_oxygen",
    "turbidity",
    "conductivity",
    "ph",
    "water_temperature",
    "orp",
    "ammonia_nitrogen",
    "level",
)
# After the Yosemitech Y4000: eight little-endian floats from 0x2601, conductivity in mS/cm, start by a read of
# 0x2500, stop by a read of 0x2E00, unit id at 0x3000, functions 3 and 16 only. Its two algae channels carry an ammonium
# probe and a level transmitter here, as the river stations have them.
YOSEMITECH = RegisterMap(
    name="yosemitech",
    channels=tuple(
        Channel(0x2601 + 2 * i, name, "DCBA", 0.001 if name == "conductivity" else 1.0)
        for i, name in enumerate(_RIVER)
    ),
    functions=(3, 16),
    start=0x2500,
    stop=0x2E00,
    unit_id_register=0x3000,
    wipe_s=1.0,
    warm_up_s=1.0,
)

_INT16_FACTORS = {
    "water_temperature": 100,
    "ph": 100,
    "dissolved_oxygen": 100,
    "conductivity": 1,
    "turbidity": 10,
    "orp": 1,
    "ammonia_nitrogen": 100,
    "level": 10,
}
# After DFRobot's SEN0710: turbidity in the first register, in tenths of an NTU, 4800 baud. Its range ends at 3276 here.
SEN0710 = RegisterMap(
    name="sen0710", channels=(Channel(0x0000, "turbidity", "AB", 10),), baudrate=4800, functions=(3, 4, 6, 16)
)
# A plain sonde: input registers from 0, signed 16 bit, always measuring.
GENERIC_INT16 = RegisterMap(
    name="generic_int16",
    channels=tuple(Channel(i, name, "AB", factor) for i, (name, factor) in enumerate(_INT16_FACTORS.items())),
    unit_id_register=0x0100,
)


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def crc16(data: bytes) -> bytes:
    """CRC-16/MODBUS as it goes over the wire, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


class ModbusSonde:
    """``fault`` may be set at any time; ``script`` is a list of (from_s, to_s, fault) in world time."""

    def __init__(
        self,
        register_map: RegisterMap,
        quantities: Quantities,
        *,
        unit_id: int = 1,
        script: Sequence[tuple[float, float, str]] = (),
        seed: int = 0,
        slow_s: float = 0.5,
    ) -> None:
        self.map = register_map
        self.unit_id = unit_id
        self.script = [(start_s, end_s, _known(fault)) for start_s, end_s, fault in script]
        self.slow_s = slow_s
        self.requests = 0
        self.answers = 0
        self._fault: str | None = None
        self._quantities = quantities
        self._random = random.Random(f"{seed} sonde")
        self._started_s: float | None = None
        self._stuck: Mapping[str, float] | None = None
        self._heard = bytearray()
        self._heard_until_s = 0.0
        self._silence: Timer | None = None
        self._line: Line | None = None

    @property
    def fault(self) -> str | None:
        if self._fault is None and self._line is not None:
            now_s = self._line.now_s()
            return next((fault for start_s, end_s, fault in self.script if start_s <= now_s < end_s), None)
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = None if fault is None else _known(fault)

    # ---- the wire ------------------------------------------------------------------------------------------------

    def connect(self, line: Line) -> None:
        self._line = line

    def receive(self, data: bytes) -> None:
        line = self._on_line()
        if line.baudrate != self.map.baudrate:
            return  # framing errors only
        if self._silence is not None:
            self._silence.cancel()
        self._heard += data
        now_s = line.now_s()
        self._heard_until_s = max(now_s, self._heard_until_s) + len(data) * line.char_s
        # Above 19200 baud the silence is fixed (V1.02, 2.5.1.1).
        gap_s = 0.00175 if line.baudrate > 19200 else 3.5 * line.char_s
        self._silence = line.call_later(self._heard_until_s + gap_s - now_s, self._on_silence)

    def _on_silence(self) -> None:
        self._silence = None
        request = bytes(self._heard)
        self._heard.clear()
        if len(request) < 4 or request[0] != self.unit_id or crc16(request[:-2]) != request[-2:]:
            return
        self.requests += 1
        fault = self.fault
        if fault == "silent":
            return
        reply = self.answer(request[1:-2])
        frame = bytes((request[0],)) + reply
        frame += crc16(frame)
        if fault == "crc":
            frame = frame[:-1] + bytes((frame[-1] ^ (1 << self._random.randrange(8)),))
        elif fault == "garbage":
            frame = self._random.randbytes(self._random.randint(1, 40))
        self._send(frame, self.slow_s if fault == "slow" else self.map.turnaround_s)

    def _send(self, frame: bytes, delay_s: float) -> None:
        line = self._on_line()

        def arrived() -> None:
            self.answers += 1
            line.send(frame)

        # The node's UART hands a short reply over when its last byte is in.
        line.call_later(delay_s + len(frame) * line.char_s, arrived)

    def _on_line(self) -> Line:
        if self._line is None:
            raise RuntimeError("the sonde is not wired to a UART: board.attach_uart(number, sonde) first")
        return self._line

    # ---- the slave: PDU in, PDU out ------------------------------------------------------------------------------

    def answer(self, pdu: bytes) -> bytes:
        try:
            if self.fault == "exception":
                raise _Refused(DEVICE_FAILURE)
            if pdu[0] not in self.map.functions:
                raise _Refused(ILLEGAL_FUNCTION)
            return self._read(pdu) if pdu[0] in (3, 4) else self._write(pdu)
        except _Refused as refused:
            return bytes((pdu[0] | 0x80, refused.code))

    def _read(self, pdu: bytes) -> bytes:
        if len(pdu) != 5:
            raise _Refused(ILLEGAL_VALUE)
        function, register, count = struct.unpack(">BHH", pdu)
        if self._is_command(register):
            self._command(register)
            return bytes((function, 0))
        if not 1 <= count <= _COUNT_MAX:
            raise _Refused(ILLEGAL_VALUE)
        words = self._words()
        wanted = range(register, register + count)
        if any(at not in words for at in wanted):
            raise _Refused(ILLEGAL_ADDRESS)
        return bytes((function, 2 * count)) + b"".join(words[at] for at in wanted)

    def _write(self, pdu: bytes) -> bytes:
        if pdu[0] == 6:
            if len(pdu) != 5:
                raise _Refused(ILLEGAL_VALUE)
            _, register, value = struct.unpack(">BHH", pdu)
            self._set(register, value)
            return pdu
        if len(pdu) < 6:
            raise _Refused(ILLEGAL_VALUE)
        _, register, count, size = struct.unpack_from(">BHHB", pdu)
        if not 1 <= count <= 123 or size != 2 * count or len(pdu) != 6 + size:
            raise _Refused(ILLEGAL_VALUE)
        for i, value in enumerate(struct.unpack_from(f">{count}H", pdu, 6)):
            self._set(register + i, value)
        return pdu[:5]

    def _set(self, register: int, value: int) -> None:
        if self._is_command(register):
            self._command(register)
        elif register == self.map.unit_id_register:
            if not 1 <= value <= 247:
                raise _Refused(ILLEGAL_VALUE)
            self.unit_id = value
        else:
            raise _Refused(ILLEGAL_ADDRESS)

    def _is_command(self, register: int) -> bool:
        return register in (self.map.start, self.map.stop)

    def _command(self, register: int) -> None:
        self._started_s = self._on_line().now_s() if register == self.map.start else None

    def _words(self) -> dict[int, bytes]:
        words = {at: struct.pack(">H", value) for at, value in self.map.constants.items()}
        if self.map.unit_id_register is not None:
            words[self.map.unit_id_register] = struct.pack(">H", self.unit_id)
        values = self._measured()
        for channel in self.map.channels:
            data = channel.words(values.get(channel.measurand, math.nan))
            for i in range(channel.width):
                words[channel.register + i] = data[2 * i : 2 * i + 2]
        return words

    def _measured(self) -> Mapping[str, float]:
        now_s = self._on_line().now_s()
        if self.map.start is not None:
            ready_s = self.map.wipe_s + self.map.warm_up_s
            if self._started_s is None or now_s < self._started_s + ready_s:
                return {}
        fault = self.fault
        if fault == "stuck":
            if self._stuck is None:
                self._stuck = dict(self._quantities(now_s))
            return self._stuck
        self._stuck = None
        values = self._quantities(now_s)
        return dict.fromkeys(values, _OUT_OF_RANGE) if fault == "out_of_range" else values


def _known(fault: str) -> str:
    if fault not in FAULTS:
        raise ValueError(f"no sonde fault {fault!r}; there are {', '.join(FAULTS)}")
    return fault
