"""One share of a sweep over updates, as a program of its own: it runs inside MicroPython, and on CPython.

    install_main.py ROOT LIFE SEED SHARE SHARES [cells]

Does every SHARES-th cut beginning with number SHARE (SHARES odd, so that every variant has its turn). With `cells` only
those that leave cells half-programmed, of every SHARES-th operation. Prints a line of figures and the first failures.
"""

import sys

sys.path.insert(0, sys.argv[1])

from protocols.wire import manifest

# Signatures are verified once per envelope: what is swept here is the flash, and a second verification says the same.
_match = manifest.match
_known = {}


def match(envelope, device, keys):
    key = (envelope, device.sequence)
    if key not in _known:
        _known[key] = _match(envelope, device, keys)
        verified[0] += 1
    return _known[key]


verified = [0]
manifest.match = match

from hil_tests.world.cutflash import UNSTABLE, VARIANTS  # noqa: E402  (behind what it is to use)
from tests.firmware.install_world import Sweep, life  # noqa: E402

if sys.implementation.name == "micropython":
    from vfs import VfsLfs2 as FileSystem
else:
    from hil_tests.world.flash import LittleFs as FileSystem


def main(path, seed, share, shares, kind=""):
    first, steps = life(path)
    sweep = Sweep(FileSystem, first, steps, seed)

    def chosen(number):
        if kind:  # numbers begin at 1
            operation, variant = (number - 1) // len(VARIANTS), (number - 1) % len(VARIANTS)
            return variant >= UNSTABLE and operation % shares == share
        return number % shares == share

    sweep.run(chosen)
    print("cuts=%d wrong=%d operations=%d seed=%d" % (sweep.cuts, len(sweep.failures), len(sweep.log), seed))
    for text in sweep.failures:
        print("failure=" + text)


main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), *sys.argv[6:])
