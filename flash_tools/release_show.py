"""What people want to know of a release: what changed, how large it is, how long it is on the air."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import cbor2

from flash_tools import release_micropython
from flash_tools.errors import ReleaseError
from flash_tools.release_book import Release, unpack
from protocols import delta as making
from protocols.inspection import updates
from protocols.wire import airtime, delta, manifest
from protocols.wire.errors import WireError
from protocols.wire.law import CN470, Law
from protocols.wire.release import FILE

SPREADING_FACTORS = (7, 8, 9, 10)
# Of each packet: the envelope (flag, three bytes of PIV, kid, tag), the message around a fragment, the fragment's head.
OVERHEAD = 15 + 8 + 3


class Air(NamedTuple):
    """``frames`` so many packets, ``us`` on the air in all, without those that are sent again."""

    sf: int
    frames: int
    us: int


def room(sf: int) -> int:
    """Bytes of an update in one packet, by the law of China."""
    return Law(CN470).size_max(sf) - OVERHEAD


def on_air(size: int, sf: int) -> Air:
    frames = -(-size // room(sf))
    last = size - (frames - 1) * room(sf)
    full_us, last_us = (
        airtime.time_on_air_us(airtime.lora(sf), used + OVERHEAD) for used in (room(sf), last)
    )
    return Air(sf, frames, (frames - 1) * full_us + last_us)


def seconds(us: int) -> str:
    if us >= 600_000_000:
        return f"{us / 60e6:.1f} min"
    return f"{us / 1e6:.1f} s" if us < 100_000_000 else f"{us / 1e6:.0f} s"


@dataclass(frozen=True)
class Change:
    """``what``: added, removed, changed or same. ``delta``: what this module alone costs in a delta, None for same."""

    path: str
    what: str
    old: int
    new: int
    delta: int | None


def changes(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> list[Change]:
    """Module by module, in the order of the bundle."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before == after:
            what, cost = "same", None
        else:
            what = "removed" if after is None else "added" if before is None else "changed"
            one = making.make(
                {} if before is None else {path: before}, {} if after is None else {path: after}
            )
            cost = len(one) - delta.HEAD_BYTES
        found.append(Change(path, what, len(before or b""), len(after or b""), cost))
    return found


def summary(found: list[Change]) -> str:
    counts = {
        what: sum(change.what == what for change in found) for what in ("changed", "added", "removed", "same")
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def envelope_lines(data: bytes) -> list[str]:
    """A SUIT envelope, taken apart by cbor2 and told to a person. Nothing is verified."""
    try:
        whole = cbor2.loads(data)
        digest, block = cbor2.loads(whole.value[2])[:2]
        protected, unprotected, _, signature = cbor2.loads(block).value
        said = cbor2.loads(whole.value[3])
        common = cbor2.loads(said[3])
        shared = cbor2.loads(common[4])
        parameters = next(shared[at + 1] for at in range(0, len(shared), 2) if shared[at] == 20)
        install = cbor2.loads(said[20])
        payload = next(install[at + 1] for at in range(0, len(install), 2) if install[at] == 20)
        algorithm = cbor2.loads(protected)[1]
        return [
            f"envelope      {len(data)} B, SUIT (tag {whole.tag}), manifest version {said[1]}",
            f"sequence      {said[2]}",
            f"vendor        {parameters[1].hex()}",
            f"class         {parameters[2].hex()}",
            f"bundle        {parameters[14]} B, SHA-256 {cbor2.loads(parameters[3])[1].hex()}",
            f"payload       {payload[14]} B, SHA-256 {cbor2.loads(payload[3])[1].hex()}",
            f"digest        {cbor2.loads(digest)[1].hex()} of {len(whole.value[3])} B",
            f"signature     {_algorithm(algorithm)}, key {unprotected.get(4, b'').hex()}, {len(signature)} B",
        ]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, StopIteration) as error:
        raise ReleaseError(f"no SUIT envelope as releases have them: {error!r}") from error


def _algorithm(number: int) -> str:
    return {manifest.ES256: "ES256", manifest.HSS_LMS: "HSS/LMS"}.get(number, f"algorithm {number}")


def file_lines(data: bytes) -> list[str]:
    """What an update is made of, or what a node keeps of one, told to a person."""
    kept = updates.tell_file(data)
    if kept is not None:
        rows = [
            f"{line.field:13} {line.value}{', ' + line.meaning if line.meaning else ''}"
            for line in kept.lines
        ]
        return [kept.protocol, *rows, *kept.notes, *(f"WRONG: {problem}" for problem in kept.problems)]
    if data[:2] == b"\xd8\x6b":
        return envelope_lines(data)
    if data[:1] == b"\xe9":
        return release_micropython.lines(data)
    try:
        return payload_lines(data)
    except WireError:
        pass
    try:
        files = unpack(data)
    except ReleaseError:
        files = {}
    if not files:
        raise ReleaseError(
            f"no envelope (d86b…), no payload (01…) and no bundle of a release: it begins {data[:8].hex() or 'nowhere'}"
        )
    return [f"{len(content):7d}  {path}" for path, content in files.items()] + [
        f"{len(data):7d}  in {len(files)} files",
        *(f"{line.field:13} {line.value}" for line in updates.tell_release(files.get(FILE, b"")).lines),
    ]


def payload_lines(data: bytes) -> list[str]:
    """What the steps of a payload do, without a base at hand."""
    base = delta.base_of(data[: delta.HEAD_BYTES])
    return [
        f"payload       {len(data)} B, version {data[0]}, window {1 << data[1]} B",
        f"base          {'none: a whole bundle' if base == delta.NO_BASE else base.hex() + '…'}",
    ]


def air_rows(release: Release) -> list[dict[str, Any]]:
    """One row per payload: its size, its envelope's, its share of the bundle, and frames and airtime by SF."""
    rows = []
    for payload in release.payloads:
        envelope = release.envelope(payload)
        rows.append(
            {
                "base": payload.base,
                "name": payload.name,
                "size": payload.size,
                "share": 100 * payload.size / int(release.record["size"]),
                "envelope": None if envelope is None else len(envelope),
                "air": [on_air(payload.size, sf) for sf in SPREADING_FACTORS],
                "envelope_air": None
                if envelope is None
                else [on_air(len(envelope), sf) for sf in SPREADING_FACTORS],
            }
        )
    return rows
