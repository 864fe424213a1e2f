"""A batch: several sets in one body, near the entropy of the river. SPEC-readings.md has every bit.

Every series is predicted by four small linear predictors of its last differences: hold with a touch of trend, go
on exactly, go on damped, swing back. Each knows how far off it has been lately and so offers a bell around its
guess (a rational approximation of the logistic distribution); the four bells are mixed by Bayes' rule with a fixed
share, and a range coder codes the next value under the mixture. Nothing is trained and no parameter is sent:
after five or six values the mixture has learned which predictor this series obeys today.

Why so: rivers differ from each other, and from themselves after rain, more than a table of probabilities can know.
On the same records, in bits per reading: Rice codes 3.2-3.9; binary contexts trained on the other river 3.0-3.4,
and mixed logistically 2.9-3.2; this 2.8-3.1, with a tenth of their tables.

Prior art: fixed-share mixing of experts (Herbster and Warmuth 1998); prediction by differences as in FLAC and TTA.
"""

from array import array

from protocols.wire.errors import DecodeError, EncodeError
from protocols.wire.limits import MAX_SETS, MAX_TIME, MAX_TIME_STEP_S, MAX_VALUE
from protocols.wire.rangecoder import RangeDecoder, RangeEncoder
from protocols.wire.schemas import FLAGS, GOOD, MISSING, Sets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocols.wire.schemas import Schema

# Seconds between sets that a batch can state in its first byte; 0 there means that times follow one by one.
INTERVALS_S = (0, 60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600, 7200, 14400, 21600)

# A predictor is three weights, in 16ths, of the last three differences, newest first.
PREDICTORS = ((0, 2, 2), (16, 0, 0), (5, 5, 3), (-8, -3, -2))
# Differences enter predictions clamped to this, which keeps everything below 2**30.
_DIFFERENCE_MAX = 8191
# Symbols -31 .. 31 around the guess of the best predictor; what lies beyond is an escape.
_REACH = 31
# Of 2**15, 64 are handed out one by one so that no symbol is impossible; the bells share the rest.
_BELL_TOTAL = (1 << 15) - 2 * _REACH - 2
_BELL_STEPS = 512
# Spread of a predictor = 4 * its smoothed error in 16ths: at the start, and the least it counts for.
_SPREAD_START = 48
_SPREAD_LEAST = 13
# Above this spread the lowest bits of a difference are noise: sent as they are, outside the model.
_SPREAD_FINE = 512
_ESCAPE_ORDER = 3
_TIME_ORDER = 10
_JITTER_ORDER = 4
# Of 2**15: a flag like the one before, a time step like the one before.
_FLAG_SAME = 31744
_STEP_SAME = 30720

_bell_table: "array[int] | None" = None


def _bells() -> "array[int]":
    """Upper tails 1 / (2 + z + z^2/2 + z^3/6) of _BELL_TOTAL for z = i / 16; 1 kB, made for the first batch."""
    global _bell_table
    if _bell_table is None:
        numerator = _BELL_TOTAL * 24576
        # Filled in place: a list on the way would want 4 kB in one piece, which a node that has run for long lacks.
        table = array("H", bytes(2 * _BELL_STEPS))
        for i in range(_BELL_STEPS):
            table[i] = numerator // (49152 + i * (1536 + i * (48 + i)))
        _bell_table = table
    return _bell_table


class _Column:
    """What coder and decoder know of one series: they update it alike after every value."""

    def __init__(self, centre: int, order: int) -> None:
        self.centre = centre
        self.order = order
        self.flag = GOOD
        self.started = False
        self.last = 0
        self._d1 = self._d2 = self._d3 = 0
        self._weights = [1024] * 4
        self._spreads = [_SPREAD_START] * 4
        self._guesses = [0] * 4
        self._below = [0] * 4
        self._below_next = [0] * 4
        self._tail = _bells()
        self.base = 0
        self.shift = 0

    def start(self, value: int) -> None:
        self.started = True
        self.last = value

    def predict(self) -> None:
        """Set ``base``, the difference that symbol 0 stands for, and ``shift``, the bits below a symbol."""
        d1 = self._d1
        d2 = self._d2
        d3 = self._d3
        weights = self._weights
        spreads = self._spreads
        guesses = self._guesses
        best = 0
        least = spreads[0]
        for i in range(4):
            a, b, c = PREDICTORS[i]
            guesses[i] = a * d1 + b * d2 + c * d3
            if weights[i] > weights[best]:
                best = i
            if spreads[i] < least:
                least = spreads[i]
        self.base = guesses[best] + 8 >> 4
        shift = 0
        while least >> shift > _SPREAD_FINE:
            shift += 1
        self.shift = shift

    def cumulative(self, symbol: int) -> int:
        """How much of 2**15 lies below ``symbol``, for -31 <= symbol <= 32."""
        edge = ((symbol << self.shift) + self.base << 4) - 8
        below = self._below_next
        self._below_next = self._below
        self._below = below
        weights = self._weights
        spreads = self._spreads
        guesses = self._guesses
        tail = self._tail
        total = 0
        for i in range(4):
            off = edge - guesses[i]
            spread = spreads[i] + _SPREAD_LEAST
            if off < 0:
                share = tail[(-off << 7) // spread] if -off < spread << 2 else tail[511]
            else:
                share = _BELL_TOTAL - (tail[(off << 7) // spread] if off < spread << 2 else tail[511])
            below[i] = share
            total += weights[i] * share
        return (total >> 12) + symbol + _REACH + 1

    def reweigh(self) -> None:
        """Bayes' rule for the symbol whose two edges were the last two asked of cumulative()."""
        weights = self._weights
        one = self._below
        other = self._below_next
        total = 0
        for i in range(4):
            weights[i] *= abs(one[i] - other[i]) + 1
            total += weights[i]
        total = (total >> 12) + 1
        for i in range(4):
            weight = weights[i] // total
            weights[i] = weight - (weight >> 6) + 14

    def update(self, value: int) -> None:
        difference = value - self.last
        if difference > _DIFFERENCE_MAX:
            difference = _DIFFERENCE_MAX
        elif difference < -_DIFFERENCE_MAX:
            difference = -_DIFFERENCE_MAX
        spreads = self._spreads
        guesses = self._guesses
        for i in range(4):
            spreads[i] += abs((difference << 4) - guesses[i]) - (spreads[i] >> 2)
        self._d3 = self._d2
        self._d2 = self._d1
        self._d1 = difference
        self.last = value


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else -1 - (number << 1)


def _unzigzag(number: int) -> int:
    return -1 - (number >> 1) if number & 1 else number >> 1


def _encode_value(coder: RangeEncoder, column: _Column, value: int) -> None:
    if not column.started:
        coder.encode_exp_golomb(_zigzag(value - column.centre), column.order)
        column.start(value)
        return
    column.predict()
    off = value - column.last - column.base
    shift = column.shift
    symbol = off >> shift
    if symbol < -_REACH:
        coder.encode(0, column.cumulative(-_REACH))
        coder.encode_exp_golomb(-_REACH - 1 - symbol, _ESCAPE_ORDER)
    elif symbol > _REACH:
        coder.encode(column.cumulative(_REACH + 1), 1 << 15)
        coder.encode_exp_golomb(symbol - _REACH - 1, _ESCAPE_ORDER)
    else:
        low = column.cumulative(symbol)
        coder.encode(low, column.cumulative(symbol + 1))
        column.reweigh()
    if shift:
        coder.encode_bits(off & (1 << shift) - 1, shift)
    column.update(value)


def _decode_value(coder: RangeDecoder, column: _Column) -> int:
    if not column.started:
        value = column.centre + _unzigzag(coder.decode_exp_golomb(column.order))
    else:
        column.predict()
        symbol = _decode_symbol(coder, column)
        shift = column.shift
        off = symbol << shift
        if shift:
            off += coder.decode_bits(shift)
        value = column.last + column.base + off
    if not -MAX_VALUE <= value <= MAX_VALUE:
        raise DecodeError("value %d is beyond +-%d" % (value, MAX_VALUE))
    if column.started:
        column.update(value)
    else:
        column.start(value)
    return value


def _decode_symbol(coder: RangeDecoder, column: _Column) -> int:
    target = coder.target()
    low, high = -_REACH, _REACH + 1
    edge = column.cumulative(low)
    if target < edge:
        coder.consume(0, edge)
        return -_REACH - 1 - coder.decode_exp_golomb(_ESCAPE_ORDER)
    edge = column.cumulative(high)
    if target >= edge:
        coder.consume(edge, 1 << 15)
        return _REACH + 1 + coder.decode_exp_golomb(_ESCAPE_ORDER)
    # cumulative(low) <= target < cumulative(high): halve until they are neighbours, starting in the middle of the bells
    while high - low > 1:
        middle = low + high >> 1
        if target < column.cumulative(middle):
            high = middle
        else:
            low = middle
    edge = column.cumulative(low)
    coder.consume(edge, column.cumulative(high))
    column.reweigh()
    return low


def _encode_flag(coder: RangeEncoder, column: _Column, flag: int) -> None:
    if flag == column.flag:
        coder.encode(0, _FLAG_SAME)
        return
    at = FLAGS.index(flag)
    if at > FLAGS.index(column.flag):
        at -= 1
    coder.encode(_FLAG_SAME + (at << 8), _FLAG_SAME + (at + 1 << 8))
    column.flag = flag


def _decode_flag(coder: RangeDecoder, column: _Column) -> int:
    target = coder.target()
    if target < _FLAG_SAME:
        coder.consume(0, _FLAG_SAME)
        return column.flag
    at = target - _FLAG_SAME >> 8
    coder.consume(_FLAG_SAME + (at << 8), _FLAG_SAME + (at + 1 << 8))
    column.flag = FLAGS[at + 1 if at >= FLAGS.index(column.flag) else at]
    return column.flag


def _columns(schema: "Schema") -> "list[_Column]":
    return [_Column(series.centre, series.order) for series in schema.series]


def _interval_code(times: "Sequence[int]") -> int:
    """The index in INTERVALS_S of the step between all of these times, 0 when there is none."""
    step = times[1] - times[0]
    for i in range(2, len(times)):
        if times[i] - times[i - 1] != step:
            return 0
    return INTERVALS_S.index(step) if step in INTERVALS_S and step else 0


def _check(
    schema: "Schema",
    tq: int,
    times: "Sequence[int]",
    rows: "Sequence[Sequence[int | None]]",
    flags: "Sequence[Sequence[int]] | None",
) -> bool:
    """Refuse what cannot be encoded; whether any reading is not GOOD."""
    if not 2 <= len(rows) <= MAX_SETS:
        raise EncodeError("%d sets: a message holds 1 to %d" % (len(rows), MAX_SETS))
    if not 0 <= tq <= 3:
        raise EncodeError("time quality %s: allowed are 0 to 3" % tq)
    width = len(schema.series)
    flagged = False
    for n in range(len(rows)):
        of_row = None if flags is None else flags[n]
        if len(rows[n]) != width or (of_row is not None and len(of_row) != width):
            raise EncodeError("set %d: schema %s takes %d values and as many flags" % (n, schema.name, width))
        if _check_row(n, rows[n], of_row):
            flagged = True
        if not 0 <= times[n] <= MAX_TIME:
            raise EncodeError("set %d: time %d does not fit 40 bits" % (n, times[n]))
        if n and not -MAX_TIME_STEP_S <= times[n] - times[n - 1] <= MAX_TIME_STEP_S:
            raise EncodeError(
                "%d s from set %d to the next: more than %d goes into two messages"
                % (times[n] - times[n - 1], n - 1, MAX_TIME_STEP_S)
            )
    return flagged


def _check_row(n: int, row: "Sequence[int | None]", flags: "Sequence[int] | None") -> bool:
    """Refuse a row that cannot be encoded; whether any of its readings is not GOOD."""
    flagged = False
    for i in range(len(row)):
        value = row[i]
        flag = GOOD if flags is None else flags[i]
        if flag not in FLAGS:
            raise EncodeError("set %d, series %d: quality flag %s: allowed are 1, 2, 3, 4, 9" % (n, i, flag))
        if (value is None) != (flag == MISSING):
            raise EncodeError(
                "set %d, series %d: value %s with flag %s: flag missing (9) goes with no value, and only with that"
                % (n, i, value, flag)
            )
        if value is not None and not -MAX_VALUE <= value <= MAX_VALUE:
            raise EncodeError("set %d, series %d: %d is beyond +-%d" % (n, i, value, MAX_VALUE))
        if flag != GOOD:
            flagged = True
    return flagged


def encode(
    schema: "Schema",
    tq: int,
    times: "Sequence[int]",
    rows: "Sequence[Sequence[int | None]]",
    flags: "Sequence[Sequence[int]] | None",
) -> bytes:
    """The body for 2 to MAX_SETS sets."""
    flagged = _check(schema, tq, times, rows, flags)
    interval = _interval_code(times)
    out = bytearray((tq << 6 | 0x20 | (0x10 if flagged else 0) | interval, len(rows)))
    coder = RangeEncoder(out)
    columns = _columns(schema)
    step: "int | None" = None
    for n in range(len(rows)):  # no enumerate: on a node it makes a tuple for every reading
        row = rows[n]
        if n and not interval:
            step = _encode_step(coder, step, times[n] - times[n - 1])
        for i in range(len(columns)):
            if flags is not None and flagged:
                _encode_flag(coder, columns[i], flags[n][i])
            value = row[i]
            if value is not None:
                _encode_value(coder, columns[i], value)
    coder.finish()
    return bytes(out)


def _encode_step(coder: RangeEncoder, before: "int | None", step: int) -> int:
    if before is None:
        coder.encode_exp_golomb(_zigzag(step), _TIME_ORDER)
    elif step == before:
        coder.encode(0, _STEP_SAME)
    else:
        coder.encode(_STEP_SAME, 1 << 15)
        coder.encode_exp_golomb(_zigzag(step - before) - 1, _JITTER_ORDER)
    return step


def _decode_step(coder: RangeDecoder, before: "int | None") -> int:
    if before is None:
        step = _unzigzag(coder.decode_exp_golomb(_TIME_ORDER))
    elif coder.target() < _STEP_SAME:
        coder.consume(0, _STEP_SAME)
        step = before
    else:
        coder.consume(_STEP_SAME, 1 << 15)
        step = before + _unzigzag(coder.decode_exp_golomb(_JITTER_ORDER) + 1)
    if not -MAX_TIME_STEP_S <= step <= MAX_TIME_STEP_S:
        raise DecodeError("%d s between two sets: at most %d" % (step, MAX_TIME_STEP_S))
    return step


def decode(schema: "Schema", time_s: int, body: bytes) -> "Sets":
    """The sets of a batch; readings.decode calls this when the batch bit is set."""
    if len(body) < 2 or not 2 <= body[1] <= MAX_SETS:
        raise DecodeError("a batch says how many sets it has in its second byte: 2 to %d" % MAX_SETS)
    flagged = body[0] & 0x10
    any_flag = False
    interval = body[0] & 0x0F
    coder = RangeDecoder(body, 2)
    columns = _columns(schema)
    times = [time_s]
    rows = []
    flags = []
    step: "int | None" = None
    for n in range(body[1]):
        if n:
            step = INTERVALS_S[interval] if interval else _decode_step(coder, step)
            times.append(times[n - 1] + step)
            if not 0 <= times[n] <= MAX_TIME:
                raise DecodeError("set %d: time %d does not fit 40 bits" % (n, times[n]))
        row: "list[int | None]" = []
        for column in columns:
            if flagged and _decode_flag(coder, column) == MISSING:
                row.append(None)
            else:
                row.append(_decode_value(coder, column))
        rows.append(tuple(row))
        if flagged:
            of_row = tuple([column.flag for column in columns])
            flags.append(of_row)
            any_flag = any_flag or of_row.count(GOOD) < len(of_row)
    coder.finish()
    if not interval and _interval_code(times):
        raise DecodeError(
            "times one by one, although all steps are %d s, which has a code" % (times[1] - times[0])
        )
    if flagged and not any_flag:
        raise DecodeError("a flagged batch without a flag: all GOOD has a shorter form")
    return Sets(body[0] >> 6, tuple(times), tuple(rows), tuple(flags) if flagged else None)
