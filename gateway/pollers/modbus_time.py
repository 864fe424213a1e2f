"""What an exchange costs on the line, to the character: the one measure for merging, for `check` and for time-outs.

A character is start bit, eight data bits, parity and stop bits. Between two frames lie 3.5 characters of silence,
and a fixed 1.75 ms above 19200 baud (Modbus over serial line V1.02, 2.5.1.1).
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.pollers.modbus_types import (
    BIT_READS,
    IDENTIFY,
    MASK_WRITE,
    READS,
    WRITE_COIL,
    WRITE_COILS,
    WRITE_REGISTER,
    Device,
    Request,
)

GAP_CHARACTERS = 3.5
GAP_FIXED_S = 0.00175
GAP_FIXED_ABOVE_BAUD = 19200
READ_REQUEST = 8  # unit, function, address, count, CRC
EXCEPTION = 5
IDENTIFY_REQUEST = 7
MASK_WRITE_FRAME = 10  # and its answer, which repeats it
LONGEST = 256
# A packet's way through a local network and two kernels; what lies behind a TCP device is not known here.
PACKET_S = 0.0002
BYTE_S = 1e-7


class Line(NamedTuple):
    """How bytes travel. `baud` 0 is a network, where bytes cost next to nothing."""

    baud: int = 0
    parity: str = "N"
    stop_bits: int = 1

    @property
    def character_s(self) -> float:
        bits = 9 + (self.parity != "N") + self.stop_bits
        return bits / self.baud if self.baud else BYTE_S

    @property
    def gap_s(self) -> float:
        if not self.baud:
            return 0.0
        return GAP_FIXED_S if self.baud > GAP_FIXED_ABOVE_BAUD else GAP_CHARACTERS * self.character_s

    def request_s(self, request: Request) -> float:
        """Until the last byte of the request is out."""
        return request_size(request) * self.character_s + (0.0 if self.baud else PACKET_S)

    def answer_s(self, request: Request) -> float:
        """From the first to the last byte of a good answer."""
        return answer_size(request) * self.character_s + (0.0 if self.baud else PACKET_S)

    def exchange_s(self, request: Request, turnaround_s: float) -> float:
        """What a request takes of the line, up to when the next may begin.

        The silence before the answer is how the device knows that the request is over; its turnaround comes on top.
        """
        return self.request_s(request) + self.answer_s(request) + 2 * self.gap_s + turnaround_s

    def timeout_s(self, device: Device, request: Request) -> float:
        """How long to wait for the whole answer, from the first byte of the request."""
        return self.request_s(request) + 2 * self.gap_s + device.timeout_s + self.answer_s(request)


def request_size(request: Request) -> int:
    """Characters of a request frame on a serial line."""
    if request.function in READS or request.function in (WRITE_COIL, WRITE_REGISTER):
        return READ_REQUEST
    if request.function in (IDENTIFY, MASK_WRITE):
        return IDENTIFY_REQUEST if request.function == IDENTIFY else MASK_WRITE_FRAME
    count = len(request.values)
    return 9 + (-(-count // 8) if request.function == WRITE_COILS else 2 * count)


def answer_size(request: Request) -> int:
    """Characters of a good answer on a serial line; of one that may have any length the longest."""
    if request.function in (IDENTIFY, MASK_WRITE):
        return LONGEST if request.function == IDENTIFY else MASK_WRITE_FRAME
    if request.function in BIT_READS:
        return EXCEPTION + -(-request.quantity // 8)
    return EXCEPTION + 2 * request.quantity if request.function in READS else READ_REQUEST
