"""Start time and memory of an idle gateway: `python bench/gateway_idle.py [runs]`.

Starts `tidegate gateway run` on SQLite alone, and once more with an MQTT northbound whose broker does not
answer, each `runs` times in an empty folder, and prints the best run of each:

    gateway=sqlite start_s=… start_cpu_s=… rss_mb=… limit_start_s=0.5 limit_rss_mb=60

start_s is from fork to "all parts run" (READY=1 to the service manager); start_cpu_s is what of it was
spent computing, which is the number to compare on a busy machine.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
SETTLE_S = 1.0  # after the start: what the first turns of every part allocate counts as idle memory
TIMEOUT_S = 30.0
CONFIG = '[keys]\nmaster_key_file = "master.key"\n[health]\nport = 0\n'
MQTT = '[[mqtt]]\nname = "city"\nhost = "127.0.0.1"\nport = 9\n'  # discard: refuses connections nearly everywhere


class Run(NamedTuple):
    start_s: float
    start_cpu_s: float
    rss_mb: float


def measure(config: str) -> Run:
    """One start in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "gateway.toml").write_text(config)
        key = folder / "master.key"
        key.write_text(os.urandom(32).hex())
        key.chmod(0o600)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(folder / "notify"))
            ready.settimeout(TIMEOUT_S)
            started_s = time.perf_counter()
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tidegate",
                    "gateway",
                    "run",
                    "--config",
                    str(folder / "gateway.toml"),
                ],
                env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
                cwd=ROOT,
                stderr=subprocess.DEVNULL,
            )
            try:
                ready.recv(1024)
                start_s = time.perf_counter() - started_s
                cpu_s = _cpu_s(process.pid)
                time.sleep(SETTLE_S)
                return Run(start_s, cpu_s, _rss_mb(process.pid))
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(TIMEOUT_S)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    for name, config in (("sqlite", CONFIG), ("sqlite+mqtt", CONFIG + MQTT)):
        found = [measure(config) for _ in range(runs)]
        best = Run(*(min(values) for values in zip(*found, strict=True)))
        print(
            f"gateway={name} start_s={best.start_s:.3f} start_cpu_s={best.start_cpu_s:.2f} "
            f"rss_mb={best.rss_mb:.1f} "
            "limit_start_s=0.5 limit_rss_mb=60",
            flush=True,
        )


if __name__ == "__main__":
    main()
