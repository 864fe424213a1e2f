"""`tidegate virtual`: one node of any type without hardware, to try a minted node and a gateway by hand.

A folder is the board: its flash stays there between runs, and FOLDER/tty is its serial port. What runs on it is the
firmware that ships, on a real MicroPython; only the chips and what they feel (places.py) are simulated.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from boards.virtual.board import PARTITIONS
from boards.virtual.supervisor import VirtualBoard
from flash_tools.images import build_app_image
from hil_tests.errors import RigError
from hil_tests.places import place_of
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import identity
from protocols.wire.errors import DecodeError

ROOT = Path(__file__).resolve().parent.parent

app = typer.Typer(add_completion=False)

# How often the place does what it does by itself: a lift needs its door moved.
_LIVE_S = 0.25


@app.command()
def virtual(
    folder: Annotated[Path, typer.Argument(help="The board: its flash and its port. Made when missing.")],
    state: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Image of the state partition, as minted. Only for a new board."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of what the node feels and of the board's clock errors.")
    ] = 1,
) -> None:
    """Switch a virtual node on: the type is what minting wrote. Ctrl-C cuts its power."""
    new = not (folder / "state.bin").exists()
    if new and state is None:
        raise RigError(f"{folder} is a new board: name the state image that minting made, with --state FILE.")
    if not new and state is not None:
        raise RigError(f"{folder} has run before; --state would erase what it keeps. Take another folder.")
    if state is not None and state.stat().st_size != PARTITIONS["state"][1]:
        raise RigError(
            f"--state {state}: has {state.stat().st_size} bytes; the image of a state partition, as minted, has "
            f"{PARTITIONS['state'][1]}."
        )
    with _held(folder):
        _run(folder, state, seed)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Two processes on one flash would destroy it. The lock goes with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RigError(f"{folder}: can not be the folder of a board: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RigError(
                f"{folder}: this board is switched on already; end that `tidegate virtual` first."
            ) from error
        yield
    finally:
        os.close(handle)


def node_type_of(state_image: bytes) -> str | None:
    """The node type that minting wrote into a `state` partition; None when there is no identity to be read."""
    try:
        with LittleFs(Flash(image=state_image)).open("/identity", "rb") as file:
            return identity.decode(file.read()).node_type
    except (OSError, DecodeError):
        return None


def _run(folder: Path, state: Path | None, seed: int) -> None:
    # A state image is for a new board only; the program may be renewed at any time, as on a bench.
    node_type = node_type_of((state or folder / "state.bin").read_bytes()) or "river"
    place = place_of("river" if node_type == "river_solar" else node_type, "bench", seed)
    app = build_app_image(ROOT, "virtual", node_type)
    with VirtualBoard(
        folder, app_image=app.data, state_image=state, seed=seed, heap_size=place.heap_size
    ) as board:
        place.attach(board)
        off = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: off.set())
        board.power_on()
        typer.echo(
            f"The {node_type} node is on; its serial port is {board.link_path}. Ctrl-C cuts its power."
        )
        while not off.wait(_LIVE_S):
            place.live()
            if board.state == "halted" and not board.is_watched:
                # The console is the link too: leave the frames out.
                said = b"\n".join(re.findall(rb"[ -~]{6,}", board.console)[-20:]).decode("ascii")
                raise RigError(f"The node's program ended. Its console said at the end:\n{said}")
        board.power_cut()
        typer.echo("Power cut. Its flash keeps what it has; start it again with the same folder.")
