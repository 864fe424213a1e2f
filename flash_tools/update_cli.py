"""`tidegate node update`: a release of a node's program, or of its MicroPython, by cable."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from flash_tools.bench_cli import (
    CONFIG,
    WAIT_S,
    ConfigOption,
    KeysOption,
    PortOption,
    TakeOption,
    WaitOption,
    bench_on,
    line_to,
    need_port,
)
from flash_tools.errors import BenchError
from flash_tools.mint import parse_address
from flash_tools.release_book import Book
from flash_tools.updating import Updating

app = typer.Typer()


@app.command("update")
def update(
    release: Annotated[
        str,
        typer.Argument(
            metavar="RELEASE", help="As river-virtual/7 or micropython-virtual; newest without a number."
        ),
    ],
    node: Annotated[
        str | None, typer.Option("--node", help="Address as on the label, where keys of several are there.")
    ] = None,
    port: PortOption = None,
    releases: Annotated[Path, typer.Option("--releases", "-r", help="The folder of releases.")] = Path(
        "releases"
    ),
    keys: KeysOption = None,
    config: ConfigOption = CONFIG,
    wait_s: WaitOption = WAIT_S,
    take_port: TakeOption = False,
) -> None:
    """Bring a signed release to a node at a cable, its program or MicroPython itself. What was begun goes on."""
    found = Book.load(releases).find(release)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        with line_to(need_port(port), config, take_port) as cable:
            bench = bench_on(cable, keys)
            with console.status("knocking at the node …"):
                bench.find(None if node is None else parse_address(node), max(wait_s, 2))
            name = f"{bench.address:04x}"
            with Progress(*columns, console=console) as progress:
                task = progress.add_task(f"node {name}", total=None)

                def moved(what: str, done: int, total: int) -> None:
                    progress.update(task, description=f"node {name}: {what}", completed=done, total=total)

                told = Updating(bench, time.monotonic, moved).bring(found)
    except KeyboardInterrupt as stopped:
        raise BenchError(
            "stopped. What the node has it keeps: the same command goes on from there"
        ) from stopped
    if told.is_on_trial:
        typer.echo(
            f"node {name} runs {found.label}, on trial: it is confirmed once its gateway has answered it, and goes "
            "back by itself if it is not healthy. It tells which as event update_ended"
        )
        return
    if told.outcome != "installed":
        raise BenchError(
            f"node {name} did not take {found.label}: {told.outcome}. It runs what it ran before"
        )
    typer.echo(f"node {name} runs {found.label}, and has confirmed it")
