"""A range coder over 15-bit cumulative frequencies, in integers below 2**30 throughout.

Coder and decoder keep a 24-bit window on one long binary fraction: ``range`` in [2**16, 2**24], renormalised by whole
bytes. A symbol owns [low, high) of 2**15; its share of the range is cut at ``(range >> 10) * low >> 5``, and the symbol
that ends at 2**15 gets all that is left, so every code point means something. A carry runs back through the
bytes already written, which costs nothing because they are still in memory.

The result is the shortest string of bytes inside the final interval, and of the shortest the smallest; bytes missing at
the end count as zero. The decoder recomputes that choice, so that no two strings decode to the same symbols.

Prior art: G. N. N. Martin 1979; the carry and the 2**16 floor as in LZMA, the leftover to the last symbol as in
Subbotin's coder.
"""

from protocols.wire.errors import DecodeError

TOTAL_BITS = 15
TOTAL = 1 << TOTAL_BITS

# 2**31 and more cannot be a distance between two readings.
_MAX_ZEROS = 31


class RangeEncoder:
    """Appends to ``out`` after what it holds already, which a carry never reaches."""

    def __init__(self, out: bytearray) -> None:
        self._out = out
        self._low = 0
        self._range = 1 << 24

    def encode(self, low: int, high: int) -> None:
        """One symbol with the share [low, high) of 2**15."""
        unit = self._range >> 10
        start = unit * low >> 5
        size = (self._range if high == 32768 else unit * high >> 5) - start
        at = self._low + start
        if at >= 0x1000000:
            at -= 0x1000000
            self._carry()
        while size < 0x10000:
            self._out.append(at >> 16)
            at = (at & 0xFFFF) << 8
            size <<= 8
        self._low = at
        self._range = size

    def encode_bits(self, number: int, count: int) -> None:
        """The low ``count`` bits of number, the highest first, as equally likely."""
        while count > 8:
            count -= 8
            share = number >> count & 0xFF
            self.encode(share << 7, share + 1 << 7)
        share = number & (1 << count) - 1
        self.encode(share << 15 - count, share + 1 << 15 - count)

    def encode_exp_golomb(self, number: int, order: int) -> None:
        """number >= 0: w = number + 2**order in binary, after as many zeros as it is longer than order + 1 bits."""
        w = number + (1 << order)
        zeros = 0
        while w >> order + 1 + zeros:
            self.encode_bits(0, 1)
            zeros += 1
        self.encode_bits(1, 1)
        if order + zeros:
            self.encode_bits(w - (1 << order + zeros), order + zeros)

    def finish(self) -> None:
        low = self._low
        if low == 0:
            pass
        elif low + self._range > 0x1000000:
            self._carry()
        else:
            self._out.append(low + 0xFFFF >> 16)
        out = self._out
        end = len(out)
        while end and not out[end - 1]:
            end -= 1
        out[end:] = b""

    def _carry(self) -> None:
        out = self._out
        at = len(out) - 1
        while out[at] == 255:
            out[at] = 0
            at -= 1
        out[at] += 1


class RangeDecoder:
    """Reads ``data`` from ``start``; never reads more than it was asked for, whatever the bytes are."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._end = len(data)
        self._at = start
        self._range = 1 << 24
        code = 0
        for _ in range(3):
            code = code << 8 | self._next()
        self._code = code  # where the fraction stands inside the current range

    def _next(self) -> int:
        at = self._at
        self._at = at + 1
        return self._data[at] if at < self._end else 0

    def target(self) -> int:
        """The point of 2**15 at which the next symbol must lie: low <= target < high."""
        point = ((self._code + 1 << 5) - 1) // (self._range >> 10)
        return point if point < 32768 else 32767

    def consume(self, low: int, high: int) -> None:
        """Step over the symbol that owns [low, high), which must hold target()."""
        unit = self._range >> 10
        start = unit * low >> 5
        size = (self._range if high == 32768 else unit * high >> 5) - start
        code = self._code - start
        while size < 0x10000:
            code = code << 8 | self._next()
            size <<= 8
        self._code = code
        self._range = size

    def decode_bits(self, count: int) -> int:
        number = 0
        while count > 8:
            count -= 8
            share = self.target() >> 7
            self.consume(share << 7, share + 1 << 7)
            number = number << 8 | share
        share = self.target() >> 15 - count
        self.consume(share << 15 - count, share + 1 << 15 - count)
        return number << count | share

    def decode_exp_golomb(self, order: int) -> int:
        zeros = 0
        while not self.decode_bits(1):
            zeros += 1
            if zeros > _MAX_ZEROS:
                raise DecodeError(
                    "an exp-Golomb code of more than %d zeros: no reading is that far off" % _MAX_ZEROS
                )
        width = order + zeros
        rest = self.decode_bits(width) if width else 0
        return rest + (1 << width) - (1 << order)

    def finish(self) -> None:
        """Refuse anything but the one string that the encoder ends with."""
        data = self._data
        if self._at < self._end:
            raise DecodeError("%d bytes too many after the last reading" % (self._end - self._at))
        if not data[self._end - 1]:
            raise DecodeError("a batch ends in a zero byte: zeros at the end are implied, not sent")
        tail = 0
        for at in range(self._at - 3, self._at):
            tail = tail << 8 | (data[at] if at < self._end else 0)
        low = tail - self._code & 0xFFFFFF
        if low == 0:
            ends_at = 0
        elif low + self._range > 0x1000000:
            ends_at = 0x1000000
        else:
            ends_at = low + 0xFFFF & 0xFF0000
        if low + self._code != ends_at:
            raise DecodeError(
                "a batch does not end in the shortest way, as the one encoding of its readings does"
            )
