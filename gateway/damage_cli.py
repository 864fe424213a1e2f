"""`tidegate gateway damage`: what became of databases that were damaged."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, ask, date_of


def damage(
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="You know of them: /readyz tells of them no more.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Show which databases were damaged and set aside, what was salvaged, and what was lost."""
    if acknowledge:
        count = ask(config, {"operation": "damage.acknowledge"})["count"]
        typer.echo(f"{count} reports of damage are known now.")
        return
    rows = ask(config, {"operation": "damage.list"})["damages"]
    if not rows:
        typer.echo("no database of this gateway was ever damaged.")
    for row in rows:
        known = f"known to {row['known_by']}" if row["known_ms"] else "not acknowledged: --acknowledge"
        typer.echo(f"{date_of(row['at_ms'])}: {row['report']} ({known})")
