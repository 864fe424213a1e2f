"""The state machines of a manhole cover against their truth file, on CPython and on MicroPython."""

from __future__ import annotations

import math
import random

import pytest

from firmware.cover import Cover, angle_cdeg
from tests.firmware import cover_truth
from tests.wire.interpreters import micropython


def test_every_case_of_the_truth_file_is_told_to_the_second() -> None:
    assert cover_truth.problems() == []


def test_micropython_tells_the_same() -> None:
    assert micropython("tests/firmware/cover_truth.py").split() == ["done"]


def test_an_angle_is_right_to_five_hundredths_of_a_degree_and_needs_no_big_integer() -> None:
    seed = 20260801
    rng = random.Random(seed)
    worst = 0.0
    for _ in range(20_000):
        a, b = _vector(rng), _vector(rng)
        if rng.random() < 0.5:  # small angles are what matters
            b = (a[0] + rng.randint(-90, 90), a[1] + rng.randint(-90, 90), a[2] + rng.randint(-90, 90))
        worst = max(worst, abs(angle_cdeg(a, b) / 100 - _angle_deg(a, b)))
    print(f"angle_error_deg={worst:.3f} seed={seed}")
    assert worst <= 0.05


@pytest.mark.parametrize(("deg", "wait_s"), [(0, -1), (3, -1), (7, 20), (20, 1)])
def test_it_says_when_time_alone_may_change_something(deg: int, wait_s: int) -> None:
    cover = Cover((0, 0, 1000))
    turned = (round(1000 * math.sin(math.radians(deg))), 0, round(1000 * math.cos(math.radians(deg))))
    for at_s in range(100, 110):
        cover.feed(at_s, (0, 0, 1000))
    for at_s in range(110, 115):
        cover.feed(at_s, turned)
    # Five samples are four seconds.
    assert cover.wait_s(114) == wait_s


def test_a_learned_pose_ends_what_was_raised() -> None:
    cover = Cover((0, 0, 1000))
    cover.restore(0b101)
    cover.learned((0, 500, 866))
    assert [(change.code, change.state) for change in cover.changes] == [(6, 0), (8, 0)]
    cover.feed(1, (0, 500, 866))
    assert cover.angle_cdeg == 0


def _vector(rng: random.Random) -> tuple[int, int, int]:
    while True:
        parts = [rng.gauss(0, 1) for _ in range(3)]
        length = math.hypot(*parts)
        if length > 0.01:
            scale = rng.uniform(900, 1100) / length
            return round(parts[0] * scale), round(parts[1] * scale), round(parts[2] * scale)


def _angle_deg(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    cross = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    return math.degrees(math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(a, b, strict=True))))
