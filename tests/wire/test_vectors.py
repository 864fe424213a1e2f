"""The golden cases of protocols/vectors, on three interpreters."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from tests.wire import aes, interpreters, make_vectors, vector_checks

VECTORS = interpreters.ROOT / "protocols" / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return cases


def all_cases() -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}: {case['name'][:60]}")
        for name in sorted(vector_checks.CHECKS)
        for case in load(name)
    ]


def total() -> int:
    return sum(len(load(name)) for name in vector_checks.CHECKS)


@pytest.mark.parametrize(("name", "case"), all_cases())
def test_golden_case_holds(name: str, case: dict[str, Any]) -> None:
    vector_checks.run(name, {"cases": [case]})


def test_every_vector_file_is_run() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == set(vector_checks.CHECKS)


@pytest.mark.parametrize("name", sorted(make_vectors.FILES))
def test_the_generator_still_writes_the_committed_cases(name: str) -> None:
    make, _ = make_vectors.FILES[name]
    assert json.loads(json.dumps(make())) == load(name)


def test_a_wrong_golden_case_would_be_noticed() -> None:
    case = next(case for case in load("messages") if case["name"] == "ping")
    must_be_refused = {"name": "a good ping", "direction": "down", "hex": case["hex"], "reason": "message"}
    for wrong in (case | {"fields": [1]}, must_be_refused):
        with pytest.raises(vector_checks.Mismatch):
            vector_checks.run("messages", {"cases": [wrong]})


def test_every_golden_case_holds_on_micropython() -> None:
    said = interpreters.micropython("tests/wire/mpy_vectors.py")
    assert f"vectors={total()} " in said
    assert "aes=cryptolib" in said


def test_every_golden_case_holds_on_a_32_bit_micropython() -> None:
    said = interpreters.micropython_32bit(interpreters.WASM / "run_vectors.mjs")
    assert f"vectors={total()} maxsize={2**31 - 1} " in said


def test_the_golden_cases_fit_the_heap_of_a_node() -> None:
    """All of the wire and its largest vector file, in the 160 kB that a node is tested with."""
    said = interpreters.micropython("tests/wire/mpy_messages_heap.py", "-X", "heapsize=160k")
    assert re.search(r"round trips=\d+ growth=0 ", said), said


@given(key=st.binary(min_size=16, max_size=16), blocks=st.integers(0, 4), data=st.data())
def test_the_aes_of_the_32_bit_run_is_aes(key: bytes, blocks: int, data: st.DataObject) -> None:
    plain = data.draw(st.binary(min_size=16 * blocks, max_size=16 * blocks))
    iv = data.draw(st.binary(min_size=16, max_size=16))
    for ours, mode in ((aes.aes(key, aes.ECB), modes.ECB()), (aes.aes(key, aes.CBC, iv), modes.CBC(iv))):
        encryptor = Cipher(algorithms.AES(key), mode).encryptor()
        assert ours.encrypt(plain) == encryptor.update(plain) + encryptor.finalize()
