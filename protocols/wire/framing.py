"""Frames on a serial line: COBS between zero bytes, with a CRC-32. SPEC.md section 4.

Prior art: COBS (Cheshire and Baker 1999), as in PPP and in many microcontroller links. Chosen over SLIP
because its overhead is bounded (a byte per 254) whatever the ciphertext looks like.

What is no frame is the node's console if it can be read, and noise otherwise. The second byte of a frame is
its channel, which no text contains, so text is recognised at once, and a traceback shows even when no frame
ever follows.
"""

from binascii import crc32

from protocols.wire.errors import EncodeError
from protocols.wire.limits import MAX_CHANNEL, MAX_FRAME, MAX_LOG_LINE, MAX_LOG_LINES

SEALED = 1  # the channel of sealed frames

_DELIMITER = b"\x00"
_CRC_SIZE = 4
_RUN = 254  # data bytes that one COBS code byte can announce
# channel, payload and CRC, and a code byte per started run
_MAX_RAW = 1 + MAX_FRAME + _CRC_SIZE
_MAX_ENCODED = _MAX_RAW + 1 + _MAX_RAW // _RUN


def encode(payload: bytes, channel: int = SEALED) -> bytes:
    """The bytes for the line, delimiters included."""
    if not 1 <= channel <= MAX_CHANNEL:
        raise EncodeError("channel %d: allowed are 1 to %d" % (channel, MAX_CHANNEL))
    if len(payload) > MAX_FRAME:
        raise EncodeError("payload of %d bytes: at most %d are allowed" % (len(payload), MAX_FRAME))
    raw = bytes((channel,)) + payload
    raw += crc32(raw).to_bytes(_CRC_SIZE, "little")
    out = bytearray(_DELIMITER)
    _put_cobs(out, raw)
    out.append(0)
    return bytes(out)


def _put_cobs(out: bytearray, raw: bytes) -> None:
    start = 0
    end = len(raw)
    while True:
        stop = raw.find(_DELIMITER, start)
        if stop < 0:
            stop = end
        while stop - start >= _RUN:
            out.append(_RUN + 1)
            out.extend(raw[start : start + _RUN])
            start += _RUN
            if start == end:  # a full run at the very end needs no code byte after it
                return
        out.append(stop - start + 1)
        out.extend(raw[start:stop])
        if stop == end:
            return
        start = stop + 1


def _decode_cobs(data: bytes) -> "bytes | None":
    """The bytes that were encoded, or None when a code byte points beyond the end. data has no zero byte."""
    end = len(data)
    code = data[0]
    if code == end:  # one run, so not a single zero: the usual frame
        return data[1:]
    out = bytearray()
    pos = 0
    while True:
        code = data[pos]
        stop = pos + code
        if stop > end:
            return None
        out.extend(data[pos + 1 : stop])
        if stop == end:
            return bytes(out)
        if code <= _RUN:
            out.append(0)
        pos = stop


class Decoder:
    """One direction of one line. Give `feed` whatever was read, in pieces of any size."""

    def __init__(self, keep_log: bool = True) -> None:
        self.frames = 0
        self.crc_errors = 0
        self.oversize = 0
        self.noise_bytes = 0
        self.log_lines_dropped = 0
        self._keep_log = keep_log
        self._log: "list[str]" = []
        self._line = bytearray()
        self._pending = bytearray()
        self._is_text = False  # the bytes since the last delimiter are text, or a frame that is too long
        self._skipping = False

    def feed(self, data: bytes) -> "list[tuple[int, bytes]]":
        """The (channel, payload) of every frame that is complete now, in order."""
        found: "list[tuple[int, bytes]]" = []
        start = 0
        while True:
            stop = data.find(_DELIMITER, start)
            if stop < 0:
                break
            if stop > start or self._pending or self._is_text or self._skipping:
                self._end_segment(data[start:stop], found)
            start = stop + 1
        if start < len(data):
            self._more(data[start:])
        return found

    def take_log(self) -> "list[str]":
        """Console lines since the last call. What the line cannot hold drops the oldest, counted."""
        log = self._log
        self._log = []
        return log

    def _end_segment(self, tail: bytes, found: "list[tuple[int, bytes]]") -> None:
        if self._is_text or self._skipping:
            if self._is_text:
                self._text(tail)
                self._end_line()
            else:
                self.noise_bytes += len(tail)
            self._is_text = self._skipping = False
            return
        segment = bytes(self._pending) + tail if self._pending else tail
        self._pending = bytearray()
        if len(segment) < 2 or not 1 <= segment[1] <= MAX_CHANNEL:
            self._text(segment)
            self._end_line()
        elif len(segment) > _MAX_ENCODED:
            self.oversize += 1
            self.noise_bytes += len(segment)
        else:
            self._frame(segment, found)

    def _frame(self, segment: bytes, found: "list[tuple[int, bytes]]") -> None:
        raw = _decode_cobs(segment)
        if (
            raw is None
            or len(raw) <= _CRC_SIZE
            or crc32(raw[:-_CRC_SIZE]) != int.from_bytes(raw[-4:], "little")
        ):
            self.crc_errors += 1
            self.noise_bytes += len(segment)
        else:
            self.frames += 1
            found.append((raw[0], raw[1:-_CRC_SIZE]))

    def _more(self, tail: bytes) -> None:
        """Bytes whose delimiter has not come yet."""
        if self._is_text:
            self._text(tail)
            return
        if self._skipping:
            self.noise_bytes += len(tail)
            return
        self._pending.extend(tail)
        size = len(self._pending)
        if size > 1 and not 1 <= self._pending[1] <= MAX_CHANNEL:
            self._is_text = True
            self._text(bytes(self._pending))
            self._pending = bytearray()
        elif size > _MAX_ENCODED:
            self._skipping = True
            self.oversize += 1
            self.noise_bytes += size
            self._pending = bytearray()

    # ---- the console log
    # --------------------------------------------------------------------------------------------

    def _text(self, data: bytes) -> None:
        start = 0
        while True:
            stop = data.find(b"\n", start)
            if stop < 0:
                break
            self._extend_line(data[start:stop])
            self._end_line()
            start = stop + 1
        self._extend_line(data[start:])

    def _extend_line(self, data: bytes) -> None:
        start = 0
        while len(data) - start > MAX_LOG_LINE - len(self._line):
            stop = start + MAX_LOG_LINE - len(self._line)
            self._line.extend(data[start:stop])
            self._end_line()
            start = stop
        self._line.extend(data[start:])

    def _end_line(self) -> None:
        if not self._line:
            return
        text = _printable(bytes(self._line))
        if text is None:
            self.noise_bytes += len(self._line)
        elif text and self._keep_log:
            if len(self._log) >= MAX_LOG_LINES:
                self._log.pop(0)
                self.log_lines_dropped += 1
            self._log.append(text)
        self._line = bytearray()


def _printable(line: bytes) -> "str | None":
    """A line as text, or None when it holds control characters (tab, escape and return are none) or is no
    UTF-8.
    """
    for byte in line:
        if (byte < 0x20 and byte not in b"\t\r\x1b") or byte == 0x7F:
            return None
    try:
        return str(line, "utf-8").rstrip()
    except ValueError:
        return None
