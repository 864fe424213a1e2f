"""Water chemistry that a person or a regulator asks for beside a reading. Pure, and on the host only: a node sends what
its probe measured, and these follow from it (DESIGN.md has the reason).

    do_saturation_mg_l(20.0)                       -> 9.092   oxygen in fresh water under standard pressure
    do_saturation_percent(8.18, 20.0)              -> 89.96
    conductivity_at_25(1000.0, 15.0)               -> 1236.1  the same water, at 25 °C
    ph_slope_mv(25.0)                              -> -59.16  of a perfect electrode, per pH
"""

from __future__ import annotations

from math import exp

STANDARD_KPA = 101.325
_ZERO_K = 273.15
# APHA 4500-O, after Benson and Krause (1984): ln of mg/L by powers of 1/T, and the salinity term.
_FRESH = (-139.34411, 1.575701e5, -6.642308e7, 1.243800e10, -8.621949e11)
_SALT = (1.7674e-2, -1.0754e1, 2.1407e3)
# Natural waters lie between 1.8 and 2.2 % per degree; ISO 7888 and most probes use this for river water.
PER_DEGREE = 0.0191
# R · ln 10 / F, in mV per kelvin: -59.16 mV per pH at 25 °C.
_NERNST_MV_PER_K = 0.198416


def do_saturation_mg_l(t_cel: float, salinity: float = 0.0, pressure_kpa: float = STANDARD_KPA) -> float:
    """Dissolved oxygen in balance with humid air. ``salinity`` in practical units (g/kg, nearly); 0 to 40 °C."""
    t_k = t_cel + _ZERO_K
    fresh = sum(factor / t_k**power for power, factor in enumerate(_FRESH))
    salt = sum(factor / t_k**power for power, factor in enumerate(_SALT))
    return exp(fresh - salinity * salt) * _pressure_factor(t_cel, pressure_kpa)


def _pressure_factor(t_cel: float, pressure_kpa: float) -> float:
    """What another pressure than the standard one does: vapour takes its share whatever the pressure is."""
    t_k = t_cel + _ZERO_K
    pressure = pressure_kpa / STANDARD_KPA
    vapour = exp(11.8571 - 3840.70 / t_k - 216961 / t_k**2)
    theta = 0.000975 - 1.426e-5 * t_cel + 6.436e-8 * t_cel**2
    return (pressure - vapour) * (1 - theta * pressure) / ((1 - vapour) * (1 - theta))


def do_saturation_percent(
    do_mg_l: float, t_cel: float, salinity: float = 0.0, pressure_kpa: float = STANDARD_KPA
) -> float:
    """How full of oxygen the water is; algae bring it above 100."""
    return 100 * do_mg_l / do_saturation_mg_l(t_cel, salinity, pressure_kpa)


def conductivity_at_25(us_cm: float, t_cel: float, per_degree: float = PER_DEGREE) -> float:
    """What water of this conductivity at this temperature would have at 25 °C."""
    return us_cm / (1 + per_degree * (t_cel - 25))


def ph_slope_mv(t_cel: float) -> float:
    """What a perfect glass electrode gives per pH."""
    return -_NERNST_MV_PER_K * (t_cel + _ZERO_K)
