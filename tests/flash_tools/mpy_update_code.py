"""On MicroPython: the golden cases of updates against the code of updates as a node has it, shaken and shortened.

micropython -X heapsize=160k tests/flash_tools/mpy_update_code.py FOLDER     FOLDER has the compiled modules
"""

import gc
import io
import json
import sys

sys.path.insert(0, sys.argv[1])

from firmware.main import run

MANIFEST, DELTA, RELEASE = 1, 2, 3


class Tree:
    """A tree (bundle.Tree) in memory."""

    def __init__(self, files):
        self.files = files

    def walk(self):
        for path in sorted(self.files):
            yield path, len(self.files[path])

    def open(self, path):
        return io.BytesIO(self.files[path])

    def create(self, path):
        self.files[path] = b""
        return Out(self.files, path)


class Out:
    def __init__(self, files, path):
        self.files = files
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def write(self, data):
        self.files[self.path] += bytes(data)


def unhex(text):
    return bytes.fromhex(text)


def keys_of(rows):
    return [(unhex(kid), algorithm, unhex(key), gone) for kid, algorithm, key, gone in rows]


def check(case):
    """(what came of it, what should have)"""
    if case["check"] == "manifest":
        device = case["device"]
        device = (unhex(device[0]), unhex(device[1]), device[2], device[3], device[4])
        got = run(MANIFEST, unhex(case["envelope"]), device, keys_of(case["keys"]))
        if "manifest" in case:
            a = case["manifest"]
            return got, (a[0], a[1], unhex(a[2]), a[3], unhex(a[4]), unhex(a[5]))
    elif case["check"] == "delta":
        target = Tree({})
        base = {path: unhex(data) for path, data in case["base"].items()}
        got = run(DELTA, io.BytesIO(unhex(case["payload"])), Tree(base), target)
        if "size" in case:
            files = {path: unhex(data) for path, data in case["files"].items()}
            return (got, target.files), ((case["size"], unhex(case["sha256"])), files)
    else:
        got = run(RELEASE, unhex(case["hex"]), None, None)
        if "release" in case:
            a = case["release"]
            got = (got[0], got[1], got[2], [tuple(key) for key in got[3]])
            return got, (a[0], unhex(a[1]), unhex(a[2]), keys_of(a[3]))
    return got, case["reason"]


count = 0
with open("protocols/vectors/updates.json") as file:
    for line in file:  # one case to a line; all of them would not fit
        line = line.strip().rstrip(",")
        if line.startswith('{"name"'):
            case = json.loads(line)
            got, wanted = check(case)
            if got != wanted:
                raise ValueError("%s: %r, wanted %r" % (case["name"], got, wanted))
            count += 1
            gc.collect()
print("cases=%d" % count)
