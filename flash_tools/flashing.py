"""Flashing one board, top to bottom: connect → identify → check → plan → write → verify → boot check.

    flashed = flash_board("/dev/ttyUSB0", content, Progress())

Everything raised is a FlashError that says what was found, what was expected and what to do; whatever was written by
then, the same call finishes it. What is returned was verified, every block of every region.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flash_tools import boot_check, chip, plan, ports
from flash_tools.blocks import Run, blank_md5, blocks, count_blocks, guard_alone, without_guard
from flash_tools.chip import Chip, ChipFacts
from flash_tools.errors import FlashToolError, FlashTooSmall, LineLost, VerifyFailed, WrongChip, WrongMac
from flash_tools.plan import Content, Plan

__all__ = ["ChipFacts", "Content", "Flashed", "Progress", "Verified", "flash_board", "verify_board"]

# A block that reads back wrong is sent once more; flash that does it again is worn out or badly soldered.
_ROUNDS = 2


class Progress:
    """Told what happens, from the thread that flashes. Who wants to show it overrides these."""

    def stage(self, name: str) -> None:
        """One of: connect, check, write, verify, boot; or press RESET, for a person."""

    def found(self, facts: ChipFacts) -> None:
        """The chip said who it is."""

    def planned(self, made: Plan) -> None:
        """What will be sent; nothing was yet."""

    def sent(self, done: int, total: int) -> None:
        """Bytes of the images that are in the flash, of those that had to be sent."""


@dataclass(frozen=True)
class Flashed:
    """A board that holds what was wanted. ``data_bytes`` are of the images, ``line_bytes`` the same packed, as sent."""

    facts: ChipFacts
    version: str
    micropython: str  # "" when it was left as it was
    app_digest: str
    blocks_sent: int
    blocks_total: int
    data_bytes: int
    line_bytes: int
    state_written: bool
    booted: str  # what was heard (boot_check.py); "": nobody listened
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verified:
    """What a look at a board found. ``differing``: blocks that are not as they should be."""

    facts: ChipFacts
    differing: tuple[str, ...]
    blocks_total: int
    runs: str = ""  # where it differs: the program of a node that was updated, or is of another release


def flash_board(
    port: str | Any,
    wanted: Content | Callable[[ChipFacts], Content],
    progress: Progress,
    *,
    boot_s: float = boot_check.BOOT_S,
    baud: int = chip.FAST_BAUD,
    attempts: int = chip.CONNECT_ATTEMPTS,
    dry_run: bool = False,
) -> Flashed:
    """Make the board at this port (a device, a URL, or an object like pyserial's Serial) hold what is `wanted`.

    ``wanted``: its content, or what says the content once the chip has said who it is, before anything is written.
    ``boot_s``: how long to listen for its hello; 0: not at all. ``dry_run``: nothing is written, and the board starts
    again as it was.
    """
    with _line(port) as (line, where):
        progress.stage("connect")
        board = _connect(line, where, wanted, progress, baud, attempts)
        with _let_go(board):
            progress.stage("check")
            content = wanted if isinstance(wanted, Content) else _choose(wanted, board, where)
            made = plan.make_plan(content, board, where)
            progress.planned(made)
            sent: list[Run] = []
            if not dry_run:
                sent = _write_and_verify(board, made, progress, where)
        _restart(board, line, content, progress)
        booted = ""
        if boot_s and not dry_run:
            progress.stage("boot")
            booted = boot_check.watch(line, where, content, boot_s)
        return Flashed(
            facts=board.facts,
            version=content.version,
            micropython="" if content.micropython is None else content.micropython.release,
            app_digest=hashlib.sha256(content.app).hexdigest(),
            blocks_sent=count_blocks(sent),
            blocks_total=made.blocks_total,
            data_bytes=sum(len(run.data) for run in sent),
            line_bytes=board.line_bytes,
            state_written=made.writes_state and not dry_run,
            booted=booted,
            notes=made.notes,
        )


def verify_board(
    port: str | Any,
    content: Content,
    progress: Progress,
    *,
    baud: int = chip.FAST_BAUD,
    attempts: int = chip.CONNECT_ATTEMPTS,
) -> Verified:
    """Compare without writing. The board is reset into its loader for it, and starts again afterwards."""
    with _line(port) as (line, where):
        progress.stage("connect")
        board = _connect(line, where, content, progress, baud, attempts)
        with _let_go(board):
            progress.stage("verify")
            regions = content.fixed_regions()
            differing = [plan.TABLE] if plan.has_other_table(content, board) else []
            differing += plan.differing_blocks(regions, board.md5)
            slots = plan.slots_on(content, board) if differing else None
        _restart(board, line, content, progress)
        total = 1 + sum(1 for one in regions for _ in blocks(one))
        return Verified(board.facts, tuple(differing), total, "" if slots is None else slots.told)


def _connect(
    line: Any,
    where: str,
    content: Content | Callable[[ChipFacts], Content],
    progress: Progress,
    baud: int,
    attempts: int,
) -> Chip:
    """The chip, if it is the one this content is for."""

    def identify(facts: ChipFacts) -> None:
        progress.found(facts)
        if isinstance(content, Content):
            _check_chip(where, facts, content)
        chip.refuse_protected(where, facts)

    try:
        board = chip.connect(line, where, baud=baud, attempts=attempts, identify=identify)
    except LineLost:
        # A moment's noise, or more than this bridge or cable carries: the loader's own speed always does.
        board = chip.connect(line, where, baud=chip.ROM_BAUD, attempts=attempts, identify=identify)
    progress.found(board.facts)
    with _let_go(board):
        if isinstance(content, Content):
            _check_size(where, board.facts, content)
    return board


@contextlib.contextmanager
def _let_go(board: Chip) -> Iterator[None]:
    """A board that is refused, or fails, starts again with what it holds: it may be a node at work."""
    try:
        yield
    except FlashToolError:
        with contextlib.suppress(FlashToolError):
            board.restart()
        raise


def _choose(choose: Callable[[ChipFacts], Content], board: Chip, where: str) -> Content:
    content = choose(board.facts)
    _check_chip(where, board.facts, content)
    _check_size(where, board.facts, content)
    return content


def _check_chip(where: str, facts: ChipFacts, content: Content) -> None:
    if facts.chip != content.board.CHIP:
        raise WrongChip(
            where,
            f"an {facts.chip} ({facts.mac})",
            f"an {content.board.CHIP}, the chip of board {content.board.NAME}",
            "Name the board that is at this port with --board",
        )
    if content.mac is not None and facts.mac != content.mac.lower():
        raise WrongMac(
            where,
            f"board {facts.mac}",
            f"{content.mac.lower()}, which this label was made for",
            "Take the board with that MAC, or the label with this one: nothing was written",
        )


def _check_size(where: str, facts: ChipFacts, content: Content) -> None:
    wanted = content.board.FLASH_SIZE
    if facts.flash_size < wanted:
        size = (
            f"{facts.flash_size // 2**20} MiB of flash"
            if facts.flash_size
            else "a flash that does not say its size"
        )
        raise FlashTooSmall(
            where,
            size,
            f"{wanted // 2**20} MiB, as board {content.board.NAME} has",
            "Name the board that is at this port with --board",
        )


def _restart(board: Chip, line: Any, content: Content, progress: Progress) -> None:
    """Let it run what it holds. Its first words count, so the port is ready for them."""
    line.baudrate = content.board.CONSOLE_BAUD
    if not ports.lines_fault(line):
        board.restart()
        return
    # Nobody but a hand at its button can; or whoever drives the port, when it is let go of.
    progress.stage("press RESET")
    line.close()
    line.open()


def _write_and_verify(board: Chip, made: Plan, progress: Progress, where: str) -> list[Run]:
    """All that was sent. Guards go last, when all that they stand for was read back."""
    if not made.runs:
        return []  # the comparison that found no difference read every block
    sent: list[Run] = []
    todo = made
    for _ in range(_ROUNDS):
        progress.stage("write")
        _write(board, todo.before, todo, progress, sent)
        progress.stage("verify")
        wrong = plan.differing_blocks([without_guard(one) for one in made.regions], board.md5)
        if not wrong:
            _write(board, todo.last, todo, progress, sent)
            wrong = plan.differing_blocks([guard_alone(one) for one in made.regions if one.guard], board.md5)
        if not wrong:
            return sent
        todo = plan.plan_of(made.regions, board.md5)
    raise VerifyFailed(
        where,
        f"{len(wrong)} of {made.blocks_total} blocks that read back otherwise than sent, twice "
        f"({', '.join(wrong[:3])})",
        "what was sent",
        "This flash is worn out or its module damaged: take another board. It will not run as it is",
    )


def _write(board: Chip, runs: tuple[Run, ...], todo: Plan, progress: Progress, sent: list[Run]) -> None:
    total = todo.data_bytes
    done = 0 if runs == todo.before else sum(len(run.data) for run in todo.before)
    for run in runs:
        if run.data:
            board.write(run.offset, run.data)
        elif board.md5(run.offset, run.size) != blank_md5(run.size):
            board.erase(run.offset, run.size)
        sent.append(run)
        done += len(run.data)
        progress.sent(done, total)
    if any(run.data for run in runs):
        board.settle()


@contextlib.contextmanager
def _line(port: str | Any) -> Iterator[tuple[Any, str]]:
    """The open port and how it is called. What was opened here is closed, however this ends."""
    if not isinstance(port, str):
        yield port, str(port.name)
        return
    line = ports.open_port(port)
    try:
        yield line, port
    finally:
        line.close()
