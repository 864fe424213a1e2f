"""The `tidegate` command: one entry, whose groups are imported only when they are used.

`tidegate --help` must answer at once on a gateway with a slow SD card, and a bench without the gateway's
libraries must still be able to flash. So this module knows each group by name, one line of help and where its
typer app is, and imports nothing of ours until a group is called. No other module may reach every folder.
"""

from __future__ import annotations

import importlib
import importlib.metadata
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
    "inspect": Group("gateway.inspect_cli", "A frame of HJ 212 or SL 651: what it says, what is wrong.", ""),
    "node": Group("flash_tools.cli", "Mint identities, build flash images (technician).", "flash"),
    "flash": Group(
        "flash_tools.flash_cli", "Flash boards over USB, or find out why not (technician).", "flash"
    ),
    "firmware": Group(
        "flash_tools.firmware_cli", "Build the firmware of one board and node type (maintainer).", "flash"
    ),
    "ble": Group(
        "gateway.pollers.ble_cli", "Bluetooth devices: what is heard, what one says (integrator).", "ble"
    ),
    "bus": Group("gateway.bus_cli", "Modbus: who is on a bus, what a device says (integrator).", "modbus"),
    "virtual": Group("hil_tests.virtual", "One virtual node of any type, to try things by hand.", "demo"),
    "air": Group("hil_tests.air_cli", "An air for virtual nodes, with a packet forwarder in it.", "demo"),
    "plan": Group("hil_tests.plan", "How many nodes a place bears over LoRa: delivery, alarms, battery.", ""),
    "street": Group("hil_tests.street_cli", "Simulated devices of a street, to try commands on.", "demo"),
    "demo": Group("hil_tests.demo", "River station, cover and lift, live; or one story.", "demo"),
}


class MissingExtra(Exception):
    """A group was called whose optional dependencies are not installed."""

    exit_code = 2


def load(name: str) -> Any:
    """Import group `name` and return its command. Raises MissingExtra when its extra is not installed."""
    group = GROUPS[name]
    try:
        module = importlib.import_module(group.module)
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing in ("", *PACKAGES):
            raise  # a file of ours is missing: a broken installation, which no extra would mend
        wanted = f"tidegate[{group.extra}]" if group.extra else "tidegate"
        raise MissingExtra(
            f"'tidegate {name}' needs the Python package '{missing}', which is not installed here. "
            f"Install what it needs with: pip install '{wanted}'"
        ) from exc
    command = typer.main.get_command(module.app)
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
    """Knows every group by name and help, imports the one that is called, tells its errors in a paragraph."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, group in GROUPS.items():
            self.add_command(TyperCommand(name, help=group.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Reached for a run and for completion inside a group, never for a listing: the real one is needed.
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in GROUPS else command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as exc:  # the top of the process; whatever is not ours to tell goes on unchanged
            if ctx.params["debug"] or not is_told(exc):
                raise
            typer.echo(f"tidegate: {exc}", err=True)
            raise typer.Exit(getattr(exc, "exit_code", 1)) from exc


app = typer.Typer(
    cls=LazyGroup,
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
    typer.main.get_command(app)(args=args, prog_name="tidegate")


if __name__ == "__main__":
    main()
