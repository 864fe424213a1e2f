"""On MicroPython: what an update needs of the heap beside all that a node has on it, measured by taking the rest away.

micropython -X heapsize=160k tests/wire/mpy_updates_heap.py FOLDER

FOLDER has old/ and new/ (two slots), delta.bin and full.bin between them, and es256 and hss, lines of hexadecimal:
envelope, vendor, class, key. Prints name=value: `<what>_loaded` is what its modules keep on the heap, `<what>_needs`
the fewest bytes that must be free beside them, in steps of STEP.
"""

import gc
import os
import sys

sys.path.insert(0, ".")

from protocols.wire import bundle, delta, manifest

FOLDER = sys.argv[1]
STEP = 512
MOST = 48 * 1024


class Os:
    """The working file system with the methods of vfs.VfsLfs2 that a tree asks for."""

    ilistdir = staticmethod(os.ilistdir)
    mkdir = staticmethod(os.mkdir)
    open = staticmethod(open)
    stat = staticmethod(os.stat)


def fill(hog, free):
    """Take all of the heap but one piece of so many bytes."""
    piece = bytearray(free)
    size = 1024
    at = 0
    while size >= 32 and at < len(hog):
        try:
            hog[at] = bytearray(size)
            at += 1
        except MemoryError:
            size //= 2
    del piece


def least(call):
    """The fewest bytes that must be free for the call to succeed."""
    hog = [None] * 1000
    for free in range(STEP, MOST + 1, STEP):
        gc.collect()
        fill(hog, free)
        try:
            gc.collect()
            call()
            return free
        except MemoryError:
            pass
        finally:
            for at in range(len(hog)):
                hog[at] = None
    raise ValueError("not with %d bytes" % MOST)


def read(name):
    with open(FOLDER + "/" + name) as file:
        return [bytes.fromhex(line) for line in file.read().split()]


def verify(name, algorithm):
    envelope, vendor, class_id, key = read(name)
    device = manifest.Device(vendor, class_id, 1, 1 << 20, 1 << 20)
    kid = manifest.hashlib.sha256(key).digest()[:8]
    keys = [manifest.Key(kid, algorithm, key, False)]
    gc.collect()
    before = gc.mem_alloc()
    manifest.match(envelope, device, keys)
    gc.collect()
    loaded = gc.mem_alloc() - before
    print(name + "_loaded=%d" % loaded)
    print(name + "_needs=%d" % least(lambda: manifest.match(envelope, device, keys)))


def apply(name, base, into):
    old = bundle.Tree(Os, FOLDER + "/" + base)
    new = bundle.Tree(Os, FOLDER + "/new")
    target = bundle.Tree(Os, FOLDER + "/" + into)

    def run():
        with open(FOLDER + "/" + name + ".bin", "rb") as payload:
            if delta.apply(payload, old, target) != bundle.digest(new):
                raise ValueError(name)

    run()
    print(name + "_needs=%d" % least(run))


verify("es256", manifest.ES256)
verify("hss", manifest.HSS_LMS)
for folder in ("out", "out2", "none"):
    os.mkdir(FOLDER + "/" + folder)
apply("delta", "old", "out")
apply("full", "none", "out2")
print("ok=1")
