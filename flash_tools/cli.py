"""`tidegate node`: what a person at the bench types to make nodes and their flash images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from flash_tools import mint as minting
from flash_tools.errors import FlashToolError
from flash_tools.images import build_app_image

app = typer.Typer(no_args_is_help=True, help="Mint node identities and build their flash images.")

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
            settings=minting.parse_settings(setting or []),
            force=force,
        )
    typer.echo(f"{made.address:04x}  {made.state_image}")
    typer.echo(
        f"Flash this image to the state partition once, then: tidegate gateway node import {made.mint_file}\n"
        "Both files hold the key: keep them where only you can read, and delete the image when it is flashed."
    )


@app.command("image")
def app_image(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    board: BoardOption = "virtual",
    node_type: Annotated[
        str | None, typer.Option("--type", help="Only what this node type needs; else what all of them need.")
    ] = None,
    force: ForceOption = False,
    sizes: Annotated[bool, typer.Option("--sizes", help="List every file of the image.")] = False,
) -> None:
    """Build the `app` partition: every module of the firmware, compiled. It holds no key."""
    image = build_app_image(minting.ROOT, board, node_type)
    with _told(out):
        minting.write_new(out, image.data, force=force)
    if sizes:
        typer.echo(image.report)
    used = sum(image.sizes.values())
    typer.echo(f"{out}: {len(image.sizes)} files, {used} bytes of {len(image.data)} for board {board}")
