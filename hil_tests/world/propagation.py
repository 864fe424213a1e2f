"""How loud one LoRa antenna is at another, and what a receiver can do with it. Numbers, each with where it is from.

Path loss is log-distance with shadowing that stays with a pair of places. The defaults are Okumura and Hata's median
for a city with the higher antenna 30 m above the street (150 to 1500 MHz, 1 to 20 km):
69.55 + 26.16 log f - 13.82 log h - a(1.5 m) + (44.9 - 6.55 log h) log d: 119.5 dB at 1 km and 490 MHz, 35.2 dB a
decade. Loss below that of free space does not occur.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import NamedTuple

# SNR that a spreading factor needs: SX1261/2 datasheet, section 6.1.1.1.
SNR_MIN_DB = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}

# By how much a packet (row) must be stronger than one of another spreading factor (column, SF7 to SF12) on the same
# channel: Croce et al., Impact of LoRa Imperfect Orthogonality, IEEE Communications Letters 22(4), 2018, table of
# measured co-channel rejection. Same spreading factor: Physics.capture_db.
ISOLATION_DB = {
    7: (None, -8, -9, -9, -9, -9),
    8: (-11, None, -11, -12, -13, -13),
    9: (-15, -13, None, -13, -14, -15),
    10: (-19, -18, -17, None, -17, -18),
    11: (-22, -22, -21, -20, None, -20),
    12: (-25, -25, -25, -24, -23, None),
}
_THERMAL_DBM_HZ = -174.0
_HATA_HEIGHT_M = 30.0
_NEAREST_M = 1.0


class Spot(NamedTuple):
    """Where an antenna is."""

    x_m: float
    y_m: float
    is_high: bool = False  # above the roofs, as a gateway should be
    is_under_iron: bool = False
    gain_dbi: float = 0.0


@dataclass(frozen=True)
class Physics:
    loss_1km_db: float
    exponent: float  # tenths of the decibels per decade of distance
    # Standard deviation over places, 3GPP TR 45.820 annex D; Petajajarvi et al. (ITST 2015) measured 7.1 dB for LoRa.
    shadowing_sd_db: float = 8.0
    # From packet to packet on the same path. Nodes that do not move see little of it.
    fading_sd_db: float = 0.0
    # Through a closed cast-iron cover. Published figures run from 10 to 30 dB; measure yours.
    iron_db: float = 20.0
    # Neither end above the roofs: what the Hata term for height gives between 30 m and 1.5 m (out of its range).
    street_db: float = 18.0
    # Of the receiver: with 6.5 dB the SX1262's sensitivities come out as in its datasheet (SF7: -124 dBm).
    noise_figure_db: float = 6.5
    # A packet survives others of its spreading factor when it is stronger by so much; None: any overlap destroys both.
    # LoRaSim (Bor et al., MSWiM 2016) and Goursaud and Gorce (2015) use 6 dB; Croce measured 1 dB.
    capture_db: float | None = 6.0
    # Of the preamble a receiver needs in a row, whichever: Bor et al., section 3.3.
    lock_symbols: int = 5
    freq_hz: int = 490_000_000

    def with_(self, **changes: float | None) -> Physics:
        return replace(self, **changes)  # type: ignore[arg-type]

    def noise_dbm(self, bw_hz: int) -> float:
        return _THERMAL_DBM_HZ + 10 * math.log10(bw_hz) + self.noise_figure_db

    def median_loss_db(self, distance_m: float) -> float:
        km = max(distance_m, _NEAREST_M) / 1000
        free_space_db = 32.44 + 20 * math.log10(self.freq_hz / 1e6) + 20 * math.log10(km)
        return max(free_space_db, self.loss_1km_db + 10 * self.exponent * math.log10(km))

    def needed_over_db(self, sf: int, other_sf: int, is_other_way: bool) -> float:
        """By how much a packet must be stronger than one of `other_sf`, whose IQ is the other way round or not.

        A chirp of the other direction is spread over the channel as one of another spreading factor is; nobody
        published how well, so the worst of the row counts.
        """
        row = ISOLATION_DB[max(sf, 7)]
        same = self.capture_db if self.capture_db is not None else math.inf
        if sf != other_sf:
            isolation = row[max(other_sf, 7) - 7]
            return same if isolation is None else float(isolation)
        return max(float(value) for value in row if value is not None) if is_other_way else same


def urban(freq_hz: int, height_m: float = _HATA_HEIGHT_M) -> Physics:
    """A city at this frequency, with gateways at this height."""
    log_f, log_h = math.log10(freq_hz / 1e6), math.log10(height_m)
    at_street_db = 1.1 * log_f * 1.5 - 0.7 * 1.5 - (1.56 * log_f - 0.8)  # Hata's a(h) for 1.5 m
    loss_1km_db = 69.55 + 26.16 * log_f - 13.82 * log_h - at_street_db
    return Physics(loss_1km_db, (44.9 - 6.55 * log_h) / 10, freq_hz=freq_hz)


def open_air(loss_1km_db: float = 100.0, exponent: float = 2.0, **changes: float | None) -> Physics:
    """Nothing at random and nothing in the way: for tests that need to know each decibel."""
    return Physics(loss_1km_db, exponent, shadowing_sd_db=0.0, street_db=0.0).with_(**changes)


def link_loss_db(physics: Physics, seed: int, names: tuple[str, str], spots: tuple[Spot, Spot]) -> float:
    """From conducted power at one to what the other's chip gets: the same both ways, and in every run of a seed."""
    one, other = spots
    loss_db = physics.median_loss_db(math.hypot(one.x_m - other.x_m, one.y_m - other.y_m))
    if physics.shadowing_sd_db:
        rng = random.Random(" ".join([str(seed), *sorted(names)]))
        loss_db += rng.gauss(0.0, physics.shadowing_sd_db)
    loss_db += physics.iron_db * (one.is_under_iron + other.is_under_iron)
    if not (one.is_high or other.is_high):
        loss_db += physics.street_db
    return loss_db - one.gain_dbi - other.gain_dbi
