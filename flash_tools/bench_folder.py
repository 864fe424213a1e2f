"""The folder of a provisioning station, as its commands find it: table of stations, keys, book, labels and records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from flash_tools import addresses, book, key_store, mint
from flash_tools.batch import parse_mac
from flash_tools.errors import ProvisionError
from flash_tools.provisioning import LABELLED, VERIFIED, Unit, Units
from flash_tools.registry_door import GatewayRegistry
from flash_tools.station import Bench

BENCH_FILE, BOOK_FILE = "bench.toml", "units.jsonl"

BenchOption = Annotated[
    Path,
    typer.Option(
        "--bench", envvar="TIDEGATE_BENCH", help="Folder of this station: its book, keys, labels, records."
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="gateway.toml of the gateway on this machine; default: of bench.toml."
    ),
]
UnitArgument = Annotated[str, typer.Argument(metavar="UNIT", help="Its address as on the label, or its MAC.")]
UnitsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[UNIT]…", help="As on the label, or MACs.")
]
WhyOption = Annotated[str, typer.Option("--why", help="Kept in the book and in the gateway's audit log.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AcceptanceOption = Annotated[
    Path, typer.Option("--acceptance", help="Folder where `tidegate node accept` keeps its records.")
]
DEFAULT_BENCH = Path("provisioning")
DEFAULT_ACCEPTANCE = Path("acceptance")


@contextlib.contextmanager
def told(place: Path) -> Iterator[None]:
    """A folder that is not ours, a full disk: said in a sentence."""
    try:
        yield
    except OSError as error:
        raise ProvisionError(f"{place}: {error.filename or place}: {error.strerror}") from error


def looked_at(bench: Path) -> Units:
    """For looking only: no lock, no key."""
    if not (bench / BENCH_FILE).exists():
        raise ProvisionError(
            f"{bench}: is no bench. Name its folder with --bench, or make one: tidegate provision {addresses.INIT}"
        )
    return Units(book.read(bench / BOOK_FILE))


@contextlib.contextmanager
def working(bench: Path) -> Iterator[tuple[Bench, Units]]:
    """For changing: the lock of the book, the table of stations and the keys."""
    table = addresses.read(bench / BENCH_FILE)
    keys = key_store.KeyStore(key_store.load_master_key(bench / key_store.MASTER_KEY_FILE))
    with told(bench), book.opened(bench / BOOK_FILE) as opened:
        yield Bench(bench, table.own, keys, table.gateway), Units(opened.entries, opened)


def check_text(option: str, text: str) -> None:
    """What goes into the book is shown on terminals and pages. ProvisionError for bytes that are no UTF-8, and ESC."""
    if not text.isprintable():
        raise ProvisionError(f"{option} {text!r:.80}: has characters that are no text. Write it in UTF-8")


def find(units: Units, name: str) -> Unit:
    mac = parse_mac(name)
    found = units.of_mac(mac) if mac else units.of_address(mint.parse_address(name))
    if found is None:
        raise ProvisionError(f"there is no unit {name} here. `tidegate provision list` shows all")
    return found


def alive(units: Units, names: list[str] | None) -> list[Unit]:
    """These, or all that are good for a gateway."""
    chosen = [find(units, name) for name in names or []] or [
        unit for unit in units.all() if unit.state in (VERIFIED, LABELLED)
    ]
    for unit in chosen:
        if not unit.is_alive:
            raise ProvisionError(f"unit {unit.name} is {unit.state}: its key is given to nobody any more")
    if not chosen:
        raise ProvisionError("no unit is verified yet. Provision boards first")
    return chosen


def door(place: Bench, config: Path | None) -> GatewayRegistry | None:
    """To the gateway that is named here, or else in bench.toml."""
    found = config or place.gateway
    return None if found is None else GatewayRegistry(found)
