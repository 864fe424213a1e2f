"""`tidegate node`: what a person at the bench types to make nodes and their flash images."""

from __future__ import annotations

import contextlib
import getpass
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flash_tools import bench_cli, calibrations, shipped, update_cli
from flash_tools import mint as minting
from flash_tools.errors import AcceptanceError, FlashToolError
from flash_tools.radio_plan import radio_of

app = typer.Typer(
    no_args_is_help=True, help="Nodes: mint and build them, accept them in their place, look at them."
)
app.add_typer(bench_cli.app)
app.add_typer(update_cli.app)

BoardOption = Annotated[str, typer.Option("--board", help="A folder of boards/.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what exists, keys too.")]


@contextlib.contextmanager
def _told(out: Path) -> Iterator[None]:
    """A folder that is not ours, a full disk: said in a sentence."""
    try:
        yield
    except OSError as error:
        raise FlashToolError(f"--out {out}: {error.filename or out}: {error.strerror}") from error


@app.command("mint")
def mint_nodes(
    node_type: Annotated[str, typer.Option("--type", help="A node type of the firmware, as river.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the mint file and the images.")],
    area: Annotated[
        str | None, typer.Option("--area", help="Administrative area code, as 330110001001.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="The place that the node will serve.")] = None,
    board: BoardOption = "virtual",
    address: Annotated[
        str | None, typer.Option("--address", help="This address, hexadecimal; else the lowest free one.")
    ] = None,
    addresses: Annotated[
        str, typer.Option("--addresses", help="The range of this provisioning station.")
    ] = "0001-fffe",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting", help="NAME=NUMBER, as interval_s=60: what it starts with. May be repeated."
        ),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            "--calibration",
            help="Of a probe: ph=17 with its certificate, or ph=17:7.02/7.00:4.05/4.01 with both points. Repeat it.",
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan", help="On the air, by the law of this place: cn470 or eu868; else a serial line."
        ),
    ] = None,
    channel: Annotated[int, typer.Option("--channel", help="Of the plan: the first that it uses.")] = 0,
    channels: Annotated[
        int | None, typer.Option("--channels", help="How many; default 1 with --sf, 8 without.")
    ] = None,
    sf: Annotated[
        int, typer.Option("--sf", help="Spreading factor, fixed: for a bridge and its nodes; 0: free.")
    ] = 0,
    force: ForceOption = False,
) -> None:
    """Make a node: a fresh key, its `state` partition, and the line that the gateway imports."""
    with _told(out):
        made = minting.mint(
            out=out,
            node_type=node_type,
            board=board,
            area=area,
            site=site,
            address=None if address is None else minting.parse_address(address),
            addresses=minting.parse_range(addresses),
            settings=minting.parse_settings(setting or [], node_type),
            calibrations=calibrations.parse(calibration or [], node_type),
            radio=radio_of(plan, channel, channels, sf),
            force=force,
        )
    typer.echo(f"{made.address:04x}  {made.state_image}")
    if node_type == "bridge":
        typer.echo(f"{_flash_it(board, node_type, made)}\nThe gateway needs a [[bridge]] table for its port.")
        return
    typer.echo(
        f"{_flash_it(board, node_type, made)}\nThen: tidegate gateway node import {made.mint_file}\n"
        "Both files hold the key: keep them where only you can read, and delete the image when it is flashed."
    )


def _flash_it(board: str, node_type: str, made: minting.Minted) -> str:
    if board == "virtual":
        return f"Give it to a virtual node once: tidegate virtual station --state {made.state_image}"
    return f"Flash it once: tidegate flash --board {board} --type {node_type} --state {made.state_image}"


@app.command("image")
def app_image(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    board: BoardOption = "virtual",
    node_type: Annotated[
        str | None, typer.Option("--type", help="Only what this node type needs; else what all of them need.")
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option("--release", help="Its program is this release, or the newest of a folder of them."),
    ] = None,
    force: ForceOption = False,
    sizes: Annotated[bool, typer.Option("--sizes", help="List every file of the image.")] = False,
) -> None:
    """Build the `app` partition: every module of the firmware, compiled. It holds no key."""
    made = shipped.program(minting.ROOT, board, node_type, release)
    image = made.image
    with _told(out):
        minting.write_new(out, image.data, force=force)
    if sizes:
        typer.echo(image.report)
    used = sum(image.sizes.values())
    typer.echo(f"{out}: {len(image.sizes)} files, {used} bytes of {len(image.data)} for board {board}")
    typer.echo(f"firmware {made.version}" if made.release else shipped.NO_RELEASE)


@app.command("accept")
def accept_node(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="As on the label, e.g. 0012.")],
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="TIDEGATE_CONFIG", help="Of the gateway that runs here.")
    ] = Path("gateway.toml"),
    out: Annotated[Path, typer.Option("--out", help="Folder of the station records.")] = Path("acceptance"),
    who: Annotated[str, typer.Option("--who", help="Who stands at the lid; default: the login name.")] = "",
    why: Annotated[
        str, typer.Option("--why", help="Kept in the gateway's audit log.")
    ] = "acceptance at the lid",
    firmware: Annotated[str | None, typer.Option("--firmware", help="The version that must run.")] = None,
    supply_min_v: Annotated[
        float | None, typer.Option("--supply-min", help="Volts; default: that of the node type.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="No city yet: the alarm need not go further.")
    ] = False,
    wait_s: Annotated[
        int, typer.Option("--wait", min=5, max=3600, help="Seconds that the node may take for an answer.")
    ] = 120,
) -> None:
    """Accept a node in its place, cover closed: heard, measures, learned its pose, its alarm reaches the city.

    Exit code 0 only when every step holds. Each run that came to a verdict leaves a new record.
    """
    from flash_tools import accept
    from flash_tools.control import Control

    number = f"{minting.parse_address(address):04x}"
    wanted = accept.Wanted(firmware, supply_min_v, local, wait_s, why)
    began_s = time.time()
    results: list[tuple[str, accept.Found]] = []
    again = "Nothing was recorded; the same command begins anew."
    try:
        acceptance = accept.Acceptance(Control(config).ask, number, wanted)
        for step in acceptance.steps():
            with Console().status(f"{step.name}: {step.what} …"):
                found = step.look()
            results.append((step.name, found))
            typer.echo(accept.line(step.name, found))
    except KeyboardInterrupt as stopped:
        raise FlashToolError(f"stopped before a verdict. {again}") from stopped
    except FlashToolError as error:
        raise AcceptanceError(f"{error}. {again}") from error
    station = accept.record(acceptance, results, who or getpass.getuser(), began_s)
    path = _keep_record(out, station, began_s)
    verdict = "accepted" if station["accepted"] else "NOT accepted; put right what failed and run this again"
    typer.echo(f"node {number}: {verdict}. Record: {path} and {path.with_suffix('.txt').name}")
    if not station["accepted"]:
        raise typer.Exit(1)


def _keep_record(out: Path, station: dict[str, Any], began_s: float) -> Path:
    """Two new files, for programs and for people; one that is there is never touched."""
    from flash_tools import accept

    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began_s))
    path = out / f"{station['node']}-{stamp}.json"
    with _told(out):
        out.mkdir(parents=True, exist_ok=True)
        for file, text in (
            (path, json.dumps(station, indent=1, ensure_ascii=False) + "\n"),
            (path.with_suffix(".txt"), accept.report(station)),
        ):
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
    return path
