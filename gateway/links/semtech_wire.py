"""Datagrams of the Semtech packet-forwarder protocol, versions 1 and 2: bytes and JSON, no sockets.

What forwarders send differs from what the protocol's text says: base64 without padding or in the URL alphabet, data
rates as numbers, fields that are missing. What can still be understood is taken. What decides whether a packet is
whole is not guessed: only `stat` 1 (its CRC is good) is, so a forwarder that leaves it out is of no use.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gateway.limits import DATAGRAM_BRACKETS_MAX, DATAGRAM_BYTES_MAX, DATAGRAM_PACKETS_MAX
from gateway.links import radio
from gateway.links.radio import Transmission, Uplink

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)
VERSIONS = (1, 2)
EUI_BYTES = 8
_HEAD = 4
_FROM_FORWARDER = (PUSH_DATA, PULL_DATA, TX_ACK)
_BANDWIDTH_KHZ = 125
# What a concentrator reports for a packet without these; nothing is weaker, so any other copy is preferred.
_RSSI_UNKNOWN_DBM = -140.0
_SNR_UNKNOWN_DB = -25.0

TX_POWER = "TX_POWER"
# What the forwarder says in TX_ACK → how it ended. A name that is not here was some other refusal.
_ERRORS = {
    "NONE": radio.SENT,
    "TOO_LATE": radio.TOO_LATE,
    "TOO_EARLY": radio.TOO_EARLY,
    "COLLISION_PACKET": radio.BUSY,
    "COLLISION_BEACON": radio.BUSY,
    "TX_FREQ": radio.REFUSED,
    TX_POWER: radio.REFUSED,
    "GPS_UNLOCKED": radio.FAULT,
}


class Refused(Exception):
    """A datagram or a packet in it that is not taken; `reason` names the counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Datagram(NamedTuple):
    """What every datagram of a forwarder begins with; `body` is what follows the EUI."""

    version: int
    token: bytes
    kind: int
    eui: bytes
    body: bytes


def split(data: bytes) -> Datagram:
    """Take a datagram of a forwarder apart. Raises Refused."""
    if len(data) > DATAGRAM_BYTES_MAX:
        raise Refused("oversize")
    if len(data) < _HEAD + EUI_BYTES:
        raise Refused("malformed")
    version, kind = data[0], data[3]
    if version not in VERSIONS:
        raise Refused("version")
    if kind not in _FROM_FORWARDER:
        raise Refused("malformed")
    return Datagram(version, data[1:3], kind, data[4:12], data[12:])


def answer(datagram: Datagram, kind: int) -> bytes:
    """PUSH_ACK or PULL_ACK."""
    return bytes((datagram.version, *datagram.token, kind))


def packets(body: bytes, name: str, count: Callable[[str], None]) -> Iterator[Uplink]:
    """The packets in the body of a PUSH_DATA; each that is not taken is counted. Raises Refused for the whole."""
    listed = _object(body).get("rxpk", ())
    if not isinstance(listed, (list, tuple)):
        raise Refused("malformed")
    for number, item in enumerate(listed):
        if number >= DATAGRAM_PACKETS_MAX:
            count("oversize")
            return
        try:
            yield _uplink(item, name)
        except Refused as refusal:
            count(refusal.reason)


def result(body: bytes) -> str:
    """The error that a TX_ACK tells; NONE in an empty one, or beside a mere warning. Raises Refused."""
    if not body.strip(b"\0 \r\n\t"):
        return "NONE"
    told = _object(body).get("txpk_ack", {})
    if not isinstance(told, dict):
        raise Refused("malformed")
    error = told.get("error", "NONE")
    return error if isinstance(error, str) else ""


def code_of(error: str) -> int:
    """How a transmission ended, of the codes that all radios have."""
    return _ERRORS.get(error, radio.FAULT)


def pull_resp(version: int, token: bytes, transmission: Transmission) -> bytes:
    """The datagram that has a forwarder send a packet.

    Downlinks have inverted IQ and, unlike those of LoRaWAN, a CRC.
    """
    packet = transmission.packet
    txpk = {
        "imme": transmission.at_us is None,
        "freq": transmission.freq_hz / 1e6,
        "rfch": 0,
        "powe": transmission.dbm,
        "modu": "LORA",
        "datr": f"SF{transmission.sf}BW{_BANDWIDTH_KHZ}",
        "codr": "4/5",
        "ipol": True,
        "prea": 8,
        "ncrc": False,
        "size": len(packet),
        "data": binascii.b2a_base64(packet, newline=False).decode("ascii"),
    }
    if transmission.at_us is not None:
        txpk["tmst"] = transmission.at_us
    body = json.dumps({"txpk": txpk}, separators=(",", ":"))
    return bytes((version, *token, PULL_RESP)) + body.encode("ascii")


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Never recurses deeper than it has brackets, and those are bounded."""
    if body.count(b"{") + body.count(b"[") > DATAGRAM_BRACKETS_MAX:
        raise Refused("malformed")
    try:
        # Some forwarders send the NUL that ends their string.
        value = json.loads(body.rstrip(b"\0"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError, and integers of too many digits, too
        raise Refused("malformed") from exc
    if not isinstance(value, dict):
        raise Refused("malformed")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _uplink(item: object, name: str) -> Uplink:
    if not isinstance(item, dict):
        raise Refused("malformed")
    if item.get("modu", "LORA") != "LORA":
        raise Refused("foreign")
    if not _is_whole(item.get("stat")):
        raise Refused("crc")
    freq_hz = round(_number(item.get("freq"), 1.0, 3000.0) * 1_000_000)
    packet = _payload(item.get("data"))
    if "size" in item and _integer(item["size"]) != len(packet):
        raise Refused("malformed")
    return Uplink(
        name,
        _counter(item.get("tmst")),
        freq_hz,
        _spreading_factor(item.get("datr")),
        _level(item, "rssi", _RSSI_UNKNOWN_DBM),
        _level(item, "lsnr", _SNR_UNKNOWN_DB),
        packet,
    )


def _is_whole(stat: object) -> bool:
    return _integer(stat) == 1


def _integer(value: object) -> int | None:
    """A number that is an integer, whatever its form; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value // 1 and abs(value) < 2**53 else None


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise Refused("malformed")
    return float(value)


def _level(item: dict[str, Any], key: str, unknown: float) -> float:
    """A level in dB; one that is missing or no number is the weakest, for the packet itself is whole."""
    value = item.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -200 <= value <= 100:
        return unknown
    return float(value)


def _counter(value: object) -> int | None:
    number = _integer(value)
    return number if number is not None and 0 <= number < radio.COUNTER else None


def _spreading_factor(datr: object) -> int:
    """ "SF7BW125", "SF7", 7 or 7.0; another bandwidth is not ours, and a data rate in bit/s is FSK."""
    if isinstance(datr, str):
        text, _, width = datr.upper().partition("BW")
        if not text.startswith("SF") or width not in ("", str(_BANDWIDTH_KHZ)):
            raise Refused("foreign")
        digits = text[2:]
        factor = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 3 else None
    else:
        factor = _integer(datr)
    if factor is None or not 7 <= factor <= 12:
        raise Refused("foreign")
    return factor


def _payload(text: object) -> bytes:
    """base64 in either alphabet, with or without padding."""
    if not isinstance(text, str) or len(text) > 2 * radio.PACKET_BYTES_MAX:
        raise Refused("malformed")
    plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        packet = binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError as exc:  # binascii.Error, and text that is not ASCII
        raise Refused("malformed") from exc
    if not 0 < len(packet) <= radio.PACKET_BYTES_MAX:
        raise Refused("malformed")
    return packet
