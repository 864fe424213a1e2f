"""A backup is of one moment, whole or not there, holds no key in the clear, and is known for one when it is back."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway import backup, keys, master_key
from gateway.backup import CONFIG, DATABASE, MANIFEST
from gateway.errors import GatewayError, KeyFileError
from gateway.keys import Vault
from gateway.registry import Registry
from tests.gateway.desk import BY, KEYS, MASTER_KEY, HandClock, desk

KEY_ID = Vault(MASTER_KEY).key_id.hex()


def filled(folder: Path, key: bytes = MASTER_KEY) -> Path:
    """A database with nodes and sites, and a configuration beside it."""
    folder.mkdir(exist_ok=True)

    async def scenario() -> None:
        with desk(folder, master_key=key) as office:
            await office.enrol(0x12, 0x13, site="yuhang-3")
            for number in range(3):
                await office.registry.add_site(f"s{number}", None, None, BY)

    asyncio.run(scenario())
    (folder / "gateway.toml").write_text("# it names files, and holds no secret\n")
    return folder / "tidegate.db"


def made(folder: Path, database: Path) -> Path:
    file = folder / "gateway.backup"
    backup.make(database, database.parent / "gateway.toml", None, file, "gw-1", 1_790_000_000_000)
    return file


def sites(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM site").fetchone()[0])


def test_a_backup_comes_back_and_is_known_for_one(tmp_path: Path) -> None:
    database = filled(tmp_path / "a")
    file = made(tmp_path, database)
    told = backup.look(file)
    assert (told.gateway, told.key_id, told.rows["node"], told.rows["site"]) == ("gw-1", KEY_ID, 2, 4)
    assert file.stat().st_mode & 0o777 == 0o600
    there = tmp_path / "b" / "tidegate.db"
    there.parent.mkdir()
    backup.restore(file, there, KEY_ID)
    with desk(there.parent) as office:
        assert office.store.restored, "no downlink number is used twice"
        assert office.registry.keys_of(0x12) == KEYS


def test_neither_the_master_key_nor_a_node_key_is_in_it(tmp_path: Path) -> None:
    key = bytes(range(100, 132))
    file = made(tmp_path, filled(tmp_path / "a", key))
    with tarfile.open(file) as tar:
        assert tar.getnames() == [MANIFEST, DATABASE, CONFIG]
        held = b"".join(tar.extractfile(name).read() for name in tar.getnames())  # type: ignore[union-attr]
    for secret in (KEYS.master_secret, KEYS.master_salt, key, key.hex().encode()):
        assert secret not in held


def test_a_backup_under_load_is_of_one_moment_and_the_writer_does_not_wait(tmp_path: Path) -> None:
    """Rows are written between the steps of the copy: it has those of its begin, all of them, and no other."""
    database = filled(tmp_path / "a")
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40000) "
            "INSERT INTO site SELECT 'x' || i, 'area', hex(zeroblob(50)), 0 FROM n"
        )
        steps = []

        def step(done: int, total: int) -> None:
            steps.append(done)
            writer.execute("INSERT INTO site VALUES (?, 'a', 't', 0)", (f"late-{len(steps)}",))

        file = tmp_path / "b"
        before = sites(database)
        told = backup.make(database, database.parent / "gateway.toml", None, file, "g", 0, step)
        assert steps
        assert sites(database) == before + len(steps)
        assert told.rows["site"] == before


def test_where_there_is_a_database_it_is_replaced_only_when_that_is_said_and_kept(tmp_path: Path) -> None:
    database = filled(tmp_path / "a")
    file = made(tmp_path, database)
    with pytest.raises(GatewayError, match=r"is there already\. --replace"):
        backup.restore(file, database, KEY_ID)
    with pytest.raises(GatewayError, match="is there already; a backup is never overwritten"):
        made(tmp_path, database)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("INSERT INTO site VALUES ('new', 'a', 't', 0)")
    _, aside = backup.restore(file, database, KEY_ID, replace=True)
    assert aside is not None
    assert (sites(database), sites(aside)) == (4, 5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_backup_that_was_cut_short_changes_nothing(tmp_path: Path, share: float) -> None:
    database = filled(tmp_path / "a")
    file = made(tmp_path, database)
    os.truncate(file, int(file.stat().st_size * share))
    before = sorted(path.name for path in database.parent.iterdir())
    try:
        backup.restore(file, database, KEY_ID, replace=True)
    except GatewayError:
        assert sorted(path.name for path in database.parent.iterdir()) == before
    else:  # only the very end was missing: the database is whole, by its digest
        assert share > 0.9
    assert sites(database) == 4


def test_no_byte_of_it_can_be_changed(tmp_path: Path) -> None:
    database = filled(tmp_path / "a")
    good = made(tmp_path, database).read_bytes()
    there = tmp_path / "b" / "tidegate.db"
    there.parent.mkdir()
    file = tmp_path / "altered"
    whole = backup.look(tmp_path / "gateway.backup").sha256[DATABASE]
    # A sample, and all of the end: what lies behind the database is not unpacked.
    for at in (*range(10, len(good), max(1, len(good) // 60)), *range(len(good) - 60, len(good))):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            told, _ = backup.restore(file, there, KEY_ID, replace=True)
        except GatewayError:
            continue
        assert backup.digest_of(there) == whole, f"byte {at} was changed, and so is the database"
        assert told.sha256[DATABASE] == whole
        # Another way to write the same: a run of zeros copied from elsewhere, or a time in the head of the file.
        assert gzip.decompress(file.read_bytes()) == gzip.decompress(good), f"byte {at} was changed unnoticed"


def packed(file: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


GOOD: dict[str, Any] = {
    "format": 1, "gateway": "g", "made_ms": 0, "schema_version": 1, "key_id": "", "sha256": {DATABASE: "0"}, "rows": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([], "does not begin with manifest.json"),
        ([("../../etc/passwd", b"x")], "does not begin with manifest.json"),
        ([(MANIFEST, b"{")], "can not be read"),
        ([(MANIFEST, b"[" * 5000)], "can not be read"),
        ([(MANIFEST, json.dumps({**GOOD, "extra": 1}).encode())], "can not be read"),
        ([(MANIFEST, json.dumps({**GOOD, "format": "1"}).encode())], "can not be read"),
        ([(MANIFEST, json.dumps({**GOOD, "format": 99}).encode())], "made by a newer version"),
        (
            [(MANIFEST, json.dumps({**GOOD, "key_id": "00112233"}).encode())],
            "sealed under master key 00112233",
        ),
        ([(MANIFEST, json.dumps(GOOD).encode())], "has no tidegate.db behind"),
        ([(MANIFEST, json.dumps(GOOD).encode()), ("/etc/x", b"x")], "has no tidegate.db behind"),
        ([(MANIFEST, json.dumps(GOOD).encode()), (DATABASE, b"x")], "altered, or damaged"),
    ],
)
def test_a_file_that_is_no_backup_is_told_and_nothing_is_written(
    tmp_path: Path, members: list[tuple[str, bytes]], told: str
) -> None:
    file = packed(tmp_path / "f", *members)
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(GatewayError, match=told):
        backup.restore(file, folder / "tidegate.db", KEY_ID)
    assert list(folder.iterdir()) == []


def test_what_is_not_a_file_of_ours_at_all(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for file in (tmp_path / "none", tmp_path / "text", tmp_path):
        with pytest.raises(GatewayError):
            backup.look(file)


# --- master key ---------------------------------------------------------------------------------


def keyed(tmp_path: Path) -> tuple[Path, Path]:
    """A database under a key file."""
    key_file = tmp_path / "master.key"
    keys.write_file(key_file, lambda size: MASTER_KEY[:size])
    return filled(tmp_path / "a"), key_file


def keys_under(database: Path, key_file: Path) -> list[object]:
    with desk(database.parent, master_key=keys.load_file(key_file)) as office:
        known = Registry(office.store, Vault(keys.load_file(key_file)), HandClock(), "330106")
        return [known.keys_of(address) for address in (0x12, 0x13)]


def test_after_a_rotation_only_the_new_key_opens_and_the_old_one_is_kept(tmp_path: Path) -> None:
    database, key_file = keyed(tmp_path)
    count, aside = master_key.rotate(database, key_file)
    assert count == 2
    assert keys.load_file(aside) == MASTER_KEY
    assert keys.load_file(key_file) != MASTER_KEY
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert keys_under(database, key_file) == [KEYS, KEYS]
    with pytest.raises(KeyFileError):
        keys_under(database, aside)


@pytest.mark.parametrize("cut", ["write_file", "_seal_anew", "link", "replace"])
def test_a_rotation_that_was_cut_is_finished_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """Cut behind each step: afterwards the same call ends with every key readable under the file in place."""
    database, key_file = keyed(tmp_path)
    place: Any = {"write_file": keys, "_seal_anew": master_key, "link": os, "replace": os}[cut]
    step = getattr(place, cut)

    class Cut(Exception):
        pass

    def cut_behind(*args: object) -> None:
        step(*args)
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(place, cut, cut_behind)
        with pytest.raises(Cut):
            master_key.rotate(database, key_file)
    if cut != "replace":
        aside = [file for file in tmp_path.iterdir() if ".old-" in file.name]
        for file in aside:
            file.unlink()  # the second in which it was named may be the same
        master_key.rotate(database, key_file)
    assert keys_under(database, key_file) == [KEYS, KEYS]
    assert not key_file.with_name("master.key.new").exists()


def test_a_row_that_no_key_opens_stops_the_rotation_before_anything_changed(tmp_path: Path) -> None:
    database, key_file = keyed(tmp_path)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("UPDATE node SET sealed_keys = zeroblob(50) WHERE address = 19")
    with pytest.raises(KeyFileError, match="0013"):
        master_key.rotate(database, key_file)
    assert keys.load_file(key_file) == MASTER_KEY
    with closing(sqlite3.connect(database)) as reader:
        sealed = reader.execute("SELECT sealed_keys FROM node WHERE address = 18").fetchone()[0]
    assert Vault(MASTER_KEY).open(0x12, sealed) == KEYS
