"""`tidegate virtual`: one node of any type without hardware, to try a minted node and a gateway by hand.

A folder is the board: its flash stays there between runs, and FOLDER/tty is its serial port; a node on the air joins
the one of `tidegate air` (air_cli.py). What runs on it is the firmware that ships, on a real MicroPython; only the
chips and what they feel (places.py) are simulated.
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
from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.hub import shared_hub
from boards.virtual.supervisor import VirtualBoard
from flash_tools import shipped
from flash_tools.radio_plan import Radio
from hil_tests.errors import RigError
from hil_tests.places import HEAP_ON_AIR, Place, place_of
from hil_tests.running import release_on
from hil_tests.world.air_socket import FarEther
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.propagation import Spot
from protocols.wire import identity
from protocols.wire.errors import DecodeError
from protocols.wire.plans_table import PLANS

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
    air: Annotated[
        Path | None,
        typer.Option(help="The folder of a `tidegate air`, for a node that was minted with a plan."),
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option(
            help="Flash this release, or the newest of a folder of them: such a node takes updates, and keeps them."
        ),
    ] = None,
    at: Annotated[str, typer.Option(help="East,north of that air's gateway, in metres.")] = "300,0",
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
    spot = spot_of(at)
    with held(folder, "`tidegate virtual`"):
        # A state image is for a new board only; the program may be renewed at any time, as on a bench.
        known = identity_of((state or folder / "state.bin").read_bytes())
        check_way(known, air)
        with _joined(folder, known, air, spot) as ether:
            _run(folder, state, seed, known, ether, release)


@contextlib.contextmanager
def held(folder: Path, command: str) -> Iterator[None]:
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
            raise RigError(f"{folder}: switched on already; end that {command} first.") from error
        yield
    finally:
        os.close(handle)


def identity_of(state_image: bytes) -> identity.Identity | None:
    """What minting wrote into a `state` partition; None when there is no identity to be read."""
    try:
        with LittleFs(Flash(image=state_image)).open("/identity", "rb") as file:
            return identity.decode(file.read())
    except (OSError, DecodeError):
        return None


def spot_of(text: str) -> Spot:
    try:
        east_m, north_m = (float(part) for part in text.split(","))
    except ValueError:
        raise RigError(f"--at {text}: allowed are two numbers of metres, for example 300,-40.") from None
    return Spot(east_m, north_m)


def check_way(known: identity.Identity | None, air: Path | None) -> None:
    """RigError for a node that was minted for the other way to the gateway."""
    is_on_air = known is not None and known.radio is not None
    if is_on_air and air is None:
        raise RigError(
            "This node was minted for the air (--plan): start `tidegate air FOLDER`, and name it with --air FOLDER."
        )
    if not is_on_air and air is not None:
        raise RigError(
            "This node was minted for a serial line: leave --air out, or mint one with --plan cn470."
        )


def check_radio(node: Radio | None, roof: Radio | None) -> None:
    """RigError for a node with channels that are not heard there."""
    if node is None or roof is None:
        return
    if node[0] != roof[0] or node[1] < roof[1] or node[1] + node[2] > roof[1] + roof[2]:
        raise RigError(
            f"The node was minted for {_said(node)}, and the gateway of that air hears {_said(roof)}. "
            "Give `tidegate air` the --plan, --channel and --channels of the minting."
        )


def _said(radio: Radio) -> str:
    plan, first, count, _ = radio
    return f"{PLANS[plan][0]} channels {first} to {first + count - 1}"


@contextlib.contextmanager
def _joined(
    folder: Path, known: identity.Identity | None, air: Path | None, spot: Spot
) -> Iterator[FarEther | None]:
    if air is None or known is None:
        yield None
        return
    spot = spot._replace(is_under_iron=known.node_type == "cover")
    ether = FarEther(shared_hub(), air, folder.resolve().name, spot)
    try:
        if not ether.reach():
            raise RigError(f"--air {air}: there is no air. Start it in another terminal: tidegate air {air}")
        check_radio(known.radio, ether.radio)
        yield ether
    finally:
        ether.close()


def _run(
    folder: Path,
    state: Path | None,
    seed: int,
    known: identity.Identity | None,
    ether: FarEther | None,
    release: Path | None,
) -> None:
    node_type = known.node_type if known is not None else "river"
    place = place_of("river" if node_type == "river_solar" else node_type, "bench", seed)
    app = _program(folder, node_type, release)
    runs = release_on(app or (folder / "app.bin").read_bytes())
    # A release on trial needs more of the heap than one at work.
    heap_size = place.heap_size if ether is None and not runs else HEAP_ON_AIR
    with VirtualBoard(folder, app_image=app, state_image=state, seed=seed, heap_size=heap_size) as board:
        place.attach(board)
        if ether is not None:
            chip = Sx1262(ether, seed=seed)
            ether.attach(chip)
            board.attach_radio(chip)
        off = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: off.set())
        board.power_on()
        way = f"its serial port is {board.link_path}" if ether is None else "it is on the air"
        typer.echo(f"The {node_type} node is on; {way}. Ctrl-C cuts its power.")
        if runs:
            typer.echo(f"It starts with release {runs}, and takes updates.")
        _live(board, place, ether, off)
        board.power_cut()
        typer.echo("Power cut. Its flash keeps what it has; start it again with the same folder.")


def _program(folder: Path, node_type: str, release: Path | None) -> bytes | None:
    """What is flashed at this start; None: nothing, for it runs a release, and may have brought itself up to date."""
    flashed = folder / "app.bin"
    if release is None and flashed.exists() and release_on(flashed.read_bytes()):
        return None
    return shipped.program(ROOT, "virtual", node_type, release).image.data


def _live(board: VirtualBoard, place: Place, ether: FarEther | None, off: threading.Event) -> None:
    has_air = True
    while not off.wait(_LIVE_S):
        place.live()
        if board.state == "halted" and not board.is_watched:
            # The console is the link too: leave the frames out.
            said = b"\n".join(re.findall(rb"[ -~]{6,}", board.console)[-20:]).decode("ascii")
            raise RigError(f"The node's program ended. Its console said at the end:\n{said}")
        if ether is not None and ether.reach() != has_air:
            has_air = not has_air
            typer.echo("The air is back." if has_air else "The air has gone; nobody hears the node.")
