"""What a person sees while boards are flashed: a bar for each on a terminal, lines in a file or a pipe."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from flash_tools.flash_run import Result
from flash_tools.flashing import ChipFacts, Flashed, Progress
from flash_tools.plan import Plan

_STAGES = {
    "connect": "connecting",
    "check": "comparing",
    "write": "writing",
    "verify": "verifying",
    "boot": "waiting for its hello",
}
_BOOTED = {
    "hello": "says hello",
    "frames": "sends sealed frames",
    "greeting": "greets on its console",
    "no identity": "runs, and has no identity yet",
}


class Bar(Progress):
    """One board's line."""

    def __init__(self, show: Show, port: str) -> None:
        self._show = show
        self._port = port
        self._task = show.bars.add_task(escape(port), total=None, doing="")
        self._name = port

    def stage(self, name: str) -> None:
        if name == "press RESET":
            self._show.say(f"{self._port}: its port has no reset lines; press RESET on the board")
            return
        self._show.bars.update(self._task, doing=_STAGES[name])

    def found(self, facts: ChipFacts) -> None:
        self._show.bars.update(self._task, description=escape(f"{self._port} {facts.chip} {facts.mac}"))

    def planned(self, made: Plan) -> None:
        self._show.bars.update(self._task, total=made.data_bytes)
        for note in made.notes:
            self._show.say(f"{self._port}: {note}")
        if self._show.dry_run:
            what = [
                f"{one.region.name} ({one.blocks} of {one.total} blocks)"
                for one in made.differences
                if one.runs
            ]
            size = -(-made.data_bytes // 1024)
            self._show.say(
                f"{self._port}: would write {', '.join(what) + f', {size} KiB' if what else 'nothing'}"
            )

    def sent(self, done: int, total: int) -> None:
        self._show.bars.update(self._task, completed=done, total=total)


class Show:
    """A context: bars are there while it is open."""

    def __init__(self, console: Console | None = None, *, dry_run: bool = False) -> None:
        self._console = console or Console()
        self.dry_run = dry_run
        self._lock = threading.Lock()
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[doing]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Show:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def board(self, port: str) -> Progress:
        return Bar(self, port)

    def done(self, result: Result) -> None:
        if result.flashed is not None:
            self.say(f"{result.port}: {told(result.flashed, self.dry_run)}")
        else:
            mac = "" if result.facts is None else f"{result.facts.mac}, "
            self.say(f"{result.port}: {mac}FAILED. {result.error}")

    def say(self, text: str) -> None:
        with self._lock:
            self._console.print(escape(text), soft_wrap=True, highlight=False)


def told(flashed: Flashed, dry_run: bool = False) -> str:
    """One sentence about a board that holds what was wanted (or would)."""
    who = f"{flashed.facts.chip} {flashed.facts.mac}"
    if dry_run:
        return f"{who}: nothing was written (--dry-run)"
    boot = f"; {_BOOTED[flashed.booted]}" if flashed.booted else ""
    if not flashed.blocks_sent:
        return f"{who}: unchanged, nothing sent; firmware {flashed.version}{boot}"
    return (
        f"{who}: firmware {flashed.version}, {flashed.blocks_sent} of {flashed.blocks_total} blocks, "
        f"{-(-flashed.data_bytes // 1024)} KiB ({-(-flashed.line_bytes // 1024)} on the line), verified{boot}"
    )
