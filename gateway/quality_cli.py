"""`tidegate gateway quality …`: results of standard checks and their kin, which platforms by HJ 1404 want to have."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from gateway.asking import DEFAULT_CONFIG, ConfigOption, WhyOption, ask
from gateway.errors import CommandError

app = typer.Typer(no_args_is_help=True, help="Results of quality control at a station.")


@app.command("add")
def add(
    site: Annotated[str, typer.Argument(metavar="SITE")],
    kind: Annotated[str, typer.Argument(metavar="KIND", help="standard, recovery, parallel, zero or span.")],
    measurand: Annotated[str, typer.Argument(metavar="MEASURAND", help="Such as dissolved_oxygen.")],
    fields: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE…",
            help="As HJ 1404 names them: Check=8.11 StandardValue=8.00 (zero and span: SpanValue, too; recovery and "
            "parallel: WaterTime=20261128060000 Water=…).",
        ),
    ],
    at: Annotated[str, typer.Option(help="When it was done, as 2026-11-28T06:00+08:00; default: now.")] = "",
    flag: Annotated[str, typer.Option(help="Flag of HJ 212: N normal, D fault, …")] = "N",
    why: WhyOption = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Keep a result and send it to the platforms that the site is reported to. Again, at the same time, corrects it."""
    pairs = [text.partition("=") for text in fields]
    bad = [
        text
        for text, (name, equals, value) in zip(fields, pairs, strict=True)
        if not (name and equals and value)
    ]
    if bad:
        raise CommandError(f"{bad[0]!r:.40} is not NAME=VALUE, such as Check=8.11.")
    request = {
        "operation": "quality.add", "site": site, "kind": kind, "measurand": measurand, "flag": flag, "why": why,
        "fields": {name: value for name, _, value in pairs}, "at_ms": _unix_ms(at),
    }  # fmt: skip
    told = ask(config, request)["platforms"]
    typer.echo(f"kept; goes to {', '.join(told)}." if told else "kept; no platform is told of this site.")


def _unix_ms(text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--at {text!r:.40} is not a time such as 2026-11-28T06:00+08:00.") from error
    if moment.tzinfo is None:
        raise CommandError(f"--at {text} does not say which zone: add +08:00, or Z.")
    return int(moment.timestamp() * 1000)
