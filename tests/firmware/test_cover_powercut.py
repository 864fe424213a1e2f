"""A power cut at any flash operation leaves a cover with its old pose or its new one, and a new one is told."""

from __future__ import annotations

from typing import Any

from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.i2c import I2cBus
from firmware import records
from firmware.cover_watch import CoverWatch
from firmware.durable import Document
from firmware.hal.clock import Clock
from firmware.nodes.cover import NODE_TYPE
from firmware.outbox import EVENTS, Outbox
from firmware.steady import steady
from hil_tests.world.cutflash import BLOCK_BYTES, VARIANTS, CutFlash, PowerCut
from hil_tests.world.flash import LittleFs
from hil_tests.world.sim_hal import LocalClock, SimI2c, _Rtc, _Ticks
from protocols.wire import cbor

BLOCKS = 32
SEED = 41
Pose = tuple[int, int, int]
FLAT, LEANING = (0.0, 0.0, 1.0), (0.17, 0.0, 0.985)


class Life:
    """One start of a watch on that flash, with the outbox that its events go to."""

    def __init__(self, flash: CutFlash, gravity: tuple[float, float, float]) -> None:
        steady(flash)
        self._now_ms = 1_790_000_000_000
        time = LocalClock(lambda: self._now_ms)
        bus = I2cBus()
        self._chip = Lis3dh(lambda _: gravity, noise=0.0, seed=SEED)
        bus.attach(self._chip, time)
        self._time = time
        self.clock = Clock(_Ticks(time, 0.0), _Rtc(time))
        self.wake = 0
        self._i2c = SimI2c(time, bus)
        self._fs = LittleFs(flash)
        self.outbox = Outbox(self._fs, "/outbox", 8 * 4096)
        self.watch = CoverWatch(self, _Settings(), lambda name: Document(self._fs, name))  # type: ignore[arg-type]  (as much of a Hal and of Settings as it asks for)
        self.watch.restore(0)

    @property
    def cache(self) -> Any:
        return self

    def load(self, _: str) -> None:
        """Its cache is gone with the power."""

    def i2c(self, _: str) -> SimI2c:
        return self._i2c

    def read_pin(self, _: str) -> int:
        return 0

    def run(self, seconds: int) -> None:
        """As the node does: look, keep what changed, say that it is kept."""
        for _ in range(seconds):
            self._now_ms += 1000
            self._time.run_due()
            self.watch.poll()
            for change in tuple(self.watch.changes()):
                payload = records.pack_event(0, 3, change.code, change.state, change.detail)
                self.outbox.keep(records.EVENT, payload)
                self.watch.applied(change)

    def learn(self) -> None:
        assert self.watch.learn() == ""
        self.run(30)

    @property
    def pose(self) -> Pose | None:
        return self.watch._cover.pose

    def told(self) -> set[Pose]:
        """The poses whose events are in the outbox."""
        found: set[Pose] = set()
        after = 0
        while (record := self.outbox.next_unacked(EVENTS, after)) is not None:
            after = record.seq
            items = cbor.loads(record.payload)
            if items[2] == 20:
                x, y, z = items[4]
                found.add((x, y, z))
        return found


class _Settings:
    def __getitem__(self, key: int) -> int:
        return NODE_TYPE.settings[key]


def installed() -> CutFlash:
    """A cover that has learned to lie flat."""
    flash = CutFlash(bytearray(b"\xff" * (BLOCKS * BLOCK_BYTES)), seed=SEED)
    LittleFs.mkfs(flash)
    life = Life(flash, FLAT)
    life.run(60)
    assert life.told() == {life.pose}
    return flash


def learn_anew(flash: CutFlash) -> Pose | None:
    life = Life(flash, LEANING)
    life.run(5)
    life.learn()
    return life.pose


def test_the_pose_is_the_old_or_the_new_one_after_a_cut_anywhere_and_a_new_one_is_told() -> None:
    start = bytes(installed().image)
    old = Life(CutFlash(bytearray(start), seed=SEED), FLAT).pose
    live = CutFlash(bytearray(start), seed=SEED)
    new = learn_anew(live)
    assert old is not None
    assert new is not None
    assert old != new
    cuts = fresh = 0
    for op in range(live.ops):
        for variant in range(len(VARIANTS)):
            cuts += 1
            flash = CutFlash(bytearray(start), seed=SEED * 1000 + 8 * op + variant)
            flash.cut_at, flash.variant = op, variant
            try:
                learn_anew(flash)
            except PowerCut:
                pass
            flash.dead = False
            flash.cut_at = -1
            where = f"cut at operation {op}, {VARIANTS[variant]}"
            after = Life(flash, LEANING)
            assert after.pose in (old, new), where
            after.run(5)
            assert after.pose in after.told(), where
            fresh += after.pose == new
            after.learn()
            assert after.pose == new, where
            assert new in after.told(), where
    print(f"cuts={cuts} operations={live.ops} with_the_new_pose={fresh} seed={SEED}")
    assert 0 < fresh < cuts


def test_a_cut_while_the_first_pose_is_learned_leaves_none_or_one_that_is_told() -> None:
    blank = CutFlash(bytearray(b"\xff" * (BLOCKS * BLOCK_BYTES)), seed=SEED)
    LittleFs.mkfs(blank)
    Life(blank, FLAT)
    live = CutFlash(bytearray(blank.image), seed=SEED)
    Life(live, FLAT).run(60)
    for op in range(live.ops):
        for variant in range(len(VARIANTS)):
            flash = CutFlash(bytearray(blank.image), seed=SEED * 2000 + 8 * op + variant)
            flash.cut_at, flash.variant = op, variant
            try:
                Life(flash, FLAT).run(60)
            except PowerCut:
                pass
            flash.dead = False
            flash.cut_at = -1
            after = Life(flash, FLAT)
            after.run(60)
            assert after.pose is not None
            assert after.pose in after.told(), f"cut at operation {op}, {VARIANTS[variant]}"
