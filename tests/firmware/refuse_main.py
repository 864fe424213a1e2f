"""Updates that are none, as a program of its own: it runs inside MicroPython, and on CPython.

    refuse_main.py ROOT CASES SEED FIRST COUNT MEDDLED

The named cases, COUNT mutations from number FIRST on, and MEDDLED flashes. Prints a line of figures and the failures.
"""

import sys

sys.path.insert(0, sys.argv[1])

from protocols.wire import manifest

# A signature is verified once for each envelope that comes: what is told of one does not change.
_match = manifest.match
_known = {}


def match(envelope, device, keys):
    if (envelope, device.sequence) not in _known:
        found = _match(envelope, device, keys)
        _known[envelope, device.sequence] = found
    return _known[envelope, device.sequence]


manifest.match = match

from tests.firmware.refuse_world import Mutations, Yard, fuzz, load, meddled, named  # noqa: E402  (behind what it uses)

if sys.implementation.name == "micropython":
    from vfs import VfsLfs2 as FileSystem
else:
    from hil_tests.world.flash import LittleFs as FileSystem


def main(path, seed, first, count, flashes):
    program, good, others, cases = load(path)
    yard = Yard(FileSystem, program)
    failures = named(yard, cases)
    # What is changed below is installed when nobody changes it.
    for data in good:
        yard.fresh()
        outcome = yard.outcome(data)
        if outcome or yard.runs != yard.new:
            failures.append("a whole update ended with %d" % outcome)
    yard.fresh()
    missed, told = fuzz(yard, Mutations(good, others, seed), range(first, first + count))
    odd, installed = meddled(yard, good, seed + 1, flashes)
    failures += missed + odd
    print(
        "named=%d mutated=%d meddled=%d meddled_installed=%d wrong=%d seed=%d"
        % (len(cases), count, flashes, installed, len(failures), seed)
    )
    print("told=" + " ".join(["%s:%d" % (name, told[name]) for name in sorted(told)]))
    for text in failures:
        print("failure=" + text)


main(sys.argv[2], *[int(word) for word in sys.argv[3:7]])
