"""Every decoder against inputs from nowhere: a sample in `make test`, a million in `make fuzz`."""

from __future__ import annotations

import pytest

from protocols.wire import identity
from protocols.wire.errors import DecodeError
from tests.wire import fuzz

SEED = 20260921
RUNS = 60_000


def test_no_decoder_fails_on_a_sample_of_random_and_mutated_inputs() -> None:
    result = fuzz.fuzz(RUNS, SEED)
    print(f"fuzz runs={RUNS} seed={SEED} accepted/refused per target: {result}")
    assert sum(accepted + refused for accepted, refused in result.values()) == RUNS
    # Inputs that all fail at the first byte would prove nothing, nor would inputs that all pass.
    for name in ("cbor", "messages up", "messages down", "sealed up", "readings body"):
        assert min(result[name]) > 0, name


def test_a_decoder_that_raises_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def weak(data: bytes) -> int:
        return data[400]

    monkeypatch.setattr(identity, "decode", weak)
    with pytest.raises(IndexError) as found:
        fuzz.fuzz(200, SEED)
    assert "target identity" in found.value.__notes__[0]


def test_a_decoder_that_believes_a_declared_length_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(data: bytes) -> None:
        raise DecodeError(str(len(bytearray(1 << 20))))

    monkeypatch.setattr(identity, "decode", greedy)
    with pytest.raises(fuzz.Found, match="bytes of memory"):
        fuzz.fuzz(200, SEED)
