"""A BMP390-class barometer on I2C: pressure in hundredths of a pascal, temperature in hundredths of a degree.

After Bosch's data sheet BST-BMP390-DS002, compensation after section 8. Whole numbers give what the formulas give in
double precision, to a hundredth of a pascal; a float32 could not even hold the result. Nothing here raises: what fails
is counted in `errors` and is None.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import I2c

ADDRESS = 0x76  # 0x77 with SDO high

# A chip that brings nothing new this many calls in a row, or the very same 48 bits, has stopped.
STOPPED_AFTER = 50
# What it is made for; beyond that it is not a measurement. Hundredths of a pascal and of a degree.
PRESSURE_MIN, PRESSURE_MAX = 3000000, 12500000
TEMPERATURE_MIN, TEMPERATURE_MAX = -4000, 8500

_CHIP_ID = 0x00  # with the error and status registers and six data bytes behind it
_IS = 0x60
_PWR_CTRL = 0x1B
_OSR = 0x1C
_ODR = 0x1D
_CONFIG = 0x1F
_CALIBRATION = 0x31
_COEFFICIENTS = "<HHbhhbbHHbbhbb"
_BOTH_ON = 0x03
_FORCED = 0x13
_NORMAL = 0x33
_RATES_HZ = (200, 100, 50, 25, 12, 6, 3)
_NO_DATA = 0x800000


def compensate(coefficients: "tuple[int, ...]", pressure: int, temperature: int) -> "tuple[int, int]":
    """Raw readings to (hundredths of a pascal, hundredths of a degree)."""
    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 = coefficients
    above = temperature - (t1 << 8)
    t = ((above * t2 << 18) + above * above * t3) >> 32  # in 1/65536 of a degree
    tt = t * t
    ttt = tt * t
    # All in 1/65536 Pa: the offset, the sensitivity times the reading, its square and its cube.
    offset = (p5 << 19) + (p6 * t >> 6) + (p7 * tt >> 24) + (p8 * ttt >> 47)
    slope = ((p1 - 16384) << 24) + ((p2 - 16384) * t >> 1) + (p3 * tt >> 20) + (p4 * ttt >> 41)
    squared = pressure * pressure
    p = offset + (slope * pressure >> 28) + (squared * ((p9 << 16) + p10 * t) >> 48)
    p += squared * pressure * p11 >> 49
    return (p * 100 + 32768) >> 16, (t * 100 + 32768) >> 16


class Bmp390:
    """``rate_hz`` 200, 100, 50, 25, 12, 6 or 3; 0: measures when force() says so, `conversion_ms` later it is there.

    ``oversampling`` 1 to 32 halves the noise every fourfold; ``smoothing`` 0 to 7 is its low-pass of 2^n samples.
    """

    def __init__(
        self, i2c: "I2c", rate_hz: int = 25, oversampling: int = 8, smoothing: int = 0, address: int = ADDRESS
    ) -> None:
        self._i2c = i2c
        self._address = address
        times = (1, 2, 4, 8, 16, 32).index(oversampling)
        # Data sheet 3.9.2; the temperature once.
        self.conversion_ms = (234 + 392 + (2020 << times) + 163 + 2020) // 1000 + 1
        rate = _RATES_HZ.index(rate_hz) if rate_hz else 0
        if rate_hz and self.conversion_ms > 5 << rate:
            raise ValueError(
                "%d times oversampling takes %d ms: too long for %d Hz"
                % (oversampling, self.conversion_ms, rate_hz)
            )
        self._mode = _NORMAL if rate_hz else _BOTH_ON
        self._settings = ((_OSR, times), (_ODR, rate), (_CONFIG, smoothing << 1), (_PWR_CTRL, self._mode))
        self._coefficients: tuple[int, ...] = ()
        self._buffer = bytearray(21)
        self._view = memoryview(self._buffer)
        self._last = bytearray(6)
        self.temperature = 0  # of the last pressure
        self.is_ready = False
        self.unchanged = 0
        self.errors = 0

    def start(self) -> bool:
        """Read the calibration of the chip, set it up and check that it took it; whether it did."""
        self.unchanged = 0
        try:
            self.is_ready = self._set_up()
        except OSError:
            self.is_ready = False
        if not self.is_ready:
            self.errors += 1
        return self.is_ready

    def force(self) -> None:
        """One measurement, for a chip without a rate."""
        if self.is_ready or self.start():
            try:
                self._write(_PWR_CTRL, _FORCED)
            except OSError:
                self._failed()

    def pressure(self) -> "int | None":
        """The latest pressure if there is a new one; `temperature` belongs to it."""
        if not self.is_ready and not self.start():
            return None
        view = self._view[:10]
        try:
            self._i2c.readfrom_mem_into(self._address, _CHIP_ID, view)
        except OSError:
            self._failed()
            return None
        status = view[3]
        if view[0] != _IS or view[2] & 0xF8 or status & 0x8F:
            self._failed()
            return None
        if status & 0x60 != 0x60:
            self._stayed()
            return None
        if view[4:] == self._last:
            self._stayed()  # 24 bits have noise: they do not repeat
        else:
            self.unchanged = 0
        self._last[:] = view[4:]
        return self._judged(view[4] | view[5] << 8 | view[6] << 16, view[7] | view[8] << 8 | view[9] << 16)

    def _judged(self, raw_pressure: int, raw_temperature: int) -> "int | None":
        if raw_pressure == _NO_DATA or raw_temperature == _NO_DATA:
            self._stayed()
            return None
        pressure, temperature = compensate(self._coefficients, raw_pressure, raw_temperature)
        if (
            not PRESSURE_MIN <= pressure <= PRESSURE_MAX
            or not TEMPERATURE_MIN <= temperature <= TEMPERATURE_MAX
        ):
            self.errors += 1
            return None
        self.temperature = temperature
        return pressure

    def _set_up(self) -> bool:
        one = self._view[:1]
        self._i2c.readfrom_mem_into(self._address, _CHIP_ID, one)
        if one[0] != _IS:
            return False
        self._i2c.readfrom_mem_into(self._address, _CALIBRATION, self._view)
        self._coefficients = struct.unpack(_COEFFICIENTS, self._buffer)
        if not self._coefficients[0] or not self._coefficients[1]:
            return False  # its memory is not loaded
        for register, value in self._settings:
            self._write(register, value)
        for register, value in self._settings:
            self._i2c.readfrom_mem_into(self._address, register, one)
            if one[0] != value:
                return False
        return True

    def _write(self, register: int, value: int) -> None:
        self._i2c.writeto_mem(self._address, register, bytes((value,)))

    def _stayed(self) -> None:
        """Nothing new. Once is a matter of timing; again and again it is a chip that has stopped."""
        self.unchanged += 1
        if self.unchanged >= STOPPED_AFTER:
            self._failed()

    def _failed(self) -> None:
        self.errors += 1
        self.is_ready = False
