"""An LIS3DH-class accelerometer on I2C: samples in milli-g, its FIFO, and its own logic that wakes a sleeping node.

After ST's data sheet DocID17530 and application note AN3308. Nothing here raises: what fails is counted in `errors` and
brings no sample. A chip that does not answer, answers nonsense or has stopped is set up anew at the next call.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from firmware.hal import I2c

ADDRESS = 0x18  # 0x19 with SA0 high

# Events of wake_on(): high is a value beyond the threshold in either direction, low one within it; any of those named,
# or with AND all of them. With POSITION high and low are the directions instead: the one axis beyond the threshold.
X_LOW = 0x01
X_HIGH = 0x02
Y_LOW = 0x04
Y_HIGH = 0x08
Z_LOW = 0x10
Z_HIGH = 0x20
AND = 0x80
MOVEMENT = 0x40  # into another of the six directions
POSITION = 0xC0  # being in one of them
ACTIVE = 0x40  # in sources()

FIFO_DEPTH = 32
# A chip that brings nothing new this many calls in a row, or the very same twelve bits, has stopped.
STOPPED_AFTER = 50

_WHO_AM_I = 0x0F
_I_AM = 0x33
_CTRL1 = 0x20
_REFERENCE = 0x26
_STATUS = 0x27
_OUT = 0x28
_FIFO_CTRL = 0x2E
_FIFO_SRC = 0x2F
_INT1_CFG = 0x30
_INT1_SRC = 0x31
_INT2_SRC = 0x35
_BURST = 0x80
_RATES = (0, 1, 10, 25, 50, 100, 200, 400)
_RANGES = (2, 4, 8, 16)
_MG_PER_COUNT = (1, 2, 4, 12)
_MG_PER_THRESHOLD = (16, 32, 62, 186)
_LIMIT = 127


class Lis3dh:
    """``rate_hz`` 1, 10, 25, 50, 100, 200 or 400; ``range_g`` 2, 4, 8 or 16; ``low_power``: 8 bits instead of 12;
    ``slow_filter``: the high-pass forgets in 61 samples instead of 8.
    """

    def __init__(
        self,
        i2c: "I2c",
        rate_hz: int,
        range_g: int = 2,
        low_power: bool = False,
        fifo: bool = False,
        address: int = ADDRESS,
        slow_filter: bool = False,
    ) -> None:
        self._i2c = i2c
        self._address = address
        self._rate_hz = rate_hz
        self._low_power = low_power
        self._range = _RANGES.index(range_g)
        self._control = bytearray(6)
        self._control[0] = _RATES.index(rate_hz) << 4 | (0x0F if low_power else 0x07)
        self._control[1] = 0x30 if slow_filter else 0
        self._control[3] = 0x80 | self._range << 4 | (0 if low_power else 0x08)
        self._control[4] = 0x40 if fifo else 0
        self._events = bytearray(8)  # CFG, SRC, THS and DURATION of both generators
        self._buffer = bytearray(6 * FIFO_DEPTH if fifo else 7)
        self._view = memoryview(self._buffer)
        self._last = bytearray(6)
        self.is_ready = False
        self.unchanged = 0  # calls in a row that brought nothing, or the same again
        self.errors = 0
        self.overruns = 0

    def wake_on(
        self, generator: int, events: int, threshold_mg: int, duration_ms: int, filtered: bool = False
    ) -> None:
        """Let generator 1 or 2 raise INT1 when ``events`` have held that long, until sources() is read.

        ``filtered``: behind the high-pass, so that gravity does not count. start() makes it so.
        """
        at = 4 * (generator - 1)
        self._events[at] = events
        self._events[at + 2] = self._threshold(threshold_mg)
        self._events[at + 3] = min(_LIMIT, duration_ms * self._rate_hz // 1000)
        control = self._control
        control[1] = control[1] & ~generator | (generator if filtered else 0)
        route = 0x40 >> (generator - 1)
        control[2] = control[2] & ~route | (route if events else 0)
        control[4] |= 0x08 if generator == 1 else 0x02  # latched
        self.is_ready = False

    def start(self) -> bool:
        """Set the chip up and check that it took it; whether it did.

        A chip that is set up already, as after a deep sleep, is left alone: what it has latched stays for sources().
        """
        self.unchanged = 0
        try:
            self.is_ready = self._is_as_set()
            if not self.is_ready:
                self._set_up()
                self.is_ready = self._is_as_set()
        except OSError:
            self.is_ready = False
        if not self.is_ready:
            self.errors += 1
        return self.is_ready

    def adopt(self) -> bool:
        """Go on with a chip that was set up like this before a deep sleep: its FIFO and what the generators wait for
        stay as they are. Any other chip is set up, as by start().
        """
        events = self._events
        try:
            self.is_ready = self._has_controls()
            if self.is_ready:
                events[:1] = self._read(_INT1_CFG, 1)
                events[2:5] = self._read(_INT1_CFG + 2, 3)
                events[6:] = self._read(_INT1_CFG + 6, 2)
        except OSError:
            self.is_ready = False
        return self.is_ready or self.start()

    def retune(self, generator: int, events: int, threshold_mg: int) -> bool:
        """Change what a generator waits for, and nothing else; one that waits for that already goes on counting."""
        at = 4 * (generator - 1)
        self._events[at] = events
        self._events[at + 2] = self._threshold(threshold_mg)
        if not self._is_up():
            return False
        try:
            if not self._is_as_set():
                self._i2c.writeto_mem(self._address, _INT1_CFG + at, b"\x00")
                self._set_generator(at)
        except OSError:
            return self._failed()
        return True

    def settle(self) -> bool:
        """Let the high-pass take the present sample for its zero."""
        if not self._is_up():
            return False
        try:
            self._read(_REFERENCE, 1)
        except OSError:
            return self._failed()
        return True

    def is_intact(self) -> bool:
        """Whether the chip is still set up as it was: a dip of its supply would have erased that."""
        try:
            self.is_ready = self.is_ready and self._is_as_set()
        except OSError:
            self.is_ready = False
        if not self.is_ready:
            self.errors += 1
        return self.is_ready

    def latest(self, xyz: "list[int] | array[int]") -> bool:
        """The latest sample, if there is a new one, in milli-g. Not for a chip whose FIFO is on."""
        if not self._is_up():
            return False
        view = self._view[:7]
        try:
            self._i2c.readfrom_mem_into(self._address, _STATUS | _BURST, view)
        except OSError:
            return self._failed()
        if not view[0] & 0x08:
            return self._stayed()
        if not self._take(view[1:], xyz, 0, 0xFF if self._low_power else 0x0F):
            return self._failed()
        if not self._low_power and view[1:] == self._last:
            self._stayed()  # twelve bits have noise: they do not repeat
        else:
            self.unchanged = 0
        self._last[:] = view[1:]
        return True

    def drain(self, samples: "list[int] | array[int]") -> int:
        """Empty the FIFO into ``samples``, x, y, z, x, … in milli-g, oldest first; how many sets of three.

        What is lost because it was full is counted in `overruns`.
        """
        if not self._is_up():
            return 0
        count = self._waiting()
        view = self._view[: 6 * count]
        try:
            if count > 0:
                self._i2c.readfrom_mem_into(self._address, _OUT | _BURST, view)
        except OSError:
            count = -1
        if count < 0:
            self._failed()
            return 0
        if count == 0:
            self._stayed()
            return 0
        for i in range(count):
            if not self._take(view[6 * i : 6 * i + 6], samples, 3 * i, 0x3F):
                self._failed()
                return 0
        self.unchanged = 0
        return count

    def sources(self) -> int:
        """Which events have raised INT1: source registers of generator 1 (low byte) and 2; releases the pin. 0 if none
        has, or nobody answers."""
        try:
            return self._read(_INT1_SRC, 1)[0] | self._read(_INT2_SRC, 1)[0] << 8
        except OSError:
            self._failed()
            return 0

    def stop(self) -> None:
        """Power down; start() to go on."""
        self.is_ready = False
        try:
            self._i2c.writeto_mem(self._address, _CTRL1, b"\x00")
        except OSError:
            self.errors += 1

    def _set_up(self) -> None:
        write = self._i2c.writeto_mem
        write(self._address, _CTRL1 | _BURST, self._control)
        write(self._address, _FIFO_CTRL, b"\x00")  # empties it
        if self._control[4] & 0x40:
            write(self._address, _FIFO_CTRL, b"\x9f")  # the newest 32, and no watermark
        # What a generator has latched under another setting is no event of this one.
        for i in (1, 2):
            self._set_generator(4 * (i - 1))
        self._read(_REFERENCE, 1)  # the filter starts from here
        self._read(_INT1_SRC, 1)
        self._read(_INT2_SRC, 1)

    def _set_generator(self, at: int) -> None:
        write = self._i2c.writeto_mem
        write(self._address, (_INT1_CFG + at + 2) | _BURST, self._events[at + 2 : at + 4])
        write(self._address, _INT1_CFG + at, self._events[at : at + 1])

    def _threshold(self, mg: int) -> int:
        return min(_LIMIT, max(1, mg // _MG_PER_THRESHOLD[self._range]))

    def _has_controls(self) -> bool:
        return self._read(_WHO_AM_I, 1)[0] == _I_AM and self._read(_CTRL1, 6) == self._control

    def _is_as_set(self) -> bool:
        if not self._has_controls():
            return False
        # Around the source registers: reading those releases what is latched.
        events = self._events
        return (
            self._read(_INT1_CFG, 1) == events[:1]
            and self._read(_INT1_CFG + 2, 3) == events[2:5]
            and self._read(_INT1_CFG + 6, 2) == events[6:]
        )

    def _read(self, register: int, count: int) -> bytes:
        view = self._view[:count]
        self._i2c.readfrom_mem_into(self._address, register | _BURST, view)
        return bytes(view)

    def _is_up(self) -> bool:
        return self.is_ready or self.start()

    def _waiting(self) -> int:
        """Samples in the FIFO; -1 when the chip does not say anything sensible."""
        try:
            source = self._read(_FIFO_SRC, 1)[0]
        except OSError:
            return -1
        count = source & 0x1F
        if (source & 0x20 != 0) != (count == 0) or (source & 0x40 and count != FIFO_DEPTH - 1):
            return -1
        if source & 0x40:
            self.overruns += 1
            return FIFO_DEPTH
        return count

    def _take(self, raw: memoryview, into: "list[int] | array[int]", at: int, unused: int) -> bool:
        """Six bytes to milli-g; False when bits are set that this chip never sets."""
        if (raw[0] | raw[2] | raw[4]) & unused:
            return False
        factor = _MG_PER_COUNT[self._range]
        for axis in range(3):
            value = raw[2 * axis] | raw[2 * axis + 1] << 8
            into[at + axis] = (value - 65536 if value & 0x8000 else value) // 16 * factor
        return True

    def _stayed(self) -> bool:
        """Nothing new. Once is a matter of timing; again and again it is a chip that has stopped."""
        self.unchanged += 1
        if self.unchanged >= STOPPED_AFTER:
            self._failed()
        return False

    def _failed(self) -> bool:
        self.errors += 1
        self.is_ready = False
        return False
