"""What goes over the air (SPEC.md section 7.2) and what packet forwarders say of it, for people."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from protocols.inspection import frames
from protocols.inspection.frames import KeyRing
from protocols.inspection.words import hexed
from protocols.northbound.told import Line, Told
from protocols.wire import fragments
from protocols.wire.limits import MAX_FRAGMENTS, MAX_PACKET

# Frames that are put together from fragments at a time; beyond that, the one begun first is given up.
COLLECTED_MAX = 64
# Of one datagram: what a concentrator hears within 100 ms, and how deep JSON goes.
PACKETS_MAX = 64
BRACKETS_MAX = 512
KINDS = ("PUSH_DATA", "PUSH_ACK", "PULL_DATA", "PULL_RESP", "PULL_ACK", "TX_ACK")
_WITH_EUI = (0, 2, 5)
_WITH_JSON = (0, 3, 5)
_STAT = {1: "CRC good", -1: "CRC bad", 0: "no CRC"}
_DATR = re.compile(r"SF([0-9]{1,2})(BW[0-9]{1,4})?")


class Packets:
    """Packets one after the other: fragments become the frame that they make."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._collector = fragments.Collector(COLLECTED_MAX)
        self._count = 0

    def tell(self, packet: bytes) -> Told:
        """One PHY payload."""
        self._count += 1
        top = packet[0] & fragments.KIND if packet else 0
        if len(packet) > MAX_PACKET:
            told = Told("LoRa packet", [Line("bytes", hexed(packet))], [], [])
            told.problems.append(f"{len(packet)} bytes: a packet on the air has at most {MAX_PACKET}")
            return told
        if packet and top == fragments.FRAGMENT:
            return self._tell_fragment(packet)
        told = frames.tell_frame(packet, self._ring, is_on_air=True)
        told = Told("LoRa packet", told.lines, told.problems, told.notes)
        if top not in (0, fragments.WANTS_ANSWER):
            told.problems.insert(
                0,
                f"version: the first byte {packet[0]:02x} is no packet of ours: its top bits are 000 or 001 for a "
                "frame, 111 for a fragment",
            )
        return told

    def _tell_fragment(self, packet: bytes) -> Told:
        told = Told("LoRa fragment", [], [], [])
        if len(packet) <= fragments.HEAD:
            told.problems.append(
                f"malformed: {len(packet)} bytes; a fragment has {fragments.HEAD} of head and at least one of the frame"
            )
            return told
        is_last = bool(packet[0] & 0x10)
        told.lines.extend(
            [
                Line(
                    "index",
                    str(packet[0] & 0x0F),
                    "the last one" if is_last else f"of at most {MAX_FRAGMENTS}",
                ),
                Line("tag", f"{packet[1]:02x}"),
                Line("node", packet[2:4].hex()),
                Line("piece", hexed(packet[fragments.HEAD :])),
            ]
        )
        frame = self._collector.take(packet, 0)
        if frame is None:
            told.notes.append("the frame is not whole yet: give all its fragments in one call")
            return told
        told.notes.append(f"with it the frame is whole ({len(frame)} bytes):")
        inside = frames.tell_frame(frame, self._ring, is_on_air=True)
        told.lines.extend(inside.lines)
        told.problems.extend(inside.problems)
        told.notes.extend(inside.notes)
        return told


def tell_datagram(data: bytes, ring: KeyRing) -> list[Told]:
    """A datagram of a packet forwarder, or the JSON of one; behind it each packet that it carries."""
    told = Told("Semtech UDP", [], [], [])
    body = data if data.lstrip()[:1] == b"{" else _head(data, told)
    if body is None or not body.strip(b"\0 \r\n\t"):
        return [told]
    value = _object(body, told)
    if value is None:
        return [told]
    packets = Packets(ring)
    found = [told]
    for name, content in list(value.items())[:PACKETS_MAX]:
        if name == "rxpk":
            found.extend(_tell_rxpk(content, packets, told))
        elif name == "txpk":
            found.extend(_tell_txpk(content, packets, told))
        else:
            told.lines.extend(_flat(name, content))
    return found


def _head(data: bytes, told: Told) -> bytes | None:
    if len(data) < 4:
        told.problems.append(
            f"{len(data)} bytes: a datagram begins with version, two bytes of token and its kind"
        )
        return None
    version, kind = data[0], data[3]
    told.lines.append(Line("version", str(version)))
    told.lines.append(Line("token", data[1:3].hex()))
    told.lines.append(Line("kind", str(kind), KINDS[kind] if kind < len(KINDS) else ""))
    if version not in (1, 2):
        told.problems.append(f"version {version}: known are 1 and 2")
        return None
    if kind >= len(KINDS):
        told.problems.append(f"kind {kind}: known are 0 to {len(KINDS) - 1} ({', '.join(KINDS)})")
        return None
    end = 4
    if kind in _WITH_EUI:
        end = 12
        if len(data) < end:
            told.problems.append(f"{len(data)} bytes: the EUI of the forwarder (8 bytes) is cut")
            return None
        told.lines.append(Line("EUI", data[4:12].hex()))
    body = data[end:]
    if body and kind not in _WITH_JSON:
        told.problems.append(f"{len(body)} bytes too many: a {KINDS[kind]} ends here")
        return None
    if kind in _WITH_JSON[:2] and not body:
        told.problems.append(f"a {KINDS[kind]} without its JSON")
    return body


def _object(body: bytes, told: Told) -> dict[str, Any] | None:
    if body.count(b"{") + body.count(b"[") > BRACKETS_MAX:
        told.problems.append(f"more than {BRACKETS_MAX} brackets in its JSON")
        return None
    try:
        value = json.loads(body.rstrip(b"\0"))
    except (ValueError, RecursionError) as error:
        told.problems.append(f"not JSON: {error}")
        return None
    if not isinstance(value, dict):
        told.problems.append("its JSON is no object")
        return None
    return value


def _flat(name: str, content: Any) -> Iterator[Line]:
    if isinstance(content, dict):
        for key, value in list(content.items())[:PACKETS_MAX]:
            yield Line(f"{name}.{key}"[:40], f"{value!s:.80}")
    else:
        yield Line(name[:40], f"{content!s:.80}")


def _tell_rxpk(content: Any, packets: Packets, told: Told) -> Iterator[Told]:
    if not isinstance(content, list):
        told.problems.append("rxpk is no list")
        return
    told.lines.append(Line("rxpk", f"{len(content)} packets"))
    for item in content[:PACKETS_MAX]:
        yield _tell_item(item, packets, "received")
    if len(content) > PACKETS_MAX:
        told.problems.append(f"{len(content)} packets; {PACKETS_MAX} are looked at")


def _tell_txpk(content: Any, packets: Packets, told: Told) -> Iterator[Told]:
    if not isinstance(content, dict):
        told.problems.append("txpk is no object")
        return
    item = _tell_item(content, packets, "to be sent")
    if content.get("ipol") is not True:
        item.problems.append("ipol is not true: downlinks have inverted IQ, no node will hear this one")
    yield item


def _tell_item(item: Any, packets: Packets, what: str) -> Told:
    """One packet in a datagram: what the radio says of it, then what it is."""
    if not isinstance(item, dict):
        return Told(f"packet {what}", [], ["a packet that is no JSON object"], [])
    problems = list(_item_problems(item, what))
    packet = _payload(item.get("data"))
    if packet is None:
        problems.append("data is missing, or not base64")
        inside = Told("", [], [], [])
    else:
        if "size" in item and item["size"] != len(packet):
            problems.append(f"size says {item['size']!r:.20}, data holds {len(packet)} bytes")
        inside = packets.tell(packet)
    lines = [
        Line(
            str(key)[:20],
            f"{value!s:.60}",
            _STAT.get(value, "") if key == "stat" and type(value) is int else "",
        )
        for key, value in list(item.items())[:PACKETS_MAX]
        if key != "data"
    ]
    protocol = f"packet {what}" + (f", a {inside.protocol}" if inside.protocol else "")
    return Told(protocol, lines + inside.lines, problems + inside.problems, inside.notes)


def _item_problems(item: dict[str, Any], what: str) -> Iterator[str]:
    if item.get("modu", "LORA") != "LORA":
        yield f"modu {item['modu']!r:.20}: only LORA is ours"
    if what == "received" and item.get("stat") != 1:
        yield f"stat {item.get('stat')!r:.20}: only 1 (CRC good) is taken"
    if what == "received" and "tmst" not in item:
        yield "tmst is missing: without the concentrator's counter nothing can be answered"
    datr = item.get("datr")
    if isinstance(datr, str):
        found = _DATR.fullmatch(datr.upper())
        if found is None or not 7 <= int(found[1]) <= 12 or found[2] not in (None, "BW125"):
            yield f"datr {datr!r:.20}: ours are SF7BW125 to SF12BW125"


def _payload(text: Any) -> bytes | None:
    """base64 in either alphabet, with or without padding."""
    if not isinstance(text, str) or len(text) > 1024:
        return None
    plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError:
        return None


def tell_packets(packets: Sequence[bytes], ring: KeyRing) -> list[Told]:
    """Several PHY payloads; fragments among them are put together."""
    line = Packets(ring)
    return [line.tell(packet) for packet in packets]
