"""A power cut at any flash operation leaves a lift with its table of floors as it was, or as it was about to be."""

from __future__ import annotations

from firmware.durable import Document
from firmware.lift_floors import Floors
from firmware.steady import steady
from hil_tests.world.cutflash import BLOCK_BYTES, VARIANTS, CutFlash, PowerCut
from hil_tests.world.flash import LittleFs

BLOCKS = 16
SEED = 31
STOREYS_MM = (4481, 2957, 2829, 3010, 2990, 3305, 2950, 3001)
# Long enough trips for a table that a document just holds, and a table that shrinks.
Table = tuple[int, ...]


def save(flash: CutFlash, table: Table) -> None:
    """As the watch does: a table that was learned up to here."""
    floors = Floors()
    before = 0
    floors.door_opened()
    for height in table[1:]:
        floors.moved(height - before, None, 5000, False)
        floors.door_opened()
        before = height
    assert tuple(floors.heights) == table
    Document(LittleFs(flash), "floors").save(floors.document())


def load(flash: CutFlash) -> Table:
    """What a start finds."""
    steady(flash)
    floors = Floors(Document(LittleFs(flash), "floors").load())
    assert floors.located == (not floors.heights), "the table is known, the place in it is not"
    return tuple(floors.heights)


def tables() -> list[Table]:
    """A lift that learns floor by floor, then learns anew, up to one of eighty floors."""
    found = [tuple(sum(STOREYS_MM[:k]) for k in range(count + 1)) for count in range(len(STOREYS_MM))]
    return [*found, (0,), (0, 3000), tuple(3000 * k for k in range(80)), (0, 2990, 6001)]


def test_a_table_is_the_old_or_the_new_one_after_a_cut_anywhere_and_can_be_kept_again() -> None:
    start = CutFlash(bytearray(b"\xff" * (BLOCKS * BLOCK_BYTES)), seed=SEED)
    LittleFs.mkfs(start)
    live = CutFlash(bytearray(start.image), seed=SEED, record=True)
    ends: list[int] = []
    for table in tables():
        save(live, table)
        assert live.log is not None
        ends.append(len(live.log))
    assert live.log is not None
    before = CutFlash(bytearray(start.image))
    cuts = 0
    for op, operation in enumerate(live.log):
        at = sum(end <= op for end in ends)
        allowed = {tables()[at], tables()[at - 1] if at else ()}
        for variant in range(len(VARIANTS)):
            cuts += 1
            flash = CutFlash(bytearray(before.image), seed=SEED * 1000 + 8 * op + variant)
            flash.tear(*operation, variant)
            assert load(flash) in allowed, f"cut at operation {op}, {VARIANTS[variant]}"
            _cut_again(flash, allowed, cuts)
        before.apply(*operation)
    print(f"cuts={2 * cuts} operations={len(live.log)} seed={SEED}")
    assert cuts > 300


def _cut_again(flash: CutFlash, allowed: set[Table], number: int) -> None:
    """The next table is kept after that start, and the power goes once more."""
    new = (0, 3100, 6200)
    second = CutFlash(bytearray(flash.image), {k: bytearray(m) for k, m in flash.unstable.items()}, number)
    second.cut_at = number % 7
    second.variant = number % len(VARIANTS)
    try:
        save(second, new)
    except PowerCut:
        pass
    second.dead = False
    second.cut_at = -1
    assert load(second) in allowed | {new}, f"second cut, number {number}"
    save(second, new)
    assert load(second) == new
