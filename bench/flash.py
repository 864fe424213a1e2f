"""What crosses the line when a node is flashed: `tidegate flash` beside esptool's write-flash and mpremote's fs cp -r.

    python bench/flash.py

One node (river, ESP32, a MicroPython image of the usual size that packs as code does), three times: a blank board, the
same again, one module changed. All on simulated chips that the real esptool and the real mpremote take for boards, and
whose ports count the bytes. Time is that of the line (460,800 Bd for loaders, 115,200 Bd for the prompt) and of the
flash's own erasing and writing; nobody's CPU is in it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from esptool import cmds

from flash_tools import firmware_image
from flash_tools.flashing import Content, Progress, flash_board
from flash_tools.images import board_constants, build_app_image, compile_tree
from hil_tests.world.esp import image
from hil_tests.world.esp.bench import BenchBoard
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.haste import hurried
from hil_tests.world.esp.port import SerialChip
from hil_tests.world.esp.pty_port import PtyPort

ROOT = Path(__file__).parents[1]
BOARD = "esp32_devkitc_sx1262"
NODE_TYPE = "river"
APP_BYTES = 1_550_000  # of ESP32_GENERIC, release 1.28
LOADER_BAUD = 460800
PROMPT_BAUD = 115200
TIMES_LESS_MIN = 5.0
# A sentence in a module of the middle of the program, and what a maintainer makes of it.
CHANGED = Path("firmware/uplink.py")
OLD, NEW = (
    "no room to code a batch: set %d goes alone",
    "heap too small to code a batch, so set %d goes alone",
)
STORIES = ("first flash", "unchanged", "one module changed")


@dataclass
class Cost:
    """Bytes both ways, those of them that are data for the flash, and seconds of line and flash."""

    line: int = 0
    data: int = 0
    seconds: float = 0.0


def release() -> bytes:
    whole = image.release("esp32")
    at = 0x10000 - 0x1000
    return whole[:at] + image.app("esp32", size=APP_BYTES)


def changed_tree(folder: Path) -> Path:
    """The sources with one sentence changed."""
    for name in ("protocols", "firmware", "boards"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / CHANGED
    text = path.read_text(encoding="utf-8")
    if OLD not in text:
        raise SystemExit(f"{CHANGED}: {OLD!r} is gone; name another sentence at the head of this file")
    path.write_text(text.replace(OLD, NEW), encoding="utf-8")
    return folder


class Meter:
    """A chip alone behind a counted port."""

    def __init__(self) -> None:
        self.chip = EspChip("esp32")
        self.port = SerialChip(self.chip)

    def measure(self, work: Callable[[Any], None]) -> Cost:
        port, flash = self.port, self.chip.flash
        if not port.is_open:
            port.open()
        before = (port.sent + port.received, port.line_s + flash.busy_s)
        with hurried():
            work(port)
        return Cost(port.sent + port.received - before[0], 0, port.line_s + flash.busy_s - before[1])


def ours(apps: list[bytes], micropython: bytes) -> list[Cost]:
    board = board_constants(BOARD)
    firmware = firmware_image.parse(micropython, Path("micropython.bin"))
    meter = Meter()
    found = []
    for app in apps:
        results = []
        content = Content(board, app, "", firmware)
        cost = meter.measure(
            lambda port, content=content, results=results: results.append(
                flash_board(port, content, Progress(), boot_s=0, baud=LOADER_BAUD)
            )
        )
        cost.data = results[0].data_bytes
        found.append(cost)
    return found


def esptool_alone(micropython: bytes, times: int) -> list[Cost]:
    """`esptool write-flash 0x1000 micropython.bin`, as its download page says."""
    meter = Meter()

    def write(port: Any) -> None:
        esp = cmds.run_stub(cmds.detect_chip(port))
        esp.change_baud(LOADER_BAUD)
        cmds.attach_flash(esp)
        cmds.write_flash(esp, [(0x1000, micropython)], no_progress=True)
        cmds.reset_chip(esp, "hard-reset")

    found = []
    for _ in range(times):
        cost = meter.measure(write)
        cost.data = len(micropython)
        found.append(cost)
    return found


class Counted:
    """A board that counts what the line carries."""

    def __init__(self, board: BenchBoard) -> None:
        self._board = board
        self.bytes = 0
        self.say: Callable[[bytes], None] = lambda _data: None
        board.say = self._says

    def _says(self, data: bytes) -> None:
        self.bytes += len(data)
        self.say(data)

    def hear(self, data: bytes, baud: int | None = None) -> None:
        self.bytes += len(data)
        self._board.hear(data, baud)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)


def mpremote_alone(folder: Path, trees: list[dict[str, bytes]], micropython: bytes) -> list[Cost]:
    """`mpremote fs cp -r tree/. :/`; it leaves files away whose hash on the board is the same."""
    chip = EspChip("esp32")
    chip.flash.data[0x1000 : 0x1000 + len(micropython)] = micropython
    board = Counted(BenchBoard(folder / "board", chip))
    port = PtyPort(board, folder / "tty")
    board.wait_for_prompt()  # mpremote waits for ever for an answer to what is lost while MicroPython starts
    found = []
    for number, files in enumerate(trees):
        tree = folder / f"tree{number}"
        for name, content in files.items():
            path = tree / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        before = board.bytes
        command = [sys.executable, "-m", "mpremote", "connect", str(port.path.resolve()), "fs", "cp", "-r"]
        command += [*(str(path) for path in sorted(tree.iterdir())), ":/"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise SystemExit(f"mpremote: {done.stdout[-500:]}{done.stderr[-500:]}")
        count = board.bytes - before
        found.append(Cost(count, sum(map(len, files.values())), count * 10 / PROMPT_BAUD))
    port.close()
    board.close()
    return found


def row(what: str, cost: Cost) -> str:
    return f"  {what:<34} {cost.line:>9,d} bytes on the line  {cost.seconds:>6.1f} s"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        roots = [ROOT, ROOT, changed_tree(folder / "changed")]
        micropython = release()
        costs = ours([build_app_image(root, BOARD, NODE_TYPE).data for root in roots], micropython)
        written = esptool_alone(micropython, len(roots))
        copied = mpremote_alone(folder, [compile_tree(root, BOARD, NODE_TYPE) for root in roots], micropython)
    print(f"a {NODE_TYPE} node on {BOARD}, MicroPython of {len(micropython):,d} bytes")
    for story, our, esp, mpr in zip(STORIES, costs, written, copied, strict=True):
        both = Cost(esp.line + mpr.line, 0, esp.seconds + mpr.seconds)
        print(story)
        print(row("tidegate flash", our) + f"  {our.data:,d} bytes of data")
        print(row("write-flash, fs cp -r", both) + f"  {both.line / our.line:.1f} times")
        print(row("of that fs cp -r alone", mpr) + f"  {mpr.line / our.line:.1f} times")
    unchanged, changed = costs[1], costs[2]
    times = (written[2].line + copied[2].line) / changed.line
    print(
        f"unchanged_data_bytes={unchanged.data} change_data_bytes={changed.data} change_times_less={times:.1f}"
    )
    if unchanged.data or times < TIMES_LESS_MIN:
        raise SystemExit(
            f"expected no data for an unchanged board, and {TIMES_LESS_MIN:.0f} times less for a change"
        )


if __name__ == "__main__":
    main()
