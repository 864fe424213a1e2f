"""From a source tree to what is sent to nodes: bundle, payloads, envelopes; and whether all of it is what it says.

The bundle depends on the sources, the sequence number, the keys of the book and the names of the release before it, and
on nothing else: not on where or when it was built.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flash_tools import release_micropython
from flash_tools.errors import ReleaseError
from flash_tools.images import slot_tree
from flash_tools.naming import Names
from flash_tools.release_book import BUNDLE, Book, Payload, Release, next_sequence, save_record, write
from flash_tools.signing import Signer, leaf_of
from protocols import delta as making
from protocols import suit
from protocols.wire import delta, manifest
from protocols.wire import release as release_file
from protocols.wire.errors import WireError

# Deltas that are made unless others are asked for: a node that was away for one release is not sent the whole.
DELTAS = 2
# Where a bundle comes from.
_SOURCES = ("boards", "firmware", "protocols")


def files_of(
    root: Path, book: Book, sequence: int, node_type: str, board: str, names: Names
) -> dict[str, bytes]:
    """Path -> content of one slot."""
    files = slot_tree(root, board, node_type, names)
    return files | {release_file.FILE: book.release_file(sequence, node_type, board)}


def build(
    book: Book,
    root: Path,
    node_type: str,
    board: str,
    against: list[int] | None = None,
    sequence: int | None = None,
    notes: str = "",
) -> Release:
    """A new release, not signed yet. ``against``: releases to make deltas from; None: the last ones."""
    earlier = book.releases(node_type, board)
    sequence = next_sequence(earlier, sequence)
    bases = _bases(earlier, against)
    names = earlier[-1].names if earlier else Names()
    files = files_of(root, book, sequence, node_type, board, names)
    said = {
        "notes": notes,
        "commit": commit_of(root),
        "after": earlier[-1].sequence if earlier else None,
        "names": names.dump(),
    }
    return put(book, node_type, board, sequence, files, bases, said)


def put(
    book: Book,
    node_type: str,
    board: str,
    sequence: int,
    files: Mapping[str, bytes],
    bases: list[Release],
    said: Mapping[str, Any],
) -> Release:
    """A release of these files into the book. ``said``: what else its record says."""
    data = making.pack(files)
    folder = book.folder / f"{node_type}-{board}" / f"{sequence:04d}"
    payloads: list[tuple[int | None, str, bytes]] = [(None, "full", making.make(None, files))]
    payloads += [
        (base.sequence, f"from-{base.sequence:04d}", making.make(base.files(), files)) for base in bases
    ]
    record: dict[str, Any] = {
        "version": 1,
        "sequence": sequence,
        "node_type": node_type,
        "board": board,
        **said,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "payloads": [
            {"base": base, "name": name, "size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
            for base, name, payload in payloads
        ],
    }
    write(folder / BUNDLE, data)
    for _, name, payload in payloads:
        write(folder / f"{name}.bin", payload)
    # The record comes last: a folder without one is no release, and is built over.
    save_record(folder, record)
    return book.open(folder)


def _bases(earlier: list[Release], against: list[int] | None) -> list[Release]:
    if against is None:
        return earlier[-DELTAS:]
    known = {release.sequence: release for release in earlier}
    for sequence in against:
        if sequence not in known:
            raise ReleaseError(
                f"--against {sequence}: there is no such release; there are "
                + (", ".join(map(str, known)) or "none")
            )
    return [known[sequence] for sequence in sorted(set(against))]


def commit_of(root: Path) -> str | None:
    """What the sources are of, for people: a commit, with + where files differ from it."""
    # A new file that nobody added is compiled as well.
    commands = (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", *_SOURCES])
    answers = []
    for command in commands:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return None
        if done.returncode:
            return None
        answers.append(done.stdout.strip())
    return answers[0] + ("+" if answers[1] else "")


def contents(book: Book, release: Release, payload: Payload) -> suit.Contents:
    """What the manifest of a payload says."""
    return suit.Contents(
        sequence=release.sequence,
        vendor=uuid.UUID(bytes=book.vendor_id),
        class_id=uuid.UUID(bytes=book.class_id(release.record["node_type"], release.record["board"])),
        size=int(release.record["size"]),
        digest=bytes.fromhex(release.record["sha256"]),
        payload_size=payload.size,
        payload_digest=bytes.fromhex(payload.sha256),
    )


def asked(book: Book, release: Release) -> list[tuple[str, release_file.Release]]:
    """Those of them whose nodes it is made for."""
    if release_micropython.is_one(release):
        return release_micropython.asked(book, release.record["board"])
    # The first of its class is flashed, not sent: it is held to its own keys.
    return trusting(book, release)[-1:] or [_itself(release)]


def trusting(book: Book, release: Release) -> list[tuple[str, release_file.Release]]:
    """Who will be asked to take this release, by the release it runs, and whom that one trusts."""
    earlier = [one for one in book.releases(release.record["node_type"], release.record["board"])
               if one.sequence < release.sequence]  # fmt: skip
    return [(one.label, release_file.decode(one.files()[release_file.FILE])) for one in earlier]


def _itself(release: Release) -> tuple[str, release_file.Release]:
    return release.label, release_file.decode(release.files()[release_file.FILE])


def sign(book: Book, release: Release, signer: Signer) -> list[Path]:
    """Envelopes for all payloads of a release."""
    problems = [problem for _, problem in check(book, release, signed=False) if problem]
    if problems:
        raise ReleaseError(f"{release.label} is not signed: {problems[0]}")
    for label, running in asked(book, release):
        trusted = [key.kid for key in running.keys if not key.is_revoked]
        if signer.kid not in trusted:
            raise ReleaseError(
                f"key {signer.kid.hex()} is not trusted by nodes that run {label}: they would refuse this "
                f"release. Allowed: {', '.join(kid.hex() for kid in trusted)}"
            )
    if signer.kid.hex() in book.data["revoked"]:
        raise ReleaseError(f"key {signer.kid.hex()} is revoked: {book.data['revoked'][signer.kid.hex()]}")
    _check_count(book, signer)
    if signer.left is not None and signer.left() < len(release.payloads):
        raise ReleaseError(
            f"the key has {signer.left()} signatures left, {release.label} needs {len(release.payloads)}: "
            "sign with another key, or build it with fewer --against"
        )
    written = []
    for payload in release.payloads:
        envelope = suit.envelope(
            suit.manifest(contents(book, release, payload)), signer.algorithm, signer.kid, signer.sign
        )
        path = release.folder / f"{payload.name}.suit"
        write(path, envelope)
        written.append(path)
    return written


def _check_count(book: Book, signer: Signer) -> None:
    """A count from an older backup would let leaves sign twice. What they signed is here to be seen."""
    if signer.used is None:
        return
    used = signer.used()
    for path in sorted(book.folder.glob("*/[0-9]*/*.suit")):
        try:
            leaf = leaf_of(path.read_bytes(), signer.kid)
        except OSError as error:
            raise ReleaseError(f"{path}: {error.strerror}; it may have a signature of this key") from error
        if leaf is not None and leaf >= used:
            raise ReleaseError(
                f"the count of key {signer.kid.hex()} says {used}, and {path} has its signature number {leaf + 1}: "
                "the count is of an older backup, and a leaf that signs twice gives the key away. Restore the newest "
                "count, or write a number into it that is surely higher than all signatures the key ever made; "
                "who does not know one revokes the key"
            )


def check(book: Book, release: Release, *, signed: bool = True) -> Iterator[tuple[str, str]]:
    """(what was checked, what is wrong or ""), each as a node would: with the code that runs there."""
    if release_micropython.is_one(release):
        yield from release_micropython.check(book, release, signed=signed)
        return
    data = release.bundle()
    found = hashlib.sha256(data).hexdigest()
    yield f"bundle {len(data)} B", _differs(found, release.record["sha256"], "SHA-256")
    running = release_file.decode(release.files()[release_file.FILE])
    expected = (
        release.sequence,
        book.vendor_id,
        book.class_id(release.record["node_type"], release.record["board"]),
    )
    yield release_file.FILE, "" if running[:3] == expected else "it says another sequence, vendor or class"
    for payload in release.payloads:
        yield f"{payload.name}.bin", _payload_problem(book, release, payload)
        if signed:
            yield f"{payload.name}.suit", _envelope_problem(book, release, payload)


def _differs(found: str, wanted: str, what: str) -> str:
    return "" if found == wanted else f"{what} {found[:16]}…, the record says {wanted[:16]}…"


def _payload_problem(book: Book, release: Release, payload: Payload) -> str:
    data = release.payload(payload)
    problem = _differs(hashlib.sha256(data).hexdigest(), payload.sha256, "SHA-256")
    if problem:
        return problem
    if len(data) != payload.size:
        return f"{len(data)} bytes, the record says {payload.size}"
    base: Mapping[str, bytes] = {}
    if payload.base is not None:
        group = f"{release.record['node_type']}-{release.record['board']}"
        base = book.find(f"{group}/{payload.base}").files()
    named = delta.base_of(data[: delta.HEAD_BYTES])
    if named != (making.base_name(base) if base else delta.NO_BASE):
        return f"it is for a base {named.hex()}, not for release {payload.base}"
    target = making.Memory()
    try:
        size, digest = delta.apply(io.BytesIO(data), making.Memory(base), target)
    except WireError as error:
        return str(error)
    if (size, digest.hex()) != (release.record["size"], release.record["sha256"]):
        return "it makes another bundle"
    return ""


def _envelope_problem(book: Book, release: Release, payload: Payload) -> str:
    envelope = release.envelope(payload)
    if envelope is None:
        return "not signed: tidegate release sign"
    before = trusting(book, release)
    # The first release is not sent but flashed; it is held to its own keys.
    judge = before[-1][1] if before else release_file.decode(release.files()[release_file.FILE])
    device = release_file.device(judge, manifest.MAX_SIZE, manifest.MAX_SIZE)
    if not before:
        device = manifest.Device(device.vendor, device.class_id, 0, device.size_max, device.payload_max)
    try:
        said = manifest.match(envelope, device, judge.keys)
    except WireError as error:
        return f"{error.reason}: {error}"
    wanted = contents(book, release, payload)
    is_same = (said.size, said.digest, said.payload_size, said.payload_digest, said.sequence) == (
        wanted.size, wanted.digest, wanted.payload_size, wanted.payload_digest, wanted.sequence,
    )  # fmt: skip
    return "" if is_same else "it is of another payload"
