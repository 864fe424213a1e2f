"""Picks the answer of the request under way out of whatever arrives: pure, and never fooled by length or order.

The client library is handed one frame, and only if it is intact and can be the answer: unit id, function, byte
count, CRC (or transaction number), and for a write what it repeats. Noise before it, the echo of a transceiver, the
late answer of another device and half a frame of an earlier one are passed over, and remembered for the counters.
"""

from __future__ import annotations

from gateway.pollers import modbus_identity
from gateway.pollers.modbus_time import answer_size
from gateway.pollers.modbus_types import IDENTIFY, OTHER_LENGTH, READS, Request

EXCEPTION_PDU = 2
RTU_FRAME_MIN = 4


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS; it travels low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
        table.append(byte)
    return tuple(table)


CRC_TABLE = _crc_table()


def is_intact(frame: bytes) -> bool:
    """Whether the CRC of an RTU frame is right."""
    return len(frame) >= RTU_FRAME_MIN and crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")


def pdu_fits(pdu: bytes, request: Request, request_pdu: bytes) -> bool:
    """Whether `pdu` can be the answer of `request`; `request_pdu` is what was sent."""
    if not pdu:
        return False
    if pdu[0] == request.function | 0x80:
        return len(pdu) == EXCEPTION_PDU
    if request.function == IDENTIFY:
        return modbus_identity.size(pdu) == len(pdu)
    size = answer_size(request) - 3  # without unit id and CRC
    if pdu[0] != request.function or len(pdu) != size:
        return False
    if request.function in READS:
        return pdu[1] == size - 2
    return pdu == request_pdu[:size]  # address, and value, quantity or masks


class Gate:
    """One line's ear. `sent` begins a request, `answer` is asked with all bytes since."""

    def __init__(self, *, is_numbered: bool) -> None:
        self.is_echoing = False
        self.note = ""  # what was heard instead of an answer
        self.pdu = b""  # of the answer that was let through
        self._is_numbered = is_numbered
        self._request = Request(0, 0, 0, 0)
        self._sent = b""

    def expect(self, request: Request) -> None:
        """The next frame that goes out asks this."""
        self._request = request
        self._sent = b""
        self.note = ""
        self.pdu = b""

    def sent(self, frame: bytes) -> None:
        """The request's own bytes."""
        self._sent = frame

    def answer(self, heard: bytes) -> bytes:
        """The answer's whole frame, b"" while there is none in what was heard since the request."""
        if not self._sent or not heard:
            return b""
        found = self._find_numbered(heard) if self._is_numbered else self._find_rtu(self._without_echo(heard))
        if found:
            self.pdu = found[7:] if self._is_numbered else found[1:-2]
        else:
            self.note = self._what_else(heard)
        return found

    # --- RTU -------------------------------------------------------------------------------------

    def _without_echo(self, heard: bytes) -> bytes:
        """What was heard, less the own request that some transceivers hand back.

        The answer of a single write looks the same. So the echo is recognised at a read, whose answer never does.
        """
        if not heard.startswith(self._sent):
            return heard
        if self._request.function in READS:
            self.is_echoing = True
        return heard[len(self._sent) :] if self.is_echoing else heard

    def _find_rtu(self, heard: bytes) -> bytes:
        request, pdu = self._request, self._sent[1:-2]
        good, refusal = answer_size(request), EXCEPTION_PDU + 3
        for begin in range(len(heard) - RTU_FRAME_MIN):
            if heard[begin] != request.unit:
                continue
            if request.function == IDENTIFY:
                good = modbus_identity.size(heard[begin + 1 :]) + 3
            for size in (good, refusal):
                frame = heard[begin : begin + size]
                if len(frame) == size and pdu_fits(frame[1:-2], request, pdu) and is_intact(frame):
                    return frame
        return b""

    # --- TCP -------------------------------------------------------------------------------------

    def _find_numbered(self, heard: bytes) -> bytes:
        """By its transaction number; half a frame of an earlier answer may lie before it."""
        head, pdu = self._sent[:4], self._sent[7:]  # number, and protocol 0
        begin = heard.find(head)
        while begin >= 0:
            size = int.from_bytes(heard[begin + 4 : begin + 6], "big") + 6
            frame = heard[begin : begin + size]
            if (
                len(frame) == size > 7
                and frame[6] == self._request.unit
                and pdu_fits(frame[7:], self._request, pdu)
            ):
                return frame
            begin = heard.find(head, begin + 1)
        return b""

    # --- what else -------------------------------------------------------------------------------

    def _what_else(self, heard: bytes) -> str:
        """A word for the counters on bytes that hold no answer."""
        if self._is_numbered:
            if len(heard) < 7 or heard[:4] != self._sent[:4]:
                return "unnumbered" if heard[:2] != self._sent[:2] else "short"
            if heard[6] != self._request.unit:
                return "wrong_unit"
            is_whole = len(heard) == int.from_bytes(heard[4:6], "big") + 6
            return OTHER_LENGTH if is_whole and self._is_other_length(heard[7:]) else "short"
        heard = self._without_echo(heard)
        if not heard:
            return ""
        if heard[0] != self._request.unit:
            return "wrong_unit" if is_intact(heard) else "noise"
        if len(heard) < min(answer_size(self._request), EXCEPTION_PDU + 3):
            return "short"
        if not is_intact(heard):
            return "crc"
        return OTHER_LENGTH if self._is_other_length(heard[1:-2]) else "other_answer"

    def _is_other_length(self, pdu: bytes) -> bool:
        """Whether this is a whole answer to a read of this kind, with more or less in it than was asked for."""
        is_read = self._request.function in READS and pdu[:1] == bytes([self._request.function])
        return is_read and len(pdu) >= 2 and len(pdu) == 2 + pdu[1]
