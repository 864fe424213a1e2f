"""How the pose of a cover is learned. On the heap only while it is."""

from firmware.cover import angle_cdeg, is_gravity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware.cover import Vector

# Samples that a pose is made from, and how far each may lie from their mean: the noise of the chip, not a cover that
# somebody is still putting down.
LEARN_SAMPLES = 12
_LEARN_CDEG = 100


class Learner:
    """Collects samples until the last LEARN_SAMPLES of them say the same. `refused` counts beginnings anew."""

    def __init__(self) -> None:
        self._samples: "list[Vector]" = []
        self.refused = 0

    def feed(self, sample: "Vector") -> "Vector | None":
        """The pose, once there is one."""
        if not is_gravity(sample):
            self._samples = []
            self.refused += 1
            return None
        self._samples.append(sample)
        if len(self._samples) < LEARN_SAMPLES:
            return None
        pose = _mean(self._samples)
        for one in self._samples:
            if angle_cdeg(one, pose) > _LEARN_CDEG:
                del self._samples[0]
                self.refused += 1
                return None
        return pose


def _mean(samples: "Sequence[Vector]") -> "Vector":
    count = len(samples)
    sums = [0, 0, 0]
    for sample in samples:
        for axis in range(3):
            sums[axis] += sample[axis]
    half = count // 2
    return (sums[0] + half) // count, (sums[1] + half) // count, (sums[2] + half) // count
