"""`tidegate gateway token …`: who may use the management API."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, WhyOption, ask, date_of

app = typer.Typer(no_args_is_help=True, help="Tokens of the management API.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who or what has it, e.g. dashboard.")]


@app.command("add")
def add(
    name: NameArgument,
    role: Annotated[
        str, typer.Option(help="viewer looks, operator commands nodes, admin changes the gateway.")
    ] = "viewer",
    days: Annotated[int, typer.Option(help="Until it is void.")] = 365,
    why: WhyOption = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make a token and show it, once."""
    request = {"operation": "token.add", "token": name, "role": role, "days": days, "why": why}
    text = ask(config, request)["text"]
    typer.echo(f"Token {name}, role {role}, for {days} days. It is not shown again:", err=True)
    typer.echo(text)


@app.command("list")
def show(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the tokens, without their texts."""
    tokens = ask(config, {"operation": "token.list"})["tokens"]
    if as_json:
        typer.echo(json.dumps(tokens, indent=1))
        return
    for token in tokens:
        typer.echo(
            f"{token['name']}  {token['role']}  made {date_of(token['made_ms'])}, void from "
            f"{date_of(token['expires_ms'])} on"
        )


@app.command("revoke")
def revoke(name: NameArgument, why: WhyOption = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Void a token, at once."""
    ask(config, {"operation": "token.revoke", "token": name, "why": why})
    typer.echo(f"token {name} is void.")
