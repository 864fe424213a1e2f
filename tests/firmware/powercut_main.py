"""One share of a sweep, as a program of its own: it runs inside MicroPython, and on CPython.

    powercut_main.py ROOT SEED STEPS SHARE SHARES steadied|as_is VARIANT,…

Does every SHARES-th cut beginning with number SHARE (SHARES odd, so that every variant has its turn). Prints a line of
figures and the first failures.
"""

import sys

sys.path.insert(0, sys.argv[1])

from tests.firmware.cutflash import VARIANTS  # noqa: E402
from tests.firmware.powercut_world import Sweep  # noqa: E402

if sys.implementation.name == "micropython":
    from vfs import VfsLfs2 as mount
else:
    from hil_tests.world.flash import LittleFs as mount


def main(seed, steps, share, shares, steadied, names):
    sweep = Sweep(mount, seed, steps, steadied)
    sweep.run([VARIANTS.index(name) for name in names], lambda number: number % shares == share)
    figures = tuple([sweep.cuts] + sweep.wrong + [len(sweep.recording.log), seed])
    print("cuts=%d lost=%d duplicated=%d piv_reused=%d other=%d operations=%d seed=%d" % figures)
    for text in sweep.failures:
        print("failure=" + text)


main(
    int(sys.argv[2]),
    int(sys.argv[3]),
    int(sys.argv[4]),
    int(sys.argv[5]),
    sys.argv[6] == "steadied",
    sys.argv[7].split(","),
)
