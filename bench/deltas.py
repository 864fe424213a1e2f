"""What updates cost: bundles of real commits of this repository, and the deltas between them.

    python bench/deltas.py [--node river] [--board heltec_wifi_lora_32_v3] [--write] [COMMIT …]

Each commit is built by today's tools, with the names that the one before was given, as a release is. Without commits:
the two pairs that DESIGN.md quotes. ``--write`` keeps the first three as tests/flash_tools/history.json, which
`make test` measures where no history is at hand.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from flash_tools.images import slot_tree  # noqa: E402
from flash_tools.naming import Names  # noqa: E402
from flash_tools.release_show import SPREADING_FACTORS, changes, on_air, seconds  # noqa: E402
from protocols import delta  # noqa: E402

HISTORY = ROOT / "tests" / "flash_tools" / "history.json"
# An afternoon of fixes; the SX1262, time on air and the law come in; a morning of fixes to them.
COMMITS = ("6233631", "6d4ee4e", "4f220e6", "98638c2", "8e317b0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commits", nargs="*", default=COMMITS)
    parser.add_argument("--node", default="river")
    parser.add_argument("--board", default="heltec_wifi_lora_32_v3")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    names = Names()
    trees = []
    for commit in asked.commits:
        trees.append(built(commit, asked.node, asked.board, names))
        alone = built(commit, asked.node, asked.board, Names())
        if len(trees) > 1:
            _tell(f"{asked.commits[len(trees) - 2]}..{commit}", trees[-2], trees[-1], alone)
        if len(trees) > 2:
            _tell(f"{asked.commits[len(trees) - 3]}..{commit}", trees[-3], trees[-1], alone)
    if asked.write:
        _write(asked.node, asked.board, asked.commits[:3], trees[:3])


def built(commit: str, node: str, board: str, names: Names) -> dict[str, bytes]:
    """One slot, of the sources of a commit."""
    done = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"commit {commit} is not here: this needs a clone with the history of the repository"
        )
    archive = done.stdout
    with tempfile.TemporaryDirectory(prefix="tidegate-deltas-") as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return slot_tree(Path(folder), board, node, names)


def _tell(what: str, old: dict[str, bytes], new: dict[str, bytes], alone: dict[str, bytes]) -> None:
    size, whole = len(delta.make(old, new)), len(delta.pack(new))
    changed = sum(change.what != "same" for change in changes(old, new))
    unnamed = len(delta.make(old, alone))
    print(
        f"{what}: changed_files={changed}/{len(new)} delta_bytes={size} bundle_bytes={whole} "
        f"percent={100 * size / whole:.1f} percent_without_names={100 * unnamed / whole:.1f}"
    )
    added = [data for path, data in new.items() if path not in old]
    print(
        f"   new_files={len(added)} new_bytes={sum(map(len, added))} floor_percent={100 * floor(old, new) / whole:.1f}"
    )
    air = [on_air(size, sf) for sf in SPREADING_FACTORS]
    print("   " + "  ".join(f"SF{sf}: {frames} frames, {seconds(us)}" for sf, frames, us in air))


def floor(old: dict[str, bytes], new: dict[str, bytes]) -> int:
    """Bytes that what changed and what is new takes with all of the old bundle as a dictionary, and memory without end.

    No node could unpack it; it says how much of a delta is simply news.
    """
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20}]

    def packed(data: bytes) -> int:
        return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))

    base = b"".join(old.values())
    return packed(base + b"".join(data for path, data in new.items() if old.get(path) != data)) - packed(base)


def _write(node: str, board: str, commits: list[str], trees: list[dict[str, bytes]]) -> None:
    payloads = [delta.make(None, trees[0])] + [delta.make(old, new) for old, new in itertools.pairwise(trees)]
    history = {
        "about": "Bundles of commits of this repository, each as the payload that makes it of the one before. "
        "Made by bench/deltas.py --write.",
        "node": node,
        "board": board,
        "commits": commits,
        "payloads": [base64.b64encode(payload).decode() for payload in payloads],
    }
    HISTORY.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    print(f"{HISTORY.relative_to(ROOT)}: {HISTORY.stat().st_size} bytes")


if __name__ == "__main__":
    main()
