"""The `tidegate` command: one entry, whose groups are imported only when they are used.

`tidegate --help` must answer at once on a gateway with a slow SD card, and a bench without the gateway's
libraries must still be able to flash. So this module knows each group by name, one line of help and where its
typer app is, and imports nothing of ours until a group is called. No other module may reach every folder.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("protocols", "boards", "firmware", "gateway", "flash_tools", "hil_tests")


class Group(NamedTuple):
    """Where a group lives and what a person is told about it before it is imported."""

    module: str
    help: str
    extra: str  # the optional dependencies it needs beyond a plain `pip install tidegate`, "" for none


# A new group is one line here. The module exposes a typer.Typer named `app`.
GROUPS = {
    "gateway": Group("gateway.cli", "Run and check the gateway daemon (integrator).", ""),
    "airtime": Group("gateway.airtime", "Time on air of a LoRa packet, and whether it may be sent.", ""),
    "inspect": Group("", "Any frame, message, image or file: what it says, what is wrong.", ""),
    "node": Group("flash_tools.cli", "Nodes: mint, accept, read, set, watch them (technician).", "flash"),
    "provision": Group("flash_tools.provision_cli", "Boards become labelled nodes (technician).", "flash"),
    "flash": Group(
        "flash_tools.flash_cli", "Flash boards over USB, or find out why not (technician).", "flash"
    ),
    "firmware": Group(
        "flash_tools.firmware_cli", "Build the firmware of one board and node type (maintainer).", "flash"
    ),
    "release": Group("flash_tools.release_cli", "Build and sign updates over the air (maintainer).", "flash"),
    "campaign": Group("gateway.campaign_cli", "Updates for many nodes, wave by wave (maintainer).", ""),
    "ble": Group(
        "gateway.pollers.ble_cli", "Bluetooth devices: what is heard, what one says (integrator).", "ble"
    ),
    "bus": Group("gateway.bus_cli", "Modbus: who is on a bus, what a device says (integrator).", "modbus"),
    "virtual": Group("hil_tests.virtual", "One virtual node of any type, to try things by hand.", "demo"),
    "air": Group("hil_tests.air_cli", "An air for virtual nodes, with a packet forwarder in it.", "demo"),
    "plan": Group("hil_tests.plan", "How many nodes a place bears over LoRa, and how well.", ""),
    "street": Group("hil_tests.street_cli", "Simulated devices of a street, to try commands on.", "demo"),
    "demo": Group("hil_tests.demo", "River station, cover and lift, live; or one story.", "demo"),
}

# `tidegate inspect …`: what it looks at is at home in several folders, so each command is imported when it is called.
# A new one is one line here; a module with more than one command has each under the same name.
INSPECT = {
    "what": Group("gateway.inspect_own", "What these bytes may be, with reasons.", ""),
    "frame": Group("gateway.inspect_own", "A sealed frame, or a line's bytes; with keys what is inside.", ""),
    "message": Group("gateway.inspect_own", "A plain message: every field, sets with units.", ""),
    "lora": Group("gateway.inspect_own", "Packets on the air; fragments are put together.", ""),
    "semtech": Group("gateway.inspect_own", "Datagrams of a packet forwarder and what they carry.", ""),
    "row": Group("gateway.inspect_row", "Rows of the gateway's store, read only.", ""),
    "image": Group(
        "flash_tools.inspect_cli", "An image of a partition or a program: what is in it.", "flash"
    ),
    "manifest": Group("flash_tools.inspect_manifest", "The signed envelope of an update.", "flash"),
    "outbox": Group("flash_tools.inspect_cli", "An outbox: records, what waits, what is damaged.", "flash"),
    "update": Group("flash_tools.inspect_update", "What an update is made of: envelope, payload.", "flash"),
    "hj212": Group("gateway.inspect_cli", "Frames of HJ 212 and HJ 1404.", ""),
    "sl651": Group("gateway.inspect_cli", "Frames of SL 651-2014.", ""),
}


class MissingExtra(Exception):
    """A group was called whose optional dependencies are not installed."""

    exit_code = 2


def load(name: str, groups: dict[str, Group] = GROUPS, path: str = "tidegate") -> Any:
    """Import group `name` and return its command. Raises MissingExtra when its extra is not installed."""
    group = groups[name]
    if not group.module:
        return typer.main.get_command(inspect)
    try:
        module = importlib.import_module(group.module)
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing in ("", *PACKAGES):
            raise  # a file of ours is missing: a broken installation, which no extra would mend
        wanted = f"tidegate[{group.extra}]" if group.extra else "tidegate"
        raise MissingExtra(
            f"'{path} {name}' needs the Python package '{missing}', which is not installed here. "
            f"Install what it needs with: pip install '{wanted}'"
        ) from exc
    command = typer.main.get_command(module.app)
    if groups is INSPECT and isinstance(command, TyperGroup):
        command = command.commands[name]
    command.name = name
    command.help = command.help or group.help
    # Completion is set up for the whole command, not once per group.
    command.params = [option for option in command.params if not option.name.endswith("_completion")]
    return command


def is_told(exc: BaseException) -> bool:
    """Whether `exc` is an error a person can act on: one from the error tree of one of our packages.

    Each package keeps its tree in a module named `errors`. What else arrives at the top is a bug and keeps
    its traceback.
    """
    if isinstance(exc, MissingExtra):
        return True
    homes = (cls.__module__.split(".") for cls in type(exc).__mro__)
    return any(home[0] in PACKAGES and home[-1] == "errors" for home in homes)


class LazyGroup(TyperGroup):
    """Knows every command by name and help, imports the one that is called."""

    groups = INSPECT
    path = "tidegate inspect"

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, group in self.groups.items():
            self.add_command(TyperCommand(name, help=group.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Reached for a run and for completion inside a group, never for a listing: the real one is needed.
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name, self.groups, self.path) if name in self.groups else command, rest


class Inspect(LazyGroup):
    """A file by itself is asked what it may be."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        asks_what = args[0] not in self.groups and (args[0] == "-" or Path(args[0]).is_file())
        return super().resolve_command(ctx, ["what", *args] if asks_what else args)


class Root(LazyGroup):
    """The whole command: tells errors of ours in a paragraph."""

    groups = GROUPS
    path = "tidegate"

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as exc:  # the top of the process; whatever is not ours to tell goes on unchanged
            if ctx.params["debug"] or not is_told(exc):
                raise
            typer.echo(f"tidegate: {exc}", err=True)
            raise typer.Exit(getattr(exc, "exit_code", 1)) from exc


inspect = typer.Typer(cls=Inspect, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@inspect.callback()
def _inspect() -> None:
    """What a frame, a message, an image, a file or a row says, and what is wrong with it: exit code 1 when anything is.

    It takes hexadecimal digits, base64, a file, or - for a pipe; `what` tells what bytes may be. It prints no key.
    """


app = typer.Typer(
    cls=Root,
    name="tidegate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its frames show local variables, and ours hold keys
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("tidegate"))
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Sealed readings from the street, durably to the city network."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line `args`, or that of the process; ends by SystemExit as a console script must."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # what a terminal's encoding has no sign for is a ?, and no error
            stream.reconfigure(errors="replace")
    typer.main.get_command(app)(args=args, prog_name="tidegate")


if __name__ == "__main__":
    main()
