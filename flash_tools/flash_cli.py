"""`tidegate flash`: what a technician types with boards on USB."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from flash_tools import firmware_image, flash_content, ports, shipped
from flash_tools.errors import FlashToolError
from flash_tools.flash_content import Asked
from flash_tools.flash_run import Manner, Result, flash_all
from flash_tools.flash_show import RESET, RESET_TOLD, Show
from flash_tools.flashing import Content, Progress, flash_board, verify_board
from flash_tools.journal import NAME as JOURNAL_NAME
from flash_tools.journal import Journal
from flash_tools.option_order import refuse_options_before

app = typer.Typer(help="Flash boards over USB, check what they hold, find out why one is not reached.")

PortOption = Annotated[
    list[str] | None,
    typer.Option("--port", "-p", help="Of a board, as /dev/ttyUSB0. Repeat it for several boards."),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every port that may be a board.")]
BoardOption = Annotated[
    str | None, typer.Option("--board", help="A folder of boards/, as heltec_wifi_lora_32_v3.")
]
TypeOption = Annotated[
    str | None, typer.Option("--type", help="A node type of the firmware, as river; builds its image.")
]
ImageOption = Annotated[
    Path | None,
    typer.Option("--image", help="A ready image of the `app` partition, instead of building one for --type."),
]
ReleaseOption = Annotated[
    Path | None,
    typer.Option(
        "--release", help="What is flashed is this release, or the newest of its kind in a folder of them."
    ),
]
FirmwareOption = Annotated[
    str | None,
    typer.Option("--firmware", help="What the node must say it runs; default: the version of this source."),
]
MicroPythonOption = Annotated[
    Path | None,
    typer.Option(
        "--micropython",
        help="MicroPython's .bin file for this chip, or a folder of them; without it, what the board has stays.",
    ),
]
VersionOption = Annotated[
    str | None, typer.Option("--version", help="This release of MicroPython and no other, as 1.25.0.")
]
BaudOption = Annotated[int, typer.Option("--baud", min=9600, max=3_000_000, help="Of the transfer.")]


@app.callback(invoke_without_command=True)
def flash(
    ctx: typer.Context,
    port: PortOption = None,
    take_all: AllOption = False,
    board: BoardOption = None,
    node_type: TypeOption = None,
    image: ImageOption = None,
    release: ReleaseOption = None,
    firmware: FirmwareOption = None,
    micropython: MicroPythonOption = None,
    version: VersionOption = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="A newly minted node's state.img: for a board without an identity."),
    ] = None,
    erase_state: Annotated[
        bool,
        typer.Option(
            "--erase-state", help="Make a new node of a board that is one: mints a new key (with --type)."
        ),
    ] = False,
    minted: Annotated[
        Path, typer.Option("--minted", help="Folder of the mint file, for --erase-state and --label.")
    ] = Path("minted"),
    area: Annotated[
        str | None, typer.Option("--area", help="With --erase-state: the new node's area code.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="With --erase-state: its site.")] = None,
    mac: Annotated[str | None, typer.Option("--mac", help="It must be this very board.")] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="The node's number on its label: the journal knows which board it is."),
    ] = None,
    repartition: Annotated[
        bool, typer.Option("--repartition", help="Replace a partition table that is not ours.")
    ] = False,
    downgrade: Annotated[
        bool, typer.Option("--downgrade", help="Also replace a newer release than the one that is flashed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written.")] = False,
    boot_s: Annotated[
        float, typer.Option("--boot-check", min=0, max=600, help="Seconds to wait for its hello; 0: do not.")
    ] = 60.0,
    take_port: Annotated[
        bool,
        typer.Option("--take-port", help="Ask the gateway on this machine for the port, and give it back."),
    ] = False,
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="TIDEGATE_CONFIG", help="Of that gateway.")
    ] = Path("gateway.toml"),
    journal: Annotated[Path, typer.Option("--journal", help="Where every step is written down.")] = Path(
        JOURNAL_NAME
    ),
    baud: BaudOption = 460800,
) -> None:
    """Write what differs, verify all of it, see that the node starts. The same command goes on after a cut.

    Identity, settings, records and counters (`state`) are never touched, except by --state and --erase-state.
    """
    if ctx.invoked_subcommand is not None:
        refuse_options_before(ctx, "flash")
        return
    names = ports.choose(port or [], take_all)
    book = Journal(journal)
    asked = Asked(
        board=board,
        node_type=node_type,
        image=image,
        release=release,
        firmware=firmware,
        micropython=micropython,
        version=None if version is None else firmware_image.parse_version(version),
        state=state,
        erase_state=erase_state,
        minted=minted,
        mac=mac,
        label=label,
        repartition=repartition,
        downgrade=downgrade,
    )
    flash_content.check(asked, names)
    with _status("building the image"):
        content = flash_content.make(asked, book)
    if not content.release:
        typer.echo(shipped.NO_RELEASE)
    manner = Manner(boot_s=boot_s, baud=baud, dry_run=dry_run)
    with _lent(names, config, take_port), Show(dry_run=dry_run) as show:
        if erase_state and state is None:

            def content_of(name: str) -> Content:
                facts = flash_board(name, content, Progress(), baud=baud, dry_run=True).facts
                return (
                    content
                    if dry_run
                    else flash_content.with_new_key(content, asked, facts, book, area, site)
                )

        else:

            def content_of(name: str) -> Content:
                return content

        results = flash_all(names, content_of, book, show, manner)
    _end(results, journal, dry_run=dry_run)


@app.command()
def verify(
    port: PortOption = None,
    take_all: AllOption = False,
    board: BoardOption = None,
    node_type: TypeOption = None,
    image: ImageOption = None,
    release: ReleaseOption = None,
    micropython: MicroPythonOption = None,
    version: VersionOption = None,
    baud: BaudOption = 460800,
) -> None:
    """Compare what boards hold with what they should hold. Changes nothing; each is reset, and starts again."""
    names = ports.choose(port or [], take_all)
    asked = Asked(
        board=board,
        node_type=node_type,
        image=image,
        release=release,
        micropython=micropython,
        version=None if version is None else firmware_image.parse_version(version),
    )
    with _status("building the image"):
        content = flash_content.make(asked, None)
    failed = 0
    for name in names:
        try:
            found = verify_board(name, content, _Saying(name), baud=baud)
        except FlashToolError as error:
            typer.echo(str(error))
            failed += 1
            continue
        who = f"{name}: {found.facts.chip} {found.facts.mac}"
        if found.differing:
            failed += 1
            listed = ", ".join(found.differing[:6]) + (" and more" if len(found.differing) > 6 else "")
            typer.echo(f"{who}: {len(found.differing)} of {found.blocks_total} blocks differ: {listed}")
            if found.runs:
                typer.echo(f"{name}: it holds {found.runs}")
        else:
            typer.echo(f"{who}: as it should be, all {found.blocks_total} blocks")
    raise typer.Exit(1 if failed else 0)


@app.command()
def doctor(
    port: PortOption = None,
    reset: Annotated[
        bool,
        typer.Option("--reset", help="Also restart each board into its loader and back: tests the wiring."),
    ] = False,
    udev: Annotated[
        bool, typer.Option("--udev", help="Print a udev rule that lets people use boards without root.")
    ] = False,
) -> None:
    """Say what this machine sees of boards, and what stands in the way. Without --reset no board notices."""
    from flash_tools import doctor as looking

    if udev:
        typer.echo(looking.udev_rules(), nl=False)
        return
    well = looking.tell(looking.examine(port or [], reset=reset), typer.echo)
    raise typer.Exit(0 if well else 1)


class _Saying(Progress):
    """Only what a person has to do."""

    def __init__(self, port: str) -> None:
        self._port = port

    def stage(self, name: str) -> None:
        if name == RESET:
            typer.echo(f"{self._port}: {RESET_TOLD}")


def _end(results: list[Result], journal: Path, *, dry_run: bool) -> None:
    failed = [result for result in results if result.error is not None]
    if len(results) > 1:
        typer.echo(f"{len(results) - len(failed)} of {len(results)} boards done, {len(failed)} failed")
    if not dry_run:
        typer.echo(f"journal: {journal}")
    if failed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _status(what: str) -> Iterator[None]:
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"{what} …") if console.is_terminal else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _lent(names: list[str], config: Path, take_port: bool) -> Iterator[None]:
    """The ports that the gateway on this machine has, for as long as this lasts."""
    if not take_port:
        yield
        return
    from flash_tools.port_loan import borrowed

    with borrowed(names, config, lambda text: typer.echo(text)):
        yield
