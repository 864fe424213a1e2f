"""What a board shall hold (Content), and what has to be sent to one that holds something else (Plan).

All decisions are made here, from what the chip said of itself and the checksums of its flash; nothing is written
before all of them are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Protocol

from littlefs import LittleFS
from littlefs.errors import LittleFSError

from flash_tools import partition_table, slots_on_chip
from flash_tools.blocks import (
    Difference,
    Md5Of,
    Region,
    Run,
    behind_guard,
    blank_md5,
    blocks,
    compare,
    guard_run,
    is_blank,
    md5,
    region,
)
from flash_tools.errors import NewerOnNode, NotMicroPython, StateInUse, TableDiffers
from flash_tools.firmware_image import APP_OFFSET, Firmware
from flash_tools.mint import IDENTITY_PATH
from flash_tools.partitions import Partition, otadata, table
from protocols.wire import identity as identity_file
from protocols.wire.errors import DecodeError
from protocols.wire.identity import Identity

APP, STATE, TABLE = "app", "state", "partition table"
# A littlefs without its first two blocks, the pair that its root is in, is none: nothing in it is ever run.
_ROOT_BLOCKS = 2


@dataclass(frozen=True)
class Content:
    """What one board shall hold, made before any port is opened.

    ``app``: image of the `app` partition; ``version``: of its firmware, as the node will say it. ``micropython`` None:
    what is on the chip stays. ``state``: image of a newly minted node's `state` partition; None: not a byte of `state`
    is touched. ``release``: the sequence of the program in ``app``, 0 when it is none; ``downgrade``: it may replace a
    newer one. ``erase_state``: it may replace an identity that is there. ``may_live``: a board that is this very node
    already keeps what it has become since, and is flashed for the rest. ``repartition``: so may our table one of
    somebody else. ``mac``: it must be this very board. ``identity``: opens the hello of the boot check; without it
    frames are heard, and not understood.
    """

    board: ModuleType
    app: bytes
    version: str
    micropython: Firmware | None = None
    state: bytes | None = field(default=None, repr=False)  # holds a key
    erase_state: bool = False
    may_live: bool = False
    repartition: bool = False
    release: int = 0
    downgrade: bool = False
    mac: str | None = None
    identity: Identity | None = None

    def fixed_regions(self) -> list[Region]:
        """What this board is to hold whatever it held before, in the order of writing."""
        block = self.board.BLOCK_SIZE
        found = []
        if self.micropython is not None:
            found += [self.micropython.bootloader, self.micropython.application]
        offset, _ = self.board.PARTITIONS[APP]
        return [*found, region(APP, offset, self.app, _ROOT_BLOCKS * block)]

    def state_region(self) -> Region | None:
        if self.state is None:
            return None
        offset, _ = self.board.PARTITIONS[STATE]
        return region(STATE, offset, self.state, _ROOT_BLOCKS * self.board.BLOCK_SIZE)


class Flash(Protocol):
    """What of a chip is needed to plan; Chip has it."""

    def md5(self, offset: int, size: int) -> str: ...
    def read(self, offset: int, size: int) -> bytes: ...


@dataclass(frozen=True)
class Plan:
    """Region by region. ``before`` goes first; ``last`` are the guards, without which nothing counts (blocks.py)."""

    differences: tuple[Difference, ...]
    before: tuple[Run, ...]
    last: tuple[Run, ...]
    notes: tuple[str, ...] = ()

    @property
    def regions(self) -> list[Region]:
        return [difference.region for difference in self.differences]

    @property
    def runs(self) -> tuple[Run, ...]:
        return (*self.before, *self.last)

    @property
    def data_bytes(self) -> int:
        return sum(len(run.data) for run in self.runs)

    @property
    def blocks_total(self) -> int:
        return sum(difference.total for difference in self.differences)

    @property
    def writes_state(self) -> bool:
        return any(run.region == STATE for run in self.runs)


def make_plan(content: Content, flash: Flash, where: str) -> Plan:
    """What to send. Raises when the board holds what must not be lost, or can not be told."""
    notes: list[str] = []
    regions = content.fixed_regions()
    if content.micropython is None:
        _check_program(flash, where)
    table_region = _table_region(content, flash, where, notes)
    if table_region is not None:
        regions.insert(0, table_region)
    chooses = otadata(content.board)
    if chooses is not None and (table_region is not None or content.micropython is not None):
        # Blank: the first place is started, where MicroPython was just written or has always been.
        regions.insert(0, region(chooses.label, chooses.offset, b"\xff" * chooses.size))
    state_region = content.state_region()
    if state_region is not None and (
        not compare(state_region, flash.md5).runs or _may_write_state(content, flash, where, notes)
    ):
        regions.insert(-1, state_region)  # `app` is what starts it all: last
    made = plan_of(regions, flash.md5)
    if any(run.region == APP for run in made.runs):
        _check_release(content, flash, where, notes)
    return replace(made, notes=tuple(notes))


def slots_on(content: Content, flash: Flash) -> slots_on_chip.Slots | None:
    """What its node runs, if it is one of ours."""
    if has_other_table(content, flash):
        return None
    return slots_on_chip.read(flash.read, content.board.PARTITIONS[APP], content.board.BLOCK_SIZE)


def _check_release(content: Content, flash: Flash, where: str, notes: list[str]) -> None:
    """What the node runs may have come over the air since it was flashed, and be newer than what is to replace it."""
    found = slots_on(content, flash)
    if found is None or not found.told:
        return
    new = f"release {content.release}" if content.release else "a program that is no release"
    if found.release > content.release and not content.downgrade:
        raise NewerOnNode(
            where,
            found.told,
            f"release {found.release} or newer to be flashed, not {new}",
            "Name one with --release; or take --downgrade, which leaves the node with less than it has"
            + ("" if content.release else ": it would take no update over the air"),
        )
    notes.append(f"{found.told}: replaced by {new} in {slots_on_chip.FOLDERS[0]}")


def plan_of(regions: list[Region], md5_of: Md5Of, notes: tuple[str, ...] = ()) -> Plan:
    """What of these regions is not on the chip."""
    differences = [compare(one, md5_of) for one in regions]
    before, last = _in_order(differences)
    return Plan(tuple(differences), before, last, notes)


def has_other_table(content: Content, flash: Flash) -> bool:
    return _found_table(flash) != table(content.board)


def _in_order(differences: list[Difference]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Guards are erased first and written last: no moment leaves a mix of old and new that would run."""
    something = any(difference.runs for difference in differences)
    erased: list[Run] = []
    before: list[Run] = []
    last: list[Run] = []
    for difference in differences:
        one = difference.region
        behind = behind_guard(difference)
        # A new MicroPython below an old `app` is a mix, too; `state` is for itself.
        is_open = bool(behind) or (one.name == APP and something)
        if not one.guard:
            before += difference.runs
        elif is_open:
            erased.append(Run(one.name, one.offset, one.guard, b""))
            before += behind
            last.append(guard_run(one))
        else:
            last += difference.runs
    return (*erased, *before), tuple(last)


def _check_program(flash: Flash, where: str) -> None:
    """Without an image to write there must be one."""
    if flash.read(APP_OFFSET, 16)[:1] != b"\xe9":
        raise NotMicroPython(
            where,
            f"no program at {APP_OFFSET:#x}",
            "MicroPython",
            "Name an image, or a folder of images, with --micropython",
        )


def _found_table(flash: Flash) -> tuple[Partition, ...] | None:
    return partition_table.parse(flash.read(partition_table.OFFSET, partition_table.SIZE))


def _table_region(content: Content, flash: Flash, where: str, notes: list[str]) -> Region | None:
    """Our table, if it has to be written; None when the chip has the same one."""
    wanted = table(content.board)
    found = _found_table(flash)
    if found == wanted:
        return None
    ours = region(TABLE, partition_table.OFFSET, partition_table.encode(content.board))
    if found is None:
        return ours
    here = next(part for part in wanted if part.label == STATE)
    there = next((part for part in found if part.label == STATE), None)
    if (
        there is not None
        and (there.offset, there.size) != (here.offset, here.size)
        and not content.erase_state
    ):
        raise TableDiffers(
            where,
            f"`state` at {_place(there)}",
            f"it at {_place(here)}, as board {content.board.NAME} has it",
            "Moving it would lose the node's identity and every record it holds. Is --board right? If it is, let the "
            "gateway have all records, then flash with --erase-state, which makes a new node of this board",
        )
    if not content.repartition and not (there is not None and content.erase_state):
        raise TableDiffers(
            where,
            f"another partition table ({_told(found)})",
            f"that of board {content.board.NAME} ({_told(wanted)})",
            "Is --board right? --repartition writes ours; what the other file systems hold is lost then",
        )
    notes.append(f"partition table: {_told(found)} becomes {_told(wanted)}")
    return ours


def _may_write_state(content: Content, flash: Flash, where: str, notes: list[str]) -> bool:
    """Whether a new `state` is written over what is there. StateInUse when that would lose what must not be lost."""
    offset, size = content.board.PARTITIONS[STATE]
    if is_blank(offset, size, flash.md5):
        return True
    lives = identity_in(_read(flash, offset, size), content.board.BLOCK_SIZE)
    new = identity_in(content.state or b"", content.board.BLOCK_SIZE)
    if lives is None:
        notes.append("`state` held no identity")
    elif new is not None and lives.master_secret == new.master_secret:
        if content.erase_state and not content.may_live:
            raise StateInUse(
                where,
                f"node {lives.address:04x} with this very key, which has lived since it was minted",
                "a board that this `state` was not written to yet",
                "A key is begun once: its counters would repeat. Mint another node, or take --erase-state alone",
            )
        # Written by a run that was cut off after its last block, and it started: it is what was wanted.
        notes.append(f"`state` of node {lives.address:04x} is there and lives: left as it is")
        return False
    elif not content.erase_state:
        raise StateInUse(
            where,
            f"node {lives.address:04x} ({lives.node_type}) with its identity, counters and records",
            "a board without an identity",
            "To flash the program only, leave --state away. To make another node of it, let the gateway have all "
            "records and take --erase-state",
        )
    else:
        notes.append(f"`state` of node {lives.address:04x} is replaced: its key is never used again")
    return True


def identity_in(image: bytes, block_size: int) -> Identity | None:
    """The identity on a `state` partition; None when there is none to be read."""
    if not image:
        return None
    flash = LittleFS(block_size=block_size, block_count=len(image) // block_size, mount=False)
    flash.context.buffer = bytearray(image)
    try:
        flash.mount()
        with flash.open(IDENTITY_PATH, "rb") as file:
            return identity_file.decode(file.read())
    except (LittleFSError, OSError, DecodeError):
        return None


def _read(flash: Flash, offset: int, size: int) -> bytes:
    """A part of the flash; what is blank is not sent."""
    found = bytearray()
    for at, part in blocks(Region("", offset, bytes(size))):
        is_erased = flash.md5(at, len(part)) == blank_md5(len(part))
        found += b"\xff" * len(part) if is_erased else flash.read(at, len(part))
    return bytes(found)


def differing_blocks(regions: list[Region], md5_of: Md5Of) -> list[str]:
    """The blocks of these regions that are not on the chip, as a person reads them."""
    return [
        f"{one.name} at {at:#x}"
        for one in regions
        for at, part in blocks(one)
        if md5_of(at, len(part)) != md5(part)
    ]


def _place(part: Partition) -> str:
    return f"{part.offset:#x} with {part.size // 1024} KiB"


def _told(parts: tuple[Partition, ...]) -> str:
    return ", ".join(f"{part.label} {part.offset:#x}" for part in parts)
