"""`tidegate inspect what|frame|message|lora|semtech`: our own bytes, from arguments, files and pipes.

What there is to say is in protocols/inspection; this reads, finds keys, and prints.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption
from gateway.errors import FrameError, KeyFileError, RegistryError
from gateway.inspect_cli import is_file
from protocols.inspection import show
from protocols.inspection.frames import KeyRing, Secrets
from protocols.inspection.words import INPUT_BYTES_MAX, pieces, printable

if TYPE_CHECKING:
    from protocols.northbound.told import Told

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

WordsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="HEX|FILE|-…", help="Hexadecimal digits, base64, a file with either or the bytes, or -."
    ),
]
OneOption = Annotated[
    bool, typer.Option("--one", help="The lines of a text are one thing, broken into several.")
]
KeysOption = Annotated[
    Path | None, typer.Option("--keys", help="What minting wrote (nodes.jsonl): opens what its nodes sealed.")
]
MasterOption = Annotated[
    bool,
    typer.Option(
        "--master-key", help="Keys and epochs of the gateway that --config names, by its master key."
    ),
]
ContextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--context", help="ADDRESS=HEX: the ID Context (16 bytes) of a node's epoch. May be repeated."
    ),
]


@app.command()
def what(words: WordsArgument, one: OneOption = False, as_json: JsonOption = False) -> None:
    """What these bytes may be, the likeliest first, with reasons. Exit code 1 when they are nothing known."""
    from protocols.inspection.guess import guesses

    found = [(data, guesses(data)) for data in _inputs(words, one)]
    if as_json:
        rows = [
            {"bytes": len(data), "guesses": [guess._asdict() for guess in of_it]} for data, of_it in found
        ]
        typer.echo(json.dumps(rows, indent=1))
    else:
        for data, of_it in found:
            typer.echo(
                f"{len(data)} bytes: {'nothing that is known here' if not of_it else ''}".rstrip(": ")
                + (":" if of_it else "")
            )
            for guess in of_it:
                typer.echo(printable(f"  tidegate inspect {guess.command:8}  {guess.reason}"))
    if not all(of_it for _, of_it in found):
        raise typer.Exit(1)


@app.command()
def frame(
    words: WordsArgument,
    keys: KeysOption = None,
    master_key: MasterOption = False,
    context: ContextOption = None,
    one: OneOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """A sealed frame as a link carries it, or a serial line's bytes; with keys, what is inside.

    A join among the frames gives the context for those behind it. Exit code 1 when anything is wrong.
    """
    from protocols.inspection import frames

    ring = _ring(keys, master_key, context, config)
    told = [one_told for data in _inputs(words, one) for one_told in frames.tell(data, ring)]
    _show(told, "frames", as_json)


@app.command()
def message(words: WordsArgument, one: OneOption = False, as_json: JsonOption = False) -> None:
    """A plain message, as it is before sealing: its kind, fields by name, sets with units."""
    from protocols.inspection import messages

    _show([messages.tell(data) for data in _inputs(words, one)], "messages", as_json)


@app.command()
def lora(
    words: WordsArgument,
    keys: KeysOption = None,
    master_key: MasterOption = False,
    context: ContextOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Packets on the air (PHY payloads), one a line; the fragments among them are put together."""
    from protocols.inspection import air

    _show(
        air.tell_packets(_inputs(words, False), _ring(keys, master_key, context, config)), "packets", as_json
    )


@app.command()
def semtech(
    words: WordsArgument,
    keys: KeysOption = None,
    master_key: MasterOption = False,
    context: ContextOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Datagrams of a packet forwarder, as bytes or as their JSON, and the packets that they carry."""
    from protocols.inspection import air

    ring = _ring(keys, master_key, context, config)
    told = [one for data in _inputs(words, False, is_json=True) for one in air.tell_datagram(data, ring)]
    _show(told, "datagrams and packets", as_json)


# --- reading ------------------------------------------------------------------------------------


def _inputs(words: list[str], is_one: bool, *, is_json: bool = False) -> list[bytes]:
    """Everything that is meant, in order."""
    found = []
    for word in words:
        data = _read(word)
        found += [data] if is_json and data.lstrip()[:1] == b"{" else pieces(data, is_one, _source(word))
    return found


def _source(word: str) -> str:
    return "the pipe" if word == "-" else word if is_file(word) else ""


def _read(word: str) -> bytes:
    if word == "-":
        return sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
    path = Path(word)
    try:
        if is_file(word):
            with path.open("rb") as stream:
                return stream.read(INPUT_BYTES_MAX + 1)
    except (OSError, ValueError) as exc:
        raise FrameError(f"{word:.80}: cannot be read: {exc}.") from exc
    return word.encode("utf-8", "surrogateescape")


# --- keys ---------------------------------------------------------------------------------------


def _ring(keys: Path | None, master_key: bool, contexts: list[str] | None, config: Path) -> KeyRing:
    secrets: dict[int, Secrets] = {}
    known: dict[int, list[bytes]] = {}
    if keys is not None:
        secrets |= _minted(keys)
    if master_key:
        of_gateway, known = _of_gateway(config)
        secrets |= of_gateway
    for text in contexts or []:
        address, id_context = _context(text)
        known.setdefault(address, []).append(id_context)
    return KeyRing(secrets, known)


def _minted(file: Path) -> dict[int, Secrets]:
    from gateway import node_file

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise FrameError(
            f"--keys {file}: cannot be read: {exc}. Give the nodes.jsonl that minting wrote."
        ) from exc
    return {node.address: Secrets(*node.keys) for node in node_file.parse(text, str(file))}


def _of_gateway(config: Path) -> tuple[dict[int, Secrets], dict[int, list[bytes]]]:
    """Read from the database beside a running daemon, or without one."""
    from gateway import daemon, schema
    from gateway.asking import load

    settings = load(config)
    file = Path(settings.gateway.data_dir, daemon.DATABASE_NAME)
    if not file.exists():
        raise FrameError(f"{file}: no such database; has this gateway run yet?")
    vault = daemon.load_vault(settings)
    secrets: dict[int, Secrets] = {}
    contexts: dict[int, list[bytes]] = {}
    try:
        with closing(schema.connect_reader(str(file), cache_kib=4096)) as reader:
            for address, sealed in reader.execute(
                "SELECT address, sealed_keys FROM node WHERE sealed_keys IS NOT NULL"
            ):
                try:
                    secrets[address] = Secrets(*vault.open(address, sealed))
                except KeyFileError as exc:
                    typer.echo(f"note: {exc}", err=True)
            rows = reader.execute(
                "SELECT node, id_context FROM epoch WHERE id_context IS NOT NULL ORDER BY id"
            )
            for address, id_context in rows:
                contexts.setdefault(address, []).append(bytes(id_context))
    except sqlite3.Error as exc:
        raise RegistryError(f"{file}: cannot be read: {exc}.") from exc
    return secrets, contexts


def _context(text: str) -> tuple[int, bytes]:
    from gateway import node_file

    name, _, digits = text.partition("=")
    address = node_file.parse_address(name)
    try:
        id_context = bytes.fromhex(digits)
    except ValueError:
        id_context = b""
    if address is None or len(id_context) not in (8, 16):
        raise FrameError(
            f"--context {text!r:.60} is not allowed. Allowed is ADDRESS=HEX, 32 hexadecimal digits."
        )
    return address, id_context


# --- printing -----------------------------------------------------------------------------------


def _show(all_told: list[Told], noun: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(show.as_json(all_told), ensure_ascii=False, indent=1))
    else:
        for line in show.page(all_told, noun):
            typer.echo(line)
    if any(told.problems for told in all_told):
        raise typer.Exit(1)
