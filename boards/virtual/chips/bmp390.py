"""A BMP390 barometer at register level: raw readings that its compensation turns into the air of the world.

After Bosch's data sheet BST-BMP390-DS002. ``air(t)`` gives pascal and degrees Celsius at world time t; the formulas of
section 8 are inverted in double precision, so a driver is checked against them and not against itself. Samples are
computed when somebody reads. Left out: FIFO, interrupts, SPI, the sensor time.
"""

import math
import struct
from collections.abc import Callable, Sequence

from boards.virtual.chips.registers import RegisterChip

Air = Callable[[float], tuple[float, float]]

CHIP_ID, ERR, STATUS, DATA, EVENT, PWR_CTRL, OSR, ODR, CONFIG, CALIBRATION, CMD = (
    0x00, 0x02, 0x03, 0x04, 0x10, 0x1B, 0x1C, 0x1D, 0x1F, 0x31, 0x7E,
)  # fmt: skip
_SOFT_RESET = 0xB6
_RESET = {
    CHIP_ID: 0x60, 0x01: 0x01, STATUS: 0x10, 0x06: 0x80, 0x09: 0x80, EVENT: 0x01, 0x15: 0x01, 0x17: 0x02, 0x18: 0x02,
    0x19: 0x02, OSR: 0x02,
}  # fmt: skip
_WRITABLE = {0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, PWR_CTRL, OSR, ODR, CONFIG, CMD}
_WRITABLE_BITS = {PWR_CTRL: 0x33, OSR: 0x3F, ODR: 0x1F, CONFIG: 0x0E}
# Trimming of a chip that somebody has in use.
TRIMMING = bytes.fromhex("236b5849f65cffcef42300ea636e79f3f6aa4312c4")
_FORMAT = "<HHbhhbbHHbbhbb"
# Deviation of one reading without oversampling.
_NOISE_PA = 2.0
_NOISE_C = 0.005
# More samples than these have no part in what the filter shows.
_FILTER_DEPTH = 2000


class Formulas:
    """Section 8 of the data sheet, in double precision, and its inverse."""

    def __init__(self, trimming: bytes = TRIMMING) -> None:
        t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 = struct.unpack(_FORMAT, trimming)
        self._t = (t1 * 2.0**8, t2 * 2.0**-30, t3 * 2.0**-48)
        self._offset = (p5 * 2.0**3, p6 * 2.0**-6, p7 * 2.0**-8, p8 * 2.0**-15)
        self._slope = ((p1 - 16384) * 2.0**-20, (p2 - 16384) * 2.0**-29, p3 * 2.0**-32, p4 * 2.0**-37)
        self._square = (p9 * 2.0**-48, p10 * 2.0**-48)
        self._cube = p11 * 2.0**-65

    def temperature(self, raw: float) -> float:
        above = raw - self._t[0]
        return above * self._t[1] + above * above * self._t[2]

    def pressure(self, raw: float, celsius: float) -> float:
        offset = sum(factor * celsius**i for i, factor in enumerate(self._offset))
        slope = sum(factor * celsius**i for i, factor in enumerate(self._slope))
        square = self._square[0] + self._square[1] * celsius
        return offset + slope * raw + square * raw**2 + self._cube * raw**3

    def raw(self, pascal: float, celsius: float) -> tuple[float, float]:
        """(pressure, temperature) as the converter would see them."""
        raw_t = _solve(self.temperature, celsius, self._t[0])
        return _solve(lambda raw: self.pressure(raw, celsius), pascal, 6.5e6), raw_t


def _solve(function: Callable[[float], float], value: float, guess: float) -> float:
    for _ in range(20):
        slope = (function(guess + 1) - function(guess - 1)) / 2
        step = (value - function(guess)) / slope
        guess += step
        if abs(step) < 1e-3:
            break
    return guess


class Bmp390(RegisterChip):
    def __init__(
        self,
        air: Air,
        *,
        address: int = 0x76,
        seed: int = 0,
        script: Sequence[tuple[float, float, str]] = (),
        trimming: bytes = TRIMMING,
        noise: float = 1.0,
    ) -> None:
        super().__init__(address, seed=seed, script=script)
        self.samples = 0
        self._air = air
        self._noise = noise
        self._trimming = trimming
        self._formulas = Formulas(trimming)
        self._power_on()

    # ---- registers -----------------------------------------------------------------------------------------------

    def _power_on(self) -> None:
        self._regs = bytearray(0x80)
        for register, value in _RESET.items():
            self._regs[register] = value
        self._regs[CALIBRATION : CALIBRATION + len(self._trimming)] = self._trimming
        self._next_s = math.inf
        self._smooth: tuple[float, float] | None = None
        self._stuck: tuple[float, float] | None = None

    def _read(self, register: int, count: int) -> bytes:
        self._catch_up()
        data = bytes(self._regs[(register + i) & 0x7F] for i in range(count))
        if register <= DATA + 2 < register + count:
            self._regs[STATUS] &= ~0x20  # reading the pressure makes it old
        if register <= DATA + 5 < register + count:
            self._regs[STATUS] &= ~0x40
        if register <= ERR < register + count:
            self._regs[ERR] = 0
        if register <= EVENT < register + count:
            self._regs[EVENT] = 0
        return data

    def _write(self, register: int, data: bytes) -> None:
        """On this chip a burst is register, value, register, value."""
        self._catch_up()
        self._set(register, data[0])
        for at, value in zip(data[1::2], data[2::2], strict=False):
            self._set(at, value)

    def _set(self, at: int, value: int) -> None:
        if at == CMD and value == _SOFT_RESET:
            self._power_on()
        elif at in _WRITABLE:
            self._regs[at] = value & _WRITABLE_BITS.get(at, 0xFF)
            if at in (PWR_CTRL, OSR, ODR):
                self._schedule()

    def _schedule(self) -> None:
        mode = self._regs[PWR_CTRL] >> 4
        if mode == 0:
            self._next_s = math.inf
        elif mode == 3:
            if self._conversion_s() > self._period_s():
                self._regs[ERR] |= 0x04  # a rate that the oversampling does not allow
                self._next_s = math.inf
            else:
                self._next_s = self.now_s() + self._conversion_s()
        else:
            self._next_s = self.now_s() + self._conversion_s()

    def _period_s(self) -> float:
        return 0.005 * 2.0 ** self._regs[ODR]

    def _conversion_s(self) -> float:
        """Data sheet 3.9.2."""
        on, osr = self._regs[PWR_CTRL], self._regs[OSR]
        pressure_us = (392 + (2020 << (osr & 7))) * (on & 1)
        temperature_us = (163 + (2020 << (osr >> 3 & 7))) * (on >> 1 & 1)
        return (234 + pressure_us + temperature_us) / 1e6

    # ---- samples -------------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        now_s = self.now_s()
        is_forced = self._regs[PWR_CTRL] >> 4 in (1, 2)
        behind = (now_s - self._next_s) / self._period_s() if not is_forced and self._next_s <= now_s else 0
        if behind > _FILTER_DEPTH:
            self._next_s += int(behind - _FILTER_DEPTH) * self._period_s()
        while self._next_s <= now_s:
            self._sample(self._next_s)
            if is_forced:
                self._regs[PWR_CTRL] &= 0x03
                self._next_s = math.inf
            else:
                self._next_s += self._period_s()

    def _sample(self, t_s: float) -> None:
        self.samples += 1
        pascal, celsius = self._felt(t_s)
        raw_p, raw_t = self._formulas.raw(pascal, celsius)
        coefficient = (1 << (self._regs[CONFIG] >> 1 & 7)) - 1
        if self._smooth is None or coefficient == 0:
            self._smooth = (raw_p, raw_t)
        else:
            before_p, before_t = self._smooth
            share = 1 / (coefficient + 1)
            self._smooth = (before_p + share * (raw_p - before_p), before_t + share * (raw_t - before_t))
        on = self._regs[PWR_CTRL]
        for bit, at, value in ((0x01, DATA, self._smooth[0]), (0x02, DATA + 3, self._smooth[1])):
            if on & bit:
                self._regs[at : at + 3] = round(value).to_bytes(3, "little")
                self._regs[STATUS] |= bit << 5

    def _felt(self, t_s: float) -> tuple[float, float]:
        if self.fault == "frozen":
            self._stuck = self._stuck or self._air(t_s)
            return self._stuck
        self._stuck = None
        pascal, celsius = self._air(t_s)
        times = 1 << (self._regs[OSR] & 7)
        return (
            pascal + self._noise * self.random.gauss(0.0, _NOISE_PA / math.sqrt(times)),
            celsius + self._noise * self.random.gauss(0.0, _NOISE_C),
        )
