"""Making a node: an address, a fresh key, its `state` partition, and the line that a gateway imports.

A key is stored before it is used: the line is on disk in the mint file before the image that holds the same key is
written, so a crash leaves at worst a line whose image is missing, never a node in the street whose key nobody has.
The mint file (JSON lines, readable by its owner only) is also the book of addresses: what stands in it is taken. A
key is never replaced silently; `force` replaces line and image together.

Two stations that mint into one file take turns (a lock); stations with files of their own use ranges of their own.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from flash_tools import node_types
from flash_tools.calibrations import Calibration
from flash_tools.calibrations import encode as encode_calibrations
from flash_tools.errors import MintError
from flash_tools.files import PRIVATE, PUBLIC, locked, replace
from flash_tools.images import board_constants, build_state_image
from flash_tools.radio_plan import Radio
from protocols.node_types import settings_of, settings_problem
from protocols.wire import cbor, document
from protocols.wire import identity as identity_file
from protocols.wire.codes import SETTING_NAMES
from protocols.wire.errors import EncodeError
from protocols.wire.identity import Identity
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE, MAX_ADDRESS

ROOT = Path(__file__).resolve().parents[1]
MINT_FILE = "nodes.jsonl"
# What firmware opens at a start (SPEC.md section 6).
IDENTITY_PATH = "/identity"
ALL_ADDRESSES = range(1, MAX_ADDRESS + 1)
# One level of an MQTT topic: area and site become such levels at the gateway.
_LEVEL = re.compile(r"[^/+#\s]{1,64}\Z")


@dataclass(frozen=True)
class Minted:
    """A node that was made: its address, the file with its `state` partition, and the file a gateway imports."""

    address: int
    state_image: Path
    mint_file: Path


def parse_address(text: str) -> int:
    """An address as it stands on a label: 1 to 4 hexadecimal digits, 0x before them or not."""
    digits = text.strip().lower().removeprefix("0x")
    if re.fullmatch(r"[0-9a-f]{1,4}", digits) and 1 <= int(digits, 16) <= MAX_ADDRESS:
        return int(digits, 16)
    raise MintError(f"address {text!r}: allowed is 0001 to {MAX_ADDRESS:04X}, hexadecimal")


def parse_range(text: str) -> range:
    """``0010-00ff``: the addresses that a provisioning station may give out."""
    low, dash, high = text.partition("-")
    if not dash:
        raise MintError(f"address range {text!r}: write the first and the last address, as in 0010-00ff")
    found = range(parse_address(low), parse_address(high) + 1)
    if not found:
        raise MintError(f"address range {text!r} is empty: its first address is above its last")
    return found


def parse_settings(pairs: list[str], node_type: str = "") -> dict[int, int]:
    """``interval_s=60`` and so on, by the names of SPEC.md section 2.4; `mint` knows which its type has."""
    settings: dict[int, int] = {}
    names = settings_of(node_type)
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in SETTING_NAMES or not re.fullmatch(r"-?[0-9]{1,9}", value):
            near = get_close_matches(name, names, n=1)
            hint = f". Did you mean {near[0]}?" if near and near[0] != name else ""
            raise MintError(f"setting {pair!r}: write NAME=NUMBER, with one of {', '.join(names)}{hint}")
        if SETTING_NAMES.index(name) in settings:
            raise MintError(f"setting {pair!r}: {name} is given twice. Name each setting once")
        settings[SETTING_NAMES.index(name)] = int(value)
    return settings


def mint(
    *,
    out: Path,
    node_type: str,
    board: str = "virtual",
    area: str | None = None,
    site: str | None = None,
    address: int | None = None,
    addresses: range = ALL_ADDRESSES,
    settings: Mapping[int, int] | None = None,
    calibrations: Sequence[Calibration] = (),
    radio: Radio | None = None,
    root: Path = ROOT,
    force: bool = False,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Minted:
    """Make one node below the folder ``out``. Raises MintError, and then has made and replaced no key.

    ``address`` None: the lowest free one of ``addresses``. ``settings``: what it starts with, by key (SPEC.md section
    2.4), until its gateway says otherwise.
    """
    check(root, node_type, board, area, site, settings or {}, radio)
    mint_file = out / MINT_FILE
    mint_file.parent.mkdir(parents=True, exist_ok=True)
    with locked(mint_file.with_name(f".{mint_file.name}.lock")):
        lines = _read_lines(mint_file)
        if address is None:
            address = _lowest_free(addresses, lines, mint_file)
        elif address in lines and not force:
            raise MintError(
                f"address {address:04x} stands in {mint_file} already. Choose another, or --force to replace its key: "
                "the node that carries the old one will never be understood again, and the gateway must import the "
                "new one with --replace"
            )
        state_image = out / f"{address:04x}" / "state.img"
        if state_image.exists() and not force:
            raise MintError(
                f"{state_image} exists and holds a key. Give the node another address, or --force if the node "
                "with this key is retired: it will never be understood again"
            )
        secret, salt = random(MASTER_SECRET_SIZE), random(MASTER_SALT_SIZE)
        identity = Identity(address, secret, salt, node_type, board, area, radio)
        image = state_partition(identity, settings or {}, calibrations)
        lines[address] = import_line(identity, site)
        replace(mint_file, "".join(f"{line}\n" for line in lines.values()).encode(), PRIVATE)
        state_image.parent.mkdir(exist_ok=True)
        replace(state_image, image, PRIVATE)
    return Minted(address, state_image, mint_file)


def write_new(path: Path, data: bytes, *, force: bool) -> None:
    """Write a file that holds no secret; an existing one only with ``force``."""
    if path.exists() and not force:
        raise MintError(f"{path} exists. Choose another --out, or --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, data, PUBLIC)


def check(
    root: Path,
    node_type: str,
    board: str,
    area: str | None,
    site: str | None,
    settings: Mapping[int, int],
    radio: Radio | None,
) -> None:
    """MintError when no such node can be made."""
    node_types.choose("node type", node_type, node_types.minted(root), root / "firmware/nodes")
    check_level("area", area)
    check_level("site", site)
    check_settings(node_type, settings, radio is not None)
    check_radio(node_type, board, radio)


def check_level(name: str, value: str | None) -> None:
    """Area and site become levels of MQTT topics."""
    if value is None:
        return
    if not _LEVEL.match(value):
        raise MintError(f"{name} {value!r}: allowed are 1 to 64 characters without spaces, '/', '+' and '#'")
    if not value.isprintable():  # no broker takes a NUL, and a terminal does what ESC says
        raise MintError(f"{name} {value!r:.80}: has characters that are no text. Write it in UTF-8")


def check_settings(node_type: str, settings: Mapping[int, int], on_air: bool) -> None:
    """Whether such a node would take them."""
    if settings and node_type in node_types.ROLES:
        raise MintError(f"a {node_type} has no settings: mint it without --setting")
    named = {SETTING_NAMES[key]: value for key, value in settings.items()}
    problem = settings_problem(node_type, named, on_air)
    if problem:
        raise MintError(f"settings: {problem}")


def check_radio(node_type: str, board: str, radio: Radio | None) -> None:
    """Whether the board can be on the air, and a bridge is."""
    if radio is None and node_type in node_types.ROLES:
        raise MintError(
            f"a {node_type} is a radio on a serial line: name its plan with --plan, as --plan cn470"
        )
    if radio is not None and board_constants(board).RADIO_CHIP is None:
        raise MintError(f"board {board} has no radio: mint this node without --plan, or for another board")


def _lowest_free(addresses: range, lines: Mapping[int, str], mint_file: Path) -> int:
    for address in addresses:
        if address not in lines:
            return address
    raise MintError(
        f"all {len(addresses)} addresses {addresses[0]:04x}-{addresses[-1]:04x} stand in {mint_file} already; give "
        "this station a further range with --addresses"
    )


def state_partition(
    identity: Identity, settings: Mapping[int, int], calibrations: Sequence[Calibration] = ()
) -> bytes:
    """The image of a `state` partition that makes a board this node. It holds its key."""
    try:
        files = {IDENTITY_PATH: identity_file.encode(identity)}
    except EncodeError as error:
        raise MintError(str(error)) from error
    if settings:
        # Version 0: no gateway has spoken yet.
        data = document.encode(document.SETTINGS, 1, cbor.dumps([0, dict(settings)]))
        files |= {f"{folder}/{document.SETTINGS}": data for folder in document.FOLDERS}
    if calibrations:
        files |= encode_calibrations(calibrations)
    return build_state_image(files, identity.board)


def import_line(identity: Identity, site: str | None) -> str:
    """What `tidegate gateway node import` reads. It holds the key."""
    row = {
        "address": f"{identity.address:04x}",
        "node_type": identity.node_type,
        "board": identity.board,
        "area": identity.area,
        "site": site,
        "master_secret": identity.master_secret.hex(),
        "master_salt": identity.master_salt.hex(),
    }
    return json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False)


def _read_lines(mint_file: Path) -> dict[int, str]:
    """The lines of a mint file by address, in their order."""
    lines: dict[int, str] = {}
    text = mint_file.read_text(encoding="utf-8", errors="replace") if mint_file.exists() else ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            lines[parse_address(json.loads(line)["address"])] = line
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Not shown: a line holds a key.
            raise MintError(
                f"{mint_file}:{number}: not a line that minting wrote. Put the file back as it was, or mint into "
                "another folder with a range of addresses of its own"
            ) from error
    return lines
