"""`tidegate gateway backup`, `restore` and `master-key rotate`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, date_of, load
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.backup import OnStep

key_app = typer.Typer(no_args_is_help=True, help="The key under which the keys of nodes are encrypted.")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to, e.g. /media/usb/gateway.backup.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Copy database and configuration into one file, while the gateway runs or not. Without the master key."""
    from gateway import backup as backups
    from gateway import daemon
    from gateway.clock import SystemClock

    settings = load(config)
    database = Path(settings.gateway.data_dir, daemon.DATABASE_NAME)
    if not database.exists():
        raise GatewayError(f"{database}: no such database; has this gateway run yet?")
    profiles = None if settings.devices.profiles is None else Path(settings.devices.profiles)
    with _bar("copying") as on_step:
        made = backups.make(
            database, config, profiles, file, settings.gateway.name, SystemClock().unix_ms(), on_step
        )
    rows = ", ".join(f"{count} {table}s" for table, count in made.rows.items())
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {rows}.")
    typer.echo(
        "The master key is not in it: keep a copy of that apart. What comes in from now on is not in it either."
    )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `tidegate gateway backup` made it.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where there is a database; it is kept aside.")
    ] = False,
    look: Annotated[bool, typer.Option("--look", help="Only say what is in it.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Put the database of a backup in place, while the gateway does not run."""
    from gateway import backup as backups
    from gateway import daemon

    made = backups.look(file)
    rows = ", ".join(f"{count} {table}s" for table, count in made.rows.items())
    typer.echo(f"{file}: gateway {made.gateway}, as of {date_of(made.made_ms)}: {rows}.")
    if look:
        return
    settings = load(config)
    data_dir = Path(settings.gateway.data_dir)
    database = data_dir / daemon.DATABASE_NAME
    key_id = daemon.load_vault(settings).key_id.hex()
    with daemon.DataDir(data_dir), _bar("restoring") as on_step:
        _, aside = backups.restore(file, database, key_id, replace=replace, on_step=on_step)
    if aside is not None:
        typer.echo(f"{aside}: the database that was here; delete it when nothing in it is missed.")
    typer.echo(
        f"{database}: restored. Start the gateway: it says nothing to a node until that node told what it has heard, "
        "and then asks for what came after the backup and is still there."
    )


@key_app.command("rotate")
def rotate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make another master key and seal all node keys under it, while the gateway does not run."""
    from gateway import daemon, master_key

    settings = load(config)
    if settings.keys.master_key_file is None:
        raise GatewayError(
            f"keys.master_key_credential = {settings.keys.master_key_credential}: systemd gives that key, and "
            "nobody here can replace it. Set keys.master_key_file to a copy of it, rotate, and make a "
            "credential of the new file."
        )
    data_dir, key_file = Path(settings.gateway.data_dir), Path(settings.keys.master_key_file)
    with daemon.DataDir(data_dir):
        count, aside = master_key.rotate(data_dir / daemon.DATABASE_NAME, key_file)
    typer.echo(f"{count} node keys are sealed under a new master key, {key_file}. Keep a copy of it apart.")
    typer.echo(f"{aside}: the old one; older backups need it. Lock it away, or delete it with them.")


@contextlib.contextmanager
def _bar(what: str) -> Iterator[OnStep]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def step(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield step
