"""What it costs a node to verify the signature of an update, in bytecodes and in time.

    python bench/verify.py

Bytecodes: MicroPython's own listing says how many each line has, a trace on CPython how often each line runs. One of
them may be a multiplication of 256-bit numbers, so they tell an ESP32's time only from below (a bytecode takes it about
1.1 us at 160 MHz: ESP32_LOOP_NS of lift_detectors.py, a loop of eight). From above tells the time here, carried over by
that loop: this processor multiplies 32 bits at a time beside a quick interpreter, an ESP32 16 beside a slow one. Both
are estimates: nobody here has an ESP32.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.lift_detectors import ESP32_LOOP_NS  # noqa: E402
from boards.virtual.rom_image import micropython  # noqa: E402
from protocols.wire import es256, lms  # noqa: E402

_LOOP_BYTECODES = 8
_TIMED = """
import sys, time, gc
sys.path.insert(0, ".")
from protocols.wire import es256, lms
def loop(count):
    x = 0
    for k in range(count):
        x = (x + k) & 0xFFFF
def best(call, *given):
    found = 1 << 60
    for _ in range(9):
        gc.collect()
        start = time.ticks_us()
        call(*given)
        found = min(found, time.ticks_diff(time.ticks_us(), start))
    return found
print("loop_ns=%d" % (best(loop, 100000) // 100))
for module, given in ((es256, ES), (lms, HSS)):
    print("%s_us=%d" % (module.__name__.split(".")[-1], best(module.verify, *given)))
"""


def case(algorithm: int, name: str) -> tuple[bytes, bytes, bytes]:
    cases = json.loads((ROOT / "protocols/vectors/signatures.json").read_text(encoding="utf-8"))["cases"]
    found = next(one for one in cases if one["algorithm"] == algorithm and name in one["name"])
    return bytes.fromhex(found["key"]), bytes.fromhex(found["message"]), bytes.fromhex(found["signature"])


def bytecodes_by_line(module: ModuleType) -> Counter[int]:
    """How many bytecodes MicroPython has for each line of a module."""
    said = subprocess.run(
        [str(micropython()), "-v", "-v", str(module.__file__)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    counts: Counter[int] = Counter()
    for block in said.split("\nFile ")[0:]:
        starts = [(int(at), int(line)) for at, line in re.findall(r"^  bc=(\d+) line=(\d+)", block, re.M)]
        for at in (int(text) for text in re.findall(r"^(\d\d+) [A-Z]", block, re.M)):
            lines = [line for start, line in starts if start <= at]
            if lines:
                counts[lines[-1]] += 1
    return counts


def line_runs(module: ModuleType, given: tuple[bytes, bytes, bytes]) -> Counter[int]:
    runs: Counter[int] = Counter()

    def traced(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            runs[frame.f_lineno] += 1
        return traced

    sys.settrace(traced)
    try:
        assert module.verify(*given)
    finally:
        sys.settrace(None)
    return runs


def main() -> None:
    given = {es256: case(-7, "RFC 6979"), lms: case(-46, "24-byte")}
    script = f"ES = {given[es256]!r}\nHSS = {given[lms]!r}\n{_TIMED}"
    said = subprocess.run(
        [str(micropython()), "-X", "heapsize=160k", "-c", script],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    figures = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", said)}
    print(f"loop_ns={figures['loop_ns']} esp32_loop_ns={ESP32_LOOP_NS}")
    for module, inputs in given.items():
        name = module.__name__.split(".")[-1]
        each = bytecodes_by_line(module)
        steps = sum(each[line] * runs for line, runs in line_runs(module, inputs).items())
        below_s = steps * ESP32_LOOP_NS / _LOOP_BYTECODES / 1e9
        above_s = figures[f"{name}_us"] * 1000 / figures["loop_ns"] * ESP32_LOOP_NS / 1e9
        print(
            f"{name}_bytecodes={steps} {name}_ms_here={figures[f'{name}_us'] / 1000:.1f} "
            f"{name}_esp32_estimate_s={below_s:.1f}..{above_s:.1f}"
        )


if __name__ == "__main__":
    main()
