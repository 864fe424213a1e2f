"""What benches of backlogs share: a store is filled, drained, and a floor beside it, each in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import rig
from bench.gateway import percentile, rss_mb

# Of the database, the kind, and the sizes in their order.
Step = Callable[..., Coroutine[Any, Any, None]]


def play(
    script: str,
    about: str | None,
    kinds: Sequence[str],
    sizes: Mapping[str, float],
    steps: Mapping[str, Step],
) -> None:
    """What a person asks for: some of ``kinds``, in ``sizes`` other than these. ``script``: this very bench."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(kinds), help=", ".join(kinds))
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=type(size), default=size)
    parser.add_argument("--step", choices=list(steps), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    asked = {name: getattr(given, name.replace("-", "_")) for name in sizes}
    for kind in given.kinds:
        if kind not in kinds:
            parser.error(f"{kind} is no kind. Allowed are {', '.join(kinds)}.")
        if given.step is not None:
            logging.getLogger("gateway").setLevel(logging.ERROR)
            rig.pin(0, rig.GATEWAY_CORE)
            asyncio.run(steps[given.step](given.folder / "gateway.db", kind, *asked.values()))
            continue
        words = [word for name, size in asked.items() for word in (f"--{name}", str(size))]
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
            for step in steps:
                command = [sys.executable, script, kind, *words, "--step", step, "--folder", folder]
                subprocess.run(command, check=True)


def told(fresh_ms: list[float], cpu_s: float, took_s: float) -> str:
    """What a drain cost beside its speed: how late what was fresh came, and what the process took."""
    return (
        f"fresh={len(fresh_ms)} fresh_p99_ms={percentile(fresh_ms, 99):.0f} fresh_max_ms={max(fresh_ms):.0f} "
        f"cpu_percent={100 * cpu_s / took_s:.0f} rss_mb={rss_mb():.0f} "
        f"rss_max_mb={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"
    )
