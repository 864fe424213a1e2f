"""The body of a readings message: one set of scaled integers, or a batch of sets (batch.py). SPEC-readings.md has every bit.

A single set is one big-endian number: time quality (2 bits), batch (1 bit, 0 here), flagged (1 bit), then per series,
when flagged, a quality flag (``0`` good, ``100`` not evaluated, ``101`` suspect, ``110`` fail, ``111`` missing: no
value follows), and the value's zigzag distance from the centre of its measurand in an exp-Golomb code of that
measurand's order. The code is prefix-free and complete, so a body says exactly one thing and nothing has two bodies.

Prior art: H.264 ue(v) / exp-Golomb of order k. The order is registry data rather than sent: a set has too few values to
pay for telling it.
"""

from collections import namedtuple

from . import registry_table
from .errors import DecodeError, EncodeError
from .limits import MAX_SERIES, MAX_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NamedTuple

    class Series(NamedTuple):
        """One measurand as the codec sees it: value = number on the wire / 10**decimals."""

        name: str
        decimals: int
        centre: int
        order: int

    class Schema(NamedTuple):
        id: int
        name: str
        series: tuple[Series, ...]
        codes: tuple[tuple[int, int, int], ...]
        min_bits: int

    class Sets(NamedTuple):
        """``times`` in seconds, one per set; ``rows`` scaled integers, None when missing; ``flags`` None: all GOOD."""

        tq: int
        times: tuple[int, ...]
        rows: tuple[tuple[int | None, ...], ...]
        flags: tuple[tuple[int, ...], ...] | None

else:
    Series = namedtuple("Series", ("name", "decimals", "centre", "order"))
    Schema = namedtuple("Schema", ("id", "name", "series", "codes", "min_bits"))
    Sets = namedtuple("Sets", ("tq", "times", "rows", "flags"))

# Time quality, the first two bits of a body.
GNSS = 0
SYNCHRONISED = 1
RTC_HOLDOVER = 2
UNSYNCHRONISED = 3  # times are seconds since boot; the gateway places them

# QARTOD quality flags.
GOOD = 1
UNKNOWN = 2
SUSPECT = 3
FAIL = 4
MISSING = 9
FLAGS = (GOOD, UNKNOWN, SUSPECT, FAIL, MISSING)

_FLAG_OF_BITS = (UNKNOWN, SUSPECT, FAIL, MISSING)


def _bit_length_slow(number):
    bits = 0
    while number > 0xFFFF:
        number >>= 16
        bits += 16
    while number:
        number >>= 1
        bits += 1
    return bits


_bit_length = getattr(int, "bit_length", _bit_length_slow)  # MicroPython has none


class UnknownSchema(DecodeError):
    """A schema id that this registry does not have: the sender is newer than we are."""


_schemas: "dict[int, Schema]" = {}


def schema(schema_id: int) -> "Schema":
    """The schema of that id; the same object every time."""
    found = _schemas.get(schema_id)
    return _load_schema(schema_id) if found is None else found


def _load_schema(schema_id: int) -> "Schema":
    entry = registry_table.SCHEMAS.get(schema_id)
    if entry is None:
        known = ", ".join(str(known) for known in sorted(registry_table.SCHEMAS))
        raise UnknownSchema("schema id %s is not in this registry (it has %s): update it" % (schema_id, known))
    series = tuple(Series(*registry_table.MEASURANDS[measurand]) for measurand in entry[1])
    # Per series, for w = zigzag + 2**order as it stands in the code: order + 1, and what to add to w >> 1 when w is
    # even, or to subtract it from when w is odd.
    codes = tuple((s.order + 1, s.centre - (1 << s.order >> 1), s.centre - 1 + (1 << s.order >> 1)) for s in series)
    loaded = Schema(schema_id, entry[0], series, codes, 4 + sum(s.order + 1 for s in series))
    _schemas[schema_id] = loaded
    return loaded


class SetEncoder:
    """Encodes single sets of one schema into the caller's buffer, without touching the heap.

    Every integer on the way stays below 2**30: larger ones are heap objects on a 32-bit MicroPython.
    """

    def __init__(self, of_schema: "Schema") -> None:
        self.schema = of_schema
        self._count = len(of_schema.series)
        self._centres = tuple(s.centre for s in of_schema.series)
        self._orders = tuple(s.order for s in of_schema.series)

    def max_size(self) -> int:
        """Bytes that the worst set can take: 3 bits of flag and 2 * 31 - order - 1 bits of value per series."""
        return (4 + sum(3 + 61 - order for order in self._orders) + 7) // 8

    def encode_into(self, buf: bytearray, offset: int, values: "Sequence[int | None]", flags: "Sequence[int] | None",
                    tq: int) -> int:
        """Write the body of one set at ``offset``; the offset after it. ``flags`` None means all GOOD.

        buf must have room for max_size() bytes. Nothing is checked twice: what is refused is refused before a
        byte that matters is overwritten only if the caller uses a scratch buffer.
        """
        count = self._count
        if len(values) != count or (flags is not None and len(flags) != count):
            raise EncodeError("schema %s takes %d values and as many flags" % (self.schema.name, count))
        if not 0 <= tq <= 3:
            raise EncodeError("time quality %s: allowed are 0 to 3" % tq)
        acc = tq << 2
        if flags is not None:
            for flag in flags:
                if flag != 1:
                    acc |= 1
                    break
            else:
                flags = None
        bits = 4  # number of bits waiting in acc, under 8 between series
        centres = self._centres
        orders = self._orders
        for i in range(count):
            value = values[i]
            if flags is not None:
                flag = flags[i]
                if flag == 1:
                    acc <<= 1
                    bits += 1
                else:
                    acc = acc << 3 | _flag_code(flag)
                    bits += 3
                if flag == 9:
                    if value is not None:
                        raise EncodeError("series %d is flagged missing (9) but has value %s" % (i, value))
                    while bits >= 8:
                        bits -= 8
                        buf[offset] = acc >> bits
                        offset += 1
                        acc &= (1 << bits) - 1
                    continue
            if value is None:
                raise EncodeError("series %d has no value: flag it missing (9)" % i)
            if not -MAX_VALUE <= value <= MAX_VALUE:
                raise EncodeError("series %d: %d is beyond +-%d" % (i, value, MAX_VALUE))
            distance = value - centres[i]
            order = orders[i]
            # w = zigzag + 2**order, in `width` bits after width - order - 1 zeros
            w = (1 << order) + (distance << 1 if distance >= 0 else -1 - (distance << 1))
            width = order + 1
            limit = 2 << order
            zeros = 0
            while w >= limit:
                limit <<= 1
                zeros += 1
            width += zeros
            if width + zeros < 20:
                acc = acc << (width + zeros) | w
                bits += width + zeros
            else:
                # Rare: in steps, so that acc stays small.
                acc <<= zeros >> 1
                bits += zeros >> 1
                zeros -= zeros >> 1
                while bits >= 8:
                    bits -= 8
                    buf[offset] = acc >> bits
                    offset += 1
                    acc &= (1 << bits) - 1
                acc <<= zeros
                bits += zeros
                while width:
                    while bits >= 8:
                        bits -= 8
                        buf[offset] = acc >> bits
                        offset += 1
                        acc &= (1 << bits) - 1
                    step = 8 if width > 8 else width
                    width -= step
                    acc = acc << step | (w >> width) & 0xFF
                    bits += step
                    w &= (1 << width) - 1
            while bits >= 8:
                bits -= 8
                buf[offset] = acc >> bits
                offset += 1
                acc &= (1 << bits) - 1
        if bits:
            buf[offset] = acc << (8 - bits)
            offset += 1
        return offset


def _flag_code(flag: int) -> int:
    if flag == 2:
        return 4
    if flag == 3:
        return 5
    if flag == 4:
        return 6
    if flag == 9:
        return 7
    raise EncodeError("quality flag %s: allowed are 1, 2, 3, 4, 9" % flag)


def encode(of_schema: "Schema", tq: int, times: "Sequence[int]", rows: "Sequence[Sequence[int | None]]",
           flags: "Sequence[Sequence[int]] | None" = None) -> bytes:
    """The body for these sets. times[0] travels in the message beside the body, not in it."""
    if len(rows) != len(times) or (flags is not None and len(flags) != len(rows)):
        raise EncodeError("%d times, %d rows: every set has one of each, and one row of flags" % (len(times), len(rows)))
    if len(rows) != 1:
        from . import batch

        return batch.encode(of_schema, tq, times, rows, flags)
    encoder = SetEncoder(of_schema)
    buf = bytearray(encoder.max_size())
    end = encoder.encode_into(buf, 0, rows[0], None if flags is None else flags[0], tq)
    return bytes(buf[:end])


def decode(of_schema: "Schema", time_s: int, body: bytes) -> "Sets":
    """The sets in a body; ``time_s`` is the time of the first one. Raises DecodeError, and only that, on bad bytes."""
    pos = len(body) << 3
    x = int.from_bytes(body, "big")
    if pos < of_schema.min_bits or x >> (pos - 4) & 3:
        return _decode_slow(of_schema, time_s, body)
    tq = x >> (pos - 2)
    pos -= 4
    x -= tq << pos + 2
    row = []
    append = row.append
    bit_length = _bit_length
    try:
        for order1, even, odd in of_schema.codes:
            # the leading 1 stands at bit `top` of what is left, so pos - top zeros go before it and
            # order + 1 + zeros bits hold w
            rest = bit_length(x) * 2 - pos - order1
            w = x >> rest
            x -= w << rest
            pos = rest
            append(odd - (w >> 1) if w & 1 else even + (w >> 1))
    except ValueError:
        raise DecodeError("a set of %s ends after %d values" % (of_schema.name, len(row))) from None
    if pos > 7 or x:
        raise DecodeError("%d bits too many after a set of %s" % (pos, of_schema.name))
    if max(row) > MAX_VALUE or min(row) < -MAX_VALUE:
        raise DecodeError("a value in %s is beyond +-%d" % (row, MAX_VALUE))
    return Sets(tq, (time_s,), (tuple(row),), None)


def _decode_slow(of_schema: "Schema", time_s: int, body: bytes) -> "Sets":
    """Everything but a single set that is all GOOD."""
    if not body:
        raise DecodeError("an empty readings body: it has at least 1 byte")
    if body[0] & 0x20:
        from . import batch

        return batch.decode(of_schema, time_s, body)
    if not body[0] & 0x10:
        raise DecodeError("%d bytes are too few for a set of %s" % (len(body), of_schema.name))
    row: "list[int | None]" = []
    flags = []
    pos = (len(body) << 3) - 4
    x = int.from_bytes(body, "big") & (1 << pos) - 1
    try:
        for order1, even, odd in of_schema.codes:
            if x >> (pos - 1):
                flag = _FLAG_OF_BITS[x >> (pos - 3) & 3]
                pos -= 3
            else:
                flag = GOOD
                pos -= 1
            x &= (1 << pos) - 1
            flags.append(flag)
            if flag == MISSING:
                row.append(None)
                continue
            rest = _bit_length(x) * 2 - pos - order1
            w = x >> rest
            x -= w << rest
            pos = rest
            value = odd - (w >> 1) if w & 1 else even + (w >> 1)
            if not -MAX_VALUE <= value <= MAX_VALUE:
                raise DecodeError("value %d is beyond +-%d" % (value, MAX_VALUE))
            row.append(value)
    except ValueError:
        raise DecodeError("a flagged set of %s ends after %d values" % (of_schema.name, len(row))) from None
    if pos > 7 or x:
        raise DecodeError("%d bits too many after a flagged set of %s" % (pos, of_schema.name))
    if all(flag == GOOD for flag in flags):
        raise DecodeError("a flagged set without a flag: all GOOD has a shorter form")
    return Sets(body[0] >> 6, (time_s,), (tuple(row),), (tuple(flags),))
