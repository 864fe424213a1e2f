"""A slot on littlefs is a bundle: what is read there is what was packed, and a delta goes from slot to slot."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.world.flash import Flash, LittleFs
from protocols import delta as making
from protocols.wire import bundle, delta
from tests.wire.release_cases import history


@pytest.fixture
def fs() -> LittleFs:
    """As large as a node's `app` partition."""
    flash = Flash(blocks=256)
    LittleFs.mkfs(flash)
    made = LittleFs(flash)
    for slot in ("/a", "/b"):
        made.mkdir(slot)
    return made


def test_a_whole_release_and_a_delta_go_into_slots_on_littlefs(fs: LittleFs) -> None:
    old, _, new = history()
    first, second = bundle.Tree(fs, "/a"), bundle.Tree(fs, "/b")
    whole = delta.apply(io.BytesIO(making.make(None, old)), making.Memory(), first)
    assert bundle.digest(first) == whole == bundle.digest(making.Memory(old))
    payload = making.make(old, new)
    assert delta.base_of(payload[: delta.HEAD_BYTES]) == whole[1][: delta.BASE_BYTES]
    changed = delta.apply(io.BytesIO(payload), first, second)
    assert bundle.digest(second) == changed == bundle.digest(making.Memory(new))
    assert bundle.digest(first) == whole


def test_a_file_that_does_not_belong_there_makes_it_another_bundle(fs: LittleFs) -> None:
    """A stale module that would shadow a new one, an empty file, and a file that is gone."""
    slot = bundle.Tree(fs, "/a")
    good = delta.apply(io.BytesIO(making.make(None, history()[0])), making.Memory(), slot)
    for path, content in (("firmware/node.py", b"stale"), ("zzz", b"")):
        with slot.create(path) as file:
            file.write(content)
        assert bundle.digest(slot) != good
        fs.remove("/a/" + path)
        assert bundle.digest(slot) == good
    fs.remove("/a/main.py")
    assert bundle.digest(slot) != good


@given(st.sets(st.text("ab.-/", min_size=1, max_size=6), max_size=8))
def test_a_slot_is_read_in_the_order_of_whole_paths(paths: set[str]) -> None:
    """Folder by folder gives the same order as all paths sorted: `a-b` and `a.b` around `a/b`."""
    good = []
    for path in sorted(paths):
        try:
            bundle.check_path(path, "")
        except bundle.BundleError:
            continue
        # No path can be a file and a folder at once.
        if not any(
            other.startswith(path + "/") or path.startswith(other + "/")
            for other in (*paths, *good)
            if other != path
        ):
            good.append(path)
    flash = Flash(blocks=64)
    LittleFs.mkfs(flash)
    fs = LittleFs(flash)
    fs.mkdir("/a")
    tree = bundle.Tree(fs, "/a")
    for path in reversed(good):
        with tree.create(path) as file:
            file.write(path.encode())
    assert list(tree.walk()) == [(path, len(path)) for path in sorted(good)]
