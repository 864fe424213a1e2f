"""`tidegate inspect manifest`: the envelope of an update, taken apart, and judged as a node's template judges it.

Which node it is for and whose keys are trusted is not known here: `tidegate release verify` asks that. Everything that
is wrong for every node is named.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flash_tools.errors import InspectError, ReleaseError
from flash_tools.release_show import envelope_lines
from protocols.inspection import show
from protocols.inspection.errors import InspectError as NoBytes
from protocols.inspection.words import hexed, pieces
from protocols.northbound.told import Line, Told
from protocols.wire import manifest

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
# Refusals that come only after the whole shape was found right.
_WHOLE = ("unknown-key", "digest")


@app.command("manifest")
def manifest_(
    words: Annotated[
        list[str],
        typer.Argument(metavar="FILE|HEX|-…", help="A .suit file, hexadecimal digits, base64, or -."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """The signed envelope of an update: what it says, and why every node would refuse it. Exit code 1 if one would."""
    told = [tell(data) for word in words for data in _read(word)]
    if as_json:
        typer.echo(json.dumps(show.as_json(told), indent=1))
    else:
        for line in show.page(told, "envelopes"):
            typer.echo(line)
    if any(one.problems for one in told):
        raise typer.Exit(1)


def tell(data: bytes) -> Told:
    """The template is asked first: what is not of its shape is not handed to a decoder that knows all of CBOR."""
    told = Told("update manifest", [], [], [])
    reason = "unknown-key"
    try:
        manifest.match(data, _AnyDevice(), ())  # type: ignore[arg-type]
    except manifest.Refused as refused:
        reason = refused.reason
        if reason == "unknown-key":  # all else was right: whose key it is, is asked last
            told.notes.append(
                "the template is right; the signature is not checked: tidegate release verify does"
            )
        else:
            told.problems.append(f"{reason}: {refused}")
    try:
        if reason in _WHOLE:
            told.lines.extend(Line(*line.split(None, 1)) for line in envelope_lines(data))
    except ReleaseError as error:
        told.problems.append(str(error))
    if not told.lines:
        told.lines.append(Line("bytes", hexed(data)))
    return told


class _Anything:
    """Equal to whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


class _AnyDevice:
    """A node that every update would be meant for."""

    vendor: Any = _Anything()
    class_id: Any = _Anything()
    sequence = -1
    size_max = manifest.MAX_SIZE
    payload_max = manifest.MAX_SIZE


def _is_file(word: str) -> bool:
    """A long text is no name at all, which is an error to ask for."""
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False


def _read(word: str) -> list[bytes]:
    try:
        if word == "-":
            data = sys.stdin.buffer.read(64 * manifest.MAX_ENVELOPE)
        elif _is_file(word):
            with Path(word).open("rb") as stream:
                data = stream.read(64 * manifest.MAX_ENVELOPE)
        else:
            data = word.encode("utf-8", "surrogateescape")
        return pieces(data, source=word if word == "-" or _is_file(word) else "")
    except (OSError, ValueError) as error:
        raise InspectError(f"{word:.80}: can not be read: {error}") from error
    except NoBytes as error:
        raise InspectError(str(error)) from error
