"""`tidegate ble …`: what is heard on Bluetooth, and what one device says; for a person with a laptop at a lamp post."""

from __future__ import annotations

import asyncio
import difflib
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway import bind_key, limits
from gateway import log as logs
from gateway.clock import SystemClock
from gateway.log import printable
from gateway.pollers.ble_backend import Backend, BlueZ, or_patterns
from gateway.pollers.ble_faults import ABSENT, OTHER, STACK_ERRORS, BleFault, classify, explain
from gateway.pollers.ble_identity import Identities
from gateway.pollers.ble_scan import Scanner, WantedMode
from gateway.pollers.ble_survey import Found, Survey, fitting, patterns_of, profiles
from gateway.pollers.ble_watch import Watch
from gateway.profile_library import Library
from gateway.site_pages import air_page

if TYPE_CHECKING:
    from bleak.backends.device import BLEDevice

    from gateway.pollers.ble_advert import Advert
    from gateway.profiles import Profile

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

AdapterOption = Annotated[
    str, typer.Option("--adapter", help="An adapter of BlueZ, such as hci1; default: the first.")
]
TransportOption = Annotated[
    str,
    typer.Option(
        "--transport",
        help="A radio without BlueZ: usb:0, serial:/dev/ttyACM0, tcp-client:127.0.0.1:6402 (of `tidegate street ble`).",
    ),
]
ProfilesOption = Annotated[
    Path | None,
    typer.Option("--profiles", exists=True, file_okay=False, help="A folder with profiles of your own."),
]
ActiveOption = Annotated[
    bool,
    typer.Option("--active", help="Ask devices for their names: they answer, which costs their batteries."),
]
_FRAME_S = 0.25


@app.command()
def scan(
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3600, help="How long to listen.")] = 15.0,
    adapter: AdapterOption = "",
    transport: TransportOption = "",
    active: ActiveOption = False,
    own: ProfilesOption = None,
    report: Annotated[Path | None, typer.Option(help="Write a printable page of it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List what is heard: address, name, strength, what it seems to be, and which profile fits."""
    known = profiles(Library(own))
    survey = Survey()
    backend = backend_of(adapter, transport, known)
    asyncio.run(_listen(backend, survey, seconds, "active" if active else "auto"))
    if report is not None:
        report.write_text(air_page(survey, seconds, known), encoding="utf-8")
        typer.echo(f"{report}: written; print it or open it in a browser.", err=True)
    if as_json:
        typer.echo(json.dumps([_row(one, known) for one in survey.by_strength()], indent=1))
        return
    console = Console()
    console.print(_table(survey, known))
    if not survey.found:
        console.print(
            "Nothing was heard. Is a device near, and awake? Some advertise only after their button was pressed."
        )
    else:
        console.print("One of them, live: tidegate ble watch ADDRESS")


@app.command()
def watch(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="As `tidegate ble scan` shows it; none with --irk-file.")
    ] = "",
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="End after so long; default: Ctrl-C.")
    ] = 0.0,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect/--no-connect", help="Connect and read its characteristics, where it lets us."
        ),
    ] = True,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="With the bind key of an encrypted BTHome device, mode 0600."),
    ] = None,
    irk_file: Annotated[
        Path | None,
        typer.Option(
            "--irk-file",
            help="With the identity resolving key of a device that changes its address, mode 0600.",
        ),
    ] = None,
    adapter: AdapterOption = "",
    transport: TransportOption = "",
    own: ProfilesOption = None,
) -> None:
    """Show live what one device advertises and, when it can be connected to, every value that it has."""
    if bool(address) == bool(irk_file):
        raise BleFault(OTHER, "name the device: ADDRESS, or --irk-file for one that changes its address.")
    if address and not re.fullmatch(r"([0-9A-F]{2}:){5}[0-9A-F]{2}", address.upper()):
        raise BleFault(OTHER, f"{address!r:.40} is no address. Allowed is one such as A4:C1:38:01:02:03.")
    known = profiles(Library(own))
    backend = backend_of(adapter, transport, known)
    try:
        key = None if key_file is None else bind_key.load(key_file)
        who = address.upper() or f"the device of {irk_file}"
        irks = {} if irk_file is None else {who: bind_key.load(irk_file, bind_key.IDENTITY_KEY)}
        one = Watch(backend, who, known, connect=connect, key=key)
        asyncio.run(_watch(backend, one, Identities({}, irks), seconds))
    except KeyboardInterrupt:
        typer.echo("")


def backend_of(adapter: str, transport: str, known: dict[str, Profile]) -> Backend:
    """The Bluetooth stack that was asked for."""
    if adapter and transport:
        raise BleFault(
            "other", "--adapter names an adapter of BlueZ, --transport a radio without it: name one of them."
        )
    if not transport:
        services, companies = patterns_of(known.values())
        return BlueZ(adapter, or_patterns(services, companies))
    try:
        from gateway.pollers.ble_bumble import Bumble
    except ModuleNotFoundError as exc:
        raise BleFault(
            OTHER, f"--transport needs the Python package '{exc.name}': pip install 'tidegate[radio]'"
        ) from exc
    return Bumble(transport)


async def _listen(backend: Backend, survey: Survey, seconds: float, mode: WantedMode) -> None:
    """Scan for so long behind a progress bar; a scanner that cannot start is an error with what to do about it."""
    scanner = _scanner(backend, survey, mode)
    with _progress() as progress:
        task = progress.add_task("starting", total=seconds)
        work = asyncio.create_task(_raising(scanner.session))
        try:
            until_s = 0.0
            while not work.done() and (not until_s or time.monotonic() < until_s):
                if scanner.is_scanning and not until_s:
                    until_s = time.monotonic() + seconds
                left_s = until_s - time.monotonic() if until_s else seconds
                text = f"{len(survey.found)} devices, {scanner.counters.adverts} adverts ({scanner.mode})"
                progress.update(task, completed=seconds - left_s, description=text)
                await asyncio.wait((work,), timeout=_FRAME_S)
            if work.done():
                work.result()
        finally:
            await _end(work, backend)


def _scanner(backend: Backend, survey: Survey, mode: WantedMode) -> Scanner:
    return Scanner(
        backend,
        SystemClock(),
        logs.setup("warning", "console"),
        mode=mode,
        on_heard=lambda _device, advert: survey.heard(advert),
        on_news=lambda _advert: None,
    )


async def _raising(session: Callable[[], Awaitable[None]]) -> None:
    """Sessions one after the other, whose troubles are told as a person can act on them."""
    try:
        while True:
            await session()
    except STACK_ERRORS as exc:
        raise BleFault(classify(exc), explain(exc, "cannot scan")) from exc


async def _end(work: asyncio.Task[None], backend: Backend) -> None:
    work.cancel()
    await asyncio.wait((work,))
    await backend.close()


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _row(one: Found, known: dict[str, Profile]) -> dict[str, object]:
    return {
        "address": one.address,
        "name": one.name,
        "rssi_dbm": one.rssi_dbm,
        "best_dbm": one.best_dbm,
        "adverts": one.count,
        "seems": one.seems(),
        "profiles": fitting(known, one.latest),
        "service_data": {uuid: data.hex() for uuid, data in one.latest.service_data.items()},
        "manufacturer_data": {f"{key:04x}": data.hex() for key, data in one.latest.manufacturer_data.items()},
    }


def _table(survey: Survey, known: dict[str, Profile]) -> Table:
    title = f"{len(survey.found)} devices heard"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("address", no_wrap=True, min_width=17)  # it is what the next command wants
    for column in ("name", "dBm", "heard", "seems to be"):
        table.add_column(column, overflow="fold", justify="right" if column in ("dBm", "heard") else "left")
    table.add_column("profile", no_wrap=True, min_width=21)  # and this is what the configuration wants
    for one in survey.by_strength():
        cells = (
            one.address,
            one.name,
            str(one.best_dbm),
            str(one.count),
            one.seems(),
        )
        fits = "\n".join(fitting(known, one.latest))
        table.add_row(*(Text(printable(cell)) for cell in cells), Text(fits))
    return table


# --- one device -----------------------------------------------------------------------------------


async def _watch(backend: Backend, one: Watch, identities: Identities, seconds: float) -> None:
    console = Console()
    survey = Survey()

    def heard(device: BLEDevice, advert: Advert) -> None:
        survey.heard(advert)
        one.heard(device, advert)

    scanner = Scanner(
        backend,
        SystemClock(),
        logs.setup("error", "console"),
        on_heard=heard,
        on_news=lambda _advert: None,
        who=identities.of,
    )
    work = asyncio.create_task(_raising(scanner.session))
    reader = asyncio.create_task(one.run())
    try:
        started_s = time.monotonic()
        with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
            while not seconds or time.monotonic() - started_s < seconds:
                await asyncio.wait((work, reader), timeout=_FRAME_S, return_when=asyncio.FIRST_COMPLETED)
                for task in (work, reader):
                    if task.done():
                        task.result()
                waited_s = time.monotonic() - started_s
                if not one.count and waited_s > limits.BLE_PRESENT_S:
                    raise BleFault(ABSENT, _not_heard(one.who, survey, waited_s))
                live.update(one.table(waited_s))
        if not console.is_terminal:
            console.print(one.table(time.monotonic() - started_s))
    finally:
        reader.cancel()
        await asyncio.wait((reader,))
        await _end(work, backend)


def _not_heard(address: str, survey: Survey, waited_s: float) -> str:
    near = difflib.get_close_matches(address, survey.found, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"{address} was not heard within {waited_s:.0f} s, {len(survey.found)} others were.{hint} Is it in reach, and "
        f"awake? `tidegate ble scan` lists what is heard. A device with a private address has another one every 15 "
        f"minutes: it is found by its identity resolving key, --irk-file here and irk_file in the configuration."
    )
