"""The battery of a manhole cover: ten years on 19 Ah, with the wakes that were counted."""

from __future__ import annotations

from dataclasses import replace

from bench.cover_energy import WAKES_BY_TRUCKS_MAX, YEARS_MIN, use_of
from boards.heltec_wifi_lora_32_v3 import board as heltec
from boards.virtual import board as virtual
from hil_tests.world.energy import Use, air_s, years
from tests.world.cover_traffic import year

SEED = 7
DAYS = 10


def test_the_time_on_air_is_that_of_the_datasheet() -> None:
    # 23 bytes at SF10 and 125 kHz: 45.25 symbols of 8.192 ms.
    assert abs(air_s(23) - 0.3707) < 0.0001


def test_a_node_that_every_vehicle_woke_for_three_seconds_would_last_two_years() -> None:
    assert 2.1 < years(heltec, Use(wakes=500 / 0.8 * 3, awake_s=0, frames=2, frame_bytes=40)) < 2.4


def test_a_cover_lasts_ten_years_with_the_wakes_that_were_counted() -> None:
    counts = year(SEED, DAYS)
    use = use_of(counts)
    lasts = years(virtual, use)
    # And if vehicles woke it as often as they may, for as long as a look takes.
    worst = replace(use, wakes=use.wakes + WAKES_BY_TRUCKS_MAX, awake_s=use.awake_s + WAKES_BY_TRUCKS_MAX)
    print(
        f"truck_passes={counts.passes} wakes_by_trucks_a_day={counts.by_pin / DAYS:.2f} "
        f"wakes_a_day={use.wakes:.1f} awake_s_a_day={use.awake_s:.1f} frames_a_day={use.frames:.1f} "
        f"years_on_19_ah={lasts:.1f} years_at_five_wakes={years(virtual, worst):.1f} seed={SEED}"
    )
    assert counts.by_pin / DAYS <= WAKES_BY_TRUCKS_MAX
    assert lasts >= YEARS_MIN
    assert years(virtual, worst) >= YEARS_MIN
    assert years(heltec, use) >= YEARS_MIN, "a board that can be bought"
