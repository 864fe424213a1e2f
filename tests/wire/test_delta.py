"""Deltas: what the host makes, the node applies, to the same bytes; and nothing else."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import delta as making
from protocols.wire import bundle, delta

NAMES = st.sampled_from(["a.mpy", "b.mpy", "f/a.mpy", "f/b.mpy", "f/g/a.mpy", "f-x", "main.py"])
FILES = st.dictionaries(NAMES, st.binary(max_size=600), max_size=7)


def applied(payload: bytes, base: dict[str, bytes]) -> tuple[dict[str, bytes], tuple[int, bytes]]:
    target = making.Memory()
    result = delta.apply(io.BytesIO(payload), making.Memory(base), target)
    return target.files, result


@settings(max_examples=200, deadline=None)
@given(FILES, FILES)
def test_whatever_changes_comes_out_as_it_was_meant(base: dict[str, bytes], new: dict[str, bytes]) -> None:
    files, result = applied(making.make(base, new), base)
    assert files == new
    assert result == bundle.digest(making.Memory(new))
    assert result[0] == len(making.pack(new))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=200, max_size=800), st.lists(st.tuples(st.integers(0, 800), st.binary(max_size=9))))
def test_edits_of_one_file_come_out(old: bytes, edits: list[tuple[int, bytes]]) -> None:
    new = old
    for at, what in edits:
        new = new[:at] + what + new[at + len(what) // 2 :]
    files, _ = applied(making.make({"m.mpy": old}, {"m.mpy": new}), {"m.mpy": old})
    assert files == {"m.mpy": new}


@settings(max_examples=300, deadline=None)
@given(FILES, st.binary(max_size=300))
def test_no_payload_whatever_raises_anything_else(base: dict[str, bytes], junk: bytes) -> None:
    for payload in (junk, bytes((1, 10)) + bytes(8) + junk):
        with contextlib.suppress(bundle.BundleError):
            applied(payload, base)


def test_every_truncation_of_a_payload_is_refused() -> None:
    base = {"a.mpy": bytes(range(200)), "b.mpy": b"gone"}
    payload = making.make(base, {"a.mpy": bytes(range(1, 201)), "c/d.mpy": b"new" * 50})
    for end in range(len(payload) - 1):
        with pytest.raises(bundle.BundleError):
            applied(payload[:end], base)


def test_a_payload_names_its_base() -> None:
    base = {"a.mpy": b"1"}
    assert delta.base_of(making.make(base, base)[:10]) == bundle.digest(making.Memory(base))[1][:8]
    assert delta.base_of(making.make(None, base)[:10]) == delta.NO_BASE
