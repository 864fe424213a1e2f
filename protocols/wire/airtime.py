"""How long a LoRa packet is on the air: section 6.1.4 of the SX126x datasheet, in integers.

    symbols = preamble + 4.25 + 8 + ceil(max(8 size + 16 CRC - 4 SF + 8 + 20 header, 0) / (4 (SF - 2 LDRO))) CR
    SF5, SF6: preamble + 6.25 + 8, no "+ 8" among the bits, and LDRO changes nothing
    time = symbols * 2**SF / bandwidth

A quarter symbol is the unit, so nothing is lost before the one division at the end, which rounds to the nearest
microsecond; at 500 kHz and its halves down to 15.625 kHz it leaves no rest. The bandwidth is taken as it is
given: the chip's odd ones have no whole number of hertz, and are 7812, 10417, 20833 and 41667 to Semtech's driver,
7810, 10420, 20830 and 41670 to its calculator.

Low-data-rate optimisation is a parameter: each stack has its own rule, and a packet sent with it is not heard without.
Ours is `needs_ldro`.
"""

from collections import namedtuple

from protocols.wire.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Modulation(NamedTuple):
        sf: int  # 5 to 12
        bw_hz: int
        cr: int  # 5 to 8: 4/5 to 4/8
        preamble: int  # symbols
        is_implicit: bool  # no header
        has_crc: bool
        has_ldro: bool

else:
    Modulation = namedtuple(
        "Modulation", ("sf", "bw_hz", "cr", "preamble", "is_implicit", "has_crc", "has_ldro")
    )

SIZE_MAX = 255


class AirRefused(WireError):
    """A transmission that the plan forbids; ``rule`` names why, ``wait_s`` says when it would be allowed.

    None: waiting does not help. The message says what would fit.
    """

    reason = "air"

    def __init__(self, rule: str, message: str, wait_s: "int | None" = None) -> None:
        super().__init__(message)
        self.rule = rule
        self.wait_s = wait_s


def needs_ldro(sf: int, bw_hz: int) -> bool:
    """Our rule: on where a symbol takes 16 ms or more, off elsewhere."""
    return (1 << sf) * 1000 >= 16 * bw_hz


def lora(sf: int) -> "Modulation":
    """What this project sends (SPEC.md section 7)."""
    return Modulation(sf, 125000, 5, 8, False, True, needs_ldro(sf, 125000))


def symbol_us(modulation: "Modulation") -> int:
    """One symbol, to the nearest microsecond."""
    return ((1000000 << modulation.sf) + modulation.bw_hz // 2) // modulation.bw_hz


def time_on_air_us(modulation: "Modulation", size: int) -> int:
    """Microseconds for a payload of that many bytes. ValueError for what no SX126x can send."""
    sf, bw_hz, cr, preamble, is_implicit, has_crc, has_ldro = modulation
    if not (5 <= sf <= 12 and 5 <= cr <= 8 and 7800 <= bw_hz <= 500000 and 1 <= preamble <= 0xFFFF):
        raise ValueError("no LoRa modulation: SF%d, %d Hz, 4/%d, preamble %d" % (sf, bw_hz, cr, preamble))
    if not 0 <= size <= SIZE_MAX:
        raise ValueError("%d bytes: a LoRa packet has 0 to %d" % (size, SIZE_MAX))
    bits = 8 * size - 4 * sf
    if has_crc:
        bits += 16
    if not is_implicit:
        bits += 20
    quarters = 4 * (preamble + 8)
    if sf <= 6:
        quarters += 25
        bits_per_block = 4 * sf
    else:
        quarters += 17
        bits += 8
        bits_per_block = 4 * (sf - 2 if has_ldro else sf)
    if bits > 0:
        quarters += 4 * cr * ((bits + bits_per_block - 1) // bits_per_block)
    return ((quarters * 1000000 << (sf - 2)) + bw_hz // 2) // bw_hz


def size_max(modulation: "Modulation", limit_us: int) -> int:
    """The largest payload that is on the air for at most so long; -1: not even an empty one."""
    low, high = -1, SIZE_MAX
    while low < high:
        middle = (low + high + 1) // 2
        if time_on_air_us(modulation, middle) <= limit_us:
            low = middle
        else:
            high = middle - 1
    return low
