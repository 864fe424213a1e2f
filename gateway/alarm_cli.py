"""`tidegate gateway alarm …`: what is wrong in the city, and that somebody knows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, WhyOption, ask, date_of, load
from gateway.errors import CommandError

if TYPE_CHECKING:
    from gateway.areas import Areas
    from protocols.alarm_rules import Rule

app = typer.Typer(no_args_is_help=True, help="Alarms: list, show, acknowledge, silence.")
AlarmArgument = Annotated[
    str,
    typer.Argument(metavar="ALARM", help="Its number, or the code of its work order, as `list` shows them."),
]
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@app.command("list")
def show_all(
    which: Annotated[str, typer.Option(help="open, closed or all.")] = "open",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List alarms, the newest first."""
    reply = ask(config, {"operation": "alarm.list", "which": which})
    if as_json:
        typer.echo(json.dumps(reply["alarms"], indent=1))
        return
    from gateway import alarm_told

    rules, areas = _known(config)
    for alarm in reply["alarms"]:
        for line in alarm_told.card(alarm, rules, areas, _now_ms()):
            typer.echo(line)
    if not reply["alarms"]:
        typer.echo("no alarm." if which == "all" else f"no {which} alarm.")
    elif reply["more"]:
        typer.echo(f"… and {reply['more']} that are older.")


@app.command("show")
def show_one(
    alarm: AlarmArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Show one alarm: what happened to it, who did what and why, and who was told."""
    reply = ask(config, {"operation": "alarm.show", "alarm": _number(alarm)})
    if as_json:
        typer.echo(json.dumps(reply, indent=1))
        return
    from gateway import alarm_told

    rules, areas = _known(config)
    found = reply["alarm"]
    for line in alarm_told.card(found, rules, areas, _now_ms()):
        typer.echo(line)
    for line in alarm_told.history(reply["changes"], reply["sent"], areas, found["area"]):
        typer.echo(line)


@app.command("ack")
def acknowledge(alarm: AlarmArgument, why: WhyOption = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Say that somebody deals with it: it goes no further up."""
    reply = ask(config, {"operation": "alarm.acknowledge", "alarm": _number(alarm), "why": why})
    typer.echo(f"alarm {reply['alarm']} ({reply['rule']} at {reply['site']}) is acknowledged.")


@app.command("silence")
def silence(
    alarm: AlarmArgument,
    lasts: Annotated[str, typer.Option("--for", help="How long: 30min, 2h, 1d; 0 ends a silence.")] = "1h",
    why: WhyOption = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Tell nobody of its rule at its site for a while: no orders, no escalation. It is kept all the same."""
    request = {"operation": "alarm.silence", "alarm": _number(alarm), "seconds": _seconds(lasts), "why": why}
    reply = ask(config, request)
    what = f"{reply['rule']} at {reply['site']}"
    if reply["until_ms"] <= _now_ms():
        typer.echo(f"{what} is told again.")
    else:
        typer.echo(f"{what} is silent until {date_of(reply['until_ms'])}.")


def _known(config: Path) -> tuple[dict[str, Rule], Areas]:
    from gateway import config_alarms
    from gateway.areas import Areas

    settings = load(config)
    return config_alarms.rules(settings.alarm), Areas(settings.area)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _number(text: str) -> Any:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else text


def _seconds(text: str) -> int:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "s"
    if not number.isascii() or not number.isdecimal() or len(number) > 9 or unit not in _UNITS:
        raise CommandError(f"--for {text!r:.40} is not allowed. Allowed is 30min, 2h, 1d and the like, or 0.")
    return int(number) * _UNITS[unit]
