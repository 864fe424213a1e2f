"""A copy of the gateway's state in one file, and back: for a card that wears out and a box that drowns.

    gateway.backup = tar.gz of      manifest.json     what it is: gateway, time, schema, master key's id, digests
                                    tidegate.db       the database, as of one moment
                                    gateway.toml      the configuration; profiles/*.toml: the user's own

The copy is taken while the daemon runs, from one snapshot, and the writer never waits for it. Keys of nodes are in it
as they are in the database: encrypted. The master key is NOT in it: who finds the file has nothing, and who restores it
needs the master key's own copy. What was acknowledged after the copy is not in it; what was delivered of that is with
the northbounds. A restored database knows that it is one (incarnation.py): no number is used twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gateway import limits, recovery, schema
from gateway.errors import GatewayError
from gateway.incarnation import sync_folder

FORMAT = 1
MANIFEST, DATABASE, CONFIG, PROFILES = "manifest.json", "tidegate.db", "gateway.toml", "profiles/"
_CHUNK = 1024 * 1024
_PAGES = 512
# (done, of how many): in pages or bytes, for a bar.
OnStep = Callable[[int, int], None]


class Manifest(NamedTuple):
    """What a backup says of itself."""

    format: int
    gateway: str
    made_ms: int
    schema_version: int
    key_id: str  # of the master key that the node keys in it are sealed under; "": it has none
    sha256: dict[str, str]
    rows: dict[str, int]


def make(
    database: Path,
    config: Path,
    profiles: Path | None,
    target: Path,
    gateway: str,
    made_ms: int,
    on_step: OnStep = lambda done, total: None,
) -> Manifest:
    """Write a backup to `target`, which must not exist. Raises GatewayError; then there is none."""
    if target.exists():
        raise GatewayError(f"{target}: is there already; a backup is never overwritten.")
    copy, part = target.with_name(target.name + ".db"), target.with_name(target.name + ".part")
    try:
        _copy(database, copy, on_step)
        files = {DATABASE: copy, CONFIG: config}
        if profiles is not None:
            files |= {
                PROFILES + file.name: file for file in sorted(profiles.glob("*.toml"))[: limits.PROFILES_MAX]
            }
        manifest = _manifest(copy, files, gateway, made_ms)
        _pack(part, files, manifest)
        os.replace(part, target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as exc:
        raise GatewayError(f"{target}: the backup was not made: {exc}.") from exc
    finally:
        for left in (copy, part):
            left.unlink(missing_ok=True)
    return manifest


def _copy(database: Path, copy: Path, on_step: OnStep) -> None:
    """The database as of one moment. The open read transaction keeps that moment while others write."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        contextlib.closing(schema.connect_reader(str(database), cache_kib=2048)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM meta").fetchone()
        source.backup(
            target,
            pages=_PAGES,
            progress=lambda _status, left, total: on_step(total - left, total),
            sleep=0.0,
        )
        target.execute("PRAGMA journal_mode = DELETE")
        _check(target)


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise GatewayError(
            f"the copy of the database is damaged: {verdict}. Is the database itself? See the log."
        )


def _manifest(copy: Path, files: dict[str, Path], gateway: str, made_ms: int) -> Manifest:
    with contextlib.closing(schema.connect_reader(str(copy), cache_kib=2048)) as connection:
        rows = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("node", "site", "reading", "event", "command")
        }
        version, key_id = schema.version(connection), key_id_of(connection)
    digests = {name: digest_of(file) for name, file in files.items()}
    return Manifest(FORMAT, gateway, made_ms, version, key_id, digests, rows)


def key_id_of(connection: sqlite3.Connection) -> str:
    """Hexadecimal id of the master key that the keys of nodes are sealed under; "" when there are none."""
    row = connection.execute("SELECT sealed_keys FROM node WHERE sealed_keys IS NOT NULL LIMIT 1").fetchone()
    return "" if row is None else bytes(row[0][1:5]).hex()


def _pack(part: Path, files: dict[str, Path], manifest: Manifest) -> None:
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=3) as tar:
            head = json.dumps(manifest._asdict(), indent=1).encode()
            member = tarfile.TarInfo(MANIFEST)
            member.size = len(head)
            tar.addfile(member, io.BytesIO(head))  # first: it is read without the rest
            for name, file in files.items():
                with file.open("rb") as content:
                    member = tarfile.TarInfo(name)
                    member.size = os.fstat(content.fileno()).st_size
                    tar.addfile(member, content)
        stream.flush()
        os.fsync(stream.fileno())


def look(file: Path) -> Manifest:
    """What a backup says of itself. Raises GatewayError for a file that is none."""
    with _opened(file) as tar:
        return _read_manifest(file, tar)


def restore(
    file: Path,
    database: Path,
    key_id: str,
    *,
    replace: bool = False,
    on_step: OnStep = lambda done, total: None,
) -> tuple[Manifest, Path | None]:
    """Put the database of a backup in place; the caller holds the data directory. Raises GatewayError; then what was
    there is as it was. `key_id`: of the master key that the gateway has. Returns where the old one was moved to.
    """
    if database.exists() and not replace:
        raise GatewayError(
            f"{database}: is there already. --replace puts the backup in its place and keeps the old one aside."
        )
    new = database.with_name(database.name + ".restored")
    try:
        with _opened(file) as tar:
            manifest = _read_manifest(file, tar)
            _may_be_used(file, manifest, key_id)
            _unpack(file, tar, manifest, new, on_step)
        with contextlib.closing(sqlite3.connect(new)) as connection:
            _check(connection)
        aside = _set_aside(database)
        os.replace(new, database)
        recovery.trust(database)
        sync_folder(database.parent)
    except (OSError, sqlite3.Error) as exc:
        raise GatewayError(f"{file}: was not restored: {exc}.") from exc
    finally:
        new.unlink(missing_ok=True)
    return manifest, aside


def _may_be_used(file: Path, manifest: Manifest, key_id: str) -> None:
    if manifest.format > FORMAT or manifest.schema_version > schema.SCHEMA_VERSION:
        raise GatewayError(
            f"{file}: was made by a newer version (format {manifest.format}, schema {manifest.schema_version}; "
            f"this one knows {FORMAT} and {schema.SCHEMA_VERSION}). Install that version first."
        )
    if manifest.key_id and manifest.key_id != key_id:
        raise GatewayError(
            f"{file}: its node keys are sealed under master key {manifest.key_id}, and the one of this gateway is "
            f"{key_id}. Put the master key's own copy where gateway.toml names it."
        )


def _set_aside(database: Path) -> Path | None:
    """Move what is there out of the way, log and all: a log left behind would be folded into the new one."""
    if not database.exists():
        for suffix in ("-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = database.with_name(f"{database.name}.replaced-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{database}{suffix}", f"{aside}{suffix}")
    return aside


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:gz") as tar:
            yield tar
    except FileNotFoundError as exc:
        raise GatewayError(f"{file}: no such file.") from exc
    except (tarfile.TarError, zlib.error, EOFError, OSError) as exc:
        raise GatewayError(f"{file}: is no backup, or is cut short: {exc}.") from exc


def _read_manifest(file: Path, tar: tarfile.TarFile) -> Manifest:
    member = tar.next()
    if member is None or member.name != MANIFEST or not member.isfile() or member.size > _CHUNK:
        raise GatewayError(f"{file}: is no backup of a gateway: it does not begin with {MANIFEST}.")
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    try:
        told: dict[str, Any] = json.loads(content.read())
        manifest = Manifest(**told)
        numbers: tuple[Any, ...] = (manifest.format, manifest.schema_version, manifest.made_ms)
        if not all(type(number) is int for number in numbers) or DATABASE not in manifest.sha256:
            raise ValueError("not as expected")
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise GatewayError(f"{file}: its {MANIFEST} can not be read: {exc}.") from exc
    return manifest


def _unpack(file: Path, tar: tarfile.TarFile, manifest: Manifest, new: Path, on_step: OnStep) -> None:
    """The database and nothing else, by name: nothing in the file says where it goes."""
    member = tar.next()
    if member is None or member.name != DATABASE or not member.isfile():
        raise GatewayError(f"{file}: has no {DATABASE} behind its {MANIFEST}.")
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    digest, done = hashlib.sha256(), 0
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        while piece := content.read(_CHUNK):
            stream.write(piece)
            digest.update(piece)
            done += len(piece)
            on_step(done, member.size)
        stream.flush()
        os.fsync(stream.fileno())
    # To the end, where the check sum of all of it stands: it covers what has no digest, too.
    stream_of_all = tar.fileobj
    assert stream_of_all is not None  # it is open
    while stream_of_all.read(_CHUNK):
        pass
    if digest.hexdigest() != manifest.sha256[DATABASE]:
        raise GatewayError(f"{file}: its {DATABASE} is not what its {MANIFEST} says: altered, or damaged.")


def digest_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
