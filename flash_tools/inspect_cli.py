"""`tidegate inspect image|outbox`: what is in a file that a flash was written from, or read into."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from flash_tools import inspect_image
from flash_tools.errors import InspectError
from protocols.inspection import show
from protocols.inspection.words import unpacked
from protocols.northbound.told import Told

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def image(
    file: Annotated[list[str], typer.Argument(metavar="FILE|-…", help="An image, or - for a pipe.")],
    as_json: JsonOption = False,
) -> None:
    """An image of a partition (littlefs), a partition table, a program of an ESP32, a whole flash. No key is shown.

    Exit code 1 when anything is wrong.
    """
    _show([told for name in file for told in inspect_image.tell(_read(name), name)], "parts", as_json)


@app.command()
def outbox(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="An image of a `state` partition, or one segment file.")
    ],
    records: Annotated[bool, typer.Option("--records", help="Every record, with its readings.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What a node keeps for its gateway: records by lane, what waits, what is damaged.

    Exit code 1 when anything is damaged.
    """
    _show(inspect_image.tell_outbox(_read(file), Path(file).name, records), "parts", as_json)


def _read(name: str) -> bytes:
    limit = inspect_image.IMAGE_BYTES_MAX
    try:
        if name == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(name).open("rb") as stream:
                data = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        raise InspectError(f"{name:.200}: cannot be read: {error}. Name a file, or - for a pipe") from error
    if not data:
        raise InspectError(f"{name:.200}: is empty")
    if len(data) > limit:
        raise InspectError(f"{name:.200}: more than {limit} bytes; no flash of ours is that large")
    text = data[:4096].strip()
    if (
        text.isascii()
        and len(data) < limit // 8
        and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in text)
    ):
        from protocols.inspection.errors import InspectError as NotBytes

        try:
            return unpacked("".join(data.decode("ascii").split()))
        except (NotBytes, UnicodeDecodeError):
            return data
    return data


def _show(all_told: list[Told], noun: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(show.as_json(all_told), ensure_ascii=False, indent=1))
    else:
        for line in show.page(all_told, noun):
            typer.echo(line)
    if any(told.problems for told in all_told):
        raise typer.Exit(1)
