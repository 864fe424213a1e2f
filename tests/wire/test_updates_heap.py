"""Verifying and applying an update fit a node: on MicroPython with the heap of one, beside all that it has there."""

from __future__ import annotations

import re
from pathlib import Path

from protocols import delta as making
from protocols import lms_sign, suit
from tests.wire import interpreters
from tests.wire.release_cases import CLASS, KEY, VENDOR, contents, envelope, history

# Beside its modules, in one piece; objects of this MicroPython are twice as large as on a chip.
BOUNDS = {"es256_needs": 8 * 1024, "hss_needs": 6 * 1024, "delta_needs": 9 * 1024, "full_needs": 8 * 1024}


def lay(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def test_verifying_and_applying_fit_the_heap_of_a_node(tmp_path: Path) -> None:
    old, _, new = history()
    lay(tmp_path / "old", old)
    lay(tmp_path / "new", new)
    (tmp_path / "delta.bin").write_bytes(making.make(old, new))
    (tmp_path / "full.bin").write_bytes(making.make(None, new))
    name, seed = bytes(16), bytes(24)
    lowest = lms_sign.leaves(5, name, seed)
    public = lms_sign.public_key(name, lowest)
    hss = suit.envelope(
        suit.manifest(contents()),
        suit.HSS_LMS,
        suit.key_id(public),
        lambda message: lms_sign.sign(name, seed, lowest, 3, bytes(24), message),
    )
    for file_name, data, key in (("es256", envelope(contents()), KEY.key), ("hss", hss, public)):
        lines = [part.hex() for part in (data, VENDOR.bytes, CLASS.bytes, key)]
        (tmp_path / file_name).write_text("\n".join(lines))
    said = interpreters.micropython(
        "tests/wire/mpy_updates_heap.py", "-X", "heapsize=160k", arguments=(str(tmp_path),)
    )
    figures = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", said)}
    print("\n" + " ".join(said.split()))
    assert figures["ok"] == 1
    for what, bound in BOUNDS.items():
        assert figures[what] <= bound, f"{what}: {figures[what]} bytes, at most {bound}"
