"""One run of a provisioning station, told top to bottom: boards on ports become units that a gateway knows.

    who is it → mint → write and verify → boot check → label          each board for itself, all at once
    → registry → record                                               together, when the last one is done

Each step is in the book before the next begins, and each begins by looking at what is there: the same command after a
kill, a pulled cable or a failed board does what is missing, and on boards that are done it sends nothing. A board that
fails is told with its reason, and costs the others nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from flash_tools import calibrations, files, label, mint, record, record_page
from flash_tools.addresses import Station
from flash_tools.errors import FlashToolError, ProvisionError, RegistryError
from flash_tools.images import board_constants
from flash_tools.key_store import KeyStore
from flash_tools.provisioning import FLASHED, LABELLED, MINTED, VERIFIED, Unit, Units, Wanted
from protocols.wire.codes import SETTING_NAMES
from protocols.wire.identity import Identity

LABELS, RECORDS = "labels", "records"


class Chip(Protocol):
    """What a board says of itself before anything is written to it."""

    @property
    def mac(self) -> str: ...
    @property
    def chip(self) -> str: ...
    @property
    def flash_size(self) -> int: ...


@dataclass(frozen=True)
class Written:
    """A board whose flash was compared with what was ordered, block by block, and is equal now."""

    chip: str
    revision: str
    flash_size: int
    secure_boot: bool
    flash_encryption: bool
    version: str
    micropython: str
    app_digest: str
    blocks_sent: int
    blocks_total: int
    data_bytes: int


@dataclass(frozen=True)
class Booted:
    """``heard``: what the node said, ``limit``: what it had to say; ``version``: the firmware that said it."""

    heard: str
    limit: str
    version: str


@dataclass(frozen=True)
class Order:
    """What one board is to hold. ``state``: the image of a new identity; None: `state` is not touched.

    ``replaces``: the board was another unit of this bench before, which is over, so its identity may go.
    """

    unit: Unit
    identity: Identity = field(repr=False)
    state: bytes | None = field(repr=False)
    replaces: bool = False


class BoardAt(Protocol):
    """The board at an open port. Everything raised is a FlashToolError that says what to do."""

    def write(self, order_for: Callable[[Chip], Order]) -> Written:
        """``order_for`` is asked once, when the chip has said who it is and nothing is written yet."""
        ...

    def boot(self, order: Order) -> Booted: ...


# Opens a port and keeps it open: what a node says at its start must not be lost between two steps.
Opened = Callable[[Any], AbstractContextManager[BoardAt]]


class Registry(Protocol):
    """What a run needs of a gateway."""

    @property
    def name(self) -> str: ...
    def known(self) -> set[int]: ...
    def add(self, lines: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What became of the board at one port. ``problem``: "" when it is done; ``data_bytes``: sent to its flash."""

    port: str
    problem: str
    mac: str = ""
    unit: str = ""
    did: tuple[str, ...] = ()
    data_bytes: int = 0


@dataclass(frozen=True)
class Bench:
    """Where a run works: its folder, its place in the table of stations, its keys."""

    folder: Path
    station: Station
    keys: KeyStore
    gateway: Path | None = None  # the configuration of the gateway that its table names


class StationRun:
    """``registry``: of the gateway that takes the units in, where one is at hand. ``again``: mint dead boards anew.

    ``flashed``: addresses that were written to boards. The book has them, too, unless its end was lost: it was put back
    from a copy, or its last line is damaged. They are not given out again.
    """

    def __init__(
        self,
        bench: Bench,
        units: Units,
        registry: Registry | None = None,
        *,
        who: str = "",
        again: bool = False,
        acceptance: Path | None = None,
        flashed: Collection[int] = (),
    ) -> None:
        self._bench = bench
        self._units = units
        self._registry = registry
        self._who = who
        self._again = again
        self._acceptance = acceptance
        self._elsewhere = set(flashed)
        self._minting = threading.Lock()

    def run(
        self, ports: Sequence[Any], opened: Opened, choose: Callable[[str, str], Wanted]
    ) -> list[Outcome]:
        """All boards, side by side; outcomes in the order of the ports.

        ``choose``: what a board with this MAC and chip is to become; ProvisionError when nothing is.
        """
        if self._registry is not None:
            self._elsewhere |= self._registry.known()
        with ThreadPoolExecutor(max_workers=max(1, len(ports))) as pool:
            done = list(pool.map(lambda port: self._board(port, opened, choose), ports))
        return [self._recorded(outcome) for outcome in self._register(done)]

    # ---- one board -------------------------------------------------------------------------------------------------

    def _board(self, port: Any, opened: Opened, choose: Callable[[str, str], Wanted]) -> Outcome:
        name = str(getattr(port, "name", port))
        found: list[Unit] = []

        def order_for(chip: Chip) -> Order:
            found.append(self._unit(chip, choose))
            return self.order(found[0])

        try:
            with opened(port) as board:
                written = board.write(order_for)
                return self._finish_board(name, board, found[0], written)
        except (FlashToolError, OSError) as error:
            if not found:
                return Outcome(name, str(error))
            unit = self._units.note(found[0].address, "failed", why=str(error))
            return Outcome(name, str(error), unit.mac, unit.name)

    def _unit(self, chip: Chip, choose: Callable[[str, str], Wanted]) -> Unit:
        """The unit that this board is, minted now if it is none yet."""
        with self._minting:  # two boards never choose one line of a batch
            wanted = choose(chip.mac, chip.chip)
            unit = self._units.of_mac(chip.mac)
            if unit is not None and unit.is_alive:
                _check_same(unit, wanted)
                return unit
            _check_board(chip, wanted)
            return self._units.mint(
                chip.mac, wanted, self._bench.station, self._bench.keys, self._elsewhere,
                again=self._again, who=self._who, range=self._bench.station.text,
            )  # fmt: skip

    def _finish_board(self, port: str, board: BoardAt, unit: Unit, written: Written) -> Outcome:
        did = ["minted"] if unit.state == MINTED else []
        if written.blocks_sent or unit.state == MINTED:
            unit = self._units.advance(unit.address, FLASHED, **asdict(written))
            did.append("flashed")
        booted = board.boot(self.order(unit))
        if unit.state == FLASHED:
            unit = self._units.advance(unit.address, VERIFIED, **asdict(booted))
            did.append("verified")
        self.write_label(unit)
        if unit.state == VERIFIED:
            unit = self._units.advance(unit.address, LABELLED)
            did.append("labelled")
        if unit.problem:  # of a run before: all of it is good now
            self._units.note(unit.address, "checked", **asdict(booted))
        return Outcome(port, "", unit.mac, unit.name, tuple(did), written.data_bytes)

    def order(self, unit: Unit) -> Order:
        """The board's content. Its identity is written once, before it was ever flashed whole, and never again."""
        identity = self._identity(unit)
        if unit.state != MINTED:
            return Order(unit, identity, None)
        replaces = any(one.mac == unit.mac and one.address != unit.address for one in self._units.all())
        wanted = unit.wanted
        settings = {SETTING_NAMES.index(name): value for name, value in wanted.settings.items()}
        found = calibrations.parse(wanted.calibrations, wanted.node_type)
        return Order(unit, identity, mint.state_partition(identity, settings, found), replaces)

    def _identity(self, unit: Unit) -> Identity:
        keys = self._bench.keys.open(unit.mac, unit.address, unit.sealed)
        wanted = unit.wanted
        return Identity(
            unit.address, keys.master_secret, keys.master_salt, wanted.node_type, wanted.board, wanted.area,
            wanted.radio,
        )  # fmt: skip

    def _recorded(self, outcome: Outcome) -> Outcome:
        if not outcome.unit:
            return outcome
        try:
            self.write_record(int(outcome.unit, 16))
        except (FlashToolError, OSError) as error:
            return replace(outcome, problem=outcome.problem or f"its record can not be written: {error}")
        return outcome

    # ---- registry --------------------------------------------------------------------------------------------------

    def import_line(self, unit: Unit) -> str:
        """What a gateway imports. It holds the key."""
        return mint.import_line(self._identity(unit), unit.wanted.site)

    def _register(self, done: Sequence[Outcome]) -> list[Outcome]:
        if self._registry is None:
            return list(done)
        refused = self.register([int(one.unit, 16) for one in done if one.unit and not one.problem])
        found = []
        for outcome in done:
            problem = refused.get(outcome.unit)
            if problem is not None:
                self._units.note(int(outcome.unit, 16), "failed", why=problem)
                outcome = replace(outcome, problem=problem)
            found.append(outcome)
        return found

    def register(self, addresses: Sequence[int]) -> dict[str, str]:
        """Make the units known to the gateway; by unit, why it refuses some."""
        registry = self._registry
        if registry is None:
            raise ProvisionError("no gateway is named: give its gateway.toml with --config, or in bench.toml")
        waiting = [
            unit
            for address in addresses
            if (unit := self._units.of_address(address)) is not None
            # A bridge is no node: it has a table in gateway.toml, and no key there.
            and unit.wanted.node_type != "bridge"
            and unit.facts.get("registered", {}).get("gateway") != registry.name
        ]
        refused: dict[str, str] = {}
        for group in _groups(registry, [(unit, self.import_line(unit)) for unit in waiting]):
            for unit, problem in group:
                if problem:
                    refused[unit.name] = problem
                else:
                    self._units.note(unit.address, "registered", gateway=registry.name)
        return refused

    # ---- what a person takes along ---------------------------------------------------------------------------------

    def write_label(self, unit: Unit) -> None:
        folder = self._bench.folder / LABELS
        _keep(folder / f"{unit.name}.svg", label.svg(unit).encode())
        _keep(folder / f"{unit.name}.pdf", label.pdf([unit]))

    def write_record(self, address: int) -> Path:
        """JSON and page; the path of the page."""
        unit = self._units.of_address(address)
        if unit is None:
            raise ProvisionError(f"there is no unit {address:04x} here. `tidegate provision list` shows all")
        accepted = None if self._acceptance is None else record.find_acceptance(self._acceptance, unit)
        made = record.of(unit, accepted)
        page = self._bench.folder / RECORDS / f"{unit.name}.html"
        _keep(page.with_suffix(".json"), json.dumps(made, indent=1, ensure_ascii=False).encode() + b"\n")
        _keep(page, record_page.html(unit, made).encode())
        return page


def _groups(registry: Registry, waiting: list[tuple[Unit, str]]) -> list[list[tuple[Unit, str]]]:
    """All in one go; where the gateway refuses, each for itself, so that one bad unit holds no other up."""
    if not waiting:
        return []
    try:
        registry.add([line for _, line in waiting])
    except RegistryError as error:
        if len(waiting) == 1:
            return [[(waiting[0][0], str(error))]]
        return [group for one in waiting for group in _groups(registry, [one])]
    return [[(unit, "") for unit, _ in waiting]]


def _check_board(chip: Chip, wanted: Wanted) -> None:
    """Before anything is minted: an address and a key are not spent on a board that can not become this."""
    board = board_constants(wanted.board)
    if chip.chip != board.CHIP or chip.flash_size < board.FLASH_SIZE:
        found = f"{chip.chip} with {chip.flash_size // 1024} KiB of flash"
        raise ProvisionError(
            f"board {chip.mac} is an {found}; board {wanted.board} has an {board.CHIP} with "
            f"{board.FLASH_SIZE // 1024} KiB. Name the board that is at this port; nothing was minted"
        )


def _check_same(unit: Unit, wanted: Wanted) -> None:
    """A board that is a unit already stays what it is."""
    is_now: Mapping[str, Any] = asdict(unit.wanted) | {"address": unit.address}
    asked = {name: value for name, value in asdict(wanted).items() if value not in (None, {}, ())}
    other = {name: value for name, value in asked.items() if is_now[name] != value}
    if other:
        name, value = next(iter(other.items()))
        has, want = (
            f"{one:04x}" if name == "address" and one is not None else one for one in (is_now[name], value)
        )
        raise ProvisionError(
            f"board {unit.mac} is unit {unit.name} already, with {name.replace('_', ' ')} {has}, and {want} is asked "
            f"for. Ask for what it is, or end it: tidegate provision scrap {unit.name} --why …, then --again"
        )


def _keep(path: Path, data: bytes) -> None:
    """Write a file that holds no secret, unless it says the same already."""
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, data, files.PUBLIC)
