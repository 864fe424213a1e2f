"""Heap and time that a node spends to encode readings, on the real MicroPython unix port.

    python bench/node_encoder.py

Beside it, in the same run, an encoder built like the cbor2 package of micropython-lib (a function per type found in a
dict, lengths through struct.pack, output through BytesIO) puts the same eight values into a CBOR list: PyPI does not
have the package itself. ``ratio`` is our time over its time, the median of several alternating rounds; more than
64 bytes of heap per set or a ratio above 1 ends with exit code 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAP_BYTES_PER_SET_MAX = 64
BATCH_HEAP_BYTES_MAX = 20_000


def run_on_micropython() -> dict[str, str]:
    """What the script beside this one prints, name by name."""
    beside_python = Path(sys.executable).parent / "micropython"
    command = str(beside_python) if beside_python.exists() else shutil.which("micropython")
    if command is None:
        raise SystemExit("micropython is missing: pip install -e '.[dev]'")
    done = subprocess.run(
        [command, "-X", "heapsize=1m", "bench/node_encoder_mpy.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"micropython ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return dict(pair.split("=", 1) for pair in done.stdout.split())


def main() -> None:
    figures = run_on_micropython()
    print(" ".join(f"{name}={value}" for name, value in figures.items()))
    too_much = float(figures["heap_bytes_per_set"]) > HEAP_BYTES_PER_SET_MAX
    too_slow = float(figures["ratio"]) > 1
    batch_too_big = float(figures["batch_heap_bytes"]) > BATCH_HEAP_BYTES_MAX
    if too_much or too_slow or batch_too_big:
        raise SystemExit(
            f"above the bound: {HEAP_BYTES_PER_SET_MAX} bytes of heap per set, ratio 1, "
            f"{BATCH_HEAP_BYTES_MAX} bytes for a day"
        )


if __name__ == "__main__":
    main()
