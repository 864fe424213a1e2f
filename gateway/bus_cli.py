"""`tidegate bus …`: who is on a Modbus bus, and what a device says; for a person with a laptop at a cabinet."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway.errors import BusError, ConfigError, ControlError
from gateway.pollers import modbus_watch
from gateway.pollers.modbus_client import Client
from gateway.pollers.modbus_ports import SERIAL, TCP, Place, PortSettings, parse
from gateway.pollers.modbus_profile import FUNCTIONS
from gateway.pollers.modbus_scan import TRIALS, Finding, Scan
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import ANSWERED, EXCEPTIONS, LOST, REFUSED, Device, Outcome, Request, Span
from gateway.profile_library import Library
from gateway.profiles import Profile
from gateway.site_pages import bus_page, fit_words, gateway_page, line_words
from protocols import fields
from protocols.measurands import registry

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

AddressArgument = Annotated[
    str, typer.Argument(metavar="BUS", help="serial:/dev/ttyUSB0, tcp:10.0.0.7:502 or rtu-tcp:10.0.0.7:4001.")
]
ParityOption = Annotated[str, typer.Option(help="none, even or odd.")]
BaudOption = Annotated[int, typer.Option(help="Bits per second of a serial line.")]
UnitOption = Annotated[int, typer.Option(min=1, max=255, help="Unit id of the device.")]
FunctionOption = Annotated[
    Literal["holding", "input"], typer.Option(help="holding (function 03) or input registers (04).")
]
ProfilesOption = Annotated[
    Path | None,
    typer.Option("--profiles", exists=True, file_okay=False, help="A folder with your own profiles."),
]
PARITY = {"none": "N", "even": "E", "odd": "O"}


def _place(address: str) -> Place:
    try:
        return parse(address)
    except ValueError as exc:
        raise BusError(str(exc)) from exc


def _numbers(text: str, lowest: int, highest: int) -> list[int]:
    """1-5,20 as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise BusError(f"'{part}' is no number and no range. Allowed are lists such as 1-10,20.")
        found += range(int(first), int(last or first) + 1)
        if not found or min(found) < lowest or max(found) > highest:
            raise BusError(f"'{part}' is not within {lowest} to {highest}.")
    return list(dict.fromkeys(found))


def _parities(text: str) -> list[str]:
    found = [word.strip() for word in text.split(",")]
    for word in found:
        if word not in PARITY:
            raise BusError(f"parity '{word}' is not one of none, even, odd.")
    return [PARITY[word] for word in found]


def _line(place: Place, settings: PortSettings) -> Line:
    return Line() if place.kind == TCP else settings.line


# --- scan ----------------------------------------------------------------------------------------


@app.command()
def scan(
    address: AddressArgument,
    units: Annotated[str, typer.Option(help="Unit ids, such as 1-10,20.")] = "1-247",
    bauds: Annotated[str, typer.Option(help="Of a serial line, such as 9600,19200.")] = "9600",
    parities: Annotated[str, typer.Option(help="Of a serial line: none,even,odd.")] = "none",
    timeout_ms: Annotated[
        int, typer.Option(min=10, max=5000, help="How long to wait for each answer.")
    ] = 100,
    trials: Annotated[
        int, typer.Option(min=0, max=1000, help="How often each device is asked then.")
    ] = TRIALS,
    own: ProfilesOption = None,
    report: Annotated[Path | None, typer.Option(help="Write a printable page of it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Find who answers: unit ids x bauds x parities, how well, and which profile fits."""
    place = _place(address)
    wanted = _numbers(units, 1, 255)
    settings = [
        PortSettings(baud, parity) for baud in _numbers(bauds, 300, 921_600) for parity in _parities(parities)
    ]
    if place.kind != SERIAL:
        settings = settings[:1]
    console = Console(stderr=as_json)
    work = Scan(lambda own_settings: _line(place, own_settings), time.monotonic, timeout_ms / 1000)
    with _progress(console) as progress:
        try:
            asyncio.run(_scan(work, place, settings, wanted, trials, _profiles(own), progress))
        except KeyboardInterrupt:
            console.print("Stopped; what was found so far:")
    if as_json:
        typer.echo(json.dumps([_row(finding) for finding in work.found], indent=1))
    else:
        console.print(_found_table(place, work.found))
        _advise(console, work)
    if report is not None:
        _write(report, bus_page(place, work))
        console.print(f"{report}: written; print it or open it in a browser.")


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise BusError(f"{page}: cannot be written: {exc.strerror}.") from exc


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.completed}/{task.total}"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True)


async def _scan(
    work: Scan,
    place: Place,
    settings: Sequence[PortSettings],
    units: Sequence[int],
    trials: int,
    profiles: dict[str, Profile],
    progress: Progress,
) -> None:
    task = progress.add_task("", total=len(settings) * len(units))
    for one in settings:
        client = Client(place, one)
        await client.open()
        try:
            speed = f"{one.baud} baud {one.parity}" if place.kind == SERIAL else str(place)

            def step(unit: int, speed: str = speed) -> None:
                progress.update(task, advance=1, description=f"{speed}, unit {unit}: {len(work.found)} found")

            def again(count: int) -> None:
                progress.update(task, total=(progress.tasks[0].total or 0) + count)

            for finding in await work.sweep(client, one, units, step, again):
                progress.update(task, description=f"{speed}, unit {finding.unit}: how well, and what it is")
                await work.try_out(client, finding, trials)
                await work.identify(client, finding, profiles)
        finally:
            client.close()


def _profiles(own: Path | None) -> dict[str, Profile]:
    library = Library(own)
    found = {}
    for name in library.names():
        try:
            profile = library.get(name)
        except ConfigError as exc:
            raise BusError(str(exc)) from exc
        if profile.modbus is not None:
            found[name] = profile
    return found


def _found_table(place: Place, found: Sequence[Finding]) -> Table:
    table = Table(title=f"{len(found)} on {place}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("unit", justify="right")
    table.add_column("line", no_wrap=True)
    table.add_column("answered", justify="right", no_wrap=True)
    table.add_column("ms", justify="right")
    table.add_column("seems to be: points that make sense")
    for each in found:
        bad = "" if each.answered_share >= 0.98 else "red"
        table.add_row(
            str(each.unit),
            line_words(each, place.kind),
            f"{each.answered}/{each.asked}",
            f"{1000 * each.latency_s:.0f}",
            Text(fit_words(each) + (f"\nsays it is {each.says}" if any(each.says) else "")),
            style=bad,
        )
    return table


def _advise(console: Console, work: Scan) -> None:
    for settings, count in work.noise.items():
        console.print(
            f"{count} answers at {settings.baud} baud {settings.parity} could not be read: a wrong speed or parity, "
            "two devices with one unit id, or a line without termination."
        )
    if not work.found:
        console.print(
            "Nobody answered. Are A and B the right way round, is the device on, and is its speed among --bauds and "
            "--parities? A slow device needs --timeout-ms 500."
        )


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "unit": finding.unit,
        "baud": finding.settings.baud,
        "parity": finding.settings.parity,
        "asked": finding.asked,
        "answered": finding.answered,
        "spoilt": finding.spoilt,
        "silent": finding.silent,
        "latency_ms": round(1000 * finding.latency_s, 1),
        "says": finding.says._asdict(),
        "fits": [fit._asdict() for fit in finding.fits],
    }


# --- watch ---------------------------------------------------------------------------------------


@app.command()
def watch(
    address: AddressArgument,
    unit: UnitOption,
    at: Annotated[int, typer.Option(min=0, max=65535, help="First register, counted from 0.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=60, help="How many registers.")] = 8,
    function: FunctionOption = "holding",
    baud: BaudOption = 9600,
    parity: ParityOption = "none",
    interval_s: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two reads.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Read once and end.")] = False,
) -> None:
    """Look at registers in all byte orders, live; `tidegate bus pick` writes one into a profile."""
    place, settings = _place(address), PortSettings(baud, _parities(parity)[0])
    request = Request(unit, FUNCTIONS[function], at, min(count, 65_536 - at))
    try:
        asyncio.run(_watch(place, settings, request, function, interval_s, once))
    except KeyboardInterrupt:
        return


async def _watch(
    place: Place, settings: PortSettings, request: Request, function: str, interval_s: float, once: bool
) -> None:
    client = Client(place, settings)
    await client.open()
    pieces = [Span(request.address, request.quantity)]
    last: list[int | None] = []
    try:
        console = Console()
        with Live(console=console, auto_refresh=False) as live:
            while True:
                pieces, now = await _block(client, place, settings, request, pieces)
                changed = {
                    request.address + i
                    for i, (old, new) in enumerate(zip(last, now, strict=False))
                    if old != new
                }
                last = now
                table = modbus_watch.table(function, request.address, last, changed)
                if console.is_terminal:
                    live.update(table, refresh=True)
                else:  # into a file or a pipe: one table after the other
                    console.print(table)
                if once:
                    return
                await asyncio.sleep(interval_s)
    finally:
        client.close()


async def _block(
    client: Client, place: Place, settings: PortSettings, request: Request, pieces: list[Span]
) -> tuple[list[Span], list[int | None]]:
    """Read `pieces` of the block; one that is refused is halved until what is left can be read."""
    values: list[int | None] = [None] * request.quantity
    todo, good = list(pieces), []
    outcome = Outcome(LOST)
    while todo:
        piece = todo.pop(0)
        outcome = await _ask(
            client, place, settings, request._replace(address=piece.address, quantity=piece.quantity)
        )
        begin = piece.address - request.address
        if outcome.kind == ANSWERED:
            values[begin : begin + piece.quantity] = outcome.values
            good.append(piece)
        elif outcome.kind == REFUSED and piece.quantity > 1:
            half = piece.quantity // 2
            todo = [Span(piece.address, half), Span(piece.address + half, piece.quantity - half), *todo]
        elif outcome.kind != REFUSED:
            if not client.is_open or pieces == [Span(request.address, request.quantity)]:
                raise BusError(_why_not(outcome, request))
            good.append(piece)  # one that was lost is asked for again at the next look
    if not good:
        raise BusError(_why_not(outcome, request))
    return good, values


async def _ask(client: Client, place: Place, settings: PortSettings, request: Request) -> Outcome:
    """Ask up to three times: the same request, so that a late answer is the right one, too."""
    device = Device("", request.unit, (), timeout_s=0.5)
    outcome = Outcome(LOST)
    for _ in range(3):
        outcome = await client.exchange(request, _line(place, settings).timeout_s(device, request))
        if outcome.kind in (ANSWERED, REFUSED, LOST):
            break
    return outcome


def _why_not(outcome: Outcome, request: Request) -> str:
    if outcome.kind == REFUSED:
        words = EXCEPTIONS.get(outcome.code, "not in the standard")
        return (
            f"unit {request.unit} refuses {request.quantity} registers from {request.address}: exception "
            f"{outcome.code}, {words}. Try fewer registers, another --at, or the other --function."
        )
    if outcome.kind == ANSWERED:
        return ""
    return f"unit {request.unit} does not answer ({outcome.kind}). `tidegate bus scan` finds who does."


@app.command()
def pick(
    address: AddressArgument,
    unit: UnitOption,
    at: Annotated[int, typer.Option(min=0, max=65535, help="Its first register, counted from 0.")],
    measurand: Annotated[str, typer.Option(help="What it is, by the registry: level, ph, voltage …")],
    into: Annotated[Path, typer.Option(help="The profile to write it into; made when missing.")],
    kind: Annotated[
        Literal["u16", "s16", "u32", "s32", "f32", "u64", "s64", "f64"],
        typer.Option("--type", help="Number type."),
    ] = "u16",
    order: Annotated[Literal["ABCD", "CDAB", "BADC", "DCBA"], typer.Option(help="Byte order.")] = "ABCD",
    scale: Annotated[float, typer.Option(help="Raw number to unit.")] = 1.0,
    name: Annotated[str, typer.Option(help="Where a device has the measurand more than once.")] = "",
    function: FunctionOption = "holding",
    baud: BaudOption = 9600,
    parity: ParityOption = "none",
) -> None:
    """Read a number once, and write how it is read into a profile."""
    place, settings = _place(address), PortSettings(baud, _parities(parity)[0])
    length = fields.SIZES[kind] // 2
    request = Request(unit, FUNCTIONS[function], at, length)

    async def read() -> Outcome:
        client = Client(place, settings)
        await client.open()
        try:
            return await _ask(client, place, settings, request)
        finally:
            client.close()

    outcome = asyncio.run(read())
    if outcome.kind != ANSWERED:
        raise BusError(_why_not(outcome, request))
    value = modbus_watch.value_of(kind, order, outcome.values, scale)
    written = modbus_watch.pick(into, function, at, kind, order, measurand, scale=scale, name=name)
    shown = (
        f"{value:.7g} {registry().by_name[measurand].unit}" if isinstance(value, (int, float)) else "no value"
    )
    typer.echo(f"{measurand} = {shown} now. Written into {into}:\n\n{written}")


# --- report --------------------------------------------------------------------------------------


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("site.html"),
    config: Annotated[Path, typer.Option("--config", "-c", envvar="TIDEGATE_CONFIG")] = Path("gateway.toml"),
) -> None:
    """Write a printable page of a running gateway's buses and devices: states, levels, error rates."""
    from gateway import config as configs
    from gateway import control

    settings = configs.load(config)
    folder = Path(settings.gateway.data_dir)
    status = control.ask(folder, {"operation": "status"})
    listed = control.ask(folder, {"operation": "device.list"})
    if status is None or listed is None:
        raise ControlError(f"no gateway is running on {folder}. Start it: tidegate gateway run")
    _write(out, gateway_page(status, listed.get("devices", [])))
    typer.echo(f"{out}: written; print it or open it in a browser.")
