# mypy: ignore-errors
"""What stands between reset and main.py: mount the file systems, set the path, run. VBOARD_MAIN names the folder."""

import os
import sys

import vfs

_main = os.getenv("VBOARD_MAIN")
sys.path[:] = [_main] + os.getenv("MICROPYPATH").split(":") + [".frozen"]

import esp32  # noqa: E402  (from the path just set)


def _mount(label, point):
    part = esp32.Partition.find(esp32.Partition.TYPE_DATA, label=label)[0]
    try:
        vfs.mount(vfs.VfsLfs2(part), point)
        return True
    except OSError:
        return False


# A `state` that does not mount is the node's decision, not the boot script's: it may hold the only copy of a record.
_mount("state", "/state")
if not _mount("app", "/app") and _main == "/app":
    print("boot: partition app does not mount")
    sys.exit(1)
if _main == "/app":
    os.chdir(_main)  # a chip has it at /
if os.getenv("VBOARD_MPY"):  # a MicroPython of another .mpy version: of ours it takes nothing
    import builtins

    _real = __import__

    def _import(name, *rest):
        if name.split(".")[0] in ("firmware", "protocols", "boards"):
            raise ValueError("incompatible .mpy file")
        return _real(name, *rest)

    builtins.__import__ = _import
try:
    with open(_main + "/main.py") as _file:
        _source = _file.read()
    exec(_source, {"__name__": "__main__"})  # noqa: S102  (as the boot code of a chip does)
except Exception as error:  # noqa: BLE001  (the console of a board shows the traceback)
    sys.print_exception(error)
    sys.exit(1)
