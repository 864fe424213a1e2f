"""Source trees of nodes that do not start: the real one, with a fault in a node type or a sensor."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent.parent
RIVER = "firmware/nodes/river_station.py"

# Where to put it, what stands there, and what to put there instead.
FAULTS: Mapping[str, tuple[str, str, str]] = {
    "sensor": (
        RIVER,
        "    master = Master(",
        '    raise OSError(19, "no such sensor")\n    master = Master(',
    ),
    "watch": (RIVER, "    watch=None,", "    watch=lambda hal, settings, keep: hal.no_such_thing,"),
    "hang": (
        RIVER,
        "    master = Master(",
        "    while True:\n        hal.clock.sleep_ms(1000)\n    master = Master(",
    ),
    "import": (RIVER, "NODE_TYPE = NodeType(", "NODE_TYPE = no_such_type("),
}


def faulty_tree(folder: Path, fault: str) -> Path:
    """A copy of what an image is built from, with that fault."""
    root = folder / fault
    for part in ("firmware", "protocols", "boards"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", "vectors"))
    path, there, instead = FAULTS[fault]
    text = (root / path).read_text(encoding="utf-8")
    assert text.count(there) == 1, f"{path} has changed: {there!r} stands there {text.count(there)} times"
    (root / path).write_text(text.replace(there, instead), encoding="utf-8")
    return root
