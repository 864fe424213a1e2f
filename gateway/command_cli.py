"""`tidegate gateway command …` and `settings …`."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, NodeArgument, WhyOption, ask, date_of
from gateway.errors import CommandError, ControlError

app = typer.Typer(no_args_is_help=True, help="Commands to nodes.")
settings_app = typer.Typer(no_args_is_help=True, help="Settings that nodes shall have.")
POLL_S = 0.2


@app.command("send")
def command_send(
    node: NodeArgument,
    command: Annotated[
        str,
        typer.Argument(
            help="identify, reboot, read-now, set-interval, report-settings, maintenance, learn, test-alarm, "
            "calibrate, console or set-radio."
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VALUE…]",
            help="Seconds for identify, set-interval and maintenance (or 30min, 2h); a line for console; "
            "for calibrate a measurand, a step and its value: ph zero 6.86, ph span 9.18, ph apply 17, ph discard; "
            "for set-radio a spreading factor and a power in dBm: 9 14.",
        ),
    ] = None,
    why: WhyOption = "",
    ttl_s: Annotated[int, typer.Option("--ttl", help="Seconds until it is too late to begin.")] = 60,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the node's answer.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Give a node a command. It is never carried out later than --ttl."""
    if not why:
        raise CommandError("say why with --why: who asked for what, and why, is kept for ever.")
    request = {
        "operation": "command.send",
        "node": node,
        "command": command,
        "words": words or [],
        "ttl_s": ttl_s,
        "why": why,
    }
    number = ask(config, request)["id"]
    typer.echo(f"command {number}: {command} for node {node}, queued for at most {ttl_s} s.")
    if wait:
        _wait(config, number, ttl_s)


def _wait(config: Path, number: int, ttl_s: int) -> None:
    """Ask until the command has ended; the daemon ends it at its deadline."""
    until_s = time.monotonic() + ttl_s + 10
    while time.monotonic() < until_s:
        report = ask(config, {"operation": "command.list", "id": number})["commands"][0]
        if report["state"] != "open":
            typer.echo(f"command {number}: {report['state']} {report['detail']}".rstrip() + ".")
            if report["state"] != "done":
                raise typer.Exit(1)
            return
        time.sleep(POLL_S)
    raise ControlError(f"command {number} has not ended; is the gateway running?")


@app.command("list")
def command_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the latest commands: who gave them, why, and how they ended."""
    reports = ask(config, {"operation": "command.list"})["commands"]
    if as_json:
        typer.echo(json.dumps(reports, indent=1))
        return
    for report in reports:
        args = "" if report["args"] is None else f" {report['args']}"
        typer.echo(
            f"{report['id']:>5}  {date_of(report['created_ms'])}  node {report['node']:04x}  "
            f"{report['command']}{args}: "
            f"{report['state']} {report['detail']}  ({report['who']}: {report['why']})"
        )


@settings_app.command("set")
def settings_set(
    node: NodeArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="NAME=NUMBER…", help="E.g. interval_s=900 tilt_deg=20.")
    ],
    why: WhyOption = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Want settings for a node: sent until it reports that it has them."""
    wanted: dict[str, int] = {}
    for name, value in map(_setting, changes):
        if name in wanted:
            raise CommandError(f"{name} is given twice. Name each setting once.")
        wanted[name] = value
    done = ask(config, {"operation": "settings.set", "node": node, "settings": wanted, "why": why})
    typer.echo(
        f"node {node}: settings version {done['version']} is wanted; `settings list` tells when it is "
        f"applied."
    )


def _setting(change: str) -> tuple[str, int]:
    name, _, value = change.partition("=")
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise CommandError(
            f"{change!r:.60} is not allowed. Allowed is name=number, a whole one, such as interval_s=900."
        )
    return name, int(value)


@settings_app.command("list")
def settings_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the wanted settings of each node and whether it has them."""
    reports = ask(config, {"operation": "settings.list"})["settings"]
    if as_json:
        typer.echo(json.dumps(reports, indent=1))
        return
    for report in reports:
        document = " ".join(f"{name}={value}" for name, value in report["document"].items())
        typer.echo(
            f"node {report['node']:04x}  {report['state']} since {date_of(report['changed_ms'])}: {document}  "
            f"(version {report['version']}, {report['who']}: {report['why']})"
        )
