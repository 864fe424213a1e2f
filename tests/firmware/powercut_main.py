"""One share of a sweep, as a program of its own: it runs inside MicroPython, and on CPython.

    powercut_main.py ROOT SEED STEPS SHARE SHARES steadied|as_is VARIANT,… [IMAGE]

Does every SHARES-th cut beginning with number SHARE (SHARES odd, so that every variant has its turn). The node begins
with the flash in the file IMAGE, or with one it formats. Prints a line of figures and the first failures.
"""

import sys

sys.path.insert(0, sys.argv[1])

from hil_tests.world.cutflash import VARIANTS
from tests.firmware.powercut_world import Sweep

if sys.implementation.name == "micropython":
    from vfs import VfsLfs2 as FileSystem
else:
    from hil_tests.world.flash import LittleFs as FileSystem


def main(seed, steps, share, shares, steadied, names, image):
    minted = None
    if image:
        with open(image, "rb") as file:
            minted = file.read()
    sweep = Sweep(FileSystem, seed, steps, steadied, minted)
    sweep.run([VARIANTS.index(name) for name in names], lambda number: number % shares == share)
    wrong = "lost=%d duplicated=%d piv_reused=%d other=%d" % tuple(sweep.wrong)
    print("cuts=%d %s operations=%d seed=%d" % (sweep.cuts, wrong, len(sweep.recording.log), seed))
    for text in sweep.failures:
        print("failure=" + text)


main(
    int(sys.argv[2]),
    int(sys.argv[3]),
    int(sys.argv[4]),
    int(sys.argv[5]),
    sys.argv[6] == "steadied",
    sys.argv[7].split(","),
    sys.argv[8] if len(sys.argv) > 8 else None,
)
