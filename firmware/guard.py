"""A LIS3DH that watches a cover while the node sleeps, at one sample a second and 2 uA.

Both interrupt generators, one for each way in which a cover can come to lie wrong. A vehicle shakes it for less than
two seconds, so for at most two samples; either generator wants more than DURATION of them in a row.

1, "lies wrong": one of the two lateral axes is beyond a threshold a little above what the learned pose has there. It
   sees what comes so slowly that the other one grows used to it. Off while the cover does lie wrong.
2, "was moved": behind the high-pass filter, on all three axes, whatever the pose is. At one sample a second the filter
   forgets with a time constant of 80 s: a step of 5 degrees stays above the threshold for longer than DURATION, a
   settling of less than 1.5 degrees a minute does not show.

Both are latched and share the pin. The FIFO holds the last 32 samples, so a node that was woken knows what happened
before, and when. Registers and their meanings: LIS3DH datasheet (DocID17530) and AN3308.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.cover import Vector
    from firmware.hal import I2c

ADDRESS = 0x18
_WHO_AM_I = 0x0F
_IDENTITY = 0x33
_REFERENCE = 0x26
_OUT = 0x28
_FIFO_SOURCE = 0x2F
_INT1_CONFIG = 0x30
_INT1_SOURCE = 0x31
_INT2_CONFIG = 0x34
_INT2_SOURCE = 0x35
_TEMPERATURE = 0x0C
# Register bursts.
_MANY = 0x80

# From TEMP_CFG_REG (1Fh) on: the sensor of the housing's temperature on; 1 Hz, three axes; filter at its slowest, for
# generator 2; both generators on INT1; +-2 g, whole samples only; FIFO on, both latched; active high.
_SETUP = b"\xc0\x17\x32\x60\x80\x4a\x00"
_SETUP_AT = 0x1F
_STREAM = b"\x80"
_FIFO_CONTROL = 0x2E

PERIOD_MS = 1000
FIFO_SAMPLES = 32
DURATION = 4
_THRESHOLD_MG = 16  # one step of a threshold at 2 g
_THRESHOLD_MAX = 127
# Generator 1 leaves this much to road noise, warmth and the ageing of the chip.
_MARGIN_MG = 64
_OR_HIGH = (0x02, 0x08, 0x20)  # x, y, z beyond the threshold, any of them


class Guard:
    """``errors`` counts what the bus refused. Everything else says False or nothing then."""

    def __init__(self, i2c: "I2c") -> None:
        self._i2c = i2c
        self._sample = bytearray(6)
        self._byte = bytearray(1)
        self.errors = 0
        self.is_ready = False

    def start(self) -> bool:
        """Find the chip as it was left, or set it up. It keeps its power while the node sleeps."""
        try:
            if self._read(_WHO_AM_I) != _IDENTITY:
                return self._failed()
            there = bytearray(len(_SETUP))
            self._i2c.readfrom_mem_into(ADDRESS, _SETUP_AT | _MANY, there)
            if there != _SETUP:
                self._write(_FIFO_CONTROL, b"\x00")
                for at, value in enumerate(_SETUP):
                    self._write(_SETUP_AT + at, bytes((value,)))
                self._write(_FIFO_CONTROL, _STREAM)
        except OSError:
            return self._failed()
        self.is_ready = True
        return True

    def samples(self) -> "list[Vector]":
        """What has come since the last call, oldest first, in milli-g; nothing when the chip does not answer."""
        found: "list[Vector]" = []
        try:
            if not self.is_ready and not self.start():
                return found
            source = self._read(_FIFO_SOURCE)
            for _ in range(FIFO_SAMPLES if source & 0x40 else source & 0x1F):
                self._i2c.readfrom_mem_into(ADDRESS, _OUT | _MANY, self._sample)
                found.append(_vector(self._sample))
        except OSError:
            self._failed()
        return found

    def arm(self, pose: "Vector | None", is_well: bool, is_steady: bool, displaced_deg: int) -> bool:
        """Before a sleep. ``is_well``: it lies as in ``pose``; ``is_steady``: and nothing shakes it now."""
        try:
            if not self.is_ready and not self.start():
                return False
            if pose is not None and is_well:
                up, threshold = _upright(pose), _lies_wrong(pose)
                config = sum([_OR_HIGH[axis] for axis in range(3) if axis != up])
            else:
                threshold = config = 0
            self._set(_INT1_CONFIG, config, threshold)
            self._set(_INT2_CONFIG, sum(_OR_HIGH), _was_moved(displaced_deg))
            if is_steady:
                self._read(_REFERENCE)  # the filter takes the present sample as its zero
            self._read(_INT1_SOURCE)
            self._read(_INT2_SOURCE)
        except OSError:
            return self._failed()
        return True

    def temperature(self) -> "int | None":
        """Degrees; the chip's zero is 25 and only good to a few."""
        try:
            self._i2c.readfrom_mem_into(ADDRESS, _TEMPERATURE | _MANY, self._sample)
        except OSError:
            self._failed()
            return None
        high = self._sample[1]
        return 25 + (high - 256 if high >= 128 else high)

    def _set(self, at: int, config: int, threshold: int) -> None:
        """One generator, unless it stands so: writing it anew would begin its duration anew."""
        if self._read(at) == config and self._read(at + 2) == threshold and self._read(at + 3) == DURATION:
            return
        self._write(at, b"\x00")
        self._write(at + 2, bytes((threshold,)))
        self._write(at + 3, bytes((DURATION,)))
        self._write(at, bytes((config,)))

    def _read(self, register: int) -> int:
        self._i2c.readfrom_mem_into(ADDRESS, register, self._byte)
        return self._byte[0]

    def _write(self, register: int, data: bytes) -> None:
        self._i2c.writeto_mem(ADDRESS, register, data)

    def _failed(self) -> bool:
        self.errors += 1
        self.is_ready = False
        return False


def _upright(pose: "Vector") -> int:
    """The axis that carries the weight; the other two lie in the plane of the cover."""
    sizes = [abs(part) for part in pose]
    return sizes.index(max(sizes))


def _lies_wrong(pose: "Vector") -> int:
    """Steps above the larger of the two lateral parts."""
    sizes = sorted([abs(part) for part in pose])
    return min((sizes[1] + _MARGIN_MG) // _THRESHOLD_MG + 1, _THRESHOLD_MAX)


def _was_moved(displaced_deg: int) -> int:
    """Steps that a turn by so many degrees leaves on one axis at least (12.3 mg a degree, on two), less a fifth."""
    return max(1, min(displaced_deg * 99 // 160, 6))


def _vector(data: bytearray) -> "Vector":
    """Ten bits, left-justified: 4 mg a step."""
    out = []
    for at in (0, 2, 4):
        value = data[at] >> 6 | data[at + 1] << 2
        out.append(4 * (value - 1024 if value >= 512 else value))
    return out[0], out[1], out[2]
