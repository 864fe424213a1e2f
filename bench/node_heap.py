"""Heap that each module of a node takes, on the real MicroPython unix port, and how large it is on flash.

    python bench/node_heap.py [river] [--air]

Objects there are twice as large as on an ESP32. Modules that are only needed now and then are marked by an asterisk:
a node forgets them again (firmware/modules.py), or never loads them: those for the air (``--air`` for a node that does)
or, on such a node, those of the serial line. The first line has the sums as ``name=value`` pairs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from boards.virtual.rom_image import micropython  # noqa: E402
from firmware.nodes import MODULES  # noqa: E402
from flash_tools.images import SLOT, compile_module, compile_tree  # noqa: E402

# Not part of the firmware on the unix port: its stand-ins for the hardware are of the virtual board.
_HARDWARE = ("firmware.hal.board", "firmware.hal.app", "firmware.hal.places", "firmware.hal.radio_port")
# What carries frames: loaded by assembly.py, and kept.
_ON_A_LINE = ("firmware.carrier", "firmware.uplink")
_ON_AIR = (
    "firmware.air_uplink",
    "firmware.lora",
    "firmware.radios.sx126x",
    "firmware.spent",
    "protocols.wire.law",
)


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--air"]
    node_type = words[0] if words else "river"
    tree = compile_tree(ROOT, node_type=node_type)
    files = {
        path: data for path, data in tree.items() if path.endswith(".mpy") and path.startswith(SLOT + "/")
    }
    with tempfile.TemporaryDirectory(prefix="tidegate-heap-") as folder:
        for path, data in files.items():
            target = Path(folder) / path.removeprefix(SLOT + "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        script = Path(__file__).with_name("node_heap_mpy.py")
        (Path(folder) / "node_heap_mpy.mpy").write_bytes(compile_module(script.read_text(), "node_heap_mpy"))
        carrier = _ON_AIR if "--air" in sys.argv else _ON_A_LINE
        first = ["firmware.main", "firmware.nodes." + MODULES[node_type], "firmware.hal.clock", *carrier]
        names = [path.removeprefix(SLOT + "/").removesuffix(".mpy").replace("/", ".") for path in files]
        names = [name.removesuffix(".__init__") for name in names]
        late = [
            name
            for name in names
            if name not in _HARDWARE
            and not (name.startswith("firmware.nodes.") and name not in first)
            and not name.startswith("boards.")
        ]
        kept = _measure(folder, first)
        everything = _measure(folder, [*first, *late])
    sizes = dict(zip(names, map(len, files.values()), strict=True))
    print(
        f"modules={len(kept)} heap_bytes={sum(kept.values())} mpy_bytes={sum(sizes.values())} "
        f"late_modules={len(everything) - len(kept)} late_heap_bytes={sum(everything.values()) - sum(kept.values())}"
    )
    for name, taken in sorted(everything.items(), key=lambda item: -item[1]):
        print(f"{taken:7d} {sizes.get(name, 0):7d}  {name}{'' if name in kept else ' *'}")


def _measure(folder: str, names: list[str]) -> dict[str, int]:
    done = subprocess.run(
        [str(micropython()), "-X", "heapsize=4m", "-m", "node_heap_mpy", *names],
        cwd=folder,
        env={"MICROPYPATH": f"{folder}:.frozen"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"micropython ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    pairs = [line.split() for line in done.stdout.splitlines()]
    return {name: int(taken) for taken, name in pairs}


if __name__ == "__main__":
    main()
