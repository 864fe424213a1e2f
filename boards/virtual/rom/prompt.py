# mypy: ignore-errors
"""What stock MicroPython does where no program runs: the file system of its partition at `/`, then the prompt.

VBOARD_MAIN names the partition. A blank one is formatted, as the stock boot script does it.
"""

import os
import sys

sys.path[:] = os.getenv("MICROPYPATH").split(":")

import esp32  # noqa: E402  (from the path just set)
import machine  # noqa: E402, F401  (later, nothing of this path can be reached any more)
import vfs  # noqa: E402

_part = esp32.Partition.find(esp32.Partition.TYPE_DATA, label=os.getenv("VBOARD_MAIN"))[0]
vfs.umount("/")
try:
    vfs.mount(_part, "/")
except OSError:
    vfs.VfsLfs2.mkfs(_part)
    vfs.mount(_part, "/")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
del _part
