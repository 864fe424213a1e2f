"""Time on air, in integers, against the formula of the datasheet in fractions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.wire import airtime
from protocols.wire.airtime import Modulation
from tests.wire import airtime_by_the_book, airtime_cases


def modulations() -> st.SearchStrategy[Modulation]:
    return st.builds(
        Modulation,
        st.integers(5, 12),
        st.sampled_from(airtime_cases.BANDWIDTHS_HZ),
        st.integers(5, 8),
        st.integers(1, 0xFFFF),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )


def test_every_combination_is_the_book_s_to_the_microsecond() -> None:
    seen = 0
    flags = itertools.product((False, True), repeat=3)
    sizes = (0, 1, 2, 13, 20, 51, 99, 222, 255)
    for (is_implicit, has_crc, has_ldro), sf, bw_hz, cr, preamble in itertools.product(
        list(flags), range(5, 13), airtime_cases.BANDWIDTHS_HZ, range(5, 9), (6, 8, 12, 65535)
    ):
        modulation = Modulation(sf, bw_hz, cr, preamble, is_implicit, has_crc, has_ldro)
        size = sizes[seen % len(sizes)]
        assert airtime.time_on_air_us(modulation, size) == airtime_by_the_book.microseconds(modulation, size)
        seen += 1
    print(f"airtime combinations={seen}")
    assert seen == 8 * 8 * 15 * 4 * 4


@given(modulations(), st.integers(0, 255))
def test_any_packet_is_the_book_s(modulation: Modulation, size: int) -> None:
    assert airtime.time_on_air_us(modulation, size) == airtime_by_the_book.microseconds(modulation, size)


@given(modulations(), st.integers(0, 3_000_000))
def test_the_largest_size_fits_and_the_next_does_not(modulation: Modulation, limit_us: int) -> None:
    most = airtime.size_max(modulation, limit_us)
    if most >= 0:
        assert airtime.time_on_air_us(modulation, most) <= limit_us
    if most < airtime.SIZE_MAX:
        assert airtime.time_on_air_us(modulation, most + 1) > limit_us


def test_the_numbers_that_the_project_leans_on() -> None:
    """The table of Semtech's calculator for 20 bytes, and what fits the 1 s of China."""
    twenty = [airtime.time_on_air_us(airtime.lora(sf), 20) for sf in range(7, 13)]
    assert twenty == [56576, 102912, 185344, 370688, 741376, 1318912]
    assert [airtime.size_max(airtime.lora(sf), 1_000_000) for sf in range(7, 13)] == [
        255,
        255,
        197,
        99,
        36,
        10,
    ]


def test_low_data_rate_optimisation_is_on_from_16_ms_a_symbol() -> None:
    on = [
        (sf, bw_hz)
        for sf in range(5, 13)
        for bw_hz in airtime_cases.BANDWIDTHS_HZ
        if airtime.needs_ldro(sf, bw_hz)
    ]
    assert [sf for sf, bw_hz in on if bw_hz == 125000] == [11, 12]
    assert [sf for sf, bw_hz in on if bw_hz == 250000] == [12]
    assert not [sf for sf, bw_hz in on if bw_hz == 500000]
    assert [sf for sf, bw_hz in on if bw_hz == 7812] == [7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize(
    ("field", "value"),
    [("sf", 4), ("sf", 13), ("cr", 1), ("cr", 9), ("bw_hz", 125), ("bw_hz", 600000), ("preamble", 0)],
)
def test_what_no_chip_can_send_has_no_time(field: str, value: int) -> None:
    with pytest.raises(ValueError, match="no LoRa modulation"):
        airtime.time_on_air_us(airtime.lora(7)._replace(**{field: value}), 20)


@pytest.mark.parametrize("size", [-1, 256])
def test_what_no_packet_holds_has_no_time(size: int) -> None:
    with pytest.raises(ValueError, match="0 to 255"):
        airtime.time_on_air_us(airtime.lora(7), size)
