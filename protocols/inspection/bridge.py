"""What a bridge and its gateway say to each other (SPEC.md section 8), for people."""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812  (the standard library's lower-case class)

from protocols.inspection import air
from protocols.inspection.frames import KeyRing
from protocols.inspection.words import hexed, printable
from protocols.northbound.told import Line, Told

CODES = (
    "sent", "too late", "too early", "refused by the plan", "channel busy", "radio fault", "cut short",
    "another was sent instead",
)  # fmt: skip
_HEARD, _SENT, _STATE = Struct(">IIBhh"), Struct(">HB"), Struct(">BBBBI")
_SEND, _TUNE = Struct(">HIIBb"), Struct(">IB")


def tell(payload: bytes, ring: KeyRing) -> list[Told]:
    """The payload of channel 02, and behind it the packet that it carries."""
    told = Told("bridge", [], [], [])
    found = [told]
    if not payload:
        told.problems.append("malformed: no byte at all")
        return found
    try:
        packet = _tell(payload[0], payload[1:], told)
    except StructError:
        told.problems.append(f"malformed: {len(payload)} bytes are too few for a first byte {payload[0]:02x}")
        packet = b""
    if packet:
        found.extend(air.tell_packets([packet], ring))
    return found


def _tell(first: int, rest: bytes, told: Told) -> bytes:
    """Fields of one kind; the packet in it."""
    if first == 0x01:
        at, freq, sf, rssi, snr = _HEARD.unpack_from(rest)
        told.lines.extend(
            [
                Line("kind", "heard", "bridge to gateway"),
                Line("at", f"{at} us", "its counter at the end of the packet"),
                *_where(freq, sf),
                Line("RSSI", f"{rssi} dBm"),
                Line("SNR", f"{snr / 10:.1f} dB"),
            ]
        )
        return rest[_HEARD.size :]
    if first == 0x02:
        number, code = _SENT.unpack_from(rest)
        meaning = CODES[code] if code < len(CODES) else "not in this version's SPEC"
        told.lines.extend(
            [
                Line("kind", "sent", "bridge to gateway"),
                Line("id", str(number)),
                Line("code", str(code), meaning),
                Line("detail", printable(rest[_SENT.size :].decode("utf-8", "replace"))),
            ]
        )
        return b""
    if first == 0x03:
        form, plan, channel, sf, at = _STATE.unpack_from(rest)
        told.lines.extend(
            [
                Line("kind", "state", "bridge to gateway"),
                Line("format", str(form)),
                Line("plan", str(plan)),
                Line("channel", str(channel)),
                Line("SF", str(sf), "the gateway says" if not sf else ""),
                Line("at", f"{at} us"),
                Line("firmware", printable(rest[_STATE.size :].decode("utf-8", "replace"))),
            ]
        )
        if form != 1:
            told.problems.append(f"format {form}: known is 1")
        return b""
    if first == 0x11:
        number, at, freq, sf, dbm = _SEND.unpack_from(rest)
        told.lines.extend(
            [
                Line("kind", "send", "gateway to bridge"),
                Line("id", str(number)),
                Line("at", f"{at} us", "its counter at the begin of the packet"),
                *_where(freq, sf),
                Line("power", f"{dbm} dBm"),
            ]
        )
        return rest[_SEND.size :]
    if first == 0x12:
        told.lines.extend([Line("kind", "tune", "gateway to bridge"), *_where(*_TUNE.unpack_from(rest))])
    elif first == 0x13:
        told.lines.append(Line("kind", "ask", "gateway to bridge"))
    else:
        told.lines.append(Line("bytes", hexed(rest)))
        told.problems.append(f"first byte {first:02x}: known are 01, 02, 03 from a bridge, 11, 12, 13 to one")
    return b""


def _where(freq_hz: int, sf: int) -> list[Line]:
    return [Line("frequency", f"{freq_hz / 1e6:.3f} MHz"), Line("SF", str(sf))]
