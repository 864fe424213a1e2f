"""`tidegate provision`: from a box of blank boards to labelled units that a gateway knows, and what became of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flash_tools import addresses, files, key_store, label, mint, provision_run
from flash_tools.bench_folder import (
    BENCH_FILE,
    BOOK_FILE,
    DEFAULT_ACCEPTANCE,
    DEFAULT_BENCH,
    AcceptanceOption,
    BenchOption,
    ConfigOption,
    JsonOption,
    UnitArgument,
    UnitsArgument,
    WhyOption,
    alive,
    check_text,
    door,
    find,
    looked_at,
    told,
    working,
)  # fmt: skip
from flash_tools.errors import ProvisionError
from flash_tools.provisioning import LABELLED, RETIRED, SCRAPPED, Unit
from flash_tools.station import LABELS, StationRun

app = typer.Typer(help="Provision boards: key, flash, label, record, registry (technician).")
app.callback(invoke_without_command=True)(provision_run.provision)


@app.command("init")
def init(
    name: Annotated[str, typer.Option("--name", help="Of this station, as bench-1.")] = "",
    own: Annotated[
        list[str] | None,
        typer.Option("--addresses", help="A range that this station gives out, as 0100-01ff."),
    ] = None,
    bench: BenchOption = DEFAULT_BENCH,
    gateway: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="gateway.toml of the gateway that takes the units in."),
    ] = None,
) -> None:
    """Make a bench: a folder with its table of stations, and a master key that seals what it mints."""
    if not name or not own:
        raise ProvisionError(
            "which station is this, and which addresses does no other one give out? With one station: "
            f"tidegate provision {addresses.INIT}"
        )
    with told(bench):
        bench.mkdir(parents=True, exist_ok=True)
        table = bench / BENCH_FILE
        if table.exists():
            raise ProvisionError(
                f"{table}: is there already. Change it with an editor, or choose another --bench"
            )
        ranges = ", ".join(f'"{addresses.range_text(mint.parse_range(one))}"' for one in own)
        lines = [
            "# This provisioning station, and the ranges of all of them: the same table on each, but for `own`.",
            f'own = "{name}"',
            *(
                []
                if gateway is None
                else [f'gateway = "{os.path.relpath(gateway.absolute(), bench.absolute())}"']
            ),
            "",
            "[[stations]]",
            f'name = "{name}"',
            f"addresses = [{ranges}]",
            "",
        ]
        text = "\n".join(lines)
        addresses.parse(text, table)
        if not (bench / key_store.MASTER_KEY_FILE).exists():
            key_store.make_master_key(bench / key_store.MASTER_KEY_FILE)
        files.replace(table, text.encode(), files.PUBLIC)
    typer.echo(
        f"{bench}: made. Keep a copy of {bench / key_store.MASTER_KEY_FILE} in another place, as you would keep a "
        f"password:\nwithout it no key of {bench / BOOK_FILE} opens; with both, all of them do."
    )


@app.command("list")
def list_units(bench: BenchOption = DEFAULT_BENCH, as_json: JsonOption = False) -> None:
    """All units of this bench, and how far each is."""
    units = looked_at(bench).all()
    if as_json:
        typer.echo(json.dumps([_row(unit) for unit in units], indent=1, ensure_ascii=False))
        return
    waiting = failed = 0
    for unit in units:
        place = f"{unit.wanted.area}/{unit.wanted.site or '-'}"
        is_known = not unit.is_alive or unit.is_known
        has_failed = unit.is_alive and bool(unit.problem)
        failed += has_failed
        waiting += not is_known and not has_failed
        mark = "!" if has_failed else " " if is_known else "*"
        typer.echo(f"{unit.name}{mark} {unit.state:<9} {unit.mac}  {unit.wanted.node_type:<11} {place}")
    typer.echo(
        f"{len(units)} units."
        + (f" * {waiting} were given to no gateway yet." if waiting else "")
        + (f" ! {failed} failed at their last run: tidegate provision show UNIT." if failed else "")
    )


@app.command("show")
def show(unit: UnitArgument, bench: BenchOption = DEFAULT_BENCH, as_json: JsonOption = False) -> None:
    """One unit: what it is, what was found, what happened when. Its key is never shown."""
    found = find(looked_at(bench), unit)
    row = _row(found)
    if as_json:
        typer.echo(json.dumps(row, indent=1, ensure_ascii=False))
        return
    for name, value in row.items():
        if name not in ("history", "facts") and value not in (None, {}, []):
            typer.echo(f"{name.replace('_', ' '):<13} {_plain(value)}")
    for when, what in found.history:
        why = found.facts.get(what, {}).get("why", "")
        typer.echo(f"{when}  {what}{f': {why}' if why else ''}")


@app.command("label")
def labels(
    unit: UnitsArgument = None,
    bench: BenchOption = DEFAULT_BENCH,
    out: Annotated[
        Path | None, typer.Option("--out", help="A .pdf with a page per label, or a .svg of one.")
    ] = None,
) -> None:
    """Print labels again: of these units, or of all that have one."""
    units = looked_at(bench)
    chosen = [find(units, name) for name in unit or []] or [
        one for one in units.all() if one.state == LABELLED
    ]
    if not chosen:
        raise ProvisionError("no unit has a label yet. Name one, or provision boards first")
    target = out or bench / LABELS / ("all.pdf" if not unit else f"{chosen[0].name}.pdf")
    if target.suffix == ".svg" and len(chosen) == 1:
        data = label.svg(chosen[0]).encode()
    elif target.suffix == ".pdf":
        data = label.pdf(chosen)
    else:
        raise ProvisionError(f"--out {target}: write a .pdf, or a .svg of one unit")
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        files.replace(target, data, files.PUBLIC)
    typer.echo(f"{target}: {len(chosen)} labels of {label.WIDTH_MM:g} × {label.HEIGHT_MM:g} mm")


@app.command("record")
def write_record(
    unit: UnitsArgument = None,
    bench: BenchOption = DEFAULT_BENCH,
    acceptance: AcceptanceOption = DEFAULT_ACCEPTANCE,
) -> None:
    """Write station records anew, with what was found at the lid since: of these units, or of all."""
    with working(bench) as (place, units), told(bench):
        run = StationRun(place, units, acceptance=acceptance)
        for one in [find(units, name) for name in unit or []] or units.all():
            typer.echo(str(run.write_record(one.address)))


@app.command("scrap")
def scrap(
    unit: UnitArgument, why: WhyOption, bench: BenchOption = DEFAULT_BENCH, config: ConfigOption = None
) -> None:
    """End a unit that failed or broke. Its key and address are never used again; the gateway forgets it."""
    _end(bench, unit, SCRAPPED, why, config)


@app.command("retire")
def retire(
    unit: UnitArgument, why: WhyOption, bench: BenchOption = DEFAULT_BENCH, config: ConfigOption = None
) -> None:
    """End a unit that has served. Its key and address are never used again; the gateway forgets it."""
    _end(bench, unit, RETIRED, why, config)


@app.command("export")
def export(
    out: Annotated[Path, typer.Option("--out", help="The file to write; only you can read it.")],
    unit: UnitsArgument = None,
    bench: BenchOption = DEFAULT_BENCH,
) -> None:
    """Write what a gateway elsewhere imports. It holds keys in clear: carry it, import it, delete it."""
    with working(bench) as (place, units), told(out):
        chosen = alive(units, unit)
        if out.exists():
            raise ProvisionError(
                f"{out}: is there already. Delete it when it was imported, or choose another --out"
            )
        run = StationRun(place, units)
        out.parent.mkdir(parents=True, exist_ok=True)
        files.replace(out, "".join(f"{run.import_line(one)}\n" for one in chosen).encode(), files.PRIVATE)
        for one in chosen:
            units.note(one.address, "exported", file=out.name)
    typer.echo(
        f"{out}: {len(chosen)} units with their keys, readable by you alone. At the gateway:\n"
        f"tidegate gateway node import {out.name}    and then delete it, here and there"
    )


@app.command("import")
def hand_over(
    unit: UnitsArgument = None, bench: BenchOption = DEFAULT_BENCH, config: ConfigOption = None
) -> None:
    """Make units known to the gateway on this machine, running or stopped: these, or all that are verified."""
    with working(bench) as (place, units):
        gateway = door(place, config)
        if gateway is None:
            raise ProvisionError("name the gateway.toml of the gateway on this machine with --config")
        run = StationRun(place, units, gateway, acceptance=DEFAULT_ACCEPTANCE)
        chosen = alive(units, unit)
        refused = run.register([one.address for one in chosen])
        for one in chosen:
            run.write_record(one.address)
    for name, problem in refused.items():
        typer.echo(f"{name}  refused: {problem}", err=True)
    typer.echo(f"{gateway.name}: knows {len(chosen) - len(refused)} of {len(chosen)} units.")
    if refused:
        raise typer.Exit(1)


def _end(bench: Path, name: str, state: str, why: str, config: Path | None) -> None:
    with working(bench) as (place, units):
        unit = find(units, name)
        check_text("--why", why)
        if unit.state != state:  # again: only the gateway is told once more
            unit = units.advance(unit.address, state, why=why)
        StationRun(place, units, acceptance=DEFAULT_ACCEPTANCE).write_record(unit.address)
        typer.echo(f"unit {unit.name}: {state}. Its key and its address are never used again.")
        if not unit.is_known:
            return
        gateway = door(place, config or _registrar(unit))
        if gateway is None:
            typer.echo(f"A gateway may know it: tidegate gateway node remove {unit.name} --why …")
            return
        if unit.address in gateway.known():
            gateway.remove(unit.address, why)
        typer.echo(f"{gateway.name}: has forgotten it; nothing it sends is accepted any more.")


def _registrar(unit: Unit) -> Path | None:
    """The gateway that took this unit in, if its configuration is still where it was."""
    found = unit.facts.get("registered", {}).get("gateway")
    return Path(found) if found and Path(found).exists() else None


def _row(unit: Unit) -> dict[str, Any]:
    """What is known of a unit, without its key."""
    wanted = unit.wanted
    return {
        "unit": unit.name,
        "state": unit.state,
        "mac": unit.mac,
        "node_type": wanted.node_type,
        "board": wanted.board,
        "area": wanted.area,
        "site": wanted.site,
        "position": None if wanted.latitude is None else [wanted.latitude, wanted.longitude],
        "settings": dict(wanted.settings),
        "calibrations": list(wanted.calibrations),
        "gateway": unit.facts.get("registered", {}).get("gateway"),
        "station": unit.station,
        "facts": {name: dict(facts) for name, facts in unit.facts.items()},
        "history": [list(one) for one in unit.history],
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
