"""Sealed frames for people: the line's wrapping (SPEC.md section 4), the envelope (section 3), with keys the inside."""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from protocols.inspection import messages as plain_messages
from protocols.inspection.words import PIECES_MAX, hexed
from protocols.northbound.told import Line, Told
from protocols.wire import envelope, framing, messages
from protocols.wire.errors import FrameError, WireError
from protocols.wire.join import epoch_number
from protocols.wire.limits import MAX_CHANNEL, NONCE_SIZE

# Key contexts remembered of one node: those of its gateway and some joins that came by.
CONTEXTS_MAX = 64
SENDERS = {1: "the owning gateway", 2: "a bench tool"}
_KID_FLAG, _CONTEXT_FLAG, _LINK_BITS = 0x08, 0x10, 0xE0
_CRC_SIZE = 4
_TAG_SIZE = 8
_COBS_MAX = 520
# Of a recording that begins with something else: one whole frame among so many runs tells that it is a line's.
RUNS_LOOKED_AT = 1000
BRIDGE = 2
CHANNELS = {framing.SEALED: "a sealed frame", BRIDGE: "a bridge's"}


class Secrets(NamedTuple):
    """Of one node. Its repr shows none of it."""

    secret: bytes
    salt: bytes

    def __repr__(self) -> str:
        return "Secrets(…)"


class Opened(NamedTuple):
    """What was inside of a frame, who sealed it and in which context."""

    plain: bytes
    kid: bytes
    piv: int
    id_context: bytes
    is_down: bool


class KeyRing:
    """Keys of nodes, and the contexts that frames named or somebody gave: with both, frames are opened."""

    def __init__(
        self, secrets: Mapping[int, Secrets], contexts: Mapping[int, list[bytes]] | None = None
    ) -> None:
        self._secrets = secrets
        self._contexts = {address: list(known) for address, known in (contexts or {}).items()}
        self._r1: dict[int, bytes] = {}  # of the latest first hello of a join

    def knows(self, address: int) -> bool:
        return address in self._secrets

    def contexts(self, address: int) -> list[bytes]:
        return self._contexts.get(address, [])

    def learn(self, address: int, id_context: bytes) -> None:
        """A context that may come again; the oldest gives way."""
        known = self._contexts.setdefault(address, [])
        if id_context not in known:
            known.append(id_context)
            del known[:-CONTEXTS_MAX]

    def open(self, frame: bytes) -> Opened | None:
        """What is in a frame, if a node's key and a known context open it, in either direction."""
        for size in (envelope.KID_UP, envelope.KID_DOWN):
            try:
                header = envelope.parse(frame, size)
            except FrameError:
                continue
            address = int.from_bytes(header.kid[: envelope.KID_UP], "big")
            if address not in self._secrets:
                continue
            for id_context in self._candidates(address, header.kid_context):
                plain = self._try(address, header, frame, id_context)
                if plain is not None:
                    self._opened(address, header.kid_context, id_context, size == envelope.KID_UP)
                    return Opened(plain, header.kid, header.piv, id_context, size == envelope.KID_DOWN)
        return None

    def _try(self, address: int, header: envelope.Header, frame: bytes, id_context: bytes) -> bytes | None:
        secret, salt = self._secrets[address]
        key = envelope.sender_key(secret, salt, id_context, header.kid)
        try:
            return envelope.open_(key, header, frame)
        except FrameError:
            return None

    def _candidates(self, address: int, kid_context: bytes) -> list[bytes]:
        if not kid_context:
            return self.contexts(address)[::-1]
        r1 = self._r1.get(address)  # a challenge is sealed under r2 and the r1 that it answers
        return [kid_context] + ([kid_context + r1] if r1 is not None else [])

    def _opened(self, address: int, kid_context: bytes, id_context: bytes, is_up: bool) -> None:
        if is_up and len(kid_context) == NONCE_SIZE:
            self._r1[address] = kid_context
        elif len(id_context) == 2 * NONCE_SIZE and len(kid_context) != NONCE_SIZE:
            self.learn(address, id_context)


def tell(data: bytes, ring: KeyRing) -> list[Told]:
    """Frames as they come off a line, or one as a link carries it: whatever the bytes are."""
    if data[:1] != b"\x00" and not any(map(_is_stuffed, data.split(b"\x00")[:RUNS_LOOKED_AT])):
        return [tell_frame(data, ring)]
    found = []
    for run in data.split(b"\x00")[: 2 * PIECES_MAX]:
        if run:
            found.extend(_tell_run(run, ring))
        if len(found) >= PIECES_MAX:
            break
    return found or [Told("serial line", [Line("bytes", hexed(data))], ["nothing but delimiters"], [])]


def _is_stuffed(run: bytes) -> bool:
    """Whether it is the inside of a frame on a line, between two delimiters."""
    raw = unstuffed(run) if 1 < len(run) <= _COBS_MAX else None
    return (
        raw is not None and len(raw) > _CRC_SIZE and 1 <= raw[0] <= MAX_CHANNEL and _crc_of(raw) == raw[-4:]
    )


def _crc_of(raw: bytes) -> bytes:
    return crc32(raw[:-_CRC_SIZE]).to_bytes(_CRC_SIZE, "little")


def unstuffed(run: bytes) -> bytes | None:
    """COBS undone; None when a code byte points beyond the end."""
    out = bytearray()
    at = 0
    while at < len(run):
        code = run[at]
        if code == 0 or at + code > len(run):
            return None
        out += run[at + 1 : at + code]
        at += code
        if code <= 254 and at < len(run):
            out.append(0)
    return bytes(out)


def _tell_run(run: bytes, ring: KeyRing) -> list[Told]:
    """What stands between two delimiters."""
    told = Told("serial line", [], [], [])
    if len(run) < 2 or not 1 <= run[1] <= MAX_CHANNEL:
        return [_tell_text(run, told)]
    raw = unstuffed(run)
    if len(run) > _COBS_MAX:
        told.problems.append(
            f"oversize: {len(run)} bytes between delimiters; a frame has at most {_COBS_MAX}"
        )
    elif raw is None:
        at = _bad_code(run)
        told.problems.append(
            f"crc: the COBS code {run[at]} at byte {at} points beyond the end ({len(run)} bytes)"
        )
    elif len(raw) <= _CRC_SIZE + 1:
        told.problems.append(f"crc: {len(raw)} bytes are too few for a channel, a payload and a CRC")
    elif _crc_of(raw) != raw[-_CRC_SIZE:]:
        told.lines.append(Line("channel", str(raw[0]), CHANNELS.get(raw[0], "reserved")))
        told.problems.append(
            f"crc: {raw[-_CRC_SIZE:].hex()} found, {_crc_of(raw).hex()} expected (low byte first)"
        )
        if _crc_of(raw)[::-1] == raw[-_CRC_SIZE:]:
            told.problems.append("the CRC is right but for the order of its bytes: the low one comes first")
    else:
        return _tell_channel(raw[0], raw[1:-_CRC_SIZE], ring)
    told.lines.append(Line("bytes", hexed(run)))
    return [told]


def _bad_code(run: bytes) -> int:
    at = 0
    while at < len(run) and at + run[at] <= len(run):
        at += run[at]
    return min(at, len(run) - 1)


def _tell_text(run: bytes, told: Told) -> Told:
    try:
        text = run.decode()
    except UnicodeDecodeError:
        text = ""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if text and all(line.isprintable() for line in lines):
        told.lines.extend(Line("console", line) for line in lines if line)
        return told
    told.problems.append(
        f"{len(run)} bytes that are neither a frame (no channel 1 to 8) nor a console's text: noise"
    )
    told.lines.append(Line("bytes", hexed(run)))
    return told


def _tell_channel(channel: int, payload: bytes, ring: KeyRing) -> list[Told]:
    if channel == framing.SEALED:
        found = [tell_frame(payload, ring)]
    elif channel == BRIDGE:
        from protocols.inspection import bridge  # which knows packets, and they know frames

        found = bridge.tell(payload, ring)
    else:
        problem = f"channel {channel} is reserved: nobody sends on it"
        found = [Told("serial line", [Line("payload", hexed(payload))], [problem], [])]
    found[0].lines.insert(0, Line("channel", str(channel), f"{CHANNELS.get(channel, 'reserved')}, CRC good"))
    return found


def tell_frame(frame: bytes, ring: KeyRing, is_on_air: bool = False) -> Told:
    """One sealed frame as a link carries it. ``is_on_air``: the top bits of its flag byte are the link's."""
    told = Told("frame", [], [], [])
    if not frame:
        told.problems.append("malformed: no byte at all")
        return told
    told.lines.extend(_tell_flag(frame[0], is_on_air))
    if is_on_air:
        frame = bytes((frame[0] & ~_LINK_BITS & 0xFF,)) + frame[1:]
    try:
        header = envelope.parse(frame, envelope.KID_UP)
    except FrameError as error:
        told.problems.append(f"{error.reason}: {error}")
        told.lines.append(Line("bytes", hexed(frame)))
        return told
    opened = ring.open(frame)
    told.lines.extend(_tell_header(frame, header, opened))
    if opened is None:
        address = int.from_bytes(header.kid, "big")
        is_wrong = ring.knows(address) and bool(header.kid_context or ring.contexts(address))
        (told.problems if is_wrong else told.notes).append(_why_closed(address, is_wrong, ring))
        return told
    inside = plain_messages.tell(opened.plain)
    told.lines.extend(inside.lines)
    told.problems.extend(f"authentic, but {problem}" for problem in inside.problems)
    told.notes.extend(inside.notes)
    _judge(opened, told)
    return told


def _tell_flag(flag: int, is_on_air: bool) -> Iterator[Line]:
    parts = [f"PIV of {flag & 7} byte{'' if flag & 7 == 1 else 's'}"]
    parts.append("kid" if flag & _KID_FLAG else "no kid")
    if flag & _CONTEXT_FLAG:
        parts.append("kid context")
    if flag & _LINK_BITS and is_on_air:
        parts.append("wants an answer")
    yield Line("flag", f"{flag:02x}", ", ".join(parts))


def _tell_header(frame: bytes, header: envelope.Header, opened: Opened | None) -> Iterator[Line]:
    yield Line("PIV", str(header.piv))
    if header.kid_context:
        what = "of a join, step 1 or 2" if len(header.kid_context) == NONCE_SIZE else "the whole ID Context"
        yield Line("kid context", header.kid_context.hex(), what)
    yield Line("node", header.kid.hex())
    yield Line("sender", *_sender(frame, header, opened))
    size = len(frame) - header.start - _TAG_SIZE - (opened is not None and opened.is_down)
    yield Line("inside", f"{max(size, 0)} bytes", "and a tag of 8")
    if opened is not None and len(opened.id_context) == 2 * NONCE_SIZE:
        yield Line("epoch", f"{epoch_number(opened.id_context):012x}")


def _sender(frame: bytes, header: envelope.Header, opened: Opened | None) -> tuple[str, str]:
    if opened is not None and not opened.is_down:
        return "the node", "node to gateway"
    g = opened.kid[-1] if opened is not None else frame[header.start]
    if opened is not None:
        return f"{g:02x}", f"{SENDERS.get(g, 'a successor of the gateway')}, to the node"
    if g in SENDERS and len(frame) > header.start + 1 + _TAG_SIZE:
        return (
            "not sure",
            f"{g:02x} ({SENDERS[g]}) if it goes to the node; else the node itself. The link knows",
        )
    return "the node", "probably; the link knows the direction for sure"


def _why_closed(address: int, is_wrong: bool, ring: KeyRing) -> str:
    if not ring.knows(address):
        return f"closed: no key of node {address:04x} is given; this is what anybody sees who hears it"
    if is_wrong:
        return (
            f"auth: the key of node {address:04x} opens it in none of the contexts that are known: it is of another "
            "epoch or another key, or was altered on the way"
        )
    return (
        f"closed: the key of node {address:04x} is there, the context of its epoch is not. Give the frames of its join "
        "before this one, the store of its gateway (--master-key), or --context"
    )


def _judge(opened: Opened, told: Told) -> None:
    """What is authentic and all the same not right."""
    kind = opened.plain[1] if len(opened.plain) > 1 else 0
    if (kind >= messages.Ack.KIND) != opened.is_down and not told.problems:
        told.problems.append("message: of the other direction than the kid it is sealed with")


def is_frame(data: bytes) -> bool:
    """Whether bytes have the form of a frame."""
    try:
        envelope.parse(data, envelope.KID_UP)
    except WireError:
        return False
    return True
