"""Damaged pages of a database, wherever they are: what was acknowledged is there unaltered, or is listed as lost."""

from __future__ import annotations

import asyncio
import copy
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway import audit, damage, incarnation, salvage, sqlite_pages
from gateway.intervals import Intervals
from hil_tests.southbound import GOOD_SET, South, TestNode
from protocols.wire import codes

PAGE = 4096
NODES = (0x12, 0x13, 0x14)
RECORDS = 400
Damager = Callable[[bytearray, random.Random], None]


class Kept(NamedTuple):
    """A filled database, and its nodes as they are."""

    folder: Path
    nodes: list[TestNode]

    def nodes_at(self, south: South) -> list[TestNode]:
        nodes = [copy.copy(node) for node in self.nodes]
        for node in nodes:
            node.south = south
            node.random = random.Random(node.address)
            node.oldest = RECORDS + 1  # everything was acknowledged
        return nodes


async def filled(folder: Path) -> list[TestNode]:
    """Three nodes, alarms among their readings; half of it in the file, the rest in its log; and a kill."""
    south = South(folder / "gateway.db", NODES, wal_mib=1)
    nodes = [TestNode(south, address, seed=address) for address in NODES]
    for node in nodes:
        await node.join()
    rng = random.Random(5)
    for turn in range(RECORDS // 20):
        for node in nodes:
            for index in range(20):
                values = tuple(value + rng.randrange(3) for value in GOOD_SET)
                node.give(
                    node.event(code=codes.URGENT_CODES + 1) if index == 7 else node.reading(values=values)
                )
        await south.commit()
        if turn == RECORDS // 40:
            south.store.want_sweep = True
            for _ in range(4):
                await south.commit()
            south.store._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    south.store.save_progress("city", 10, 101, b"")
    await south.commit()
    keep(folder)
    south.kill()
    return nodes


def keep(folder: Path) -> None:
    """As a kill or a power cut would leave it."""
    for file in list(folder.glob("gateway.db*")):
        shutil.copyfile(file, folder / file.name.replace("gateway", "kept"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    return Kept(folder, asyncio.run(filled(folder)))


def truth(kept: Kept) -> dict[tuple[int, int], tuple[object, ...]]:
    """(node, seq): what was stored; every one of them was acknowledged."""
    database = kept.folder / "truth.db"
    for suffix in ("", "-wal"):
        shutil.copyfile(kept.folder / f"kept.db{suffix}", f"{database}{suffix}")
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT node, seq, 'r', body, r.time FROM reading r JOIN epoch e ON e.id = r.epoch"
            " UNION ALL SELECT node, seq, code, detail, v.time FROM event v JOIN epoch e ON e.id = v.epoch"
        ).fetchall()
    connection.close()
    return {(row[0], row[1]): row[2:] for row in rows}


def garble(page: bytearray, rng: random.Random) -> None:
    page[:] = rng.randbytes(len(page))


def wipe(page: bytearray, rng: random.Random) -> None:
    page[:] = bytes(len(page))


def flip(page: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 20)):
        page[rng.randrange(len(page))] ^= 1 << rng.randrange(8)


def tear(page: bytearray, rng: random.Random) -> None:
    """The second half of an older write."""
    page[2048:] = rng.randbytes(2048)


DAMAGERS: tuple[Damager, ...] = (garble, wipe, flip, tear)


def spoil(kept: Kept, folder: Path, rng: random.Random) -> None:
    """One to three pages of the file or its log."""
    for suffix in ("", "-wal", ".run", ".roots"):
        shutil.copyfile(kept.folder / f"kept.db{suffix}", folder / f"gateway.db{suffix}")
    for _ in range(rng.randrange(1, 4)):
        file = folder / rng.choice(("gateway.db", "gateway.db", "gateway.db-wal"))
        data = bytearray(file.read_bytes())
        at = rng.randrange(len(data) // PAGE) * PAGE
        page = data[at : at + PAGE]
        rng.choice(DAMAGERS)(page, rng)
        data[at : at + PAGE] = page
        file.write_bytes(data)


async def outcome(
    folder: Path, kept: Kept, known: dict[tuple[int, int], tuple[object, ...]]
) -> tuple[int, int, bool]:
    """(found unaltered, listed or not claimed, salvaged) once the nodes have spoken again; asserts the contract."""
    south = South(folder / "gateway.db", NODES)
    for _ in range(3):  # when opening it did not show the damage, its use does
        try:
            await read_all(south)
            break
        except sqlite3.DatabaseError:
            assert south.store.corrupt
            south.kill()
            south.open()
    south.random.seed(99)  # other challenges than the first time
    was_salvaged = bool(south.store.read(damage.all_of))
    for node in kept.nodes_at(south):
        await speak(south, node)
    found = rows_of(south)
    listed = listed_of(south)
    for key, content in known.items():
        if key in found:
            assert found[key] == content, f"record {key} is not what was stored"
        else:
            assert key[1] in listed.get(key[0], Intervals()) or not was_known(south, key[0]), f"{key} is gone"
    for row in south.store.read(audit.balance):
        assert row.holds, row.line()
    south.store.close()
    there = len(found.keys() & known.keys())
    return there, len(known) - there, was_salvaged


async def speak(south: South, node: TestNode) -> None:
    """The node goes on where it was; when the gateway does not know it so any more, it joins anew."""
    node.give(node.reading())
    await south.commit()
    if south.rows(
        f"SELECT 1 FROM reading r JOIN epoch e ON e.id = r.epoch WHERE node = {node.address} AND seq > {RECORDS}"
    ):
        return
    made_in = node.epoch
    await node.join()
    node.give(node.reading(seq=RECORDS + 1, epoch=made_in))
    await south.commit()


async def read_all(south: South) -> None:
    """What northbounds, ingest and people come across."""
    store = south.store
    first = 1
    while rows := store.readings(first, 1 << 40, 500):
        first = rows[-1].id + 1
    after = 0
    while events := store.events(after, 500):
        after = events[-1].id
    for table in ("epoch", "seen", "lost", "progress", "meta", "boot", "retired", "evicted", "damage"):
        south.rows(f"SELECT * FROM {table}")
    store.read(audit.balance)
    await south.commit()


def rows_of(south: South) -> dict[tuple[int, int], tuple[object, ...]]:
    rows = south.rows(
        "SELECT node, seq, 'r', body, r.time FROM reading r JOIN epoch e ON e.id = r.epoch"
        " UNION ALL SELECT node, seq, code, detail, v.time FROM event v JOIN epoch e ON e.id = v.epoch"
    )
    return {(row[0], row[1]): row[2:] for row in rows}


def listed_of(south: South) -> dict[int, Intervals]:
    listed: dict[int, Intervals] = {}
    for node, first, last in south.rows(
        "SELECT node, first, last FROM lost l JOIN epoch e ON e.id = l.epoch"
    ):
        listed.setdefault(node, Intervals()).add(first, last)
    return listed


def was_known(south: South, node: int) -> bool:
    """Whether anything of the epoch before the damage is left, by which a record could be listed."""
    return south.rows(f"SELECT count(*) FROM epoch WHERE node = {node}")[0][0] > 1


def sweep(kept: Kept, folder: Path, seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    known = truth(kept)
    there = gone = salvaged = 0
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        spoil(kept, place, random.Random(seed))
        if (
            seed % 2
        ):  # a copied file is checked when it is opened; one that was not is found damaged when it is used
            monkeypatch.setattr(incarnation, "is_restored", lambda connection, database: False)
        else:
            monkeypatch.undo()
        try:
            found, missing, was_salvaged = asyncio.run(outcome(place, kept, known))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        there, gone, salvaged = there + found, gone + missing, salvaged + was_salvaged
        shutil.rmtree(place)
    print(
        f"databases={len(seeds)} salvaged={salvaged} records={len(known) * len(seeds)} kept={there} "
        f"lost_and_listed={gone}"
    )
    assert there > 0.5 * len(known) * len(seeds)


def test_whichever_pages_are_damaged_nothing_acknowledged_is_silently_lost(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(kept, tmp_path, range(12), monkeypatch)


@pytest.mark.soak
def test_two_hundred_damaged_databases(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(kept, tmp_path, range(1000, 1200), monkeypatch)


def test_pages_tell_the_same_rows_as_sqlite(kept: Kept) -> None:
    """Log and all."""
    pages = sqlite_pages.Pages(kept.folder / "kept.db")
    roots = pages.roots()
    numbers, is_whole = pages.walk(roots["reading"])
    assert is_whole
    ids = sorted(row.rowid or 0 for row in pages.rows(numbers))
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) == len(NODES) * RECORDS * 19 // 20
    assert salvage.roots_noted(kept.folder / "kept.db")["reading"] == roots["reading"]


def test_no_bytes_whatever_raise(kept: Kept, tmp_path: Path) -> None:
    rng = random.Random(3)
    file = tmp_path / "gateway.db"
    data = bytearray((kept.folder / "kept.db").read_bytes())
    for _ in range(30):
        for _ in range(200):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        pages = sqlite_pages.Pages(file)
        pages.free()
        pages.roots()
        for number in range(1, pages.count + 1):
            pages.walk(number)
            list(pages.rows([number]))
