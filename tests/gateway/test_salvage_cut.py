"""The replacement of a damaged database is cut short at every step: the next start finishes it, and loses nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import audit, damage, incarnation, recovery
from gateway.errors import DiskError
from hil_tests.southbound import South, TestNode, tell


class Killed(BaseException):
    """The process is gone."""


def cut(monkeypatch: pytest.MonkeyPatch, where: object, name: str, *, after: bool, turn: int = 1) -> None:
    """The process dies before or after that call, when it comes for the `turn`-th time."""
    real: Callable[..., Any] = getattr(where, name)
    calls = 0

    def dies(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == turn and not after:
            raise Killed
        result = real(*args, **kwargs)
        if calls == turn:
            raise Killed
        return result

    monkeypatch.setattr(where, name, dies)


POINTS = [
    (recovery, "_begin", False, 1),
    (recovery, "_begin", True, 1),
    (os, "rename", True, 1),
    (os, "rename", True, 2),
    (os, "rename", True, 3),
    (incarnation, "sync_folder", False, 2),
    (recovery, "salvage", False, 1),
    (recovery, "salvage", True, 1),
    (damage, "record", True, 1),
    (recovery, "_suspect_file", False, 2),
    (recovery, "trust", True, 1),
]


@pytest.mark.parametrize(
    ("where", "name", "after", "turn", "is_told"),
    [(*point, True) for point in POINTS] + [(*point, False) for point in (POINTS[1], POINTS[4], POINTS[7])],
)
def test_a_kill_while_a_damaged_database_is_replaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    after: bool,
    turn: int,
    is_told: bool,
) -> None:
    """`is_told`: the life before noted that the database is damaged; else opening it shows that."""

    async def story(south: South, node: TestNode) -> None:
        node.give(*(node.reading() for _ in range(50)))
        await node.last_ack()
        south.store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        south.kill()
        if is_told:
            recovery.suspect(south.path, "it was told so")
        else:
            first = bytearray(south.path.read_bytes())
            first[:16] = b"no database now "
            south.path.write_bytes(first)
        with monkeypatch.context() as dying:
            cut(dying, where, name, after=after, turn=turn)
            try:
                south.open()
            except Killed:
                pass
            else:
                south.kill()
        south.open()
        assert south.rows("SELECT count(*) FROM reading") == [(50,)]
        assert [one.known_ms for one in south.store.read(damage.all_of)] == [None], "told once"
        for row in south.store.read(audit.balance):
            assert row.holds, row.line()
        assert not south.path.with_name("gateway.db.replacing").exists()

    tell(tmp_path, story)


def test_a_disk_that_is_full_while_a_damaged_database_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(*(node.reading() for _ in range(50)))
        await node.last_ack()
        south.kill()
        recovery.suspect(south.path, "it was told so")

        def full(*args: object) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        with monkeypatch.context() as short:
            short.setattr(recovery, "salvage", full)
            for _ in range(3):
                with pytest.raises(DiskError, match="disk is full"):
                    south.open()
        south.open()
        assert south.rows("SELECT count(*) FROM reading") == [(50,)]

    tell(tmp_path, story)
