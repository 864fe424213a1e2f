"""ADR: never illegal, better links never get more, and a link that stays as it is comes to rest."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway import adr
from protocols.wire.law import CN470, EU868, Law

LAWS = {CN470: Law(CN470), EU868: Law(EU868)}

plans = st.sampled_from([CN470, EU868])
snrs = st.lists(st.floats(-30, 20), max_size=40)
sfs = st.integers(5, 12)
dbms = st.integers(-9, 22)


def strength(sf: int, dbm: int) -> float:
    """How weak a link may be under these settings."""
    return dbm - adr.floor_db(sf)


def settled(
    snr_db_at_0_dbm: float, sf: int, dbm: int, law: Law, sf_is_fixed: bool = False
) -> list[tuple[int, int]]:
    """Where a link that does not change goes, step by step."""
    way = [(sf, dbm)]
    while len(way) < 50:
        wanted = adr.advise([snr_db_at_0_dbm + way[-1][1]] * adr.HISTORY, *way[-1], law, sf_is_fixed)
        if wanted is None:
            return way
        way.append(wanted)
    return way


@given(snrs, sfs, dbms, plans, st.booleans())
def test_no_advice_is_ever_illegal(
    snrs_db: list[float], sf: int, dbm: int, plan: int, sf_is_fixed: bool
) -> None:
    law = LAWS[plan]
    wanted = adr.advise(snrs_db, sf, dbm, law, sf_is_fixed)
    if wanted is None:
        assert dbm <= law.dbm_max
        assert sf_is_fixed or 7 <= sf <= law.sf_max
        return
    assert wanted != (sf, dbm)
    assert wanted[1] <= law.dbm_max
    assert wanted[0] == sf if sf_is_fixed else 7 <= wanted[0] <= law.sf_max
    assert plan != CN470 or sf_is_fixed or wanted[0] < 12


@given(snrs, st.floats(0, 30), sfs, dbms, plans, st.booleans())
def test_a_better_link_never_gets_more(
    snrs_db: list[float], better_db: float, sf: int, dbm: int, plan: int, sf_is_fixed: bool
) -> None:
    here = (sf, dbm)
    worse = adr.advise(snrs_db, sf, dbm, LAWS[plan], sf_is_fixed) or here
    better = adr.advise([snr_db + better_db for snr_db in snrs_db], sf, dbm, LAWS[plan], sf_is_fixed) or here
    assert better[0] <= worse[0]
    assert strength(*better) <= strength(*worse)


@given(st.floats(-60, 30), sfs, dbms, plans, st.booleans())
def test_a_link_that_stays_as_it_is_comes_to_rest(
    snr_db: float, sf: int, dbm: int, plan: int, sf_is_fixed: bool
) -> None:
    law = LAWS[plan]
    assume(not sf_is_fixed or 7 <= sf <= law.sf_max)
    way = settled(snr_db, sf, dbm, law, sf_is_fixed)
    assert len(way) <= 3  # once to be legal, once to be right
    sf, dbm = way[-1]
    surplus_db = snr_db + dbm - adr.floor_db(sf) - adr.MARGIN_DB
    can_give = dbm < law.dbm_max or (not sf_is_fixed and sf < law.sf_max)
    can_take = dbm - adr.STEP_DB >= adr.DBM_MIN or (not sf_is_fixed and sf > 7)
    assert surplus_db > -adr.STEP_DB or not can_give
    assert surplus_db < 2 * adr.STEP_DB or not can_take


@given(st.floats(-60, 30), st.lists(st.floats(-1.4, 1.4), min_size=1, max_size=20), sfs, dbms, plans)
def test_noise_of_less_than_half_a_step_is_told_at_most_once(
    snr_db: float, noise_db: list[float], sf: int, dbm: int, plan: int
) -> None:
    law = LAWS[plan]
    now = (min(max(sf, 7), law.sf_max), min(dbm, law.dbm_max))
    told = 0
    for one_db in noise_db:
        wanted = adr.advise([snr_db + now[1] + one_db] * adr.HISTORY, *now, law)
        if wanted is not None:
            now, told = wanted, told + 1
    assert told <= 2
    assert now in {settled(snr_db + one_db, *now, law)[-1] for one_db in (0.0, *noise_db)}


@pytest.mark.parametrize(("sigma_db", "moves_max"), [(2.0, 3), (4.0, 8)])
def test_a_fading_link_does_not_flap(sigma_db: float, moves_max: int) -> None:
    """Two thousand uplinks of each of 50 links: how often a node is told to change, and how many are lost."""
    rng = random.Random(4)
    law = LAWS[CN470]
    most = moves = lost = sent = 0
    for _ in range(50):
        mean_db = rng.uniform(-24, 5)
        sf, dbm = law.sf_max, law.dbm_max
        history: list[float] = []
        told = 0
        for _ in range(2000):
            snr_db = mean_db + dbm + rng.gauss(0, sigma_db)
            sent += 1
            if snr_db < adr.floor_db(sf):
                lost += 1
                continue
            history.append(snr_db)
            wanted = adr.advise(history, sf, dbm, law)
            if wanted is not None:
                (sf, dbm), history, told = wanted, [], told + 1
        most, moves = max(most, told), moves + told
    print(
        f"adr sigma_db={sigma_db} moves_mean={moves / 50:.2f} moves_max={most} lost={100 * lost / sent:.2f}%"
    )
    assert most <= moves_max
    assert lost / sent < 0.02


def test_the_figures_of_the_demodulator() -> None:
    assert [adr.floor_db(sf) for sf in range(7, 13)] == [-7.5, -10.0, -12.5, -15.0, -17.5, -20.0]


@pytest.mark.parametrize(
    ("snr_db", "sf", "dbm", "wanted"),
    [
        (12.0, 10, 17, (7, 11)),  # 17 dB over the margin, 3 stay: 7.5 of time, then two steps of power
        (-4.9, 10, 17, None),
        (1.0, 10, 17, (9, 17)),
        (0.9, 10, 17, None),  # hysteresis: not a whole step
        (-7.9, 10, 17, None),
        (-8.0, 10, 17, (11, 17)),
        (-8.0, 10, 14, (10, 17)),  # power first
        (-20.0, 11, 17, None),  # there is nothing more to give in China
    ],
)
def test_some_links_by_hand(snr_db: float, sf: int, dbm: int, wanted: tuple[int, int] | None) -> None:
    assert adr.advise([snr_db] * 20, sf, dbm, LAWS[CN470]) == wanted


def test_a_fixed_spreading_factor_gets_power_only() -> None:
    assert adr.advise([12.0] * 20, 10, 17, LAWS[CN470], sf_is_fixed=True) == (10, 5)
    assert adr.advise([-20.0] * 20, 10, 8, LAWS[CN470], sf_is_fixed=True) == (10, 17)


def test_a_few_uplinks_are_enough_for_a_link_without_margin_alone() -> None:
    assert adr.advise([12.0] * 19, 10, 17, LAWS[CN470]) is None
    assert adr.advise([-14.0] * 19, 10, 8, LAWS[CN470]) is None
    assert adr.advise([-16.0] * 2, 10, 8, LAWS[CN470]) is None
    assert adr.advise([-16.0] * 3, 10, 8, LAWS[CN470]) == (11, 17)


def test_only_the_latest_uplinks_count() -> None:
    assert adr.advise([-30.0] * 100 + [12.0] * 20, 10, 17, LAWS[CN470]) == (7, 11)


def test_sf12_is_left_in_china_and_kept_in_europe() -> None:
    assert adr.advise([], 12, 17, LAWS[CN470]) == (11, 17)
    assert adr.advise([-15.0] * 20, 12, 13, LAWS[EU868]) is None
