"""`tidegate inspect update`: an envelope, a payload or a bundle of a release, or a node's notes of one, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flash_tools.errors import ReleaseError
from flash_tools.release_show import file_lines

app = typer.Typer(add_completion=False)


@app.command("update")
def update(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Of a release: .suit, .bin, release.cbor; of a node: update, slots, pieces."
        ),
    ],
) -> None:
    """Say what an envelope, a payload, a bundle contains, or what a node keeps of an update. Verifies no signature.

    That does tidegate release verify.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{file}: {error.strerror}") from error
    for line in file_lines(data):
        typer.echo(line)
