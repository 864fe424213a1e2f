"""The files of a release, as a campaign is given them: taken apart and checked before a node hears of them.

A release is a folder of `tidegate release`: release.json names the class and the payloads, each payload NAME.bin has
its signed envelope NAME.suit beside it. What is checked is what a node would check: the envelope's template, the class,
the sizes and digests, that the whole payload makes the bundle that was signed, and the signature, with the keys that
the release itself lists (whoever signs a release is among them). Which keys a node trusts, only the node knows.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from gateway.errors import CommandError
from protocols import delta as trees
from protocols import suit
from protocols.wire import delta, interpreter, manifest
from protocols.wire import release as release_file
from protocols.wire.errors import WireError

RECORD = "release.json"
# One file of a release: what a manifest can say, and no more is read.
FILE_MAX = manifest.MAX_SIZE


class Part(NamedTuple):
    """One payload with its envelope. `base`: the release that it starts from; None: the whole."""

    name: str
    base: int | None
    envelope: bytes
    payload: bytes

    @property
    def data(self) -> bytes:
        """What a session brings (OTA.md section 4)."""
        return len(self.envelope).to_bytes(2, "big") + self.envelope + self.payload


class Files(NamedTuple):
    """A release for one class."""

    label: str
    node_type: str
    board: str
    sequence: int
    parts: tuple[Part, ...]


def read_folder(folder: Path) -> dict[str, Any]:
    """The files of a release in a folder, as plain data for `parse`. Bytes are hex."""
    if folder.is_file() and folder.name == RECORD:
        folder = folder.parent
    record = folder / RECORD
    if not record.is_file():
        raise CommandError(f"{folder}: {_what_is_there(folder)}")
    document = _record(_read(record), str(record))
    files = {}
    for payload in document["payloads"]:
        for name in (f"{payload['name']}.bin", f"{payload['name']}.suit"):
            path = folder / name
            if not path.is_file():
                hint = " Sign it: tidegate release sign." if name.endswith(".suit") else ""
                raise CommandError(f"{path} is missing; {record} lists it.{hint}")
            files[name] = _read(path).hex()
    wanted = ("sequence", "node_type", "board", "payloads")
    return {"label": str(folder), "record": {key: document[key] for key in wanted}, "files": files}


def _what_is_there(folder: Path) -> str:
    if not folder.exists():
        parent = folder.parent
        names = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
        near = get_close_matches(folder.name, names, 1)
        hint = f" Did you mean {parent / near[0]}?" if near else ""
        return f"there is no such folder.{hint} `tidegate release list` shows the releases there are."
    releases = sorted(path.parent.name for path in folder.glob(f"*/{RECORD}"))
    if releases:
        return f"this is a class, not a release. Name one: {folder / releases[-1]} is its newest."
    return f"no {RECORD} in it: not the folder of a release. `tidegate release build` makes one."


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_MAX + 1)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    if len(data) > FILE_MAX:
        raise CommandError(f"{path}: more than {FILE_MAX} bytes; no file of a release is so large.")
    return data


def _record(data: bytes, where: str) -> dict[str, Any]:
    """Checked as far as it is used."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{where} is not JSON: {error}. Build the release again.") from error
    return checked_record(document, where)


def checked_record(document: Any, where: str) -> dict[str, Any]:
    wanted = {"sequence": int, "node_type": str, "board": str, "payloads": list}
    if not isinstance(document, dict) or any(
        type(document.get(key)) is not kind for key, kind in wanted.items()
    ):
        raise CommandError(f"{where} is no record of a release: it must have {', '.join(wanted)}.")
    if document["node_type"] == interpreter.NAME:
        which = f"{interpreter.NAME}-{document['board']}/{document['sequence']}"
        raise CommandError(
            f"{where} is of MicroPython itself, which goes over a cable only, never on the air. A campaign takes "
            f"releases of programs. Bring it to each node at a cable: tidegate node update {which:.80}"
        )
    for payload in document["payloads"]:
        name = payload.get("name") if isinstance(payload, dict) else None
        if not isinstance(name, str) or not name.replace("-", "").isalnum() or len(name) > 40:
            raise CommandError(
                f"{where}: a payload is called {name!r:.60}; allowed are letters, digits and -."
            )
        base = payload.get("base")
        if base is not None and type(base) is not int:
            raise CommandError(
                f"{where}: payload {name} has base {base!r:.40}; allowed is a sequence, or null."
            )
    if not document["payloads"] or len(document["payloads"]) > 16:
        raise CommandError(f"{where} lists {len(document['payloads'])} payloads; allowed are 1 to 16.")
    return document


def parse(given: Any) -> Files:
    """Check what `read_folder` gave (or somebody else, by the API). Raises CommandError: found, allowed, what to do."""
    if not isinstance(given, dict) or not isinstance(given.get("files"), dict):
        raise CommandError(
            "a release is {label, record, files}: as `tidegate campaign add` makes it of a folder."
        )
    label = str(given.get("label", "release"))[:200]
    record = checked_record(given.get("record"), f"{label}/{RECORD}")
    parts = tuple(_part(label, given["files"], entry) for entry in record["payloads"])
    whole = next((part for part in parts if part.base is None), None)
    if whole is None:
        raise CommandError(
            f"{label}: no payload that needs no base; nodes that run anything else could not follow."
        )
    running, made = _inside(label, whole)
    for part in parts:
        _check(label, part, running, record, made)
    return Files(label, record["node_type"], record["board"], record["sequence"], parts)


def _part(label: str, files: dict[str, Any], entry: dict[str, Any]) -> Part:
    found = []
    for name in (f"{entry['name']}.suit", f"{entry['name']}.bin"):
        text = files.get(name)
        try:
            found.append(bytes.fromhex(text) if isinstance(text, str) else b"")
        except ValueError as error:
            raise CommandError(f"{label}: {name} is not given as hexadecimal digits.") from error
        if not found[-1]:
            raise CommandError(f"{label}: {name} is empty or missing. Build and sign the release again.")
    # Told first: what is wrong inside of an altered file would only mislead.
    digest = hashlib.sha256(found[1])
    if digest.digest() not in found[0]:
        raise CommandError(
            f"{label}: {entry['name']}.bin ({len(found[1])} bytes, SHA-256 {digest.hexdigest()[:16]}…) "
            f"is not the payload that {entry['name']}.suit was signed for. Build and sign the release again."
        )
    return Part(entry["name"], entry.get("base"), found[0], found[1])


def _inside(label: str, whole: Part) -> tuple[release_file.Release, tuple[int, bytes]]:
    """What the whole payload says of itself once it is applied, and (size, digest) of the bundle that it makes."""
    target = trees.Memory()
    try:
        made = delta.apply(io.BytesIO(whole.payload), trees.Memory(), target)
        return release_file.decode(target.files[release_file.FILE]), made
    except WireError as error:
        raise CommandError(
            f"{label}: {whole.name}.bin is no payload: {error}. Build the release again."
        ) from error
    except KeyError as error:
        raise CommandError(
            f"{label}: the bundle has no {release_file.FILE}: its nodes would trust nobody. Build it with `tidegate "
            f"release build`."
        ) from error


def _check(
    label: str, part: Part, running: release_file.Release, record: dict[str, Any], made: tuple[int, bytes]
) -> None:
    where = f"{label}/{part.name}"
    before = release_file.device(running, manifest.MAX_SIZE, manifest.MAX_SIZE)._replace(
        sequence=record["sequence"] - 1
    )
    try:
        said = manifest.match(part.envelope, before, running.keys)
    except WireError as error:
        raise CommandError(
            f"{where}.suit: {error.reason}: {error}. Nodes would refuse it; build and sign the release again."
        ) from error
    if said.sequence != record["sequence"] or running.sequence != said.sequence:
        raise CommandError(
            f"{where}.suit is of release {said.sequence}, the bundle of {running.sequence}, {RECORD} says "
            f"{record['sequence']}. Keep the files of a release together."
        )
    wanted = suit.class_id(uuid.UUID(bytes=running.vendor), record["node_type"], record["board"]).bytes
    if running.class_id != wanted:
        raise CommandError(
            f"{label}: the bundle is not for {record['node_type']} on {record['board']}: its class is "
            f"{running.class_id.hex()}, that one's {wanted.hex()}. Somebody renamed a folder or its record."
        )
    if (len(part.payload), hashlib.sha256(part.payload).digest()) != (said.payload_size, said.payload_digest):
        raise CommandError(
            f"{where}.bin has {len(part.payload)} bytes, SHA-256 {hashlib.sha256(part.payload).hexdigest()[:16]}…; "
            f"{part.name}.suit was signed for {said.payload_size} bytes, {said.payload_digest.hex()[:16]}…. "
            f"Build and sign the release again."
        )
    if (said.size, said.digest) != made:
        raise CommandError(
            f"{where}.suit was signed for another bundle than the whole payload makes. Build it again."
        )
    _check_base(label, part)


def _check_base(label: str, part: Part) -> None:
    try:
        base = delta.base_of(part.payload[: delta.HEAD_BYTES])
    except WireError as error:
        raise CommandError(
            f"{label}/{part.name}.bin is no payload: {error}. Build the release again."
        ) from error
    if (base == delta.NO_BASE) != (part.base is None):
        told = "needs no base" if base == delta.NO_BASE else f"starts from a bundle {base.hex()}"
        raise CommandError(f"{label}/{part.name}.bin {told}; {RECORD} says base {part.base}.")
