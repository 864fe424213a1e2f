"""What a person sees while boards are flashed: a bar for each on a terminal, lines in a file or a pipe."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column

from flash_tools.flash_run import Result
from flash_tools.flashing import ChipFacts, Flashed, Progress
from flash_tools.plan import Plan

_STAGES = {
    "connect": "connecting",
    "check": "comparing",
    "write": "writing",
    "verify": "verifying",
    "boot": "awaiting its hello",
}
_DOING_WIDTH = max(map(len, _STAGES.values()))
_NAME_WIDTH = 34  # of a port and its MAC, so that a bar stays on 80 columns
# A stage that is a person's.
RESET = "press RESET"
RESET_TOLD = "its port has no reset lines; press RESET on the board"
_BOOTED = {
    "hello": "says hello",
    "frames": "sends sealed frames",
    "greeting": "greets on its console",
    "bridge": "a bridge that says its state",
    "no identity": "runs, and has no identity yet",
}


class Bar(Progress):
    """One board's line."""

    def __init__(self, show: Show, port: str) -> None:
        self._show = show
        self._port = port
        self._task = show.bars.add_task(escape(port[-_NAME_WIDTH:]), total=None, doing="")

    def over(self) -> None:
        self._show.bars.remove_task(self._task)

    def stage(self, name: str) -> None:
        if name == RESET:
            self._show.say(f"{self._port}: {RESET_TOLD}")
            return
        self._show.bars.update(self._task, doing=_STAGES[name])

    def found(self, facts: ChipFacts) -> None:
        name = f"{self._port} {facts.mac}"[-_NAME_WIDTH:]
        self._show.bars.update(self._task, description=escape(name))

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
        self._open: dict[str, Bar] = {}
        self.bars = Bars(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[doing]}", table_column=Column(no_wrap=True, min_width=_DOING_WIDTH)),
            expand=True,
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
        bar = self._open[port] = Bar(self, port)
        return bar

    def done(self, result: Result) -> None:
        self._open.pop(result.port).over()
        if result.flashed is not None:
            self.say(f"{result.port}: {told(result.flashed, self.dry_run)}")
        else:
            mac = "" if result.facts is None else f"{result.facts.mac} "
            why = str(result.error).removeprefix(f"{result.port}: ")
            self.say(f"{result.port}: {mac}FAILED: {why}")

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
