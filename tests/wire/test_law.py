"""What a plan forbids can not be sent, whoever asks, and the refusal says what would fit."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.spent import Spent
from hil_tests.world.flash import Flash, LittleFs, formatted
from protocols.wire import airtime, law
from protocols.wire.airtime import AirRefused, Modulation
from protocols.wire.law import CN470, EU868, Law
from tests.wire import airtime_by_the_book
from tests.wire.airtime_cases import BANDWIDTHS_HZ
from tests.wire.test_duty import Kept, fill, send

PLANS = tomllib.loads((Path(law.__file__).parents[1] / "plans.toml").read_text(encoding="utf-8"))

numbers = st.one_of(st.integers(-5, 20), st.integers(-(2**31), 2**31))
any_modulation = st.builds(
    Modulation,
    st.one_of(st.integers(5, 12), numbers),
    st.one_of(st.sampled_from(BANDWIDTHS_HZ), numbers),
    st.one_of(st.integers(5, 8), numbers),
    st.one_of(st.integers(1, 400), numbers),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
any_freq_hz = st.one_of(
    st.integers(0, 95).map(lambda channel: 470_300_000 + channel * 200_000),
    st.integers(469_000_000, 511_000_000),
)


def judged(plan: Law, freq_hz: int, modulation: Modulation, size: int, dbm: int) -> tuple[int, str]:
    """The microseconds, or the rule that refuses it."""
    try:
        return plan.check(0, freq_hz, modulation, size, dbm), ""
    except AirRefused as exc:
        return 0, exc.rule


@given(any_freq_hz, any_modulation, st.one_of(st.integers(0, 255), numbers), st.integers(-20, 30))
def test_nothing_longer_than_a_second_leaves_in_china(
    freq_hz: int, modulation: Modulation, size: int, dbm: int
) -> None:
    """Whatever is asked for: what is allowed is short, narrow, weak and on the grid, by the book."""
    air_us, rule = judged(Law(CN470), freq_hz, modulation, size, dbm)
    if rule:
        assert rule in {"channel", "bandwidth", "power", "modulation", "time"}
        return
    assert air_us == airtime_by_the_book.microseconds(modulation, size) <= 1_000_000
    assert modulation.bw_hz <= 200_000
    assert dbm <= 17
    assert (freq_hz - 470_300_000) % 200_000 == 0
    assert freq_hz - modulation.bw_hz // 2 >= 470_000_000
    assert freq_hz + modulation.bw_hz // 2 <= 510_000_000


def test_every_packet_of_ours_is_judged_right_at_every_size() -> None:
    plan = Law(CN470)
    allowed = {}
    for sf in range(7, 13):
        fits = []
        for size in range(256):
            _, rule = judged(plan, plan.freq_hz(5), airtime.lora(sf), size, 17)
            assert rule in {"", "time"}
            if not rule:
                fits.append(size)
        allowed[sf] = fits[-1]
        assert fits == list(range(fits[-1] + 1))
    assert allowed == {7: 255, 8: 255, 9: 197, 10: 99, 11: 36, 12: 10}
    assert [plan.size_max(sf) for sf in range(7, 13)] == [222, 222, 197, 99, 36, 10]


def test_listening_first_can_not_be_switched_off() -> None:
    """No argument, no attribute, no setting: a property of the plan's line in the table."""
    plan = Law(CN470)
    assert plan.needs_listening
    with pytest.raises(AttributeError):
        plan.needs_listening = False  # type: ignore[misc]
    names = set(inspect.signature(Law.__init__).parameters) | {name for name in vars(plan) if name[0] != "_"}
    assert not [name for name in names if "listen" in name or "lbt" in name]


def test_a_plan_without_duty_cycle_neither_reads_nor_writes() -> None:
    class Untouchable:
        def load(self) -> bytes:
            raise AssertionError

        def save(self, data: bytes) -> bool:
            raise AssertionError

    plan = Law(CN470, Untouchable())
    for now_s in range(100):
        plan.sent(now_s, plan.freq_hz(0), plan.check(now_s, plan.freq_hz(0), airtime.lora(10), 99, 17))
    assert plan.rest(100) == b""
    plan.resume(200, b"")


@pytest.mark.parametrize(
    ("size", "sf", "said"),
    [
        (37, 11, "37 bytes at SF11 take 1069056 us, cn470 allows 1000000: at most 36 bytes, or SF10"),
        (100, 10, "at most 99 bytes, or SF9"),
        (11, 12, "at most 10 bytes, or SF11"),
        (255, 9, "at most 197 bytes"),
    ],
)
def test_a_refusal_says_what_would_fit(size: int, sf: int, said: str) -> None:
    plan = Law(CN470)
    with pytest.raises(AirRefused) as refused:
        plan.check(0, plan.freq_hz(0), airtime.lora(sf), size, 17)
    assert said in str(refused.value)


def test_a_better_antenna_takes_less_power() -> None:
    assert [Law(CN470, antenna_cdbi=cdbi).dbm_max for cdbi in (0, 215, 500, 1200)] == [19, 17, 14, 7]
    assert [Law(EU868, antenna_cdbi=cdbi).dbm_max for cdbi in (0, 215, 500)] == [16, 13, 11]


def test_a_channel_beyond_the_grid_and_a_plan_beyond_the_table_are_refused() -> None:
    with pytest.raises(AirRefused, match="cn470 has channels 0 to 95, not 96"):
        Law(CN470).freq_hz(96)
    with pytest.raises(AirRefused, match="not -1"):
        Law(EU868).freq_hz(-1)
    with pytest.raises(AirRefused, match="known are"):
        Law(7)
    assert Law(CN470).freq_hz(95) == 489_300_000
    assert [Law(EU868).freq_hz(channel) for channel in range(8)] == [
        *(868_100_000, 868_300_000, 868_500_000),
        *(867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000),
    ]


@pytest.mark.parametrize("name", sorted(PLANS))
def test_a_plan_keeps_its_own_law(name: str) -> None:
    """Every channel lies in a band at the widest; the highest spreading factor has room; the ledger's numbers fit."""
    entry: dict[str, Any] = PLANS[name]
    plan = Law(entry["id"], Kept())
    assert plan.name == name
    for channel in range(plan.channels):
        low_hz = plan.freq_hz(channel) - entry["bw_max_hz"] // 2
        high_hz = plan.freq_hz(channel) + entry["bw_max_hz"] // 2
        assert any(low <= low_hz and high_hz <= high for low, high, _ in entry["bands"])
    # Flag 1, PIV 5, kid 3 and tag 8 of an envelope, and an alarm of 19 (SPEC.md section 2.1).
    assert plan.size_max(plan.sf_max) >= 36
    assert plan.sf_max == 12 or plan.size_max(plan.sf_max + 1) < 36
    for _, _, per_mille in entry["bands"]:
        # 16 bits of milliseconds in RTC memory; a twelfth is more than the longest transmission or it is never sent.
        assert per_mille == 100 or per_mille * 3600 <= 0xFFFF


def test_the_durable_bound_lives_in_two_copies() -> None:
    """The document on a file system: it comes back, one bad copy is nothing, two are an hour of silence."""
    flash = formatted(24)[0]
    spent_s, _ = fill(Law(EU868, Spent(LittleFs(flash))), 1)
    assert spent_s > 34
    plan = Law(EU868, Spent(LittleFs(flash)))
    with pytest.raises(AirRefused):
        send(plan, 1)
    send(plan, 3900)
    spoil(flash, "a")
    assert Spent(LittleFs(flash)).load()
    spoil(flash, "b")
    assert Spent(LittleFs(flash)).load() is None
    with pytest.raises(AirRefused):
        send(Law(EU868, Spent(LittleFs(flash))), 1)
    assert Spent(LittleFs(formatted(24)[0])).load() == b""


def test_a_full_flash_is_told_not_raised() -> None:
    fs = LittleFs(formatted(24)[0])

    class Full:
        """A file system on which nothing can be written."""

        def open(self, path: str, mode: str) -> Any:
            if "w" in mode:
                raise OSError(28)
            return fs.open(path, mode)

        def stat(self, path: str) -> Any:
            return fs.stat(path)

        def mkdir(self, path: str) -> None:
            raise OSError(28)

    with pytest.raises(AirRefused, match="state partition"):
        send(Law(EU868, Spent(Full())), 1)


def spoil(flash: Flash, folder: str) -> None:
    """Flip a bit of one copy."""
    fs = LittleFs(flash)
    with fs.open(f"/{folder}/airtime", "rb") as file:
        data = bytearray(file.read())
    data[-1] ^= 1
    with fs.open(f"/{folder}/airtime", "wb") as file:
        file.write(data)
