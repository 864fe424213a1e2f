"""SL 651-2014 frames: what a hydrological station and its centre say to each other, in HEX/BCD. Pure: bytes.

    up    7E7E centre station(5) password(2) function length(2) STX body ETX crc(2)
    down  7E7E station(5) centre password(2) function length(2) STX body ENQ crc(2)

The upper four bits of the length are the direction, 0 up and 8 down; the lower twelve count the body. With SYN in the
place of STX the body begins with three bytes, twelve bits each for how many packets there are and which this is. The
check sum is CRC-16 as Modbus has it, over everything before it, but the high byte comes first.

A station of the national network has an address 00 and eight digits; others have the six digits of their district
and four hexadecimal ones. What bodies mean is in sl651_body.py; numbers and names in sl651_codes.py.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from protocols.northbound.sl651_codes import ENDS_DOWN, ENDS_UP, ETX, STX, SYN

MAGIC = b"\x7e\x7e"
_ASCII_MAGIC = 0x01
_HEAD = 14  # up to and with STX
_TAIL = 3  # the end and the check sum
_PACKET = 3
BODY_MAX = 0xFFF
FRAME_MIN = _HEAD + _TAIL
FRAME_MAX = FRAME_MIN + BODY_MAX
PACKETS_MAX = 0xFFF


class Sl651Error(Exception):
    """What came is no frame or body of SL 651, or what is to go out can be none; says what was found and is allowed."""


class Frame(NamedTuple):
    """One frame. `body` is without the packet count; `packets` is 0 where there is one packet (STX)."""

    centre: int
    station: str
    password: str
    function: int
    body: bytes
    end: int = ETX
    up: bool = True
    packets: int = 0
    packet: int = 0


@functools.cache
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc16(data: bytes) -> int:
    """CRC-16 of Modbus: x16 + x15 + x2 + 1, reflected, begins with FFFF."""
    table, crc = _table(), 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


_STATION = re.compile(r"[0-9]{6}[0-9A-F]{4}")
_PASSWORD = re.compile(r"[0-9A-F]{4}")


def check_station(text: str) -> str:
    """The address of a station. Raises Sl651Error unless it is one."""
    if not _STATION.fullmatch(text):
        raise Sl651Error(
            f"{text!r:.20} is no address of a station: 00 and its eight digits, or the six digits of a district and "
            "four hexadecimal digits, in capitals"
        )
    return text


def encode(frame: Frame) -> bytes:
    """A frame as bytes. Raises Sl651Error for what no frame can carry."""
    check_station(frame.station)
    if not _PASSWORD.fullmatch(frame.password):
        raise Sl651Error("a password has four hexadecimal digits, in capitals")  # and is not told
    for name, value, lowest, highest in (
        ("centre", frame.centre, 0, 255),
        ("function", frame.function, 0, 255),
        ("packets", frame.packets, 0, PACKETS_MAX),
        ("packet", frame.packet, min(1, frame.packets), frame.packets),
    ):
        if not lowest <= value <= highest:
            raise Sl651Error(f"{name} = {value}, allowed are {lowest} to {highest}")
    ends = ENDS_UP if frame.up else ENDS_DOWN
    if frame.end not in ends:
        raise Sl651Error(f"end = {frame.end:02X}, allowed are {_listed(ends)}")
    return _encoded(frame)


def _encoded(frame: Frame) -> bytes:
    text = frame.body
    if frame.packets:
        text = (frame.packets << 12 | frame.packet).to_bytes(_PACKET, "big") + text
    if len(text) > BODY_MAX:
        raise Sl651Error(f"the body has {len(text)} bytes, allowed are {BODY_MAX}: send it in packets")
    station, centre = bytes.fromhex(frame.station), bytes([frame.centre])
    data = MAGIC + (centre + station if frame.up else station + centre) + bytes.fromhex(frame.password)
    data += bytes([frame.function]) + (len(text) | (0 if frame.up else 0x8000)).to_bytes(2, "big")
    data += bytes([SYN if frame.packets else STX]) + text + bytes([frame.end])
    return data + crc16(data).to_bytes(2, "big")


def decode(data: bytes) -> Frame:
    """One whole frame. Raises Sl651Error."""
    length = frame_length(data)
    if length is None or len(data) < length:
        wanted = FRAME_MIN if length is None else length
        raise Sl651Error(
            f"the frame ends after {len(data)} bytes, it has at least {wanted}: bytes are missing"
        )
    if len(data) > length:
        raise Sl651Error(f"{len(data) - length} bytes are left over after the {length} bytes of the frame")
    found, wanted = int.from_bytes(data[-2:], "big"), crc16(data[:-2])
    if found != wanted:
        raise Sl651Error(f"check sum {found:04X}, it would be {wanted:04X}{crc_hint(data, found)}")
    return _decoded(data)


def frame_length(data: bytes) -> int | None:
    """How long the frame that begins here is; None while too little is there to know. Raises Sl651Error."""
    if not MAGIC.startswith(data[:2]):
        if data[0] == _ASCII_MAGIC:
            raise Sl651Error(
                "begins with 01: the ASCII form of SL 651, which is not read here; the station has to send HEX/BCD"
            )
        raise Sl651Error(f"begins with {data[:2].hex().upper()}, a frame begins with 7E7E")
    if len(data) < _HEAD:
        return None
    direction, start = data[11] >> 4, data[13]
    if direction not in (0, 8):
        raise Sl651Error(f"direction {direction:X} before the length, allowed are 0 (up) and 8 (down)")
    if start not in (STX, SYN):
        raise Sl651Error(f"{start:02X} before the body, allowed are 02 (STX) and 16 (SYN)")
    length = int.from_bytes(data[11:13], "big") & BODY_MAX
    if start == SYN and length < _PACKET:
        raise Sl651Error(f"length {length}, but the packet count alone has {_PACKET}")
    return FRAME_MIN + length


def _decoded(data: bytes) -> Frame:
    up = data[11] >> 4 == 0
    ends = ENDS_UP if up else ENDS_DOWN
    end = data[-_TAIL]
    if end not in ends:
        raise Sl651Error(f"{end:02X} ends the body, allowed are {_listed(ends)}")
    station, centre = (data[3:8], data[2]) if up else (data[2:7], data[7])
    check_station(station.hex().upper())
    body = data[_HEAD:-_TAIL]
    packets = packet = 0
    if data[13] == SYN:
        both = int.from_bytes(body[:_PACKET], "big")
        packets, packet, body = both >> 12, both & 0xFFF, body[_PACKET:]
        if not 1 <= packet <= packets:
            raise Sl651Error(f"packet {packet} of {packets}")
    password = data[8:10].hex().upper()
    return Frame(centre, station.hex().upper(), password, data[10], body, end, up, packets, packet)


def _listed(ends: dict[int, str]) -> str:
    return ", ".join(f"{value:02X} ({text.partition(':')[0]})" for value, text in ends.items())


def crc_hint(data: bytes, found: int) -> str:
    """The usual mistakes, when this is one."""
    wanted = crc16(data[:-2])
    if found == (wanted & 0xFF) << 8 | wanted >> 8:
        return ": the low byte comes first, as on a Modbus line; SL 651 wants the high byte first"
    for name, part in (
        ("without 7E7E", data[2:-2]),
        ("without the end byte", data[:-3]),
        ("of the body", data[14:-3]),
    ):
        if found == crc16(part):
            return f": it is the check sum {name}; it has to cover everything before it"
    return ": bytes were changed on the way, or left out"


class Splitter:
    """Finds frames in a stream, however it is cut. Holds less than one frame."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[Frame | Sl651Error]:
        """Frames in their order, and what was no frame. Bytes between frames are passed over."""
        held, at = self._held + data, 0
        found: list[Frame | Sl651Error] = []
        while True:
            begin = held.find(MAGIC, at)
            if begin < 0:
                self._held = held[-1:] if held.endswith(MAGIC[:1]) and at < len(held) else b""
                return found
            taken = self._take(held[begin : begin + FRAME_MAX], found)
            if not taken:
                self._held = held[begin:]
                return found
            at = begin + taken

    @staticmethod
    def _take(held: bytes, found: list[Frame | Sl651Error]) -> int:
        """How many bytes are dealt with; 0 while the rest of a frame is to come."""
        try:
            length = frame_length(held)
            if length is None or len(held) < length:
                return 0
            found.append(decode(held[:length]))
            return length
        except Sl651Error as error:
            found.append(error)
            return 1  # a frame may begin inside what looked like one
