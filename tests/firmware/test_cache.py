"""What a node keeps over a deep sleep: named slots in RTC memory, beside the clock, under one CRC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.hal.cache import SIZE_MAX, Cache
from firmware.hal.clock import Clock
from protocols.wire.messages import RTC_HOLDOVER
from tests.firmware.test_clock import TODAY_S, Chip


@given(st.lists(st.tuples(st.sampled_from(["pose", "float", "é"]), st.binary(max_size=60)), max_size=8))
def test_each_name_gives_what_was_saved_last_under_it(saves: list[tuple[str, bytes]]) -> None:
    chip = Chip()
    for name, data in saves:
        Cache(chip).save(name, data)
    expected = dict(saves)
    for name in ("pose", "float", "é", "never"):
        assert Cache(chip).load(name) == expected.get(name)


def test_the_clock_and_the_cache_leave_each_other_alone() -> None:
    chip = Chip()
    chip.ms = 1000
    cache = Cache(chip)
    cache.save("pose", b"\x01\x02")
    clock = Clock(chip, chip)
    clock.set(TODAY_S, 0)
    assert cache.load("pose") == b"\x01\x02"
    cache.save("pose", b"\x03")
    chip.ms = 5000
    assert Clock(chip, chip).now() == (TODAY_S + 4, RTC_HOLDOVER)
    assert cache.load("pose") == b"\x03"


def test_one_wrong_bit_or_a_byte_too_few_is_an_empty_cache() -> None:
    chip = Chip()
    Cache(chip).save("pose", b"\x01\x02")
    whole = chip.memory
    for bit in range(8 * 12, 8 * len(whole)):
        chip.memory = bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(whole))
        assert Cache(chip).load("pose") is None
    for length in range(len(whole)):
        chip.memory = whole[:length]
        assert Cache(chip).load("pose") is None


def test_what_does_not_fit_is_refused_and_costs_nothing_that_is_there() -> None:
    chip = Chip()
    cache = Cache(chip)
    cache.save("pose", bytes(200))
    cache.save("more", bytes(200))
    with pytest.raises(ValueError, match=f"allowed are {SIZE_MAX}"):
        cache.save("most", bytes(100))
    with pytest.raises(ValueError, match="pose has 256 bytes, allowed are 255"):
        cache.save("pose", bytes(256))
    assert cache.load("pose") == cache.load("more") == bytes(200)
