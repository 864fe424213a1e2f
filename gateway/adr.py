"""Adaptive data rate: from how well a node was heard, the spreading factor and power it should have.

Pure: who calls keeps the history (per uplink the SNR at the receiver that heard it best, at the spreading factor and
power the node has now) and sends what comes of it as `set radio`; the history begins anew when the node has changed.

Surplus is what the median of the history has over what the spreading factor needs and a margin for fading. One step of
it is left alone; a whole step more is spent, on time first (one spreading factor less, 2.5 dB) and then on power (3 dB
less). A whole step missing is given back, power first. Between the two lie three steps in which nothing changes, and
either way leads into their middle: fading that moves a median by less than a step moves no node. Before the history is
whole, only a link without any margin is helped.

For a node that is not heard at all there is nothing to compute: it helps itself (SPEC.md section 7.4).
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocols.wire.law import Law

# The demodulator's floor at 125 kHz: SX1261/2 data sheet, table of LoRa sensitivities.
FLOOR_SF7_DB = -7.5
FLOOR_STEP_DB = 2.5
MARGIN_DB = 10.0
STEP_DB = 3
# Uplinks that are looked at: more than fading needs, fewer than a season brings leaves.
HISTORY = 20
# For a link without any margin, so many are enough.
HELP_FROM = 3
SF_MIN = 7
# Below this a chip draws hardly less.
DBM_MIN = 2


def floor_db(sf: int) -> float:
    """The lowest SNR at which a packet can be received."""
    return FLOOR_SF7_DB - FLOOR_STEP_DB * (sf - SF_MIN)


def advise(
    snrs_db: Sequence[float], sf: int, dbm: int, law: Law, sf_is_fixed: bool = False
) -> tuple[int, int] | None:
    """The spreading factor and power that a node should have; None: it should stay as it is.

    `snrs_db`: oldest first. What the law does not allow is mended at once; a fixed spreading factor is left alone.
    """
    legal_sf = sf if sf_is_fixed else min(max(sf, SF_MIN), law.sf_max)
    now = (legal_sf, min(dbm, law.dbm_max))
    if now != (sf, dbm):
        return now
    latest = snrs_db[-HISTORY:]
    if len(latest) < HELP_FROM:
        return None
    surplus_db = median(latest) - floor_db(sf) - MARGIN_DB
    wanted = now
    is_whole = len(latest) == HISTORY
    if is_whole and surplus_db >= 2 * STEP_DB:
        wanted = _spend(surplus_db - STEP_DB, sf, dbm, sf_is_fixed)
    elif surplus_db <= (-STEP_DB if is_whole else -MARGIN_DB):
        wanted = _give_back(-surplus_db, sf, dbm, law, sf_is_fixed)
    return wanted if wanted != now else None


def _spend(surplus_db: float, sf: int, dbm: int, sf_is_fixed: bool) -> tuple[int, int]:
    while not sf_is_fixed and sf > SF_MIN and surplus_db >= FLOOR_STEP_DB:
        sf -= 1
        surplus_db -= FLOOR_STEP_DB
    while dbm - STEP_DB >= DBM_MIN and surplus_db >= STEP_DB:
        dbm -= STEP_DB
        surplus_db -= STEP_DB
    return sf, dbm


def _give_back(missing_db: float, sf: int, dbm: int, law: Law, sf_is_fixed: bool) -> tuple[int, int]:
    while dbm < law.dbm_max and missing_db > 0:
        missing_db -= min(STEP_DB, law.dbm_max - dbm)
        dbm = min(dbm + STEP_DB, law.dbm_max)
    while not sf_is_fixed and sf < law.sf_max and missing_db > 0:
        sf += 1
        missing_db -= FLOOR_STEP_DB
    return sf, dbm
