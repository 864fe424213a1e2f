"""An update is verified and applied on the real MicroPython, in the heap of a river station, at a start of it.

Where the node's modules are on the heap and its objects are not yet, with a reset after it: beside a node at work there
are not the 15 kB that either half needs with its code, and names that were loaded once are never given back.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from protocols import delta as making
from tests.firmware.lockstep import HEAP, ROOT, Lockstep
from tests.wire.release_cases import CLASS, KEY, VENDOR, contents, envelope, history

# Where an installer will be: it loads each half when it is needed, and forgets it again.
PROBE = """
import gc
import os

from firmware.modules import forget

FOLDER = "@@"


class Files:
    ilistdir = staticmethod(os.ilistdir)
    mkdir = staticmethod(os.mkdir)
    open = staticmethod(open)
    stat = staticmethod(os.stat)


def read(name):
    with open(FOLDER + "/" + name, "rb") as file:
        return file.read()


def verify():
    from protocols.wire import manifest

    device = manifest.Device(read("vendor"), read("class"), 1, 1 << 20, 1 << 20)
    keys = [manifest.Key(read("kid"), -7, read("key"), False)]
    return manifest.match(read("envelope"), device, keys).sequence


def apply():
    from protocols.wire import bundle, delta

    new = bundle.Tree(Files, FOLDER + "/new")
    with open(FOLDER + "/delta.bin", "rb") as payload:
        made = delta.apply(payload, bundle.Tree(Files, FOLDER + "/old"), new)
    return bundle.digest(new) == made and made[1] == read("digest")


def run(hal):
    gc.collect()
    free = gc.mem_free()
    sequence = verify()
    forget("protocols.wire.manifest")
    forget("protocols.wire.es256")
    done = apply()
    hal.log("update: free %d, release %d verified, applied %s" % (free, sequence, done))
    os.mkdir(FOLDER + "/done")
    hal.reset()
"""


def probed_tree(folder: Path, update: Path) -> Path:
    """The sources, with an update at the node's start."""
    for name in ("protocols", "firmware", "boards"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "vectors"))
    (folder / "firmware/probe.py").write_text(PROBE.replace("@@", str(update)), encoding="utf-8")
    main = folder / "firmware/main.py"
    text = main.read_text(encoding="utf-8")
    start = "    life = Life(hal)\n"
    assert text.count(start) == 1
    probe = (
        f"    import os\n\n    if 'done' not in os.listdir({str(update)!r}):\n"
        "        from firmware import probe\n\n        probe.run(hal)\n"
    )
    text = text.replace(start, probe + start)
    main.write_text(text, encoding="utf-8")
    return folder


def test_an_update_is_verified_and_applied_at_a_start_and_the_node_measures_as_ever(tmp_path: Path) -> None:
    old, _, new = history()
    update = tmp_path / "update"
    (update / "new").mkdir(parents=True)
    for path, data in old.items():
        (update / "old" / path).parent.mkdir(parents=True, exist_ok=True)
        (update / "old" / path).write_bytes(data)
    made = making.pack(new)
    for name, data in {
        "delta.bin": making.make(old, new), "envelope": envelope(contents()), "vendor": VENDOR.bytes,
        "class": CLASS.bytes, "kid": KEY.kid, "key": KEY.key, "digest": making.hashlib.sha256(made).digest(),
    }.items():  # fmt: skip
        (update / name).write_bytes(data)
    with Lockstep(tmp_path, root=probed_tree(tmp_path / "src", update)) as node:
        node.run(4 * 3600)
        print(f"\nheap={HEAP} used_max={max(node.heap_used)} steps={node.steps} {node.log[0]}")
        assert "release 7 verified, applied True" in node.log[0], node.log
        assert not [line for line in node.log if "failed" in line], node.log
        assert len(node.peer.seqs()) >= 12, "it measures as ever"
        assert node.resets == 1
