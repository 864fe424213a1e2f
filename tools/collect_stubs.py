"""Lay out the types of MicroPython's own modules where mypy finds them: .venv/typings (mypy_path).

The stub package also carries `time.pyi`, `socket.pyi` and the like. On mypy's path those would shadow the
standard library for the host code too, so only the modules that CPython does not have are taken.
"""

import shutil
import sysconfig
from pathlib import Path

ONLY_ON_NODES = ("machine", "esp32", "vfs", "micropython", "cryptolib", "deflate", "_mpy_shed")


def main() -> None:
    site = Path(sysconfig.get_path("purelib"))
    typings = Path(sysconfig.get_path("data")) / "typings"
    shutil.rmtree(typings, ignore_errors=True)
    typings.mkdir()
    for name in ONLY_ON_NODES:
        if (site / name).is_dir():
            shutil.copytree(site / name, typings / name)
        else:
            shutil.copy(site / f"{name}.pyi", typings)


if __name__ == "__main__":
    main()
