"""An LIS3DH accelerometer at register level: samples, FIFO, two interrupt generators and their pins.

After ST's data sheet DocID17530 and application note AN3308. What it feels is ``acceleration(t)`` in g, three axes, a
function of world time that must be right for all the time since anybody asked last. Samples are taken lazily, when
somebody reads or when a pin may have to change; ``steady_until(t)`` may promise that nothing moves before that time,
and then nothing is computed: years of a cover that lies still cost nothing. A shortened promise needs `changed()`.

What counts is modelled: 8, 10 or 12 bits by mode (10 in the FIFO, AN3308 section 9.1), noise and rate error by seed,
latched interrupts, durations in samples, the orientation logic, the high-pass filter as one of first order. Left out:
click, sleep-to-wake, self-test, all of the auxiliary ADC but the thermometer. To start up takes one sample.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from boards.virtual.chips.registers import RegisterChip, Signal
from boards.virtual.i2c import Timer

Vector = tuple[float, float, float]

OUT_ADC3_L, TEMP_CFG = 0x0C, 0x1F
WHO_AM_I, CTRL1, CTRL2, CTRL3, CTRL4, CTRL5, CTRL6, REFERENCE = 0x0F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26
STATUS, OUT_X_L, OUT_Z_H, FIFO_CTRL, FIFO_SRC, INT1_CFG, INT2_CFG = 0x27, 0x28, 0x2D, 0x2E, 0x2F, 0x30, 0x34
_RESET = {WHO_AM_I: 0x33, 0x1E: 0x10, CTRL1: 0x07}
_READ_ONLY = {*range(0x07, 0x10), *range(STATUS, OUT_Z_H + 1), FIFO_SRC, INT1_CFG + 1, INT2_CFG + 1, 0x39}
# By the four ODR bits; 9 is for low power, 1344 Hz otherwise.
_RATES_HZ = (0, 1, 10, 25, 50, 100, 200, 400, 1600, 5376, 0, 0, 0, 0, 0, 0)
_G_PER_COUNT = (0.001, 0.002, 0.004, 0.012)  # of the 12 bits, by full scale
_G_PER_THRESHOLD = (0.016, 0.032, 0.062, 0.186)
_FIFO_DEPTH = 32
_DENSITY_G = 220e-6  # noise per root of Hz
_RATE_ERROR_MAX = 0.01
# Supply current in uA by rate, low power and else (data sheet table 11); power down 0.5.
_LOW_POWER_UA = (0.5, 2, 3, 4, 6, 10, 18, 36, 100, 185)
_NORMAL_UA = (0.5, 2, 4, 6, 11, 20, 38, 73, 185, 185)
# A threshold further away than this many deviations of the noise is not crossed.
_SURE = 7.0


@dataclass
class _Generator:
    """One of the two interrupt generators: its registers are CFG, SRC, THS and DURATION at ``base``."""

    base: int
    count: int = 0  # samples for which its condition has held
    is_active: bool = False
    source: int = 0
    zone: int = 0


@dataclass
class _Filter:
    """High-pass of first order: what it subtracts."""

    level: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def pass_on(self, values: Sequence[float], share: float) -> list[float]:
        out = []
        for i, value in enumerate(values):
            self.level[i] += share * (value - self.level[i])
            out.append(value - self.level[i])
        return out


class Lis3dh(RegisterChip):
    def __init__(
        self,
        acceleration: Callable[[float], Vector],
        *,
        steady_until: Callable[[float], float] = lambda t: t,
        address: int = 0x18,
        seed: int = 0,
        script: Sequence[tuple[float, float, str]] = (),
        offset_g: Vector = (0.0, 0.0, 0.0),
        noise: float = 1.0,
        celsius: Callable[[float], float] = lambda t: 25.0,
    ) -> None:
        super().__init__(address, seed=seed, script=script)
        self.int1, self.int2 = Signal(), Signal()
        self.samples = 0  # computed, not skipped
        self._acceleration = acceleration
        self._steady_until = steady_until
        self._offset = offset_g
        self._noise = noise
        self._celsius = celsius
        self._rate_error = self.random.uniform(-_RATE_ERROR_MAX, _RATE_ERROR_MAX)
        self._timer: Timer | None = None
        self._power_on()

    def changed(self) -> None:
        """The acceleration from now on is another than was promised."""
        self._catch_up()
        self._update()

    @property
    def current_ua(self) -> float:
        code = min(self._regs[CTRL1] >> 4, len(_NORMAL_UA) - 1)
        return (_LOW_POWER_UA if self._regs[CTRL1] & 0x08 else _NORMAL_UA)[code]

    # ---- registers -----------------------------------------------------------------------------------------------

    def _power_on(self) -> None:
        self._regs = bytearray(0x40)
        for register, value in _RESET.items():
            self._regs[register] = value
        self._fifo: deque[tuple[int, int, int]] = deque(maxlen=_FIFO_DEPTH)
        self._out = (0, 0, 0)
        self._status = 0
        self._filter = _Filter()
        self._generators = (_Generator(INT1_CFG), _Generator(INT2_CFG))
        self._next_s = math.inf
        self._stuck_at: Vector | None = None

    def _read(self, register: int, count: int) -> bytes:
        self._catch_up()
        at, step = register & 0x3F, register >> 7
        out = bytearray()
        for _ in range(count):
            out.append(self._get(at))
            if step:
                # In a burst the outputs repeat while the FIFO is on, so that one reads all of it.
                at = OUT_X_L if at == OUT_Z_H and self._uses_fifo() else (at + 1) & 0x3F
        self._update()
        return bytes(out)

    def _write(self, register: int, data: bytes) -> None:
        self._catch_up()
        at = register & 0x3F
        for byte in data:
            if at not in _READ_ONLY:
                self._set(at, byte)
            at = (at + (register >> 7)) & 0x3F
        self._update()

    def _get(self, at: int) -> int:
        if OUT_X_L <= at <= OUT_Z_H:
            return self._get_out(at - OUT_X_L)
        if (
            at in (OUT_ADC3_L, OUT_ADC3_L + 1)
            and self._regs[TEMP_CFG] & 0xC0 == 0xC0
            and self._regs[CTRL4] & 0x80
        ):
            # A degree is a step of the high byte, 25 degrees are none; 10 bits, 8 in low power.
            steps = round((self._celsius(self.now_s()) - 25) * 256) & (
                0xFF00 if self._regs[CTRL1] & 0x08 else 0xFFC0
            )
            return steps >> 8 * (at - OUT_ADC3_L) & 0xFF
        if at == STATUS:
            return self._status
        if at == FIFO_SRC:
            return self._fifo_source()
        if at == REFERENCE and not self._regs[CTRL2] & 0x40:
            self._filter.level = list(
                self._counts(self.now_s())
            )  # modes 00 and 10: reading it settles the filter
        for generator in self._generators:
            if at == generator.base + 1:
                source = generator.source
                if self._is_latched(generator):
                    generator.source, generator.is_active = 0, False
                return source
        return self._regs[at]

    def _get_out(self, byte: int) -> int:
        from_fifo = self._uses_fifo()
        sample = (self._fifo[0] if self._fifo else self._out) if from_fifo else self._out
        value = sample[byte // 2]
        if self._regs[CTRL4] & 0x40:
            byte ^= 1  # BLE: the high byte first
        if byte == 5:
            self._status = 0
            if from_fifo and self._fifo:
                self._fifo.popleft()
        return (value >> 8 * (byte & 1)) & 0xFF

    def _set(self, at: int, value: int) -> None:
        before = self._regs[at]
        self._regs[at] = value
        if at == CTRL1 and value >> 4 != before >> 4:
            rate = self._rate_hz()
            self._next_s = self.now_s() + 1 / rate if rate else math.inf
        if at == FIFO_CTRL and value >> 6 != before >> 6:
            self._fifo.clear()
        for generator in self._generators:
            if at == generator.base and value != before:
                generator.count, generator.is_active, generator.source, generator.zone = 0, False, 0, 0

    def _fifo_source(self) -> int:
        count = len(self._fifo)
        is_over = count > self._regs[FIFO_CTRL] & 0x1F
        return is_over << 7 | (count == _FIFO_DEPTH) << 6 | (not count) << 5 | min(count, 31)

    def _uses_fifo(self) -> bool:
        return bool(self._regs[CTRL5] & 0x40) and self._regs[FIFO_CTRL] >> 6 != 0

    def _is_latched(self, generator: _Generator) -> bool:
        return bool(self._regs[CTRL5] & (0x08 if generator.base == INT1_CFG else 0x02))

    def _rate_hz(self) -> float:
        code = self._regs[CTRL1] >> 4
        rate = 1344 if code == 9 and not self._regs[CTRL1] & 0x08 else _RATES_HZ[code]
        return rate * (1 + self._rate_error)

    # ---- samples -------------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        now_s = self.now_s()
        while self._next_s <= now_s:
            self._skip_to(now_s)
            self._sample(self._next_s)
            self._next_s += 1 / self._rate_hz()

    def _skip_to(self, now_s: float) -> None:
        """Leave out samples that could change nothing: all but the last, or what the FIFO holds."""
        steady_s = min(now_s, self._steady_until(self._next_s))
        kept = _FIFO_DEPTH if self._uses_fifo() else 1
        periods = int((steady_s - self._next_s) * self._rate_hz()) - kept
        if periods > 0 and self._is_settled():
            self._next_s += periods / self._rate_hz()

    def _sample(self, t_s: float) -> None:
        self.samples += 1
        sigma = self._sigma()
        counts = [
            max(-2048.0, min(2047.0, value + self.random.gauss(0.0, sigma))) for value in self._counts(t_s)
        ]
        drop = 8 if self._regs[CTRL1] & 0x08 else 4 if self._regs[CTRL4] & 0x08 else 6  # bits, of 16
        values = [float(math.floor(count * 16) >> drop << drop) / 16 for count in counts]
        filtered = self._filtered(values)
        shown = filtered if self._regs[CTRL2] & 0x08 else values
        x, y, z = (max(-2048, min(2047, math.floor(value))) * 16 >> drop << drop for value in shown)
        self._out = (x, y, z)
        self._status = 0xFF if self._status & 0x08 else 0x0F
        self._push((x & ~0x3F, y & ~0x3F, z & ~0x3F))
        for number, generator in enumerate(self._generators):
            uses_filter = self._regs[CTRL2] & (1 << number)
            self._judge(generator, filtered if uses_filter else values)

    def _counts(self, t_s: float) -> Vector:
        """What the sensor feels, without noise, in counts of 12 bits."""
        if self.fault == "frozen":
            self._stuck_at = self._stuck_at or self._acceleration(t_s)
            felt = self._stuck_at
        else:
            self._stuck_at = None
            felt = self._acceleration(t_s)
        scale = 1 / _G_PER_COUNT[self._scale()]
        (x, y, z), (dx, dy, dz) = felt, self._offset
        return ((x + dx) * scale, (y + dy) * scale, (z + dz) * scale)

    def _sigma(self) -> float:
        if self.fault == "frozen":
            return 0.0
        band_hz = self._rate_hz() / (9 if self._regs[CTRL4] & 0x08 else 2)
        return self._noise * _DENSITY_G * math.sqrt(band_hz) / _G_PER_COUNT[self._scale()]

    def _scale(self) -> int:
        return self._regs[CTRL4] >> 4 & 3

    def _filtered(self, values: Sequence[float]) -> list[float]:
        mode = self._regs[CTRL2] >> 6
        if mode == 1:
            reference = (self._regs[REFERENCE] ^ 0x80) - 0x80
            return [value - 16 * reference for value in values]
        # Cut-off at about rate / (6 * 8 * 2^HPCF), AN3308 section 4.3.1.
        return self._filter.pass_on(values, 2 * math.pi / (6 * (8 << (self._regs[CTRL2] >> 4 & 3))))

    def _push(self, sample: tuple[int, int, int]) -> None:
        if not self._uses_fifo():
            return
        mode = self._regs[FIFO_CTRL] >> 6
        trigger = self.int2 if self._regs[FIFO_CTRL] & 0x20 else self.int1
        stops_when_full = mode == 1 or (mode == 3 and trigger.level)
        if len(self._fifo) == _FIFO_DEPTH and stops_when_full:
            return
        self._fifo.append(sample)

    # ---- interrupts ----------------------------------------------------------------------------------------------

    def _judge(self, generator: _Generator, values: Sequence[float]) -> None:
        config = self._regs[generator.base]
        if not config & 0x3F:
            return
        bits, holds = self._condition(generator, values)
        generator.count = generator.count + 1 if holds else 0
        if generator.count > self._regs[generator.base + 3] & 0x7F:
            if not generator.is_active and self._regs[CTRL2] >> 6 == 3:
                self._filter.level = [
                    level + value for level, value in zip(self._filter.level, values, strict=True)
                ]
            generator.is_active = True
            generator.source = 0x40 | bits
        elif not self._is_latched(generator):
            generator.is_active = False
            generator.source = bits

    def _condition(self, generator: _Generator, values: Sequence[float]) -> tuple[int, bool]:
        """The bits of the source register, and whether together they are what the generator waits for."""
        config = self._regs[generator.base]
        threshold = self._threshold(generator)
        bits = 0
        is_6d = config & 0x40
        for axis, value in enumerate(values):
            if is_6d and axis == 2 and self._regs[CTRL5] & (0x04 if generator.base == INT1_CFG else 0x01):
                continue  # 4D: the z axis does not count
            is_high = value > threshold if is_6d else abs(value) > threshold
            is_low = value < -threshold if is_6d else not is_high
            bits |= (is_low | is_high << 1) << 2 * axis
        bits &= config & 0x3F if not is_6d else 0x3F
        if not is_6d:
            return bits, bits == config & 0x3F if config & 0x80 else bits != 0
        is_known = bits & (bits - 1) == 0 and bits & config != 0
        if config & 0x80:
            return bits & config, is_known
        has_moved = is_known and bits != generator.zone
        generator.zone = bits if is_known else generator.zone
        return bits & config, has_moved

    def _threshold(self, generator: _Generator) -> float:
        """In counts."""
        scale = self._scale()
        return (self._regs[generator.base + 2] & 0x7F) * _G_PER_THRESHOLD[scale] / _G_PER_COUNT[scale]

    def _is_settled(self) -> bool:
        """While the acceleration stays what it is, no generator can change its mind."""
        values = self._counts(self._next_s)
        filtered = self._settled_filter(values)
        if filtered is None:
            return False
        margin = _SURE * self._sigma() + 16  # 16: the coarsest step, of 8 bits
        for number, generator in enumerate(self._generators):
            if not self._regs[generator.base] & 0x3F:
                continue
            seen = filtered if self._regs[CTRL2] & (1 << number) else values
            threshold = self._threshold(generator)
            if any(abs(abs(value) - threshold) < margin for value in seen):
                return False
            duration = self._regs[generator.base + 3] & 0x7F
            if generator.count != 0 and not (generator.is_active and generator.count > duration):
                return False
            zone = generator.zone
            holds = self._condition(generator, seen)[1]
            generator.zone = zone
            if holds != (generator.count != 0):
                return False
        return True

    def _settled_filter(self, values: Sequence[float]) -> Sequence[float] | None:
        """What comes out of the high-pass when nothing moves; None while it has not settled."""
        if not self._regs[CTRL2] & 0x0B:
            return values  # nobody looks at it
        if self._regs[CTRL2] >> 6 == 1:
            reference = (self._regs[REFERENCE] ^ 0x80) - 0x80
            return [value - 16 * reference for value in values]
        limit = 2 * self._sigma() + 16
        if any(abs(value - level) > limit for value, level in zip(values, self._filter.level, strict=True)):
            return None
        return (0.0, 0.0, 0.0)

    # ---- pins ----------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        """Set the pins, and come back when one of them may change by itself."""
        first, second = (generator.is_active for generator in self._generators)
        to_1, to_2 = self._regs[CTRL3], self._regs[CTRL6]
        fifo = self._fifo_source() if self._uses_fifo() else 0
        is_new = bool(self._status & 0x08)
        level_1 = (
            (first and to_1 & 0x40)
            or (second and to_1 & 0x20)
            or (is_new and to_1 & 0x10)
            or (fifo & 0x80 and to_1 & 0x04)
            or (fifo & 0x40 and to_1 & 0x02)
        )
        level_2 = (first and to_2 & 0x40) or (second and to_2 & 0x20)
        is_inverted = bool(to_2 & 0x02)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = self._next_change_s()
        if due_s < math.inf:
            # Up to the next millisecond: a clock that counts in those must not come too early for ever.
            delay_s = math.ceil(max(0.0, due_s - self.now_s()) * 1000) / 1000
            self._timer = self.timers.call_later(delay_s, self._due)
        self.int1.set(bool(level_1) ^ is_inverted)
        self.int2.set(bool(level_2) ^ is_inverted)

    def _due(self) -> None:
        self._timer = None
        self._catch_up()
        self._update()

    def _next_change_s(self) -> float:
        if not (self._regs[CTRL3] & 0x76 or self._regs[CTRL6] & 0x60) or self._next_s == math.inf:
            return math.inf
        if self._regs[CTRL3] & 0x16:
            return self._next_s  # data themselves raise the pin
        steady_s = self._steady_until(self._next_s)
        return steady_s if steady_s > self._next_s and self._is_settled() else self._next_s
