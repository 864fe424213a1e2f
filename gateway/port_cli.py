"""`tidegate gateway port …`: who has a serial port, and handing it over."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, WhyOption, ask_running, load
from gateway.limits import PORT_RELEASE_MAX_S, PORT_RELEASE_S
from gateway.log import printable
from gateway.status import span

app = typer.Typer(no_args_is_help=True, help="Serial ports: hand one over to another program, take it back.")

PortArgument = Annotated[
    str, typer.Argument(metavar="PORT", help="Its name in the configuration, or the path of its device.")
]


@app.command("list")
def show(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the serial ports and who has them."""
    ports = ask_running(load(config), {"operation": "port.list"})["ports"]
    if as_json:
        typer.echo(json.dumps(ports, indent=1))
        return
    if not ports:
        typer.echo("this gateway has no serial port of a node or a bridge.")
    width = max((len(port["name"]) for port in ports), default=0)
    for port in ports:
        told = port["state"]
        if port["state"] == "handed over":
            told += f" to {port['who']} for another {span(port['left_s'])} ({port['why']})"
        elif port["problem"]:
            told += f": {port['problem']}"
        typer.echo(printable(f"{port['name']:{width}}  {port['path']}  {told}"))


@app.command("release")
def release(
    port: PortArgument,
    why: WhyOption = "",
    seconds: Annotated[
        int,
        typer.Option("--for", help=f"Seconds, at most {PORT_RELEASE_MAX_S}; then the gateway takes it back."),
    ] = PORT_RELEASE_S,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Hand a port over to another program, as one that flashes the board: it is free when this returns."""
    request = {"operation": "port.release", "port": port, "seconds": seconds, "why": why}
    done = ask_running(load(config), request)
    typer.echo(
        f"port {done['name']} ({done['path']}) is free for {span(seconds)}. Sooner back: "
        f"tidegate gateway port take {done['name']}"
    )


@app.command("take")
def take(port: PortArgument, why: WhyOption = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Take a port back before its time is up."""
    done = ask_running(load(config), {"operation": "port.take", "port": port, "why": why})
    typer.echo(f"port {done['name']} ({done['path']}) is the gateway's again.")
