"""`tidegate inspect …`: what a frame of a regulator's protocol says, and what is wrong with it.

Only ours to say when a platform refuses a frame and does not tell why. Reads frames of anybody.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.asking import JsonOption
from gateway.errors import FrameError
from protocols.inspection.show import lines_of

if TYPE_CHECKING:
    from protocols.northbound.told import Told

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
INPUT_BYTES_MAX = 4 * 1024 * 1024
FRAMES_MAX = 10_000


@app.callback()
def _group() -> None:
    """Frames of regulators' protocols: what one says, and what is wrong with it."""


FramesArgument = Annotated[
    list[str],
    typer.Argument(metavar="FRAME…", help="A frame, a file with frames, or - for what comes in by a pipe."),
]


@app.command()
def hj212(
    frame: FramesArgument,
    as_json: JsonOption = False,
    sm4_key: Annotated[
        Path | None,
        typer.Option(
            "--sm4-key", metavar="FILE", help="Key of encrypted data areas: 32 hex digits, mode 0600."
        ),
    ] = None,
) -> None:
    """Check a frame of HJ 212 or HJ 1404: ##0087QN=…

    Exit code 1 when anything is wrong with one.
    """
    from gateway.northbounds import read_sm4_key
    from protocols.northbound import hj212_told

    key = None if sm4_key is None else read_sm4_key(str(sm4_key), "inspect hj212", "--sm4-key")
    for text in frame:
        if (
            text != "-"
            and "##" not in text
            and "7e7e" not in text.lower()
            and not Path(text[:4096]).is_file()
        ):
            raise FrameError(f"{text!r:.60} is neither a frame, which begins with ##, nor a file.")
    frames = [one for text in frame for one in _lines(_input(text))]
    _show([hj212_told.tell(one, key) for one in frames], as_json)


@app.command()
def sl651(frame: FramesArgument, as_json: JsonOption = False) -> None:
    """Check a frame of SL 651-2014, in hexadecimal digits or raw bytes: 7E7E01…

    Exit code 1 when anything is wrong with one.
    """
    from protocols.northbound import sl651_told

    frames = [one for text in frame for one in _hex_frames(_input(text))]
    _show([sl651_told.tell(one) for one in frames], as_json)


def _input(text: str) -> bytes:
    """What is meant by an argument: what comes in by a pipe, a file, or a frame itself."""
    if text == "-":
        data = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
    elif not text.startswith("##") and is_file(text):
        with Path(text).open("rb") as stream:
            data = stream.read(INPUT_BYTES_MAX + 1)
    else:
        # A shell leaves \r\n as four characters; a frame has none of its own.
        data = text.encode("utf-8", "surrogateescape").replace(b"\\r", b"\r").replace(b"\\n", b"\n")
    if len(data) > INPUT_BYTES_MAX:
        raise FrameError(f"more than {INPUT_BYTES_MAX} bytes: give the frames in parts.")
    return data


def is_file(text: str) -> bool:
    """Whether there is a file of that name; a long frame is no name at all, which is an error to ask for."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _lines(data: bytes) -> list[bytes]:
    """A frame a line; empty lines and those that begin with one # are passed over."""
    lines = [line for line in data.splitlines(keepends=True) if line.strip()]
    frames = [line for line in lines if not re.match(rb"\s*#(?!#)", line)]
    return _bounded(frames)


def _bounded(frames: list[bytes]) -> list[bytes]:
    if not frames:
        raise FrameError("there is no frame in it.")
    if len(frames) > FRAMES_MAX:
        raise FrameError(f"{len(frames)} frames; at most {FRAMES_MAX} are shown at once.")
    return frames


def _hex_frames(data: bytes) -> list[bytes]:
    """A frame a line in hexadecimal digits, in whatever way tools print them; or the bytes of one frame."""
    if data.startswith((b"\x7e\x7e", b"\x01")):
        return [data]
    return _bounded([_unhex(line) for line in _lines(data)])


def _unhex(line: bytes) -> bytes:
    text = line.decode("utf-8", "replace").strip()
    if text.startswith("##"):
        return text.encode()
    digits = re.sub(r"0[xX]|\\x|[\s,:;-]", "", text)
    try:
        return bytes.fromhex(digits)
    except ValueError:
        pass
    wrong = re.search(r"[^0-9a-fA-F]", digits)
    if wrong is None:
        raise FrameError(f"{len(digits)} hexadecimal digits: a byte has two, so one is missing or too many.")
    raise FrameError(f"{text!r:.40} is neither hexadecimal digits ({wrong[0]!r} is none) nor a file.")


def _show(all_told: list[Told], as_json: bool) -> None:
    bad = sum(bool(told.problems) for told in all_told)
    if as_json:
        frames = [told.as_json() for told in all_told]
        typer.echo(json.dumps({"good": not bad, "frames": frames}, ensure_ascii=False, indent=1))
    else:
        for index, told in enumerate(all_told):
            if index:
                typer.echo("")
            for line in lines_of(told):
                typer.echo(line)
            if not told.problems:
                typer.echo(f"This is a good frame of {told.protocol}.")
        if len(all_told) > 1:
            typer.echo(f"\n{len(all_told)} frames, {bad} with something wrong.")
    if bad:
        raise typer.Exit(1)
