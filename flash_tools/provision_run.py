"""`tidegate provision` with boards at its ports: one command for a whole run of a station."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flash_tools import batch, board_at, firmware_image, ports, shipped
from flash_tools.batch import Row
from flash_tools.bench_folder import (
    DEFAULT_ACCEPTANCE,
    DEFAULT_BENCH,
    AcceptanceOption,
    BenchOption,
    ConfigOption,
    check_text,
    door,
    told,
    working,
)  # fmt: skip
from flash_tools.errors import BatchError, ProvisionError
from flash_tools.flash_show import Show
from flash_tools.journal import Journal
from flash_tools.option_order import refuse_options_before
from flash_tools.provisioning import Units, Wanted
from flash_tools.station import LABELS, RECORDS, Outcome, StationRun

JOURNAL_NAME = "flash-journal.jsonl"


def provision(
    ctx: typer.Context,
    port: Annotated[
        list[str] | None,
        typer.Option("--port", "--ports", "-p", help="Of a board; repeat it, or name several with commas."),
    ] = None,
    take_all: Annotated[bool, typer.Option("--all", help="Every port that may be a board.")] = False,
    units_csv: Annotated[
        Path | None, typer.Option("--batch", help="A CSV that says what each board becomes, a line per unit.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look for mistakes in --batch.")] = False,
    node_type: Annotated[
        str | None, typer.Option("--type", help="Of all boards: a node type, as river.")
    ] = None,
    board: Annotated[str | None, typer.Option("--board", help="Of all boards: a folder of boards/.")] = None,
    area: Annotated[str | None, typer.Option("--area", help="Area code, as 330110001001.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="The place that they will serve.")] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Of one board, hexadecimal; else the station's next.")
    ] = None,
    position: Annotated[
        str | None, typer.Option("--position", help="Of one board: LATITUDE,LONGITUDE in WGS-84 degrees.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--setting", help="NAME=NUMBER that they start with. May be repeated.")
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            "--calibration",
            help="Of one board: ph=17, or with both points ph=17:7.02/7.00:4.05/4.01. Repeat it.",
        ),
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help="On the air: cn470 or eu868; else a line.")
    ] = None,
    channel: Annotated[int, typer.Option("--channel", help="Of the plan: the first that they use.")] = 0,
    channels: Annotated[int | None, typer.Option("--channels", help="How many.")] = None,
    sf: Annotated[int, typer.Option("--sf", help="Spreading factor, fixed; 0: free.")] = 0,
    micropython: Annotated[
        Path | None, typer.Option("--micropython", help="MicroPython's .bin file, or a folder of them.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="This release of MicroPython only.")
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option("--release", help="Flash this release, or the newest of each kind in a folder of them."),
    ] = None,
    downgrade: Annotated[
        bool, typer.Option("--downgrade", help="Also replace a newer release than the one that is flashed.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Boards whose unit was scrapped or retired become new units.")
    ] = False,
    erase_state: Annotated[
        bool, typer.Option("--erase-state", help="Boards that are nodes of somebody else's become ours.")
    ] = False,
    repartition: Annotated[
        bool, typer.Option("--repartition", help="Replace a partition table that is not ours.")
    ] = False,
    boot_s: Annotated[
        float,
        typer.Option("--boot-check", min=5, max=600, help="Seconds that a node may take for its hello."),
    ] = 60.0,
    bench: BenchOption = DEFAULT_BENCH,
    config: ConfigOption = None,
    acceptance: AcceptanceOption = DEFAULT_ACCEPTANCE,
    who: Annotated[str, typer.Option("--who", help="Who works here; default: the login name.")] = "",
    take_port: Annotated[
        bool, typer.Option("--take-port", help="Ask the gateway on this machine for its ports meanwhile.")
    ] = False,
    baud: Annotated[int, typer.Option("--baud", min=9600, max=3_000_000, help="Of the transfer.")] = 460800,
) -> None:
    """From blank boards to labelled units: key, flash, verify, boot check, label, registry, record.

    All boards at once; one that fails costs the others nothing. The same command goes on after a cut, and sends nothing
    to boards that are done. Begin with `tidegate provision init --name bench-1 --addresses 0100-01ff`.
    """
    if ctx.invoked_subcommand is not None:
        refuse_options_before(ctx, "provision")
        return
    if check:
        _tell_check(units_csv)
        return
    check_text("--who", who)
    names = ports.choose([one for text in port or [] for one in text.split(",") if one], take_all)
    texts = {
        "type": node_type or "",
        "board": board or "",
        "area": area or "",
        "site": site or "",
        "address": address or "",
        **_position(position),
        "settings": " ".join(setting or []),
        "calibration": " ".join(calibration or []),
        "plan": plan or "",
        "channel": str(channel),
        "channels": "" if channels is None else str(channels),
        "sf": str(sf),
    }
    rows = batch.read(units_csv) if units_csv is not None else None
    one = _one_for_all(texts, len(names)) if rows is None else None
    manner = board_at.Manner(
        micropython=micropython,
        version=None if version is None else firmware_image.parse_version(version),
        release=release,
        downgrade=downgrade,
        erase_state=erase_state,
        repartition=repartition,
        boot_s=boot_s,
        baud=baud,
    )
    if release is None:
        typer.echo(shipped.NO_RELEASE)
    with working(bench) as (place, units), _lent(names, config or place.gateway, take_port):
        choose = _chooser(rows, units) if rows is not None else _always(one)
        images, journal = board_at.Images(manner), Journal(bench / JOURNAL_NAME)
        _make(images, [row.wanted for row in rows or []] + ([one] if one else []), len(names))
        run = StationRun(
            place,
            units,
            door(place, config),
            who=who or getpass.getuser(),
            again=again,
            acceptance=acceptance,
            flashed=journal.nodes(),
        )
        with told(bench), Show() as show:
            done = run.run(names, lambda name: board_at.opened(name, images, journal, show.board), choose)
    good = [units.of_address(int(one.unit, 16)) for one in done if one.unit and not one.problem]
    _tell(done, bench, is_known=all(unit is not None and unit.is_known for unit in good))


def _one_for_all(texts: Mapping[str, str], boards: int) -> Wanted:
    for name in ("type", "board", "area"):
        if not texts[name]:
            raise ProvisionError(
                f"--{name} is missing. Say what the boards become with --type, --board and --area, or --batch"
            )
    for name in ("address", "latitude", "calibration"):
        if texts[name] and boards > 1:
            option = {"latitude": "position"}.get(name, name)
            raise ProvisionError(f"--{option} is of one board, and there are {boards}: use --batch")
    return batch.wanted_of(texts)


def _position(text: str | None) -> dict[str, str]:
    if text is None:
        return {"latitude": "", "longitude": ""}
    latitude, comma, longitude = text.partition(",")
    if not comma:
        raise BatchError(f"--position {text!r:.60}: write LATITUDE,LONGITUDE in degrees, as 30.2741,120.1551")
    return {"latitude": latitude.strip(), "longitude": longitude.strip()}


def _always(wanted: Wanted | None) -> Callable[[str, str], Wanted]:
    def choose(mac: str, chip: str) -> Wanted:
        assert wanted is not None
        return wanted

    return choose


def _chooser(rows: list[Row], units: Units) -> Callable[[str, str], Wanted]:
    """Lines of a table; called for one board at a time, which is minted before the next one asks."""

    def choose(mac: str, chip: str) -> Wanted:
        row = batch.row_for(rows, mac, chip, units.all())
        if row is None:
            raise ProvisionError(
                f"board {mac} ({chip}) is in no line of the table, and no line without a MAC is free for its kind: a "
                "line is taken while a unit lives that has its site. Add one for it"
            )
        return row.wanted

    return choose


def _make(images: board_at.Images, wanted: list[Wanted], boards: int) -> None:
    """What is missing is told before a board is touched, and none waits in its loader for an image.

    A table may have more kinds than there are boards here: then each is made when its board is known.
    """
    kinds = {(one.board, one.node_type) for one in wanted}
    if len(kinds) <= boards:
        console = Console(stderr=True)
        with console.status("building the images …") if console.is_terminal else contextlib.nullcontext():
            for board, node_type in sorted(kinds):
                images.make(board, node_type)


def _tell_check(path: Path | None) -> None:
    if path is None:
        raise ProvisionError("--check looks for mistakes in a table: name it with --batch")
    rows = batch.read(path)
    kinds: dict[str, int] = {}
    for row in rows:
        kind = f"{row.wanted.node_type} on {row.wanted.board}"
        kinds[kind] = kinds.get(kind, 0) + 1
    typer.echo(f"{path}: {len(rows)} units, no mistake")
    for kind, count in sorted(kinds.items()):
        typer.echo(f"{count:6d}  {kind}")


def _tell(done: list[Outcome], bench: Path, *, is_known: bool) -> None:
    for one in done:
        if one.problem:
            typer.echo(f"{one.port}  {one.unit or '----'}  FAILED: {one.problem}")
        else:
            did = ", ".join(one.did) or "was done already, nothing sent"
            size = f" ({-(-one.data_bytes // 1024)} KiB)" if one.data_bytes else ""
            typer.echo(f"{one.port}  {one.unit}  {one.mac}  {did}{size}")
    failed = sum(1 for one in done if one.problem)
    typer.echo(f"{len(done) - failed} of {len(done)} boards done, {failed} failed")
    if failed < len(done):
        typer.echo(f"labels: {bench / LABELS}   records: {bench / RECORDS}")
        if not is_known:
            typer.echo(
                "No gateway knows them yet: tidegate provision import, or export and carry the file there"
            )
    if failed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _lent(names: list[str], config: Path | None, take_port: bool) -> Iterator[None]:
    """The ports that the gateway on this machine has, for as long as this lasts."""
    if not take_port:
        yield
        return
    if config is None:
        raise ProvisionError(
            "--take-port: name the gateway.toml of the gateway that has the ports with --config"
        )
    from flash_tools.port_loan import borrowed

    with borrowed(names, config, lambda text: typer.echo(text)):
        yield
