"""`tidegate firmware`: what a maintainer types to see what a node would run, and what it costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flash_tools import partitions
from flash_tools.errors import FlashToolError
from flash_tools.images import board_constants, build_app_image, compile_tree
from flash_tools.mint import ROOT, write_new
from flash_tools.needs import missing
from flash_tools.weigh import weigh

app = typer.Typer(no_args_is_help=True, help="Build the firmware of one board and node type.")

_LARGEST = 10
_IMAGE = "app.img"


@app.callback()
def _group() -> None:
    """Without it, a single command would swallow its own name."""


@app.command()
def build(
    board: Annotated[str, typer.Option("--board", help="A folder of boards/, as heltec_wifi_lora_32_v3.")],
    node: Annotated[str, typer.Option("--node", help="A node type of the firmware, as river.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the module tree; without it only the report.")
    ] = None,
    image: Annotated[bool, typer.Option("--image", help="Also write app.img, the `app` partition.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what another build left there.")] = False,
) -> None:
    """Compile what such a node needs to .mpy, and say what it weighs."""
    files = compile_tree(ROOT, board, node)
    constants = board_constants(board)
    if out is not None:
        written = {path.removeprefix("/"): content for path, content in files.items()}
        written["partitions.csv"] = partitions.csv(constants).encode()
        if image:
            written[_IMAGE] = build_app_image(ROOT, board, node).data
        _write(out, written, force=force)
    elif image:
        raise FlashToolError("--image: name the folder to write it to, with --out DIR")
    console = Console()
    _report(console, board, node, files, constants.PARTITIONS["app"][1])
    for what in missing(ROOT, board, node):
        console.print(f"note: {what}", soft_wrap=True)
    if out is not None:
        console.print(f"{out}: the root of the board's file system, and its partition table", soft_wrap=True)


def _write(out: Path, files: dict[str, bytes], *, force: bool) -> None:
    """All of it or, when a file is in the way, nothing. What another build left there would be flashed along."""
    try:
        stale = [path for path in _of_a_build(out) if path.relative_to(out).as_posix() not in files]
        if not force:
            for path in (*(out / name for name in files), *stale):
                if path.exists():
                    raise FlashToolError(f"{path} exists. Choose another --out, or --force to replace it")
        for path in stale:
            path.unlink()
        for name, content in files.items():
            write_new(out / name, content, force=force)
    except OSError as error:
        raise FlashToolError(f"--out {out}: {error.filename or out}: {error.strerror}") from error


def _of_a_build(out: Path) -> list[Path]:
    """The files below `out` that only a build can have written."""
    image = out / _IMAGE
    return [*sorted((out / "a").rglob("*.mpy")), *([image] if image.is_file() else [])]


def _report(console: Console, board: str, node: str, files: dict[str, bytes], partition: int) -> None:
    sizes = {path: len(content) for path, content in files.items()}
    folders: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for path, size in sizes.items():
        folders[str(Path(path).parent)] += size
        modules[str(Path(path).parent)] += 1
    by_folder = Table(title=f"{node} on {board}", title_justify="left")
    for heading, justify in (("folder", "left"), ("files", "right"), ("bytes", "right")):
        by_folder.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for folder, size in folders.most_common():
        by_folder.add_row(folder, str(modules[folder]), str(size))
    total = sum(sizes.values())
    by_folder.add_section()
    by_folder.add_row("in all", str(len(sizes)), str(total))
    largest = Table(title="largest", title_justify="left")
    largest.add_column("module")
    largest.add_column("bytes", justify="right")
    for path, size in Counter(sizes).most_common(_LARGEST):
        largest.add_row(path, str(size))
    console.print(by_folder)
    console.print(largest)
    console.print(f"flash: {total} of {partition} bytes of `app`, {total * 100 / partition:.1f} %")
    console.print(f"heap: {weigh(files, node)}", soft_wrap=True)
