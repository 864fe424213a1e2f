"""Of updates, for people: what a bundle says of itself, and what a node keeps of one that is under way.

The bytes are those of OTA.md and of firmware/{pending,pieces,slots}.py; here are readers of their own, which name what
is wrong. No key of these is secret. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct

from protocols.northbound.told import Line, Told
from protocols.wire import bundle, delta, document, manifest, ota, outcomes, parity, release
from protocols.wire.errors import WireError

PENDING, SLOTS = "update", "slots"
FOLDERS = ("/a", "/b")
PHASES = (
    "nothing is under way",
    "received: whole, and not looked at yet",
    "verified: the signature was good, it is being installed",
    "on trial",
    "ended, and not told yet",
    "ended, and told",
    "MicroPython: verified, its image is awaited",
    "MicroPython: its image is all there",
)
_PENDING = Struct("<BBBBBBBHHIIII32s32s")
_FLAGS = ("no sensor answered before it", "found healthy", "some sensors did not answer before it")
# Behind the fields, until it has ended: which series those were.
_SILENT_BYTES = 2
_SLOTS = Struct("<BBBBI")
_NONE = 255
# In the place of a slot: which of its two places MicroPython comes into.
_PLACES = 2
_ALGORITHMS = {manifest.ES256: "ES256", manifest.HSS_LMS: "HSS/LMS"}
_ENTRY_HEAD = 3
_HEAD_BYTES = 13  # session u16, setup


def tell_release(data: bytes) -> Told:
    """`release.cbor`: which release, for whom, whose signature its successor needs."""
    told = Told("release.cbor", [], [], [])
    try:
        found = release.decode(data)
    except WireError as error:
        told.problems.append(str(error))
        return told
    told.lines.append(Line("release", str(found.sequence)))
    told.lines.append(Line("vendor", found.vendor.hex()))
    told.lines.append(Line("class", found.class_id.hex()))
    for key in found.keys:
        if key.is_revoked:
            told.lines.append(Line("revoked", key.kid.hex()))
        else:
            told.lines.append(Line("trusts", key.kid.hex(), _ALGORITHMS[key.algorithm]))
    return told


def tell_pending(data: bytes) -> Told:
    """The document `update` of `state`: where an update stands."""
    told = Told("update under way", [], [], [])
    if len(data) < _PENDING.size:
        told.problems.append(
            f"{len(data)} bytes: it has {_PENDING.size} and, behind them, an event to be kept"
        )
        return told
    (phase, slot, flags, outcome, tries, hours, _, sent, _, sequence, size, payload_size, judge, digest, payload) = (
        _PENDING.unpack_from(data)
    )  # fmt: skip
    told.lines.append(Line("phase", str(phase), PHASES[phase] if phase < len(PHASES) else ""))
    if phase >= len(PHASES):
        told.problems.append(f"phase {phase}: known are 0 to {len(PHASES) - 1}")
    if phase in (0, 1):
        return told
    told.lines.append(Line("release", str(sequence), f"verified by release {judge}" if judge else ""))
    if phase >= 3:
        told.lines.append(Line("slot", _slot(slot)))
        told.lines.append(Line("outcome", str(outcome), outcome_name(outcome) if phase in (4, 5) else ""))
        words = [text for bit, text in enumerate(_FLAGS) if flags >> bit & 1]
        if len(data) == _PENDING.size + _SILENT_BYTES and any(data[_PENDING.size :]):
            silent = int.from_bytes(data[_PENDING.size :], "little")
            numbers = ", ".join(str(series) for series in range(16) if silent >> series & 1)
            words.append(f"silent before it: series {numbers}")
        told.lines.append(Line("trial", f"{hours} h, {sent} frames", ", ".join(words)))
    told.lines.append(Line("tries", str(tries)))
    told.lines.append(Line("bundle", f"{size} B", f"SHA-256 {digest.hex()[:16]}…"))
    told.lines.append(Line("payload", f"{payload_size} B", f"SHA-256 {payload.hex()[:16]}…"))
    if len(data) > _PENDING.size + _SILENT_BYTES:
        told.lines.append(Line("event", f"{len(data) - _PENDING.size} B", "is to be kept once"))
    return told


def outcome_name(number: int) -> str:
    return outcomes.OUTCOMES[number][0] if number < len(outcomes.OUTCOMES) else f"unknown outcome {number}"


def _slot(slot: int) -> str:
    return FOLDERS[slot] if slot < len(FOLDERS) else f"place {slot - _PLACES} of MicroPython"


def tell_slots(data: bytes) -> Told:
    """The record of an `app` partition: which slot is started."""
    told = Told("slots", [], [], [])
    if len(data) != _SLOTS.size:
        told.problems.append(
            f"{len(data)} bytes: it has {_SLOTS.size}; a node takes it for none, and runs /a"
        )
        return told
    running, trial, crashes, starts, tried = _SLOTS.unpack(data)
    if running > 1 or trial not in (0, 1, _NONE):
        told.problems.append(
            f"slots {running} and {trial}: 0, 1 or 255; a node takes it for none, and runs /a"
        )
        return told
    told.lines.append(Line("runs", FOLDERS[running], "confirmed"))
    if trial == _NONE:
        told.lines.append(Line("trial", "none", f"the latest was of release {tried}" if tried else ""))
    else:
        what = f"release {tried}: {starts} starts, {crashes} since one of them came to something"
        told.lines.append(Line("trial", FOLDERS[trial], what))
    return told


def tell_pieces(data: bytes) -> Told:
    """The file `/update` of `state`: what of an update came."""
    told = Told("pieces of an update", [], [], [])
    head, numbers, problem = _entries(data)
    if problem:
        told.problems.append(problem)
    if len(head) < 2:
        told.problems.append("it does not begin with an entry 0 of at least two bytes: no session")
        return told
    told.lines.append(Line("session", str(int.from_bytes(head[:2], "little"))))
    if len(head) == 2:
        told.notes.append(
            "given up or ended: only its number is kept, so that nothing of it is taken for new"
        )
        return told
    try:
        setup = ota.decode_setup(head[2:])
    except WireError as error:
        told.problems.append(str(error))
        return told
    brings = setup.descriptor
    told.lines.append(
        Line(
            "brings",
            f"MicroPython {brings & 0x7FFFFFFF}" if brings >> 31 else f"release {brings}",
            f"as its sender says; {setup.length} B in {setup.fragments} fragments of {setup.size}",
        )
    )
    have = {number for number in numbers if 1 <= number <= setup.fragments}
    rows = {number for number in numbers if setup.fragments < number <= parity.MAX_ROW}
    worked = {number - ota.REDUCED for number in numbers if number >= ota.REDUCED}
    told.lines.append(Line("fragments", f"{len(have)} of {setup.fragments}"))
    told.lines.append(Line("rows", f"{len(rows)} of parity", f"{len(worked)} worked on" if worked else ""))
    missing = [str(number) for number in range(1, setup.fragments + 1) if number not in have]
    if missing:
        more = f" and {len(missing) - 12} more" if len(missing) > 12 else ""
        told.lines.append(Line("missing", ", ".join(missing[:12]) + more))
    return told


def _entries(data: bytes) -> tuple[bytes, list[int], str]:
    """Entry 0, the numbers of all others in their order, and what is wrong."""
    head = b""
    numbers: list[int] = []
    width = at = 0
    while at < len(data):
        number, length = int.from_bytes(data[at : at + 2], "big"), data[at + 2] if at + 2 < len(data) else 0
        content = data[at + _ENTRY_HEAD : at + _ENTRY_HEAD + length]
        if at + _ENTRY_HEAD + length > len(data):
            return head, numbers, f"ends within entry {number}, at byte {at}"
        if not at:
            head = content if number == ota.HEAD else b""
        elif width and length != width:
            return head, numbers, f"entry {number} at byte {at} has {length} bytes, the others {width}"
        else:
            width = length
            numbers.append(number)
        at += _ENTRY_HEAD + length
    return head, numbers, ""


def tell_file(data: bytes) -> Told | None:
    """One of these, by its content; None: none of them."""
    for name, tell in ((PENDING, tell_pending), (SLOTS, tell_slots)):
        found = document.decode(name, data)
        if found is not None:
            told = tell(found[1])
            told.lines.append(
                Line("copy", f"generation {found[0]}", f"of document {name}; its checksum is right")
            )
            return told
    if is_release(data):
        return tell_release(data)
    if is_pieces(data):
        return tell_pieces(data)
    return None


def name_of(data: bytes) -> str:
    """What of updates these bytes are, in a sentence; "" when they are none of it."""
    for name, what in ((PENDING, "an update under way"), (SLOTS, "which slot of `app` is started")):
        if document.decode(name, data) is not None:
            return f"its checksum is that of the document {name}: {what}"
    if is_release(data):
        return "an array of version 1 with keys in it: release.cbor of a bundle"
    if is_pieces(data):
        return "begins with entry 0 and the setup of a session: the pieces of an update, as a node keeps them"
    if is_payload(data):
        return "begins with version 1 and a window, and a deflate stream follows: the payload of an update"
    if is_bundle(data):
        return "begins with the path and the size of a file: the bundle of a release"
    return ""


def is_payload(data: bytes) -> bool:
    if not _holds(lambda: delta.base_of(data[: delta.HEAD_BYTES])):
        return False
    inflating = zlib.decompressobj(-15)
    try:
        return bool(inflating.decompress(data[delta.HEAD_BYTES :], 64)) or inflating.eof
    except zlib.error:
        return False


def is_bundle(data: bytes) -> bool:
    """Its first two files lie one behind the other."""
    at = 0
    for _ in range(2):
        end = at + 1 + data[at] if at < len(data) else at
        path = data[at + 1 : end]
        if not path or len(data) < end + 3 or not path.isascii():
            return False
        if not _holds(lambda path=path: bundle.check_path(path.decode(), "")):  # type: ignore[misc]
            return False
        at = end + 3 + int.from_bytes(data[end : end + 3], "big")
    return at <= len(data)


def is_release(data: bytes) -> bool:
    return data[:2] == b"\x86\x01" and _holds(lambda: release.decode(data))


def is_pieces(data: bytes) -> bool:
    """An entry 0 with a setup in it, or with a session alone."""
    if data[:2] != b"\0\0" or len(data) < _ENTRY_HEAD + 2:
        return False
    if data[2] == 2:
        return len(data) == _ENTRY_HEAD + 2
    return data[2] == _HEAD_BYTES and _holds(lambda: ota.decode_setup(data[5 : _ENTRY_HEAD + _HEAD_BYTES]))


def _holds(decode: Callable[[], object]) -> bool:
    try:
        decode()
    except WireError:
        return False
    return True
