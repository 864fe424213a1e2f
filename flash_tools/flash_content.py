"""From what a person asked for to what a board shall hold: files are read, images built and checked, keys minted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from flash_tools import firmware_image, node_types, shipped
from flash_tools import mint as minting
from flash_tools.errors import DoesNotFit, FlashToolError, InspectError, WrongImage, WrongMac
from flash_tools.firmware_image import Version
from flash_tools.images import SLOT, board_constants
from flash_tools.inspect_image import read_littlefs
from flash_tools.journal import Journal
from flash_tools.mint import ROOT
from flash_tools.plan import APP, STATE, Content, identity_in

# Where a littlefs says that it is one.
_MAGIC_AT, _MAGIC = 8, b"littlefs"


@dataclass(frozen=True)
class Asked:
    """The options of a command, as given."""

    board: str | None = None
    node_type: str | None = None
    image: Path | None = None
    release: Path | None = None
    downgrade: bool = False
    firmware: str | None = None
    micropython: Path | None = None
    version: Version | None = None
    state: Path | None = None
    erase_state: bool = False
    minted: Path = Path("minted")
    mac: str | None = None
    label: str | None = None
    repartition: bool = False


def check(asked: Asked, ports: list[str]) -> None:
    """What can be refused before anything is built."""
    for option, given in (("--state", asked.state), ("--mac", asked.mac), ("--label", asked.label)):
        if given is not None and len(ports) > 1:
            raise FlashToolError(
                f"{option} is of one board: flash {len(ports)} boards one by one, or provision them"
            )
    if asked.version is not None and asked.micropython is None:
        raise FlashToolError("--version says which MicroPython: name the file or folder with --micropython")
    if asked.erase_state and asked.state is None and asked.node_type is None:
        raise FlashToolError("--erase-state mints a new node: say which with --type, as --type river")
    if asked.image is not None and asked.release is not None:
        raise FlashToolError("--image and --release are two programs for one slot: choose one")


def make(asked: Asked, journal: Journal | None, root: Path = ROOT) -> Content:
    """All but a key that is still to be minted."""
    kind = None if asked.release is None else shipped.kind_of(asked.release)
    if asked.board is None and kind is not None:
        asked = replace(asked, board=kind[1])
    if asked.board is None:
        raise FlashToolError(f"--board: name one of {', '.join(node_types.boards(root))}")
    node_types.choose("board", asked.board, node_types.boards(root), root / "boards")
    board = board_constants(asked.board)
    state = None if asked.state is None else _partition(asked.state, board, STATE)
    identity = None
    if state is not None:
        identity = identity_in(state, board.BLOCK_SIZE)
        if identity is None:
            raise WrongImage(
                str(asked.state), "a file system without an identity", "a minted state.img", "Mint a node"
            )
    mac = None if asked.mac is None else parse_mac(asked.mac)
    if asked.label is not None and journal is not None:
        mac = _mac_of_label(asked.label, journal, mac)
    app, release, version = _app(asked, board, root)
    return Content(
        board=board,
        app=app,
        release=release,
        downgrade=asked.downgrade,
        version=_said(asked.firmware, release) or version,
        micropython=None
        if asked.micropython is None
        else firmware_image.load(asked.micropython, board, asked.version),
        state=state,
        erase_state=asked.erase_state,
        repartition=asked.repartition,
        mac=mac,
        identity=identity,
    )


def with_new_key(
    content: Content,
    asked: Asked,
    facts: Any,
    journal: Journal,
    area: str | None,
    site: str | None,
    root: Path = ROOT,
) -> Content:
    """For --erase-state: a newly minted node, or the one that was minted for this board and not flashed yet."""
    image = _unfinished(journal, facts.mac)
    if image is None:
        assert asked.node_type is not None  # check()
        assert asked.board is not None  # make()
        made = minting.mint(
            out=asked.minted, node_type=asked.node_type, board=asked.board, area=area, site=site, root=root
        )
        image = made.state_image
        journal.note("minted", facts.mac, node=f"{made.address:04x}", state_image=str(image.absolute()))
    state = _partition(image, content.board, STATE)
    return replace(content, state=state, identity=identity_in(state, content.board.BLOCK_SIZE))


def _unfinished(journal: Journal, mac: str) -> Path | None:
    """The image of a node that was minted for this board and never reached it whole."""
    image = None
    for entry in journal.entries():
        if entry.get("mac") == mac:
            if entry["step"] == "minted":
                image = Path(str(entry.get("state_image")))
            elif entry.get("state_written"):
                image = None
    return image if image is not None and image.exists() else None


def parse_mac(text: str) -> str:
    """As printed on modules, in any of the usual ways."""
    digits = text.lower().replace(":", "").replace("-", "")
    try:
        whole = len(digits) == 12 and bytes.fromhex(digits)
    except ValueError:
        whole = False
    if not whole:
        raise FlashToolError(f"MAC {text!r}: write six bytes, as 24:0a:c4:00:01:10")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _said(asked: str | None, release: int) -> str | None:
    """What a node says when a person names its version, with the release or without."""
    return asked if not asked or not release or "+" in asked else f"{asked}+r{release}"


def _app(asked: Asked, board: ModuleType, root: Path) -> tuple[bytes, int, str]:
    """The partition, the sequence of its release (0: it is none), and what its node will say it runs."""
    if asked.image is not None:
        data = _partition(asked.image, board, APP)
        files = _slot_of(data)
        return data, shipped.release_in(files), shipped.said(files) or shipped.firmware_version(root)
    if asked.node_type is None and (asked.release is None or shipped.kind_of(asked.release) is None):
        raise FlashToolError(
            f"--type: name one of {', '.join(node_types.minted(root))}; or a release with --release, or a ready image "
            "with --image"
        )
    made = shipped.program(root, board.NAME, asked.node_type, asked.release)
    return made.image.data, made.release, made.version


def _slot_of(image: bytes) -> dict[str, bytes]:
    """The program in an image, by path; empty when it can not be read: what is asked for is what is flashed."""
    try:
        files, _ = read_littlefs(image)
    except InspectError:
        return {}
    return {path[len(SLOT) + 1 :]: data for path, data in files.items() if path.startswith(f"{SLOT}/")}


def _partition(path: Path, board: ModuleType, label: str) -> bytes:
    """The image of one of our two file systems."""
    _, size = board.PARTITIONS[label]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WrongImage(
            str(path), str(error.strerror), f"an image of `{label}`", "Name a file that you can read"
        ) from error
    if not data.startswith(_MAGIC, _MAGIC_AT):
        raise WrongImage(
            str(path),
            f"{len(data)} bytes that are no littlefs",
            f"an image of the `{label}` partition",
            "Make one with `tidegate firmware build --image`"
            if label == APP
            else "Make one with `tidegate node mint`",
        )
    if len(data) > size:
        raise DoesNotFit(
            str(path),
            f"{len(data)} bytes",
            f"at most {size}: partition `{label}` of board {board.NAME}",
            "Build the image for this board",
        )
    return data


def _mac_of_label(label: str, journal: Journal, mac: str | None) -> str:
    """The board that this node number was given to."""
    node = f"{minting.parse_address(label):04x}"
    known = next(
        (
            str(entry["mac"])
            for entry in reversed(journal.entries())
            if entry.get("node") == node and entry.get("mac")
        ),
        None,
    )
    if known is None:
        raise FlashToolError(
            f"--label {node}: {journal.path} has no board of this number. Name its MAC with --mac, or the journal "
            "of the station that made it with --journal"
        )
    if mac is not None and mac != known:
        raise WrongMac(
            f"--label {node}",
            f"--mac {mac}",
            f"{known}, as {journal.path} has it",
            "One of the two is another board's",
        )
    return known
