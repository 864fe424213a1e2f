"""Several boards at once: each in a thread of its own, one failure stops no other, every step in the journal.

    results = flash_all(ports, content_for, journal, show)

The journal says what is true of the chips: "flashed" only after all was read back, "unchanged" when nothing had to be
sent, "failed" with the reason, and a board whose run was killed keeps its last "planned".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from flash_tools import flashing
from flash_tools.boot_check import BOOT_S
from flash_tools.chip import CONNECT_ATTEMPTS, FAST_BAUD
from flash_tools.errors import FlashToolError
from flash_tools.flashing import ChipFacts, Content, Flashed, Progress
from flash_tools.journal import Journal
from flash_tools.plan import Plan

# Threads, and boards on one USB tree: more of them only wait for each other.
PORTS_MAX = 16


class Stopped(FlashToolError):
    """Ctrl-C: what was written stays, the same command goes on."""


class Show(Protocol):
    """Where a person looks on; called from the threads."""

    def board(self, port: str) -> Progress: ...
    def done(self, result: Result) -> None: ...


@dataclass(frozen=True)
class Result:
    """One board: either `flashed` or `error`."""

    port: str
    facts: ChipFacts | None = None
    flashed: Flashed | None = None
    error: FlashToolError | None = None


@dataclass(frozen=True)
class Manner:
    """How to flash, for every board alike."""

    boot_s: float = BOOT_S
    baud: int = FAST_BAUD
    attempts: int = CONNECT_ATTEMPTS
    dry_run: bool = False


@dataclass
class Journaled(Progress):
    """Writes down what one board's run comes to, and passes it on to whoever shows it."""

    journal: Journal
    port: str
    shown: Progress
    stop: threading.Event = field(default_factory=threading.Event)
    facts: ChipFacts | None = None
    dry_run: bool = False

    def note(self, step: str, **facts: Any) -> None:
        if not self.dry_run:
            mac = None if self.facts is None else self.facts.mac
            self.journal.note(step, mac, port=self.port, **facts)

    def stage(self, name: str) -> None:
        self._go_on()
        self.shown.stage(name)

    def found(self, facts: ChipFacts) -> None:
        self.facts = facts
        self.shown.found(facts)

    def planned(self, made: Plan) -> None:
        changed = sorted({run.region for run in made.runs})
        if changed:  # nothing was written yet: a run that is killed from here on leaves this line
            self.note("planned", regions=changed, data_bytes=made.data_bytes, notes=list(made.notes))
        self.shown.planned(made)

    def sent(self, done: int, total: int) -> None:
        self._go_on()
        self.shown.sent(done, total)

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise Stopped("stopped; the same command goes on where this ended")


def flash_all(
    ports: list[Any],
    content: Callable[[str], Content],
    journal: Journal,
    show: Show,
    manner: Manner | None = None,
) -> list[Result]:
    """Flash the boards at all of these ports. Never raises for one board: its result says what went wrong."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=min(len(ports), PORTS_MAX)) as threads:
        futures = [
            threads.submit(flash_one, port, content, journal, show, manner or Manner(), stop)
            for port in ports
        ]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            stop.set()
            return [future.result() for future in futures]


def flash_one(
    port: Any,
    content: Callable[[str], Content],
    journal: Journal,
    show: Show,
    manner: Manner,
    stop: threading.Event | None = None,
) -> Result:
    """One board, from its port to its last line in the journal."""
    name = port if isinstance(port, str) else str(port.name)
    told = Journaled(journal, name, show.board(name), stop or threading.Event(), dry_run=manner.dry_run)
    try:
        wanted = content(name)
        flashed = flashing.flash_board(
            port,
            wanted,
            told,
            boot_s=manner.boot_s,
            baud=manner.baud,
            attempts=manner.attempts,
            dry_run=manner.dry_run,
        )
        note_flashed(told, flashed, wanted)
        result = Result(name, flashed.facts, flashed=flashed)
    except FlashToolError as error:
        told.note("failed", kind=type(error).__name__, why=str(error))
        result = Result(name, told.facts, error=error)
    show.done(result)
    return result


def note_flashed(told: Journaled, flashed: Flashed, content: Content) -> None:
    """The line that says what is true of the chip from now on."""
    if flashed.state_written and content.identity is not None:
        told.note("identity", node=f"{content.identity.address:04x}", node_type=content.identity.node_type)
    told.note(
        "flashed" if flashed.blocks_sent else "unchanged",
        chip=flashed.facts.chip,
        version=flashed.version,
        micropython=flashed.micropython,
        app_sha256=flashed.app_digest,
        blocks_sent=flashed.blocks_sent,
        data_bytes=flashed.data_bytes,
        state_written=flashed.state_written,
        booted=flashed.booted,
    )
