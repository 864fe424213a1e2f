"""How a command asks the gateway: options that all commands share, and the way to the daemon or around it."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.errors import ControlError

if TYPE_CHECKING:
    from gateway.config import Config

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="TIDEGATE_CONFIG", help="The gateway's configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
WhyOption = Annotated[
    str, typer.Option("--why", help="Why: kept in the audit log. Commands and settings need one.")
]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Address as on the label, e.g. 0012.")]
DEFAULT_CONFIG = Path("gateway.toml")


def load(config: Path) -> Config:
    from gateway import config as configs

    return configs.load(config)


def ask_running(settings: Config, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the daemon what only a running one can tell."""
    from gateway import control

    reply = control.ask(Path(settings.gateway.data_dir), request)
    if reply is None:
        if why := _what_it_waits_for(settings):
            raise ControlError(f"the gateway on {settings.gateway.data_dir} is up and cannot work: {why}")
        raise ControlError(
            f"no gateway is running on {settings.gateway.data_dir}. Start it: tidegate gateway run"
        )
    return reply


def _what_it_waits_for(settings: Config) -> str:
    """One whose disk takes nothing has no socket, and says at its health page what is wrong; "" when there is none."""
    from http.client import HTTPConnection, HTTPException

    from gateway.waiting import ADVICE

    if not settings.health.enabled or not settings.health.port:
        return ""
    door = HTTPConnection(settings.health.address, settings.health.port, timeout=2)
    try:
        door.request("GET", "/readyz")
        reasons = json.loads(door.getresponse().read(65536))["reasons"]
        return next((str(reason) for reason in reasons if str(reason).endswith(ADVICE)), "")
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return ""
    finally:
        door.close()


def ask(config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Have the running daemon carry out `request`, or do it here when none runs: there is one writer at a time."""
    from gateway import control, daemon, log, offline

    settings = load(config)
    data_dir = Path(settings.gateway.data_dir)
    reply = control.ask(data_dir, request)
    if reply is not None:
        return reply
    logger = log.setup("warning", settings.log.format)
    with daemon.DataDir(data_dir):
        return asyncio.run(offline.offline(settings, request, control.user_name(os.getuid()), logger))


def date_of(unix_ms: int) -> str:
    if unix_ms == 0:
        return "the beginning"
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
