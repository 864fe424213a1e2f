"""The body of a readings message: one set of scaled integers here, or several of them (batch.py).

A single set is one big-endian number: time quality (2 bits), batch (1 bit, 0 here), flagged (1 bit), then per
series, when flagged, a quality flag (``0`` good, ``100`` not evaluated, ``101`` suspect, ``110`` fail, ``111`` missing:
no value follows), and the value's zigzag distance from the centre of its measurand in an exp-Golomb code of that
measurand's order. SPEC-readings.md has every bit. A body says exactly one thing, and nothing has two bodies.

Prior art: exp-Golomb as in H.264. Centre and order are registry data rather than sent: a set has too few
values to pay for telling them.
"""

from protocols.wire.errors import DecodeError, EncodeError
from protocols.wire.limits import MAX_VALUE
from protocols.wire.schemas import (
    FAIL,
    FLAGS,
    GNSS,
    GOOD,
    MISSING,
    RTC_HOLDOVER,
    SUSPECT,
    SYNCHRONISED,
    UNKNOWN,
    UNSYNCHRONISED,
    Schema,
    Series,
    Sets,
    UnknownSchema,
    schema,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "FAIL",
    "FLAGS",
    "GNSS",
    "GOOD",
    "MISSING",
    "RTC_HOLDOVER",
    "SUSPECT",
    "SYNCHRONISED",
    "UNKNOWN",
    "UNSYNCHRONISED",
    "Schema",
    "Series",
    "SetEncoder",
    "Sets",
    "UnknownSchema",
    "decode",
    "encode",
    "schema",
)

_BATCH = 2
_FLAGGED = 1


def _bit_length_slow(number: int) -> int:
    bits = 0
    while number > 0xFFFF:
        number >>= 16
        bits += 16
    while number:
        number >>= 1
        bits += 1
    return bits


_bit_length = getattr(int, "bit_length", _bit_length_slow)  # MicroPython has none


class SetEncoder:
    """Encodes single sets of one schema into the caller's buffer, without touching the heap.

    Every integer on the way stays below 2**30: larger ones are heap objects on a 32-bit MicroPython.
    """

    def __init__(self, of_schema: "Schema") -> None:
        self.schema = of_schema
        self._count = len(of_schema.series)
        self._centres = tuple([s.centre for s in of_schema.series])
        self._orders = tuple([s.order for s in of_schema.series])
        # Bytes that the worst set can take: per series 3 bits of flag and a distance of at most 31 bits.
        self.max_size = (4 + sum([3 + 61 - order for order in self._orders]) + 7) // 8

    def encode_into(
        self,
        buf: bytearray,
        offset: int,
        values: "Sequence[int | None]",
        flags: "Sequence[int] | None",
        tq: int,
    ) -> int:
        """Write one body at ``offset``, where max_size bytes must be free; the offset after it.

        ``flags`` None means all GOOD. After an EncodeError the bytes from ``offset`` on are undefined.
        """
        self._check(values, flags, tq)
        if flags is not None and not _any_flag(flags):
            flags = None
        acc = tq << 2 if flags is None else tq << 2 | _FLAGGED
        bits = 4  # how many bits wait in acc
        centres = self._centres
        orders = self._orders
        for i in range(self._count):
            while bits >= 8:
                bits -= 8
                buf[offset] = acc >> bits
                offset += 1
                acc &= (1 << bits) - 1
            value = values[i]
            if flags is not None:
                flag = flags[i]
                if flag == GOOD:
                    acc <<= 1
                    bits += 1
                else:
                    acc = acc << 3 | (7 if flag == MISSING else flag + 2)
                    bits += 3
            if value is None:
                continue
            order = orders[i]
            w = value - centres[i] << 1
            w = (1 << order) + (w if w >= 0 else -1 - w)
            width = order + 1
            limit = 2 << order
            while w >= limit:  # two bits for every doubling: a zero in front and a digit of w
                limit <<= 1
                width += 2
            while width > 20:  # far from the centre: the top of it byte by byte, so that acc stays small
                width -= 8
                acc = acc << 8 | w >> width
                w &= (1 << width) - 1
                buf[offset] = acc >> bits
                offset += 1
                acc &= (1 << bits) - 1
            acc = acc << width | w
            bits += width
        while bits > 0:
            bits -= 8
            if bits < 0:
                acc <<= -bits
                bits = 0
            buf[offset] = acc >> bits
            offset += 1
            acc &= (1 << bits) - 1
        return offset

    def _check(self, values: "Sequence[int | None]", flags: "Sequence[int] | None", tq: int) -> None:
        if len(values) != self._count or (flags is not None and len(flags) != self._count):
            raise EncodeError("schema %s takes %d values and as many flags" % (self.schema.name, self._count))
        if not 0 <= tq <= 3:
            raise EncodeError("time quality %s: allowed are 0 to 3" % tq)
        if flags is not None:
            self._check_flags(values, flags)
        most = MAX_VALUE
        for value in values:
            if value is None:
                if flags is None:
                    raise EncodeError(
                        "a value of %s is missing and nothing says so: flag it 9" % self.schema.name
                    )
            elif value > most or value < -most:
                raise EncodeError("value %d of %s is beyond +-%d" % (value, self.schema.name, most))

    def _check_flags(self, values: "Sequence[int | None]", flags: "Sequence[int]") -> None:
        for i in range(self._count):
            flag = flags[i]
            if flag not in FLAGS:
                raise EncodeError("series %d: quality flag %s: allowed are 1, 2, 3, 4, 9" % (i, flag))
            if (values[i] is None) != (flag == MISSING):
                raise EncodeError(
                    "series %d: value %s with flag %d: flag missing (9) goes with no value, and only with that"
                    % (i, values[i], flag)
                )


def _any_flag(flags: "Sequence[int]") -> bool:
    for flag in flags:  # any() over a generator would allocate
        if flag != GOOD:
            return True
    return False


_encoders: "dict[int, SetEncoder]" = {}


def encode(
    of_schema: "Schema",
    tq: int,
    times: "Sequence[int]",
    rows: "Sequence[Sequence[int | None]]",
    flags: "Sequence[Sequence[int]] | None" = None,
) -> bytes:
    """The body for these sets. times[0] travels in the message beside the body, not in it."""
    if len(rows) != len(times) or (flags is not None and len(flags) != len(rows)):
        raise EncodeError(
            "%d times, %d rows: every set has one time, one row of values and, if any, of flags"
            % (len(times), len(rows))
        )
    if len(rows) != 1:
        from protocols.wire import batch  # here, so that a node can forget it until the next report

        return batch.encode(of_schema, tq, times, rows, flags)
    encoder = _encoders.get(of_schema.id)
    if encoder is None:
        encoder = _encoders[of_schema.id] = SetEncoder(of_schema)
    buf = bytearray(encoder.max_size)
    end = encoder.encode_into(buf, 0, rows[0], None if flags is None else flags[0], tq)
    return bytes(buf[:end])


def _codes(of_schema: "Schema") -> "Sequence[tuple[int, int, int]]":
    """For w = zigzag + 2**order as it stands in the code: order + 1, then what to add to w >> 1 when w is even, and
    what to take w >> 1 from when w is odd.
    """
    of_schema.codes[:] = [
        (s.order + 1, s.centre - (1 << s.order >> 1), s.centre - 1 + (1 << s.order >> 1))
        for s in of_schema.series
    ]
    return of_schema.codes


def decode(of_schema: "Schema", time_s: int, body: bytes) -> "Sets":
    """The sets in a body; ``time_s`` is the time of the first. Raises DecodeError, and only that, on bad bytes."""
    x = int.from_bytes(body, "big")
    pos = len(body) << 3
    if pos < of_schema.min_bits or x >> (pos - 4) & (_BATCH | _FLAGGED):
        return _decode_other(of_schema, time_s, body)
    pos -= 2
    tq = x >> pos
    x -= tq << pos
    pos -= 2
    row: list[int] = []
    append = row.append
    bit_length = _bit_length
    try:
        for order1, even, odd in of_schema.codes or _codes(of_schema):
            # pos - bit_length zeros go before w, and order1 + as many bits hold it
            rest = bit_length(x) * 2 - pos - order1
            w = x >> rest
            x -= w << rest
            pos = rest
            append(odd - (w >> 1) if w & 1 else even + (w >> 1))
    except ValueError:  # a negative shift: the code goes on after the last bit
        raise DecodeError("a set of %s ends after %d values" % (of_schema.name, len(row))) from None
    if pos > 7 or x:
        raise DecodeError("%d bits too many after a set of %s" % (pos, of_schema.name))
    if max(row) > MAX_VALUE or min(row) < -MAX_VALUE:
        raise DecodeError("a value of %s in %s is beyond +-%d" % (of_schema.name, row, MAX_VALUE))
    return Sets(tq, (time_s,), (tuple(row),), None)


def _decode_other(of_schema: "Schema", time_s: int, body: bytes) -> "Sets":
    """Everything but a single set that is all GOOD."""
    kind = body[0] >> 4 & (_BATCH | _FLAGGED) if body else 0
    if kind & _BATCH:
        from protocols.wire import batch

        return batch.decode(of_schema, time_s, body)
    if not kind:
        raise DecodeError("%d bytes are too few for a set of %s" % (len(body), of_schema.name))
    row: "list[int | None]" = []
    flags = []
    pos = (len(body) << 3) - 4
    x = int.from_bytes(body, "big") & (1 << pos) - 1
    try:
        for order1, even, odd in of_schema.codes or _codes(of_schema):
            if x >> (pos - 1):
                flag = FLAGS[1 + (x >> (pos - 3) & 3)]
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
    if not _any_flag(flags):
        raise DecodeError("a flagged set without a flag: all GOOD has a shorter form")
    return Sets(body[0] >> 6, (time_s,), (tuple(row),), (tuple(flags),))
