"""A Modbus RTU master: one request, one reply, a bounded time.

Modbus over serial line specification V1.02. The end of a reply is known by its length, not by a silence: a
microcontroller that also serves a console cannot time 3.5 characters at the receiving side. What a cheap RS-485
transceiver adds is taken off: the echo of the own request (receiver left on while sending) and noise bytes at the
turn-around of the line.
"""

from firmware.errors import SensorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Uart
    from firmware.hal.clock import Clock

READ_HOLDING = 3
READ_INPUT = 4
WRITE_SINGLE = 6

# 32 floats: more than any sonde's block, and it bounds the buffer.
MAX_REGISTERS = 64
# Noise at the turn-around of the line is a character or two.
MAX_NOISE = 4
_REQUEST = 8
_BUFFER = _REQUEST + MAX_NOISE + 5 + 2 * MAX_REGISTERS
_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
}


def crc16(data: "bytes | bytearray | memoryview", start: int, end: int) -> int:
    """CRC-16/MODBUS over data[start:end]; it travels low byte first."""
    crc = 0xFFFF
    for i in range(start, end):
        crc ^= data[i]
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


class Master:
    """The one talker on an RS-485 line. Every call blocks for at most ``timeout_ms`` plus the time on the wire."""

    def __init__(self, uart: "Uart", clock: "Clock", baud_rate: int = 9600, timeout_ms: int = 300) -> None:
        self._uart = uart
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._baud_rate = baud_rate
        # 3.5 characters of 11 bits of silence, and at least 1.75 ms, before the master may speak (V1.02, 2.5.1.1).
        self._gap_ms = max(2, 38500 // baud_rate + 1)
        self._request = bytearray(_REQUEST)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._echoes = False
        self.timeouts = 0
        self.garbled = 0
        self.refused = 0

    def read(
        self, address: int, function: int, register: int, count: int, reply_count: int = -1
    ) -> memoryview:
        """The registers as bytes, two each, in a buffer that the next call overwrites.

        ``reply_count`` is for devices that take a command as a read: it is what they answer with, whatever
        ``count`` they are asked for.
        """
        if reply_count < 0:
            reply_count = count
        if not 0 <= reply_count <= MAX_REGISTERS:
            raise ValueError("%d registers in one read: allowed are 0 to %d" % (reply_count, MAX_REGISTERS))
        self._send(address, function, register, count)
        start = self._receive(address, function, 5 + 2 * reply_count)
        if self._buffer[start + 2] != 2 * reply_count:
            self.garbled += 1
            raise SensorError(
                "device %d sent %d bytes where %d were asked for"
                % (address, self._buffer[start + 2], 2 * reply_count)
            )
        return self._view[start + 3 : start + 3 + 2 * reply_count]

    def write(self, address: int, register: int, value: int) -> None:
        """Write one register (function 06); a device says yes by repeating the request."""
        self._send(address, WRITE_SINGLE, register, value)
        start = self._receive(address, WRITE_SINGLE, _REQUEST)
        if self._buffer[start : start + _REQUEST] != self._request:
            self.garbled += 1
            raise SensorError(
                "device %d confirmed another write than that of register %d" % (address, register)
            )

    def _send(self, address: int, function: int, register: int, word: int) -> None:
        request = self._request
        request[0] = address
        request[1] = function
        request[2] = register >> 8
        request[3] = register & 0xFF
        request[4] = word >> 8
        request[5] = word & 0xFF
        crc = crc16(request, 0, 6)
        request[6] = crc & 0xFF
        request[7] = crc >> 8
        # A reply that came after its time-out must not be taken for the reply to this request.
        for _ in range(4):
            if not self._uart.any():
                break
            self._uart.readinto(self._view)
        self._clock.sleep_ms(self._gap_ms)
        self._uart.write(request)

    def _receive(self, address: int, function: int, size: int) -> int:
        """Collect a reply of ``size`` bytes; the offset in the buffer at which it stands, its CRC checked."""
        clock = self._clock
        on_wire_ms = (_REQUEST * 2 + size) * 11000 // self._baud_rate
        begun = clock.ticks_ms()
        have = start = 0
        while True:
            got = self._uart.readinto(self._view[have:]) if have < _BUFFER else 0  # this is where time passes
            if got:
                have += got
                start = self._reply_start(have, address)
            if have - start >= 5 and self._buffer[start + 1] == function | 0x80:
                return self._check(start, start + 5, address)
            if have - start >= size:
                return self._check(start, start + size, address)
            if clock.ticks_diff(clock.ticks_ms(), begun) > self._timeout_ms + on_wire_ms:
                self.timeouts += 1
                raise SensorError(
                    "device %d: %d of %d bytes within %d ms; is it powered, wired A to A, at %d baud?"
                    % (address, have - start, size, self._timeout_ms + on_wire_ms, self._baud_rate)
                )

    def _reply_start(self, have: int, address: int) -> int:
        """Where the reply begins among ``have`` bytes: behind noise and the echo of the request; ``have`` if not yet.

        The reply to a read is never equal to its request, so reads find out whether the line echoes. The reply to a
        write is equal to its request, so there the reads' finding decides.
        """
        start = self._skip_noise(0, have, address)
        here = min(have - start, _REQUEST)
        is_write = self._request[1] == WRITE_SINGLE
        if (is_write and not self._echoes) or self._buffer[start : start + here] != self._request[:here]:
            return start
        if here < _REQUEST:
            return have
        self._echoes = True
        return self._skip_noise(start + _REQUEST, have, address)

    def _skip_noise(self, start: int, have: int, address: int) -> int:
        limit = min(have, start + MAX_NOISE)
        while start < limit and self._buffer[start] != address:
            start += 1
        return start

    def _check(self, start: int, end: int, address: int) -> int:
        buffer = self._buffer
        crc = crc16(buffer, start, end - 2)
        if buffer[start] != address or buffer[end - 2] != crc & 0xFF or buffer[end - 1] != crc >> 8:
            self.garbled += 1
            raise SensorError(
                "device %d: CRC %02x%02x received, %04x computed (low byte first on the wire)"
                % (address, buffer[end - 1], buffer[end - 2], crc)
            )
        function = buffer[start + 1]
        if function & 0x80:
            self.refused += 1
            code = buffer[start + 2]
            raise SensorError(
                "device %d refused function %d: exception %d, %s"
                % (address, function & 0x7F, code, _EXCEPTIONS.get(code, "unknown")),
            )
        if function != self._request[1]:
            self.garbled += 1
            raise SensorError(
                "device %d answered function %d to function %d" % (address, function, self._request[1])
            )
        return start
