"""`tidegate gateway alarm …`: what is wrong in the city, and that somebody knows."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, WhyOption, ask, date_of
from gateway.errors import CommandError

app = typer.Typer(no_args_is_help=True, help="Alarms: list, acknowledge, silence.")
AlarmArgument = Annotated[int, typer.Argument(metavar="ALARM", help="Its number, as `list` shows it.")]
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@app.command("list")
def show(
    which: Annotated[str, typer.Option(help="open, closed or all.")] = "open",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List alarms, the newest first."""
    alarms = ask(config, {"operation": "alarm.list", "which": which})["alarms"]
    if as_json:
        typer.echo(json.dumps(alarms, indent=1))
        return
    for alarm in alarms:
        state = f"over {date_of(alarm['cleared_ms'])}" if alarm["cleared_ms"] else "open"
        if alarm["acknowledged_by"]:
            state += f", acknowledged by {alarm['acknowledged_by']}"
        if alarm["tier"]:
            state += f", escalated {alarm['tier']} times"
        for mark in ("flapping", "late"):
            state += f", {mark}" if alarm[mark] else ""
        typer.echo(
            f"{alarm['id']}  {date_of(alarm['raised_ms'])}  {alarm['rule']} at {alarm['site']} "
            f"({alarm['area']}), node {alarm['node']:04x}: {state}"
        )
    if not alarms:
        typer.echo("none.")


@app.command("ack")
def acknowledge(alarm: AlarmArgument, why: WhyOption = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Say that somebody deals with it: it goes no further up."""
    reply = ask(config, {"operation": "alarm.acknowledge", "alarm": alarm, "why": why})
    typer.echo(f"alarm {alarm} ({reply['rule']}) is acknowledged.")


@app.command("silence")
def silence(
    alarm: AlarmArgument,
    lasts: Annotated[str, typer.Option("--for", help="How long: 30min, 2h, 1d; 0 ends a silence.")] = "1h",
    why: WhyOption = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Tell nobody of its rule at its site for a while: no orders, no escalation. It is kept all the same."""
    request = {"operation": "alarm.silence", "alarm": alarm, "seconds": _seconds(lasts), "why": why}
    reply = ask(config, request)
    typer.echo(f"{reply['rule']} of alarm {alarm} is silent until {date_of(reply['until_ms'])}.")


def _seconds(text: str) -> int:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "s"
    if not number.isascii() or not number.isdecimal() or unit not in _UNITS:
        raise CommandError(f"--for {text!r:.40} is not allowed. Allowed is 30min, 2h, 1d and the like, or 0.")
    return int(number) * _UNITS[unit]
