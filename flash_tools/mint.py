"""Making a node: an address, a fresh key, its `state` partition, and the line that a gateway imports.

A key is stored before it is used: the line is on disk in the mint file before the image that holds the same key is
written, so a crash leaves at worst a line whose image is missing, never a node in the street whose key nobody has.
The mint file (JSON lines, readable by its owner only) is also the book of addresses: what stands in it is taken. A
key is never replaced silently; `force` replaces line and image together.

Two stations that mint into one file take turns (a lock); stations with files of their own use ranges of their own.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from flash_tools.errors import MintError
from flash_tools.images import build_state_image
from protocols.wire import identity as identity_file
from protocols.wire.errors import EncodeError
from protocols.wire.identity import Identity
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE, MAX_ADDRESS

MINT_FILE = "nodes.jsonl"
# What firmware opens at a start (SPEC.md section 6).
IDENTITY_PATH = "/identity"
_PRIVATE = 0o600
# One level of an MQTT topic: area and site become such levels at the gateway.
_LEVEL = re.compile(r"[^/+#\s]{1,64}\Z")


@dataclass(frozen=True)
class Wanted:
    """What a node shall be. ``address`` None: the lowest free one of ``addresses``."""

    node_type: str
    board: str
    area: str | None
    site: str | None
    address: int | None
    addresses: range


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


def node_types(root: Path) -> list[str]:
    """The node types that the firmware in this source tree knows: the keys of MODULES in firmware/nodes.

    Read, not imported: the bench reads the firmware as data, like the image builder does.
    """
    source = root / "firmware/nodes/__init__.py"
    for statement in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "MODULES":
            return sorted(ast.literal_eval(statement.value))
    raise MintError(f"{source} names no node types (MODULES): this source tree is damaged")


def mint(
    wanted: Wanted,
    out: Path,
    root: Path,
    *,
    force: bool = False,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Minted:
    """Make one node below the folder ``out``. Raises MintError, and then has made nothing."""
    _check(wanted, root)
    out.mkdir(parents=True, exist_ok=True)
    mint_file = out / MINT_FILE
    with _locked(mint_file):
        lines = _read_lines(mint_file)
        address = _choose(wanted, lines, mint_file, force=force)
        state_image = out / f"{address:04x}" / "state.img"
        if state_image.exists() and not force:
            raise MintError(
                f"{state_image} exists and holds a key. Give the node another address, or --force if the node "
                "with this key is retired: it will never be understood again"
            )
        identity = Identity(
            address,
            random(MASTER_SECRET_SIZE),
            random(MASTER_SALT_SIZE),
            wanted.node_type,
            wanted.board,
            wanted.area,
        )
        image = _state_image(identity)
        lines[address] = _line(identity, wanted.site)
        _write_private(mint_file, "".join(f"{lines[key]}\n" for key in lines).encode())
        state_image.parent.mkdir(exist_ok=True)
        _write_private(state_image, image)
    return Minted(address, state_image, mint_file)


def write_new(path: Path, data: bytes, *, force: bool) -> None:
    """Write a file that holds no secret; an existing one only with ``force``."""
    if path.exists() and not force:
        raise MintError(f"{path} exists. Choose another --out, or --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, data, 0o644)


def _check(wanted: Wanted, root: Path) -> None:
    types = node_types(root)
    if wanted.node_type not in types:
        near = get_close_matches(wanted.node_type, types, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise MintError(f"no node type {wanted.node_type!r}; there are: {', '.join(types) or 'none'}.{hint}")
    for name, value in (("area", wanted.area), ("site", wanted.site)):
        if value is not None and not _LEVEL.match(value):
            raise MintError(
                f"{name} {value!r}: allowed are 1 to 64 characters without spaces, '/', '+' and '#'"
            )


def _choose(wanted: Wanted, lines: dict[int, str], mint_file: Path, *, force: bool) -> int:
    if wanted.address is None:
        free = next((address for address in wanted.addresses if address not in lines), None)
        if free is None:
            raise MintError(
                f"all {len(wanted.addresses)} addresses {wanted.addresses[0]:04x}-{wanted.addresses[-1]:04x} stand "
                f"in {mint_file} already; give this station a further range with --addresses"
            )
        return free
    if wanted.address in lines and not force:
        raise MintError(
            f"address {wanted.address:04x} stands in {mint_file} already. Choose another, or --force to replace its "
            "key: the node that carries the old one will never be understood again, and the gateway must import "
            "the new one with --replace"
        )
    return wanted.address


def _state_image(identity: Identity) -> bytes:
    try:
        content = identity_file.encode(identity)
    except EncodeError as error:
        raise MintError(str(error)) from error
    return build_state_image({IDENTITY_PATH: content}, identity.board)


def _line(identity: Identity, site: str | None) -> str:
    """What `tidegate gateway node import` reads."""
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
    text = mint_file.read_text(encoding="utf-8") if mint_file.exists() else ""
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


@contextlib.contextmanager
def _locked(mint_file: Path) -> Iterator[None]:
    """Only one station at a time; the lock goes with the process."""
    path = mint_file.with_name(f".{mint_file.name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_private(path: Path, data: bytes) -> None:
    _replace(path, data, _PRIVATE)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Replace a file whole, on disk when this returns; it never exists with a wider mode."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
