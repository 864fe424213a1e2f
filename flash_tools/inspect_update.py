"""`tidegate inspect update`: an envelope, a payload or a bundle of a release, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flash_tools.errors import ReleaseError
from flash_tools.release_show import file_lines

app = typer.Typer(add_completion=False)


@app.command("update")
def update(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .suit or .bin file of a release.")],
) -> None:
    """Say what an envelope, a payload or a bundle contains. Verifies nothing: tidegate release verify does."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{file}: {error.strerror}") from error
    for line in file_lines(data):
        typer.echo(line)
