"""Runs on both interpreters: cover.py against the truth file, and its angles against known ones.

micropython tests/firmware/cover_truth.py

A case of truth/cover.json: the settings (tilt in degrees, hold in seconds, displacement in degrees), the learned pose,
the alarms raised before, samples as [count, x, y, z] in milli-g, one a second (a negative count: so many seconds
asleep, of which the FIFO keeps nothing), and the events expected as [second, code, state, detail], to the second.
"""

import json
import sys

sys.path.insert(0, ".")

from firmware.cover import Cover, angle_cdeg
from firmware.cover_pose import Learner

TRUTH = "tests/firmware/truth/cover.json"
# Vector, vector, hundredths of a degree.
ANGLES = (
    ((0, 0, 1000), (0, 0, 1000), 0),
    ((0, 0, 1000), (0, 0, -1000), 18000),
    ((0, 0, 1000), (1000, 0, 0), 9000),
    ((0, 0, 1000), (0, 259, 966), 1501),
    ((0, 0, 1000), (-87, 0, 996), 499),
    ((577, 577, 577), (-577, 577, 577), 7053),
    ((1000, 0, 50), (1000, 0, -50), 573),
    ((-600, 800, 0), (600, -799, 36), 17794),
)
ANGLE_ERROR_CDEG = 5


def told(case):
    """[second, code, state, detail] of every change, each applied at once."""
    pose = None if case["pose"] is None else tuple(case["pose"])
    cover = Cover(pose)
    cover.limits(*case["settings"])
    cover.restore(case["raised"])
    events = []
    at_s = 0
    for count, x, y, z in case["samples"]:
        if count < 0:
            kept = cover.pack()
            cover = Cover(pose)
            cover.limits(*case["settings"])
            cover.restore(case["raised"])
            cover.unpack(kept)
            at_s -= count
        for _ in range(count):
            cover.feed(at_s, (x, y, z))
            for change in tuple(cover.changes):
                events.append([at_s, change.code, change.state, change.detail])
                cover.applied(change)
            at_s += 1
    return events


def problems():
    """One line for each thing that is not as it should be."""
    found = []
    for a, b, angle in ANGLES:
        for one, other in ((a, b), (b, a)):
            if abs(angle_cdeg(one, other) - angle) > ANGLE_ERROR_CDEG:
                found.append(f"{one} to {other} is {angle_cdeg(one, other)}, not {angle}")
    with open(TRUTH) as file:
        cases = json.load(file)
    for case in cases:
        events = told(case)
        if events != case["events"]:
            found.append(f"{case['name']}: told {events}, expected {case['events']}")
    if _learn([(0, 0, 1000)] * 12) != (0, 0, 1000):
        found.append("a still cover is not learned")
    if _learn([(0, 0, 1000), (0, 0, 1300)] * 12) is not None:
        found.append("a shaking cover is learned")
    if _learn([(4 * i, 0, 1000) for i in range(60)]) is not None:
        found.append("a turning cover is learned")
    return found


def _learn(samples):
    learner = Learner()
    pose = None
    for sample in samples:
        pose = pose or learner.feed(sample)
    return pose


if __name__ == "__main__":
    for line in problems():
        print(line)
    print("done")
