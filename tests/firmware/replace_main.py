"""One share of a sweep over updates of MicroPython, as a program of its own: inside MicroPython, and on CPython.

    replace_main.py ROOT LIFE SEED SHARE SHARES

Does every SHARES-th cut beginning with number SHARE (SHARES odd, so that every variant has its turn). Prints a line of
figures and the first failures.
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
    return _known[key]


manifest.match = match

import json  # noqa: E402
from binascii import unhexlify  # noqa: E402

from firmware import filling  # noqa: E402
from tests.firmware.replace_world import WHOLE, Sweep  # noqa: E402  (behind what it is to use)

if sys.implementation.name == "micropython":
    from vfs import VfsLfs2 as FileSystem
else:
    from hil_tests.world.flash import LittleFs as FileSystem

filling.MARK_BLOCKS = 2  # images are small here


def main(path, seed, share, shares):
    with open(path) as file:
        made = json.loads(file.read())
    for sequence, image in made["images"]:
        WHOLE[sequence] = unhexlify(image)
    steps = [(old, new, unhexlify(data), fault) for old, new, data, fault in made["steps"]]
    sweep = Sweep(FileSystem, [unhexlify(data) for data in made["files"]], steps, seed)
    sweep.run(lambda number: number % shares == share)
    print("cuts=%d wrong=%d operations=%d seed=%d" % (sweep.cuts, len(sweep.failures), len(sweep.log), seed))
    for text in sweep.failures:
        print("failure=" + text)


main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
