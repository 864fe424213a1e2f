"""How a sweep of power cuts is run on either interpreter, and what it says read."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def micropython() -> list[str]:
    """The interpreter that nodes run, with room for the sweep's images of flash."""
    here = Path(sys.executable).with_name("micropython")
    path = str(here) if here.exists() else shutil.which("micropython")
    assert path, "no micropython beside this Python: pip install -e '.[dev]'"
    return [path, "-X", "heapsize=48M"]


def sweep(words: list[str]) -> tuple[dict[str, int], str]:
    """Its figures by name, and what repeats and explains it."""
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    output = done.stdout + done.stderr
    line = next((text for text in output.splitlines() if text.startswith("cuts=")), "")
    assert line, f"the sweep did not end:\n{output[-2000:]}"
    shown = f"{' '.join(words)}\n{done.stdout}"
    print(shown)
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}, shown


def sweep_life(
    interpreter: list[str], program: str, write: Callable[[Path], None], folder: Path, *arguments: object
) -> int:
    """Cut the life that ``write`` writes down; the number of cuts, of which none went wrong.

    ``arguments``: seed, share, shares and what else the program takes.
    """
    life = folder / "life.json"
    write(life)
    script = ROOT / "tests/firmware" / program
    found, shown = sweep([*interpreter, str(script), str(ROOT), str(life), *map(str, arguments)])
    assert found["wrong"] == 0, shown
    return found["cuts"]
