"""A multi-parameter water sonde on Modbus RTU, described by a register map.

One measurement: start (power, wiper), warm up, read every block, stop. Each step is tried a few times; a block that
stays silent costs its own readings and no others. A sonde says "no value" with a NaN or with an integer of its own:
both are a missing reading.
"""

import struct
from collections import namedtuple

from firmware.errors import SensorError
from firmware.sensors.modbus_rtu import WRITE_SINGLE
from protocols.wire.limits import MAX_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import NamedTuple

    from firmware.sensors import Readings
    from firmware.sensors.modbus_rtu import Master

    class Order(NamedTuple):
        """How a number lies in registers: the position on the wire of each byte, most significant first."""

        bytes: tuple[int, ...]
        code: str

    class Action(NamedTuple):
        """Start or stop. function 6 writes ``word`` to the register; 3 and 4 read ``word`` registers, as some
        sondes want it, and expect ``reply_count`` back."""

        function: int
        register: int
        word: int
        reply_count: int

    class Block(NamedTuple):
        """Registers that one request reads."""

        function: int
        register: int
        registers: int

    class Channel(NamedTuple):
        """One reading: where it lies, and ``factor`` from the sonde's unit to the registry's (mS/cm to uS/cm: 1000).
        ``absent`` is the raw integer by which the sonde says "no value", None if it has none."""

        measurand: str
        block: int
        offset: int
        order: Order
        factor: float
        absent: "int | None"

    class RegisterMap(NamedTuple):
        """``channels`` in the order of the schema."""

        name: str
        address: int
        baud_rate: int
        start: "Action | None"
        stop: "Action | None"
        warm_up_ms: int
        blocks: tuple[Block, ...]
        channels: tuple[Channel, ...]

else:
    Order = namedtuple("Order", ("bytes", "code"))
    Action = namedtuple("Action", ("function", "register", "word", "reply_count"))
    Block = namedtuple("Block", ("function", "register", "registers"))
    Channel = namedtuple("Channel", ("measurand", "block", "offset", "order", "factor", "absent"))
    RegisterMap = namedtuple(
        "RegisterMap", ("name", "address", "baud_rate", "start", "stop", "warm_up_ms", "blocks", "channels")
    )

# The four orders in which makers put a float32 into two registers, and integers. A is the most significant byte.
FLOAT_ABCD = Order((0, 1, 2, 3), ">f")
FLOAT_CDAB = Order((2, 3, 0, 1), ">f")
FLOAT_BADC = Order((1, 0, 3, 2), ">f")
FLOAT_DCBA = Order((3, 2, 1, 0), ">f")
INT16 = Order((0, 1), ">h")
UINT16 = Order((0, 1), ">H")
INT32_ABCD = Order((0, 1, 2, 3), ">i")
INT32_CDAB = Order((2, 3, 0, 1), ">i")

TRIES = 3
# A late reply to the try before must be over before the next one begins.
_RETRY_PAUSE_MS = 50


class Sonde:
    def __init__(self, master: "Master", register_map: "RegisterMap", schema_id: int) -> None:
        self._master = master
        self._map = register_map
        self.count = len(register_map.channels)
        self.errors = 0
        from protocols.wire.schemas import schema as schema_of  # on the heap for this moment only

        decimals = {series.name: series.decimals for series in schema_of(schema_id).series}
        self._factors = tuple(c.factor * 10 ** decimals[c.measurand] for c in register_map.channels)
        self._number = bytearray(4)

    def measure(self, readings: "Readings") -> "Generator[int, None, None]":
        """One measurement; see the head of firmware.sensors for the contract."""
        register_map = self._map
        for i in range(self.count):
            readings[i] = None
        awake = True
        if register_map.start is not None:
            awake = yield from self._act(register_map.start)
        if awake:
            yield register_map.warm_up_ms
            for block in range(len(register_map.blocks)):
                yield from self._read(block, readings)
                yield 0  # one transaction at a time: the node has a link to serve
        if register_map.stop is not None:
            yield from self._act(register_map.stop)

    def _act(self, action: "Action") -> "Generator[int, None, bool]":
        """Whether the sonde confirmed it."""
        for _ in range(TRIES):
            try:
                if action.function == WRITE_SINGLE:
                    self._master.write(self._map.address, action.register, action.word)
                else:
                    self._master.read(
                        self._map.address, action.function, action.register, action.word, action.reply_count
                    )
                return True
            except SensorError:
                self.errors += 1
            yield _RETRY_PAUSE_MS
        return False

    def _read(self, index: int, readings: "Readings") -> "Generator[int, None, None]":
        block = self._map.blocks[index]
        for _ in range(TRIES):
            try:
                data = self._master.read(self._map.address, block.function, block.register, block.registers)
                self._take(index, data, readings)
                return
            except SensorError:
                self.errors += 1
            yield _RETRY_PAUSE_MS

    def _take(self, block: int, data: memoryview, readings: "Readings") -> None:
        for i, channel in enumerate(self._map.channels):
            if channel.block == block:
                readings[i] = self._scaled(channel, self._factors[i], data)

    def _scaled(self, channel: "Channel", factor: float, data: memoryview) -> "int | None":
        """The reading as a scaled integer, rounded half up; None for "no value" and for what no probe can mean."""
        number = self._number
        for i, at in enumerate(channel.order.bytes):
            number[i] = data[2 * channel.offset + at]
        raw = struct.unpack_from(channel.order.code, number)[0]
        if channel.absent is not None and raw == channel.absent:
            return None
        value = raw * factor + 0.5
        if not -MAX_VALUE < value < MAX_VALUE:  # neither does a NaN or an infinity lie between
            self.errors += 1
            return None
        scaled = int(value)
        return scaled if scaled <= value else scaled - 1  # int() rounds towards zero
