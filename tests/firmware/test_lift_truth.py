"""The detectors of a lift against a recorded truth, on CPython and on the real MicroPython."""

from __future__ import annotations

import json
import zlib
from functools import cache
from typing import Any

from tests.firmware.lift_play import play
from tests.firmware.make_lift_truth import TRUTH
from tests.wire.interpreters import micropython

TRIP = 32
RAISED = 1


@cache
def truth() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((TRUTH / "lift.json").read_text(encoding="utf-8"))
    return loaded


@cache
def data() -> bytes:
    return zlib.decompress((TRUTH / "lift.bin").read_bytes())


def test_every_trip_and_every_fault_of_the_truth_is_told() -> None:
    told, _ = play(data(), truth()["rated_mm_s"])
    trips = [(number / 10, detail) for number, _, code, _, detail in told if code == TRIP]
    assert len(trips) <= len(truth()["trips"]) + 2, "a movement of less than a metre may be one as well"
    for _, end_s, from_floor, to_floor in truth()["trips"]:
        hits = [detail[:2] for told_s, detail in trips if end_s < told_s < end_s + 9]
        assert hits == [[from_floor, to_floor]]
    for name, code, at_s, until_s in truth()["faults"]:
        hits = [
            number
            for number, _, told_code, state, _ in told
            if told_code == code and state == RAISED and at_s <= number / 10 <= until_s
        ]
        assert hits, name


def test_what_is_told_is_what_was_told_when_the_truth_was_recorded() -> None:
    """Every detail of every change: distances, speeds, floors."""
    told, lift = play(data(), truth()["rated_mm_s"])
    assert told == truth()["told"]
    assert lift.floors.heights == truth()["heights"]


def test_micropython_tells_the_same_and_allocates_nothing_per_batch() -> None:
    printed = json.loads(micropython("tests/firmware/mpy_lift.py"))
    assert printed["told"] == truth()["told"]
    assert printed["heights"] == truth()["heights"]
    assert printed["heap"] == [0, 0], "bytes of 200 batches at rest, and of 200 that move"
