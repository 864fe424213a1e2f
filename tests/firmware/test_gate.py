"""What ends a trial, on a virtual clock: 72 hours and 20 frames of silence, an hour without health; over restarts too.

And what an installation does with a spare slot that is not empty, or with too little room.
"""

from __future__ import annotations

from struct import calcsize
from typing import Any

import pytest

from firmware import gate, pending, records, slots, update
from firmware.durable import Document
from firmware.hal import CAUSE_DEEP_SLEEP, CAUSE_HARD_RESET, CAUSE_POWER_ON, CAUSE_WATCHDOG
from hil_tests.world.cutflash import BLOCK_BYTES, CutFlash
from hil_tests.world.flash import LittleFs
from protocols.wire import bundle, cbor, outcomes
from tests.firmware import install_world as world
from tests.firmware.install_cases import files
from tests.firmware.install_cases import update as update_of

SEQUENCE = 7


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.gc, "collect", lambda: None)  # here it is 50 ms for each of some hundred looks


class Trial:
    """A node whose release is on trial in /b: a chip, and one life of it after the other."""

    def __init__(self) -> None:
        self.flash = CutFlash(bytearray(b"\xff" * (32 * BLOCK_BYTES)))
        self.app: Any = world.Part(self.flash, 0, 16)
        self.state: Any = world.Part(self.flash, 16, 16)
        for part in (self.app, self.state):
            LittleFs.mkfs(part)
        found = pending.Pending(LittleFs(self.state))
        found.f[pending.PHASE], found.f[pending.SLOT] = pending.ON_TRIAL, 1
        found.f[pending.SEQUENCE] = SEQUENCE
        found.silent = world.SILENT
        found.save()
        slots.Slots(LittleFs(self.app)).save(0, 1, 0, 0, SEQUENCE)
        self.hours = 0

    def start(self, cause: int = CAUSE_HARD_RESET, slept_h: int = 0) -> Any:
        """A node at the beginning of a life. ``slept_h``: what its clock knows to have passed."""
        app = LittleFs(self.app)
        if cause != CAUSE_DEEP_SLEEP:
            slots.counted(slots.Slots(app))
        hal: Any = world.Hal(LittleFs(self.state), app, 1)
        hal.reset_cause = cause
        hal.clock.seconds = slept_h * 3600
        assert update.begin(hal)
        node: Any = world.Node(hal, True)
        node.uplink.must_hello = True  # nobody answers
        node.health.frames_sent = 0
        return node

    def pass_hours(self, node: Any, hours: int, frames: int = 0, slowest_ms: int = 0) -> bool:
        """Whether it was rolled back in these."""
        for _ in range(hours):
            try:
                gate.look(node, slowest_ms)
            except world.Reset:
                return True
            node.hal.clock.seconds += 3600
            node.health.frames_sent += frames
            self.hours += 1
        return False

    @property
    def record(self) -> list[int]:
        return slots.Slots(LittleFs(self.app)).record

    @property
    def outcome(self) -> int:
        return int(pending.Pending(LittleFs(self.state)).f[pending.OUTCOME])


def test_silence_alone_ends_a_trial_after_72_hours_and_20_frames() -> None:
    trial = Trial()
    assert trial.pass_hours(trial.start(), 200, frames=1)
    assert (trial.hours, trial.outcome) == (72, outcomes.SILENT)
    assert trial.record[:2] == [0, slots.NONE]


def test_a_node_that_hardly_sends_is_given_its_20_frames() -> None:
    trial = Trial()
    node = trial.start()
    assert not trial.pass_hours(node, 120, frames=0)
    node.health.frames_sent = gate.SILENT_TRIES - 1
    assert not trial.pass_hours(node, 24)
    node.health.frames_sent = gate.SILENT_TRIES
    assert trial.pass_hours(node, 2)


def test_a_gateway_that_is_off_for_a_day_ends_nothing() -> None:
    trial = Trial()
    node = trial.start()
    assert not trial.pass_hours(node, 24, frames=20)
    node.uplink.must_hello = False
    gate.look(node, 0)
    assert gate.look(node, 0) == -1
    assert trial.record[:2] == [1, slots.NONE]
    assert [cbor.loads(event)[4] for event in node.outbox.events] == [[SEQUENCE, outcomes.INSTALLED]]


def test_hours_and_frames_are_counted_over_restarts() -> None:
    trial = Trial()
    for _ in range(3):
        assert not trial.pass_hours(trial.start(CAUSE_WATCHDOG), 23, frames=1)
    assert trial.pass_hours(trial.start(), 12, frames=1)
    assert trial.outcome == outcomes.SILENT
    assert 72 <= trial.hours <= 72 + 4, "the last hour of a life is lost with it"


def test_they_are_counted_over_deep_sleep_and_when_it_forgets() -> None:
    trial = Trial()
    assert not trial.pass_hours(trial.start(), 1, frames=2)
    for wake in range(1, 40):
        node = trial.start(CAUSE_DEEP_SLEEP, slept_h=wake)
        node.health.frames_sent = 2 * wake
        assert not trial.pass_hours(node, 1, frames=2)
    node = trial.start(CAUSE_DEEP_SLEEP)  # its clock begins anew
    assert trial.pass_hours(node, 80, frames=2)
    assert trial.outcome == outcomes.SILENT
    assert trial.record[slots.STARTS] == 1, "a waking is no start"
    assert 72 <= trial.hours <= 74


@pytest.mark.parametrize("fault", ["mute", "partly", "heap", "slow", "unmeasured"])
def test_what_is_not_healthy_in_an_hour_is_rolled_back(fault: str) -> None:
    trial = Trial()
    node = trial.start()
    node.uplink.must_hello = False
    if fault == "mute":
        node.sampler.values = [None, None, None]
    elif fault == "partly":  # what is its own, like the supply, is not all that it has to say
        node.sampler.unfitted = list
    elif fault == "heap":
        node.health.heap_free_min = gate.HEAP_MIN - 1
    elif fault == "unmeasured":
        node.has_measured = False
    assert trial.pass_hours(node, 5, slowest_ms=gate.STEP_MAX_MS + (fault == "slow"))
    assert (trial.hours, trial.outcome) == (1, outcomes.UNHEALTHY)
    assert node.asked, "it measured again and again"


@pytest.mark.parametrize(
    ("before", "flags", "values", "is_kept"),
    [
        (0b100, 0, [7, None, None], True),
        (0b100, 0, [7, None, 8], True),  # it came alive
        (0b100, 0, [None, None, 8], False),  # not the one that was silent
        (0b100, 0, [None, None, None], False),
        (0b101, 0, [None, None, None], True),
        (0, 0, [7, None, 8], True),
        (0, 0, [7, None, None], False),
        # Received by a release that did not say which: as it would have had it.
        (0, pending.MUTE, [None, None, None], True),
        (0, pending.PARTLY, [7, None, None], True),
        (0, pending.PARTLY, [None, None, None], False),
    ],
)
def test_sensors_that_were_silent_before_may_be_silent_after_it(
    before: int, flags: int, values: list[int | None], is_kept: bool
) -> None:
    """The second series is not fitted."""
    trial = Trial()
    found = pending.Pending(LittleFs(trial.state))
    found.silent, found.f[pending.FLAGS] = before, flags
    found.save()
    node = trial.start()
    node.uplink.must_hello = False
    node.sampler.values = values
    gate.look(node, 0)
    assert trial.record[:2] == ([1, slots.NONE] if is_kept else [0, 1])


def test_what_was_silent_is_read_by_a_release_before_it_as_nothing_and_its_form_as_nothing_silent() -> None:
    fs = LittleFs(Trial().state)
    hal: Any = world.Bag(state_fs=fs)
    assert pending.received(hal, 0b101) is False, "one is on trial"
    found = pending.Pending(fs)
    found.f[pending.PHASE] = pending.NOTHING
    found.save()
    assert pending.received(hal, 0b101)
    document = Document(fs, pending.NAME)
    kept = document.load()
    assert kept is not None
    assert (len(kept), kept[-2:]) == (calcsize(pending._FIELDS) + 2, b"\5\0")
    box: Any = None  # where an event would be kept
    # As a release takes it that knows only of an event.
    records.finish(box, kept[calcsize(pending._FIELDS) :])
    document.save(kept[:-2])  # and what it writes
    assert pending.Pending(fs).silent == 0
    event = bytes(range(40))
    found = pending.Pending(fs)
    found.save(event)
    found = pending.Pending(fs)
    assert (found.silent, found.intent) == (0, event), "an event is no such thing"


def test_three_starts_that_come_to_nothing_and_the_next_one_runs_what_was() -> None:
    trial = Trial()
    chosen = [slots.counted(slots.Slots(LittleFs(trial.app))) for _ in range(4)]
    assert chosen == [1, 1, 1, 0]


def test_power_that_fails_now_and_then_while_nobody_answers_ends_no_trial() -> None:
    trial = Trial()
    for _ in range(12):
        assert not trial.pass_hours(trial.start(CAUSE_POWER_ON), 2, frames=1)
    assert trial.record[:3] == [0, 1, 0]


class Flashed(world.Chip):
    """A node of release 1 to which release 2 comes, with something else in `app`."""

    boot: dict[str, bytes] = {}  # noqa: RUF012

    def __init__(self, others: dict[str, bytes]) -> None:
        blocks = (world.APP_BLOCKS + world.STATE_BLOCKS) * BLOCK_BYTES
        super().__init__(LittleFs, CutFlash(bytearray(b"\xff" * blocks)), (1, 2, world.OK))
        for part in (self._app, self._state):
            LittleFs.mkfs(part)
        self.fs = LittleFs(self._app)
        for path, data in [*((f"a/{path}", data) for path, data in files(1).items()), *others.items()]:
            with bundle.Tree(self.fs, "").create(path) as file:
                file.write(data)
        for number in (1, 2):
            made = Packed(files(number))
            world.WHOLE[number] = bundle.digest(made)
        self.before = bytes(self.flash.image[: world.APP_BLOCKS * BLOCK_BYTES])
        self.receive(update_of(None, files(2), 2), 1)
        self.settle()

    @property
    def told(self) -> int:
        return int(cbor.loads(self.events[0])[4][1])


def Packed(made: dict[str, bytes]) -> bundle.Tree:  # noqa: N802
    """A tree of its own with these files."""
    flash = CutFlash(bytearray(b"\xff" * (world.APP_BLOCKS * BLOCK_BYTES)))
    part: Any = world.Part(flash, 0, world.APP_BLOCKS)
    LittleFs.mkfs(part)
    fs = LittleFs(part)
    fs.mkdir("/x")
    tree = bundle.Tree(fs, "/x")
    for path, data in made.items():
        with tree.create(path) as file:
            file.write(data)
    return tree


def test_what_lies_in_the_spare_slot_can_not_shadow_a_module() -> None:
    """MicroPython would take firmware/main.py before main.mpy, and a folder before both."""
    stale = {
        "b/firmware/main.py": b"raise ValueError",
        "b/firmware/large/__init__.py": b"1",
        "b/old/er/x.py": b"2",
    }
    chip = Flashed(stale)
    assert (chip.runs, chip.told) == (2, outcomes.INSTALLED)
    assert sorted(path for path, _ in bundle.Tree(chip.fs, "/b").walk()) == sorted(files(2))


def test_without_room_it_is_refused_before_anything_is_written() -> None:
    """With a block less each time: it is installed, or refused for space with every bit of `app` as it was."""
    found = []
    for free in range(45, 20, -3):
        chip = Flashed({"ballast": bytes((world.APP_BLOCKS - free) * BLOCK_BYTES)})
        found.append((chip.runs, outcomes.OUTCOMES[chip.told][0]))
        if chip.runs == 1:
            assert chip.before == bytes(chip.flash.image[: world.APP_BLOCKS * BLOCK_BYTES])
    assert set(found) == {(2, "installed"), (1, "space")}
    assert found == sorted(found, reverse=True), "never again once there was too little"
