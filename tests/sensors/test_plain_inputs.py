"""Current loop, contacts and the ultrasonic level sensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual.chips.ultrasonic import Ultrasonic as Chip
from firmware.sensors.contact import Contact
from firmware.sensors.loop import BROKEN_WIRE, NO_FAULT, OVER_RANGE, Loop
from firmware.sensors.ultrasonic import Ultrasonic
from hil_tests.world.sim_hal import LocalClock, SondeLine, _Ticks, _Uart
from tests.sensors.bench import START_MS, since_start

if TYPE_CHECKING:
    from collections.abc import Iterator


class Hal:
    """The inputs of a node on a clock of its own; `contact` gives the level of a pin at a time in milliseconds."""

    def __init__(self) -> None:
        self.local = LocalClock(lambda: START_MS)
        self.clock = _Ticks(self.local, 0.0)
        self.mv = 0
        self.edges: list[int] = []  # at which the pin changes, from low

    def read_mv(self, channel: str) -> int:
        assert channel == "loop"
        return self.mv

    def read_pin(self, name: str) -> int:
        now_ms = self.local.now_ms() - START_MS
        return sum(edge <= now_ms for edge in self.edges) % 2


def measured(sensor: Any, clock: LocalClock) -> int | None:
    readings: list[int | None] = [12345]
    waits: Iterator[int] = sensor.measure(readings)
    for wait_ms in waits:
        clock.spend(wait_ms)
    return readings[0]


@pytest.mark.parametrize(
    ("ua", "reading", "fault"),
    [
        (0, None, BROKEN_WIRE),
        (3590, None, BROKEN_WIRE),
        (3600, -125, NO_FAULT),  # NE 43: under its scale a transmitter still measures
        (4000, 0, NO_FAULT),
        (12_000, 2500, NO_FAULT),
        (20_000, 5000, NO_FAULT),
        (20_500, 5156, NO_FAULT),
        (21_000, 5313, NO_FAULT),
        (21_010, None, OVER_RANGE),
        (30_000, None, OVER_RANGE),
    ],
)
def test_a_loop_is_a_straight_line_between_two_faults(ua: int, reading: int | None, fault: int) -> None:
    """A level transmitter of 0 to 5 m, in millimetres."""
    hal = Hal()
    hal.mv = ua // 10
    loop = Loop(hal, 0, 5000)  # type: ignore[arg-type]
    assert measured(loop, hal.local) == reading
    assert loop.fault == fault
    assert loop.errors == (reading is None)


def test_a_scale_may_begin_anywhere_and_fall() -> None:
    hal = Hal()
    hal.mv = 1200
    assert measured(Loop(hal, -400, 850), hal.local) == 225  # type: ignore[arg-type]
    assert measured(Loop(hal, 1000, 0), hal.local) == 500  # type: ignore[arg-type]


def test_a_contact_counts_once_it_has_held() -> None:
    hal = Hal()
    contact = Contact(hal, "float", hold_ms=100)  # type: ignore[arg-type]
    # Bounces, holds from 1030 on, bounces again at its end, and a spike that is none of its changes.
    hal.edges = [1000, 1005, 1010, 1018, 1030, 3000, 3010, 3020, 5000, 5090]
    changes = []
    state = 0
    for now_ms in range(0, 8000, 5):
        if contact.poll() != state:
            state = contact.state
            changes.append((now_ms, state))
        hal.local.spend(5)
    assert [state for _, state in changes] == [1, 0]
    assert 1130 <= changes[0][0] <= 1140
    assert 3120 <= changes[1][0] <= 3130


@pytest.mark.parametrize(
    ("edges", "closed", "reading"), [([], 1, 0), ([10], 1, 1), ([10], 0, 0), ([10, 60], 1, 0)]
)
def test_a_contact_as_a_reading_waits_until_it_is_sure(edges: list[int], closed: int, reading: int) -> None:
    hal = Hal()
    contact = Contact(hal, "door", hold_ms=100, closed=closed)  # type: ignore[arg-type]
    hal.edges = edges
    hal.local.spend(20)
    assert measured(contact, hal.local) == reading


class Level:
    def __init__(self, mm: float = 1953.0, noise_mm: float = 1.5, seed: int = 1) -> None:
        self.clock = LocalClock(lambda: START_MS)
        self.line = SondeLine(self.clock)
        self.mm = mm
        self.chip = Chip(lambda t: self.mm + 0.0 * since_start(t), seed=seed, noise_mm=noise_mm)
        self.chip.connect(self.line)
        self.driver = Ultrasonic(_Uart(self.clock, self.line, self.chip), 4000)

    def measure(self) -> int | None:
        return measured(self.driver, self.clock)


def test_the_frame_of_the_data_sheet_is_1953_mm() -> None:
    level = Level(noise_mm=0.0)
    assert level.chip._frame(0.0) == b"\xff\x07\xa1\xa7"
    assert level.measure() == 4000 - 1953
    assert level.driver.errors == level.driver.garbled == 0


def test_what_was_sent_before_the_measurement_is_not_a_part_of_it() -> None:
    level = Level(noise_mm=0.0)
    level.clock.spend(10_000)
    level.mm = 500.0
    assert level.measure() == 3500


def test_a_frame_that_begins_in_the_middle_of_the_stream_is_found() -> None:
    level = Level(noise_mm=0.0, mm=0x02FF)  # an FF in the middle of each frame
    level.driver._forget()
    level.line.received += b"\xff\xff\x02"
    distances: list[int] = []
    for _ in range(8):
        level.clock.spend(100)
        level.driver._collect(distances)
    assert set(distances) == {0x02FF}
    assert len(distances) >= 4


@pytest.mark.parametrize("seed", range(10))
def test_noise_on_the_line_costs_frames_and_never_a_wrong_level(seed: int) -> None:
    level = Level(seed=seed)
    level.chip.fault = "garbage"
    found = [level.measure() for _ in range(20)]
    assert found.count(None) >= 19, f"seed {seed}: {found}"
    assert level.driver.errors >= 19
