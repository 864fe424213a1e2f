"""The LIS3DH that watches a cover while the node sleeps, at one sample a second and 2 uA.

Both interrupt generators, one for each way in which a cover can come to lie wrong. A vehicle shakes it for less than
two seconds, so for at most two samples; either generator wants more than four in a row.

1, "lies wrong": one of the two lateral axes is beyond a threshold a little above what the learned pose has there,
   or above where the cover has settled near that threshold. It sees what comes so slowly that the other one grows used
   to it. Off while the cover does lie wrong.
2, "was moved": behind the high-pass filter, on all three axes, whatever the pose is. At one sample a second the filter
   forgets with a time constant of a minute: a step of 5 degrees stays above the threshold long enough, a settling of
   less than 2 degrees a minute does not show.

Both are latched and share the pin. The FIFO holds the last 32 samples, so a node that was woken knows what happened
before, and when.
"""

from array import array

from firmware.sensors.lis3dh import FIFO_DEPTH, X_HIGH, Y_HIGH, Z_HIGH, Lis3dh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.cover import Vector
    from firmware.hal import I2c

PERIOD_MS = 1000
_DURATION_MS = 4000
# Generator 1 leaves this much to road noise, warmth and the ageing of the chip.
_MARGIN_MG = 80
_HIGH = (X_HIGH, Y_HIGH, Z_HIGH)
_MOVED = X_HIGH | Y_HIGH | Z_HIGH


class Guard:
    def __init__(self, i2c: "I2c") -> None:
        self._chip = chip = Lis3dh(i2c, 1, fifo=True, slow_filter=True)
        chip.wake_on(1, X_HIGH, 2000, _DURATION_MS)  # until arm() knows better
        chip.wake_on(2, _MOVED, 48, _DURATION_MS, filtered=True)
        self._samples = array("h", bytes(6 * FIFO_DEPTH))
        self._drained = 0  # how many there were the last time there were any
        chip.adopt()

    @property
    def errors(self) -> int:
        return self._chip.errors

    def drain(self) -> int:
        """How many samples have come since the last call; none when the chip does not answer."""
        count = self._chip.drain(self._samples)
        self._drained = count or self._drained
        return count

    def sample(self, index: int) -> "Vector":
        """One of those, the oldest first, in milli-g."""
        samples = self._samples
        return samples[3 * index], samples[3 * index + 1], samples[3 * index + 2]

    def arm(self, pose: "Vector | None", is_well: bool, is_steady: bool, displaced_deg: int) -> None:
        """Before a sleep. ``is_well``: it lies as in ``pose``; ``is_steady``: and nothing shakes it now."""
        chip = self._chip
        if pose is not None and is_well:
            sizes = [abs(part) for part in pose]
            up = sizes.index(
                max(sizes)
            )  # this axis carries the weight, the others lie in the plane of the cover
            beyond = sorted(sizes)[1]
            if is_steady and self._drained:
                # What has settled near the threshold, or lies beyond it and is well all the same, would end each sleep.
                lies = self.sample(self._drained - 1)
                now = max([abs(lies[axis]) for axis in range(3) if axis != up])
                if now > beyond + _MARGIN_MG // 2:
                    beyond = now
            chip.retune(1, _MOVED & ~_HIGH[up], beyond + _MARGIN_MG)
        else:
            chip.retune(1, 0, 2000)
        chip.retune(2, _MOVED, was_moved_mg(displaced_deg))
        if is_steady:
            chip.settle()
        self.release()

    def release(self) -> None:
        """Let go of the pin: what is latched was seen."""
        self._chip.sources()


def was_moved_mg(displaced_deg: int) -> int:
    """What a turn by so many degrees leaves on one axis at least (12.3 mg a degree, on two), less a fifth."""
    return max(16, min(displaced_deg * 99 // 10, 96))
