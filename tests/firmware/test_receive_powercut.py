"""Power that fails in the middle of a broadcast, in any flash operation of it: the node goes on from what it has."""

from __future__ import annotations

import random
from typing import Any

import pytest

from firmware import pending, pieces
from hil_tests.world.cutflash import VARIANTS
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.sim_node import TornFlash
from protocols.wire.ota import HEAD
from protocols.wire.ota_host import REPAIRING, SENDING
from tests.firmware.receive_rig import SETTINGS, is_receiving
from tests.firmware.sky import Sky
from tests.firmware.test_receive_air import COMES, Sender, is_listening

SIZE = 1500  # 21 rows
PASSES_MAX = 8


@pytest.fixture(autouse=True)
def put(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Rows that were put away for good: the store said so."""
    done: set[int] = set()
    keep = pieces.Pieces.put

    def noted(self: Any, number: int, data: bytes) -> None:
        keep(self, number, data)
        if number != HEAD:
            done.add(number)

    monkeypatch.setattr(pieces.Pieces, "put", noted)
    monkeypatch.setattr("firmware.update.begin", lambda hal: False)  # there is nothing to install it into
    return done


class Life:
    """A node that was called to a pass, and its sender."""

    def __init__(self, seed: int) -> None:
        fresh = Sky(settings=SETTINGS, powered=False)
        self.flash = TornFlash(bytes(fresh.station.flash.image), seed=seed)  # type: ignore[attr-defined]
        self.sky = Sky(settings=None, powered=False, flash=self.flash)
        self.sky.station.power_on()
        self.sky.run(60)
        self.desk = Sender(self.sky, SIZE)
        self.desk.invite()

    def begin_pass(self) -> None:
        sky, desk = self.sky, self.desk
        assert desk.call(20, 120) == COMES
        sky.run(desk.from_s + 21 - sky.agenda.now_s())
        # One that had all came to say so.
        assert is_receiving(sky.station) or self.phase() == pending.RECEIVED

    def whole(self) -> bytes:
        """Rows go out in further passes until it has all; what it has then."""
        sky, desk = self.sky, self.desk
        for _ in range(PASSES_MAX):
            if self.phase() == pending.RECEIVED:
                break
            if not is_receiving(sky.station):
                self.begin_pass()
            desk.broadcast(120)
            sky.run(180)
            desk.hear()
            desk.sender.collected()
            if desk.sender.phase == REPAIRING or desk.sender._left <= 0:
                desk.sender.phase, desk.sender._left = SENDING, 10
        assert self.phase() == pending.RECEIVED
        found = pieces.Whole(LittleFs(Flash(image=self.flash.steadied_image())))
        return found.read(found.end)

    def phase(self) -> int:
        return int(pending.Pending(LittleFs(Flash(image=self.flash.steadied_image()))).f[pending.PHASE])

    def kept(self) -> set[int]:
        fs = LittleFs(Flash(image=self.flash.steadied_image()))
        return {number for number in pieces.Pieces(fs).numbers() if number != HEAD}


def operations() -> int:
    """Of a pass that nothing disturbs, from its first row to its end."""
    life = Life(0)
    life.begin_pass()
    before = life.flash.chip.ops
    assert life.whole() == life.desk.data
    return life.flash.chip.ops - before


def cut(operation: int, variant: int, put: set[int]) -> int:
    """Power fails in that operation; how many rows the node had then."""
    seed = 1000 + operation
    life = Life(seed)
    life.begin_pass()
    put.clear()
    where = f"operation {operation} as {VARIANTS[variant]}, seed {seed}"
    life.flash.cut_after(operation, variant)
    life.desk.broadcast(120)
    for _ in range(170):  # and what it does at its end
        if life.flash.is_cut:
            break
        life.sky.run(1)
    assert life.flash.is_cut, where
    had = set(put)
    assert had <= life.kept(), where
    life.sky.run(5)
    life.flash.power()
    life.sky.station.power_on()
    life.sky.run(90)
    assert had <= life.kept(), where
    assert life.phase() == pending.RECEIVED or not is_listening(life.sky), where
    assert life.whole() == life.desk.data, where
    assert not life.sky.node.health.traceback, where
    return len(had)


@pytest.mark.parametrize(
    "share", [pytest.param(1, marks=pytest.mark.soak, id="every"), pytest.param(16, id="sample")]
)
def test_it_goes_on_from_what_it_has(share: int, put: set[int]) -> None:
    count = operations()
    rng = random.Random(f"variants {share}")
    rows = [
        cut(operation, variant, put)
        for operation in range(share // 2, count, share)
        for variant in rng.sample(range(len(VARIANTS)), 1)
    ]
    print(f"operations={count} cuts={len(rows)} rows_before={min(rows)}..{max(rows)}")
    assert len(rows) >= count // share
    assert max(rows) > 15
