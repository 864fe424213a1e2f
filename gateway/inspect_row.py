"""`tidegate inspect row NODE [SEQ]`: what the store keeps of a node's records, read beside a running daemon.

A row is checked against the fingerprint that was stored with it; a record that is not there is explained from the
lists of what is lost and from what its epoch is known to have had.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, date_of, load
from gateway.errors import CommandError, GatewayError
from gateway.fingerprints import of_event, of_reading
from gateway.intervals import Intervals
from gateway.records import KIND_EVENT
from gateway.schema import EVENT_COLUMNS, READING_COLUMNS, connect_reader
from protocols import device_schemas
from protocols.inspection import show
from protocols.inspection.messages import FLAGS, OUTCOMES, QUALITIES, STATES
from protocols.inspection.when import placed
from protocols.measurands import RegistryError, registry
from protocols.northbound.told import Line, Told
from protocols.wire import readings
from protocols.wire.codes import EVENT_NAMES
from protocols.wire.errors import WireError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
# Rows in one call; more are for a program that reads the database itself.
ROWS_MAX = 1000
EPOCHS_SHOWN = 8


class Epoch(NamedTuple):
    row_id: int
    number: int
    first_seq: int
    cum: int
    runs: bytes
    heard_ms: int


@app.command()
def row(
    node: Annotated[
        str, typer.Argument(metavar="NODE", help="Address as on the label; a device's by its name.")
    ],
    seq: Annotated[
        str | None,
        typer.Argument(metavar="[SEQ]", help="A record, 17, or a run of them, 17-40; else the latest."),
    ] = None,
    epoch: Annotated[
        str | None, typer.Option("--epoch", help="Its number, hexadecimal (12 digits) or decimal; else any.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, max=ROWS_MAX, help="How many without SEQ.")] = 3,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Rows of the store by node, epoch and seq, read only. Exit code 1 when one is damaged, lost or not there."""
    from gateway.daemon import DATABASE_NAME

    file = Path(load(config).gateway.data_dir, DATABASE_NAME)
    if not file.exists():
        raise GatewayError(f"{file}: no such database; has this gateway run yet?")
    try:
        with closing(connect_reader(str(file), cache_kib=4096)) as reader:
            told = _looked_up(reader, node, seq, epoch, last)
    except sqlite3.Error as exc:
        raise GatewayError(f"{file}: cannot be read: {exc}.") from exc
    if as_json:
        typer.echo(json.dumps(show.as_json(told), ensure_ascii=False, indent=1))
    else:
        for line in show.page(told, "rows"):
            typer.echo(line)
    if any(one.problems for one in told):
        raise typer.Exit(1)


def _looked_up(
    reader: sqlite3.Connection, node: str, seq: str | None, epoch: str | None, last: int
) -> list[Told]:
    address = _address(reader, node)
    for row_id, name, text in reader.execute("SELECT id, name, series FROM device_schema"):
        device_schemas.define(device_schemas.parse(row_id, name, text))
    epochs = _epochs(reader, address, node, epoch)
    first, final = (None, None) if seq is None else _run(seq)
    found = [*_readings(reader, epochs, first, final, last), *_events(reader, epochs, first, final, last)]
    found.sort(key=lambda pair: pair[0])
    told = [one for _, one in (found[-last:] if seq is None else found[:ROWS_MAX])]
    if seq is not None and not told:
        told = [_absent(reader, epochs, first or 0, final or 0)]
    if not told:
        told = [Told("row", [], [f"node {node} has an epoch, and no record yet"], [])]
    return told


def _address(reader: sqlite3.Connection, node: str) -> int:
    from gateway.node_file import parse_address

    device = reader.execute("SELECT address FROM device WHERE name = ?", (node,)).fetchone()
    if device is not None:
        return int(device[0])
    address = parse_address(node)
    if address is None:
        raise CommandError(f"node {node!r:.40} is not an address (0001 to fffe), nor the name of a device.")
    return address


def _epochs(reader: sqlite3.Connection, address: int, node: str, wanted: str | None) -> list[Epoch]:
    rows = reader.execute(
        "SELECT id, number, first_seq, cum, runs, heard_ms FROM epoch WHERE node = ? ORDER BY id", (address,)
    )
    epochs = [Epoch(*row) for row in rows]
    if not epochs:
        known = [
            f"{one:04x}"
            for (one,) in reader.execute("SELECT DISTINCT node FROM epoch ORDER BY node LIMIT 20")
        ]
        raise CommandError(f"nothing was ever heard of node {node}. Heard of: {', '.join(known) or 'none'}.")
    if wanted is None:
        return epochs
    digits = wanted.lower().removeprefix("0x")
    numbers = {
        int(digits, base)
        for base in (10, 16)
        if re.fullmatch(r"[0-9a-f]{1,15}", digits) and _is(digits, base)
    }
    found = [one for one in epochs if one.number in numbers]
    if not found:
        there = ", ".join(f"{one.number:012x}" for one in epochs[-EPOCHS_SHOWN:])
        raise CommandError(f"node {node} has no epoch {wanted!r:.20}. It has {there}.")
    return found


def _is(digits: str, base: int) -> bool:
    return base == 16 or digits.isdecimal()


def _run(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", text)
    if found is None:
        raise CommandError(
            f"{text!r:.40} is not allowed. Allowed is a seq, as 17, or a run of them, as 17-40."
        )
    first = int(found[1])
    final = int(found[2] or first)
    if not 1 <= first <= final or final - first >= ROWS_MAX:
        raise CommandError(
            f"{text!r:.40} is not allowed: a run goes upwards from 1, and has at most {ROWS_MAX}."
        )
    return first, final


def _where(epochs: list[Epoch], first: int | None, final: int | None, last: int) -> tuple[str, list[int]]:
    marks = ", ".join("?" * len(epochs))
    values = [one.row_id for one in epochs]
    if first is None or final is None:
        return f"WHERE epoch IN ({marks}) ORDER BY id DESC LIMIT {last}", values
    return f"WHERE epoch IN ({marks}) AND seq BETWEEN ? AND ? ORDER BY id LIMIT {ROWS_MAX}", [
        *values,
        first,
        final,
    ]


def _readings(
    reader: sqlite3.Connection, epochs: list[Epoch], first: int | None, final: int | None, last: int
) -> Iterator[tuple[tuple[int, int], Told]]:
    by_id = {one.row_id: one for one in epochs}
    where, values = _where(epochs, first, final, last)
    for row in reader.execute(f"SELECT {READING_COLUMNS} FROM reading {where}", values):
        row_id, its, seq, piv, mark, backlog, received_ms, time, boot_time, tq, schema, flags, body = row
        told = _head("reading", row_id, by_id[its], seq, piv, received_ms, time, boot_time, tq)
        told.lines.append(Line("lane", "backlog" if backlog else "fresh"))
        told.lines.append(Line("schema", str(schema), registry().schema_names.get(schema, "")))
        said = time if boot_time is None else boot_time
        if of_reading(its, seq, body, said, schema) != mark:
            told.problems.append("the row does not match its fingerprint: the disk has changed it")
        _tell_values(schema, flags, body, told)
        yield (received_ms, row_id), told


def _tell_values(schema: int, flags: bytes | None, body: bytes, told: Told) -> None:
    try:
        series = registry().of_schema(schema)
        row = readings.decode(readings.schema(schema), 0, body).rows[0]
    except (RegistryError, WireError, LookupError) as exc:
        told.problems.append(f"its body can not be decoded: {exc}")
        return
    for at, (measurand, value) in enumerate(zip(series, row, strict=True)):
        flag = flags[at] if flags is not None and at < len(flags) else 1
        shown = "none" if value is None else f"{measurand.text(value)} {measurand.unit}"
        told.lines.append(
            Line(f"  {measurand.name}", shown, "" if flag == 1 else FLAGS.get(flag, f"flag {flag}"))
        )


def _events(
    reader: sqlite3.Connection, epochs: list[Epoch], first: int | None, final: int | None, last: int
) -> Iterator[tuple[tuple[int, int], Told]]:
    by_id = {one.row_id: one for one in epochs}
    where, values = _where(epochs, first, final, last)
    for row in reader.execute(f"SELECT {EVENT_COLUMNS} FROM event {where}", values):
        row_id, kind, its, seq, piv, mark, received_ms, time, boot_time, tq, code, state, detail = row
        is_event = kind == KIND_EVENT
        told = _head(
            "event" if is_event else "result", row_id, by_id[its], seq, piv, received_ms, time, boot_time, tq
        )
        said = time if boot_time is None else boot_time
        if of_event(its, seq, kind, said, tq, code, state, detail) != mark:
            told.problems.append("the row does not match its fingerprint: the disk has changed it")
        names = STATES if is_event else OUTCOMES
        state_name = names[state] if 0 <= state < len(names) else "not in this version's SPEC"
        told.lines.append(
            Line("code", str(code), EVENT_NAMES.get(code, "")) if is_event else Line("command id", str(code))
        )
        told.lines.append(Line("state" if is_event else "outcome", str(state), state_name))
        told.lines.append(Line("detail", detail))
        yield (received_ms, row_id), told


def _head(
    kind: str, row_id: int, epoch: Epoch, seq: int, piv: int, received_ms: int, time: int, boot_time: int | None,
    tq: int,
) -> Told:  # fmt: skip
    lines = [
        Line("row", f"{kind} {row_id}"),
        Line("epoch", f"{epoch.number:012x}", str(epoch.number)),
        Line("seq", str(seq)),
        Line("PIV", str(piv), "it came in the channel of another epoch" if piv < 0 else ""),
        Line("received", date_of(received_ms)),
        Line(
            "time",
            date_of(time * 1000),
            "" if boot_time is None else f"placed; the node said {placed(boot_time, tq)}",
        ),
        Line("tq", str(tq), QUALITIES[tq] if 0 <= tq < len(QUALITIES) else ""),
    ]
    return Told(f"{kind} {seq}", lines, [], [])


def _absent(reader: sqlite3.Connection, epochs: list[Epoch], first: int, final: int) -> Told:
    """Why no such record is there, as far as the store knows."""
    told = Told("row", [], [], [])
    seqs = str(first) if first == final else f"{first} to {final}"
    for epoch in epochs:
        name = f"epoch {epoch.number:012x}"
        lost = reader.execute(
            "SELECT first, last, elsewhere, at_ms FROM lost WHERE epoch = ? AND first <= ? AND last >= ? LIMIT 5",
            (epoch.row_id, final, first),
        ).fetchall()
        for low, high, elsewhere, at_ms in lost:
            why = (
                "was made in the epoch before" if elsewhere else "is lost: the node gave it up before it came"
            )
            told.notes.append(f"{name}: {low} to {high} {why} (known since {date_of(at_ms)})")
        highest = max([epoch.cum, _highest(reader, epoch), *(end for _, end in Intervals.unpack(epoch.runs))])
        if first > highest:
            told.notes.append(f"{name}: the highest that is known is {highest}")
        elif first <= epoch.cum and not lost:
            told.notes.append(
                f"{name}: up to {epoch.cum} all was committed once; retention has removed what is gone"
            )
    told.problems.append(f"no row of seq {seqs}")
    return told


def _highest(reader: sqlite3.Connection, epoch: Epoch) -> int:
    """Of the rows that are there; the epoch's own account is written seldom."""
    queries = (f"SELECT max(seq) FROM {table} WHERE epoch = ?" for table in ("reading", "event"))
    return max(reader.execute(query, (epoch.row_id,)).fetchone()[0] or 0 for query in queries)
