"""The smallest heap in which each type of node lives each kind of life, on the 64-bit unix port of MicroPython.

    python bench/heap.py [TYPE ...] [--step KB]

A life is what lies between two starts (tests/firmware/heap_lives.py); `offer` is an ordinary one that is offered an
update.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from firmware.nodes import MODULES
from tests.firmware.heap_lives import LIVES, lived

LIMIT_K = 160
_FROM_K, _TO_K = 96, 256


def smallest_k(node_type: str, life: str, step_k: int) -> int:
    """From the limit up or down, as most lie near it."""

    def goes(heap_k: int) -> bool:
        with tempfile.TemporaryDirectory(prefix="tidegate-heap-") as folder:
            return not lived(Path(folder), node_type, life, {life: heap_k})[0]

    heap_k = LIMIT_K
    if goes(heap_k):
        while heap_k > _FROM_K and goes(heap_k - step_k):
            heap_k -= step_k
        return heap_k
    while heap_k < _TO_K:
        heap_k += step_k
        if goes(heap_k):
            return heap_k
    raise SystemExit(f"{node_type}: {life} does not go in {_TO_K}k")


def main() -> None:
    words = sys.argv[1:]
    step_k = int(words[words.index("--step") + 1]) if "--step" in words else 4
    types = [word for word in words if word in MODULES] or list(MODULES)
    for node_type in types:
        for life in LIVES:
            found = smallest_k(node_type, life, step_k)
            over = "" if found <= LIMIT_K else f" over={found - LIMIT_K}"
            print(f"type={node_type} life={life} smallest_heap_k={found}{over}", flush=True)


if __name__ == "__main__":
    main()
