"""Time on air as section 6.1.4 of the SX126x datasheet has it: three formulas, fractions, one rounding at the end.

Written from the datasheet alone, to check protocols/wire/airtime.py by.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from protocols.wire.airtime import Modulation


def symbols(modulation: Modulation, size: int) -> Fraction:
    """N_symbol."""
    sf = modulation.sf
    crc_bits = 16 if modulation.has_crc else 0
    header_symbols = 0 if modulation.is_implicit else 20
    if sf in {5, 6}:
        payload = Fraction(max(8 * size + crc_bits - 4 * sf + header_symbols, 0), 4 * sf)
        return modulation.preamble + Fraction("6.25") + 8 + ceil(payload) * modulation.cr
    bits = max(8 * size + crc_bits - 4 * sf + 8 + header_symbols, 0)
    payload = Fraction(bits, 4 * (sf - 2)) if modulation.has_ldro else Fraction(bits, 4 * sf)
    return modulation.preamble + Fraction("4.25") + 8 + ceil(payload) * modulation.cr


def microseconds(modulation: Modulation, size: int) -> int:
    """ToA to the nearest microsecond; a tie can not be, as no width of the chip divides that way."""
    exact = Fraction(2**modulation.sf, modulation.bw_hz) * symbols(modulation, size) * 1_000_000
    below = exact.numerator // exact.denominator
    assert exact - below != Fraction(1, 2)
    return below + (exact - below > Fraction(1, 2))
