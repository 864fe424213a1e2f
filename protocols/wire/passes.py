"""Come to a pass: command 41 of OTA.md section 6.2, which tells a node when it should do nothing but receive.

    41 | answers u40 | begins_in u24, in 0.1 s | lasts u16, in s | for a broadcast: Hz u32 | spreading factor u8 | key

Numbers are little-endian, as in all commands of a transfer.
"""

from collections import namedtuple

from protocols.wire.errors import DecodeError, EncodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Pass(NamedTuple):
        """``answers``: PIV of the uplink from whose end ``begins_in`` (0.1 s) counts. ``freq_hz`` 0: for this node
        alone, on its own link; ``sf`` 0 and ``secret`` empty then.
        """

        answers: int
        begins_in: int
        lasts_s: int
        freq_hz: int
        sf: int
        secret: bytes

else:
    Pass = namedtuple("Pass", ("answers", "begins_in", "lasts_s", "freq_hz", "sf", "secret"))

WHO, COME = 0x00, 0x41
# TS004: its package, fragmented transport, and the version of it.
I_AM = b"\x00\x03\x01"
# Answers to COME.
COMES, NO_RADIO, NOT_NOW, NO_SESSION, TOO_LONG = 0, 1, 2, 3, 4
# A node receives so long without being one, at most: then it looks at the world again.
LASTS_MAX_S = 300
# What begins later is no appointment, but a word when to ask again: clocks that sleep are up to 5 % off.
APPOINTMENT_S = 600
# How much of a time a sleeping clock may be off, one in so many, and the seconds for a start on top.
DRIFT_OF = 20
START_S = 1
_ALONE = 11
_SECRET = 16


def encode(one: "Pass") -> bytes:
    """The command; EncodeError when a number does not fit."""
    if not (0 <= one.answers < 1 << 40 and 0 <= one.begins_in < 1 << 24 and 0 < one.lasts_s < 1 << 16):
        raise EncodeError("a pass in %d tenths for %d s: out of range" % (one.begins_in, one.lasts_s))
    head = bytes((COME,)) + one.answers.to_bytes(5, "little") + one.begins_in.to_bytes(3, "little")
    head += one.lasts_s.to_bytes(2, "little")
    if not one.freq_hz:
        return head
    if len(one.secret) != _SECRET or not 5 <= one.sf <= 12:
        raise EncodeError("a broadcast at SF%d under %d bytes of key" % (one.sf, len(one.secret)))
    return head + one.freq_hz.to_bytes(4, "little") + bytes((one.sf,)) + one.secret


def decode(command: bytes) -> "Pass":
    """DecodeError for what is none."""
    if len(command) not in (_ALONE, _ALONE + 5 + _SECRET) or command[0] != COME:
        raise DecodeError("a pass of %d bytes: it has 11 or 32, and begins with 41" % len(command))
    freq_hz, sf, secret = int.from_bytes(command[11:15], "little"), 0, b""
    if len(command) > _ALONE:
        sf, secret = command[15], command[16:]
        if not freq_hz or not 5 <= sf <= 12:
            raise DecodeError("a broadcast at SF%d on %d Hz" % (sf, freq_hz))
    lasts_s = int.from_bytes(command[9:11], "little")
    if not lasts_s:
        raise DecodeError("a pass that lasts no time")
    begins_in = int.from_bytes(command[6:9], "little")
    return Pass(int.from_bytes(command[1:6], "little"), begins_in, lasts_s, freq_hz, sf, secret)
