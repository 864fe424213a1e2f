"""A node that sleeps: what a wake costs, what it remembers, and what happens when that is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.chips.registers import FAULTS
from firmware.cover_watch import LOOK_S
from firmware.hal import CAUSE_SOFT_RESET
from firmware.nap import LISTEN_MS
from firmware.settings import DISPLACED_DEG, INTERVAL_S, REPORT_S, TILT_DEG
from firmware.uplink import EVENT_TRIES
from hil_tests.world.street_cover import DAY_S
from protocols.wire import codes
from protocols.wire.messages import Command, Event, Hello, Readings, Result, Settings, Status
from protocols.wire.readings import MISSING
from tests.firmware.street import START_MS
from tests.world.cover_traffic import CoverInTraffic

if TYPE_CHECKING:
    from collections.abc import Iterator

POSE_LEARNED, TILTED, LEVEL_HIGH, PROBE_FAULT, SUPPLY_LOW = 20, 6, 9, 4, 5
SEED = 3


class Quiet(CoverInTraffic):
    """A cover in a street without traffic, whose gateway may add a command to its next answer."""

    def __init__(self, drift: float = 0.0) -> None:
        self.command: Command | Settings | None = None
        self.frames = 0
        self.heard_s: dict[int, float] = {}  # when each set came
        self.asleep_after_ms: list[int] = []  # after the last frame, either way, of a life that had one
        self._moved_ms = -1
        super().__init__(SEED, Lis3dh, trucks_a_day=0, drift=drift)
        answers = self.peer._replies

        def with_command(epoch: Any, message: Any) -> list[bytes]:
            out = answers(epoch, message)
            if isinstance(message, Readings):
                self.heard_s.setdefault(message.seq, self.now_ms / 1000)
            if self.command is not None and isinstance(message, Readings):
                out.append(epoch.seal(self.command._replace(answers=self.peer.latest_piv)))
                self.command = None
            return out

        self.peer._replies = with_command  # type: ignore[method-assign]  (a gateway with something to say)
        fall_asleep = self.station._fall_asleep

        def timed(asked: Any) -> int:
            if self._moved_ms >= 0:
                self.asleep_after_ms.append(self.station.clock.now_ms() - self._moved_ms)
                self._moved_ms = -1
            return fall_asleep(asked)

        self.station._fall_asleep = timed  # type: ignore[method-assign]  (watched on the way)

    def _up(self, data: bytes) -> None:
        self.frames += 1
        self._moved_ms = self.station.clock.now_ms()
        super()._up(data)

    def _send(self, data: bytes) -> None:
        super()._send(data)
        if data:
            self._moved_ms = self.station.clock.now_ms()

    @property
    def is_asleep(self) -> bool:
        return self.station.sleep is not None

    def nudge(self) -> None:
        """Something wakes it that turns out to be nothing."""
        self.station.set_pin("motion", 1)
        self.station.set_pin("motion", 0)
        self.run(5)

    def turn(self, to_deg: float, azimuth_deg: float = 0) -> None:
        """Somebody turns the cover, in a second."""
        self.motion.turn(self.now_ms / 1000, to_deg, azimuth_deg, 1)
        self.chip.changed()

    def rows(self) -> list[Any]:
        """The readings of each set, in order."""
        return [content[3] for content in self._sets()]

    def flags(self) -> list[Any]:
        """Their quality flags."""
        return [content[4] for content in self._sets()]

    def _sets(self) -> list[Any]:
        seqs = set(self.heard_s)
        return [content for (_, seq), content in sorted(self.peer.records.items()) if seq in seqs]

    def codes(self) -> list[tuple[int, int]]:
        return [(event.code, event.state) for event in self.peer.of(Event)]


@pytest.fixture
def street() -> Iterator[Quiet]:
    quiet = Quiet()
    quiet.run(4 * 3600)
    assert quiet.is_asleep
    assert quiet.codes() == [(POSE_LEARNED, 2)]
    yield quiet
    assert quiet.peer.refused == {}


def test_a_wake_that_was_nothing_writes_nothing_and_says_nothing(street: Quiet) -> None:
    flash = street.station.flash
    before = (flash.progs, flash.erases, len(street.peer.messages))  # type: ignore[attr-defined]  (a Flash)
    wakes = street.wakes
    for _ in range(100):
        street.nudge()
    assert street.wakes == wakes + 100
    assert (flash.progs, flash.erases, len(street.peer.messages)) == before  # type: ignore[attr-defined]


def test_wakes_are_no_boots_and_burn_no_pivs(street: Quiet) -> None:
    for _ in range(200):
        street.nudge()
    street.run(2 * DAY_S)
    health = street.peer.of(Status)[-1].health
    assert health[0] == 1, "boots"
    assert health[17] >= 200, "wakes"
    assert 0 < health[18] < 600, "seconds awake"
    assert len(street.peer.of(Hello)) == 2, "those of the join"
    pivs = sorted(street.peer.epoch.pivs)
    assert pivs == list(range(pivs[-1] + 1)), "no block was given up"


def test_uptime_and_time_of_day_go_on_over_sleeps_whose_clock_is_five_percent_off() -> None:
    street = Quiet(drift=0.05)
    street.run(4 * DAY_S)
    uptime_s = street.peer.of(Status)[-1].health[1]
    # The first hour was counted by a clock nobody had checked.
    assert abs(uptime_s - (street.peer.of(Status)[-1].time - START_MS // 1000)) < 200
    errors = [one.time - street.heard_s[one.seq] for one in street.peer.of(Readings)[1:]]
    assert max(abs(error) for error in errors) <= 30, errors


def test_a_wake_without_its_cache_is_a_boot_and_repeats_no_piv(street: Quiet) -> None:
    street.station.rtc.lose_memory()
    street.nudge()
    street.run(DAY_S)
    assert street.peer.of(Status)[-1].health[0] == 2
    assert len(street.peer.of(Hello)) == 3
    pivs = sorted(street.peer.epoch.pivs)
    assert len(pivs) == len(set(pivs))
    assert pivs != list(range(pivs[-1] + 1)), "a new block"


def test_what_a_sleep_left_is_used_once(street: Quiet) -> None:
    street.nudge()
    # Awake it has taken its counters; a soft reset now keeps the RTC memory, which must not give them again.
    street.station.set_pin("motion", 1)
    street.station.step()
    assert street.station.node is not None
    street.station._start(CAUSE_SOFT_RESET)
    street.station.set_pin("motion", 0)
    street.run(60)
    assert len(street.peer.of(Hello)) == 3  # the peer fails the test when a PIV comes twice


def test_a_deaf_gateway_is_left_alone_and_hears_everything_later(street: Quiet) -> None:
    street.peer.deaf = True
    before = street.frames
    street.turn(40)
    street.run(120)
    assert street.is_asleep
    assert street.frames - before == EVENT_TRIES
    street.run(6 * 3600)
    # After 10, 20 and 40 minutes, then hourly.
    assert street.frames - before <= 10 * EVENT_TRIES, "it asks less and less often"
    street.peer.deaf = False
    street.run(DAY_S)
    assert (TILTED, 1) in street.codes()
    seqs = sorted(street.peer.seqs())
    assert seqs == list(range(1, seqs[-1] + 1))


def test_a_command_is_heard_in_the_listening_window_and_learns_the_pose_anew(street: Quiet) -> None:
    street.turn(10, 90)
    street.command = Command(0, 1, 60, codes.LEARN, None)
    street.run(DAY_S)
    assert [result.outcome for result in street.peer.of(Result)] == [0]
    learned = [event for event in street.peer.of(Event) if event.code == POSE_LEARNED]
    assert len(learned) == 2
    assert learned[0].detail != learned[1].detail
    tilts = [row[0] for row in street.rows()[-2:]]
    assert 0 <= tilts[-1] < 15, f"tenths of a degree from the new pose: {tilts}"


def test_a_cover_that_can_learn_no_pose_sleeps_between_two_attempts_and_learns_when_it_can() -> None:
    """A chip that reads no 1 g, a van: it must not be awake until its cell is empty."""
    street = Quiet()
    street.chip._offset = (0.0, 0.0, 0.3)
    asleep = 0
    for _ in range(36):
        street.run(600)
        asleep += street.is_asleep
    assert asleep >= 30
    assert not [event for event in street.peer.of(Event) if event.code == POSE_LEARNED]
    street.chip._offset = (0.0, 0.0, 0.0)
    street.run(LOOK_S + 600)
    assert [event for event in street.peer.of(Event) if event.code == POSE_LEARNED]


def test_a_cover_that_does_not_know_yet_how_it_lies_has_no_fault_and_one_whose_chip_is_silent_has() -> None:
    """In a van, or in the half minute before it has learned, sets without an angle follow each other."""
    street = Quiet()
    street.chip._offset = (0.0, 0.0, 0.3)
    street.command = Settings(0, 1, {INTERVAL_S: 600, REPORT_S: 600})
    street.run(2 * 3600)
    assert len(street.rows()) > 8
    assert {row[0] for row in street.rows()} == {None}
    assert street.codes() == []
    street.chip.fault = "absent"
    street.run(3600)
    assert street.codes() == [(PROBE_FAULT, 1)]
    street.chip.fault = None
    street.chip._offset = (0.0, 0.0, 0.0)
    street.run(LOOK_S + 600)
    assert sorted(street.codes()) == [(PROBE_FAULT, 0), (PROBE_FAULT, 1), (POSE_LEARNED, 2)]
    assert 0 <= street.rows()[-1][0] <= 5


@pytest.mark.parametrize("fault", FAULTS)
def test_an_accelerometer_that_fails_is_a_fault_and_the_days_go_on(fault: str) -> None:
    street = Quiet()
    street.run(4 * 3600)
    street.chip.fault = fault
    street.run(5 * DAY_S)
    sets = len(street.rows())
    assert sets >= 5
    assert {code for code, _ in street.codes()} <= {POSE_LEARNED, PROBE_FAULT}, street.codes()
    if fault in ("absent", "hangs", "garbage"):
        assert (PROBE_FAULT, 1) in street.codes()
        assert street.flags()[-1][0] == MISSING
        assert street.peer.of(Status)[-1].health[8] > 0, "counted"
    street.chip.fault = None
    street.run(3 * DAY_S)
    assert street.rows()[-1][0] is not None
    assert (PROBE_FAULT, 0) in street.codes() or fault not in ("absent", "hangs", "garbage")
    street.turn(30)
    street.run(60)
    assert street.codes()[-1] == (TILTED, 1), "it stands guard again"


def test_the_float_switch_raises_and_ends_and_does_not_keep_it_awake(street: Quiet) -> None:
    street.station.set_pin("float", 1)
    street.run(30)
    assert street.codes()[-1] == (LEVEL_HIGH, 1)
    assert street.is_asleep, "with the switch up"
    wakes = street.wakes
    street.run(3600)
    assert street.wakes - wakes <= 8, "one every ten minutes"
    street.station.set_pin("float", 0)
    street.run(1200)
    assert street.codes()[-1] == (LEVEL_HIGH, 0)


def test_it_listens_that_long_after_the_last_frame(street: Quiet) -> None:
    street.run(DAY_S)
    assert street.asleep_after_ms
    assert min(street.asleep_after_ms) >= LISTEN_MS
    assert max(street.asleep_after_ms) <= LISTEN_MS + 1500


def test_a_gateway_that_is_away_for_days_does_not_keep_it_awake(street: Quiet) -> None:
    """A status that is due can not be sent while nobody answers: it must not be waited for."""
    street.peer.deaf = True
    street.turn(40)
    # It tries at whole multiples of ten minutes, for half a minute: the looks must not keep step with that.
    looks = [_look(street, 613) for _ in range(3 * 141)]
    assert sum(looks) > 0.98 * len(looks), f"asleep at {sum(looks)} of {len(looks)} looks"


def test_a_street_without_a_gateway_does_not_keep_it_awake() -> None:
    street = Quiet()
    street.peer.deaf = True
    looks = [_look(street, 600) for _ in range(144)]
    assert sum(looks) > 0.97 * len(looks), f"asleep at {sum(looks)} of {len(looks)} looks"


def _look(street: Quiet, seconds: int) -> bool:
    street.run(seconds)
    return street.is_asleep


@pytest.mark.parametrize("azimuth_deg", [0, 60, 225])
def test_a_cover_that_settles_just_below_its_limit_does_not_wake_it_for_ever(azimuth_deg: int) -> None:
    for deg in (4.2, 4.7):
        street = Quiet()
        street.run(4 * 3600)
        street.turn(deg, azimuth_deg)
        street.run(1800)
        wakes = street.wakes
        street.run(3600)
        assert street.wakes - wakes <= 8, f"{deg} degrees"


def test_limits_beyond_the_guards_own_do_not_wake_it_for_ever(street: Quiet) -> None:
    street.command = Settings(0, 1, {TILT_DEG: 25, DISPLACED_DEG: 20})
    street.run(DAY_S)
    street.turn(12)
    street.run(600)
    wakes = street.wakes
    street.run(3600)
    assert street.wakes - wakes <= 8
    street.turn(40)
    street.run(60)
    assert street.codes()[-1] == (TILTED, 1)


def test_a_dead_accelerometer_whose_pin_is_high_does_not_wake_it_for_ever(street: Quiet) -> None:
    street.chip.fault = "absent"
    street.station.set_pin("motion", 1)
    wakes = street.wakes
    street.run(3600)
    assert street.wakes - wakes <= 8
    street.station.set_pin("float", 1)
    street.run(30)
    assert street.codes()[-1] == (LEVEL_HIGH, 1), "the float still wakes it"


@pytest.mark.parametrize("knows_time", [True, False])
def test_maintenance_ends_in_time_though_the_node_sleeps_and_tells_what_is_wrong(knows_time: bool) -> None:
    street = Quiet()
    if not knows_time:
        street.peer._replies = _timeless(street.peer._replies)  # type: ignore[method-assign]  (its clock is not set)
    street.run(4 * 3600)
    street.command = Command(0, 1, 60, codes.MAINTENANCE, 3600)
    while not street.peer.of(Result):
        street.run(60)
    begun_ms = street.now_ms
    street.turn(40)
    street.run(3000)
    assert street.codes()[-1] == (codes.IN_MAINTENANCE, 1)
    street.run(700 + 0.06 * 3600)
    assert street.codes()[-2:] == [(codes.IN_MAINTENANCE, 0), (TILTED, 1)], street.now_ms - begun_ms
    sets = len(street.rows())
    street.run(3600)
    assert len(street.rows()) - sets >= 5, "one every ten minutes, as while any alarm is raised"


def _timeless(replies: Any) -> Any:
    def answers(epoch: Any, message: Any) -> list[bytes]:
        return (
            replies(epoch, message._replace(tq=0)) if isinstance(message, Status) else replies(epoch, message)
        )

    return answers


def test_a_battery_alarm_shortens_the_wait_for_the_next_set(street: Quiet) -> None:
    """The gateway counts on the shorter interval as soon as an alarm is raised."""
    street.station.supply_mv = 3000
    while (SUPPLY_LOW, 1) not in street.codes():
        street.run(60)
    sets = len(street.rows())
    street.run(3600)
    assert len(street.rows()) - sets >= 5
