"""What a node keeps in documents: each is listed in STORAGE.md, and what another release added is no harm."""

from __future__ import annotations

import ast
import importlib
import re
from array import array
from pathlib import Path
from typing import Any

import pytest

from firmware import boots, calibration, cover_watch, mark, tried
from firmware.durable import Document
from firmware.lift_floors import Floors
from firmware.runs import RunSet
from firmware.settings import INTERVAL_S, Settings
from hil_tests.world.flash import LittleFs
from hil_tests.world.sim_hal import blank_flash
from protocols.wire import cbor
from tests.firmware.street import IDENTITY

ROOT = Path(__file__).parents[2]
# What makes a document by a name that it is given: a watch, whose own are these.
KEEPS = {"durable.py", "assembly.py"}
OF_WATCHES = {"pose", "floors"}


def named() -> set[str]:
    """The name of every document that firmware/ makes."""
    found = set(OF_WATCHES)
    for path in sorted((ROOT / "firmware").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "Document"):
                continue
            name = node.args[1]
            if isinstance(name, ast.Constant):
                found.add(name.value)
            elif path.name not in KEEPS:
                value: Any = importlib.import_module(module)
                for part in ast.unparse(name).split("."):
                    value = boots if part == "boots" else getattr(value, part)
                found.add(value)
    return found


def test_every_document_is_in_the_table_with_what_another_release_may_do_to_it() -> None:
    text = (ROOT / "firmware/STORAGE.md").read_text(encoding="utf-8")
    table = text.partition("| document | what another release")[2].partition("\n\n")[0]
    listed = set(
        re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines()[1:] if row))
    )
    assert len(named()) >= 14
    assert listed - {"app", "pass"} == named()


class Fs:
    """A `state` partition; ``added``: what another release has behind each document."""

    def __init__(self) -> None:
        self.fs = LittleFs(blank_flash(IDENTITY))

    def add(self, name: str, more: bytes) -> None:
        document = Document(self.fs, name)
        kept = document.load()
        assert kept is not None
        document.save(kept + more)


@pytest.mark.parametrize("more", [b"", b"\0", b"new", bytes(9)])
def test_what_another_release_added_behind_a_document_is_left_alone(more: bytes) -> None:
    state = Fs()
    fs = state.fs
    assert [boots.counted(fs, True) for _ in range(3)] == [1, 2, 3]
    state.add("boots", more)
    assert boots.counted(fs, False) == 3

    Document(fs, "pose").save(bytes((0, 1, 0, 2, 0, 3, 1)))
    state.add("pose", more)
    assert cover_watch._pose(Document(fs, "pose").load()) == ((1, 2, 3), True)

    floors = Floors()
    floors.heights, floors._visits = [0, 4500, 7500], bytearray((3, 2, 1))
    Document(fs, "floors").save(floors.document())
    state.add("floors", more)
    again = Floors(Document(fs, "floors").load())
    assert (again.heights, again._visits, again.learned) == (floors.heights, floors._visits, True)

    Document(fs, "micropython").save((7).to_bytes(4, "little") + b"\1")
    state.add("micropython", more)
    hal: Any = type("Hal", (), {"state_fs": fs})
    assert tried.sequence(hal, type("Places", (), {"this": 1})) == 7  # type: ignore[arg-type]

    kept = mark.Mark(fs)
    kept.next_seq, kept.evicted, kept.adopted = 77, 5, 9
    runs = RunSet(array("I", (3, 8)))
    kept.save([runs, RunSet()])
    state.add("outbox", more)
    found = mark.Mark(fs)
    assert (found.next_seq, found.evicted, found.adopted, list(found.runs[0].runs)) == (77, 5, 9, [3, 8])


def test_what_another_release_has_in_a_list_is_left_alone() -> None:
    fs = Fs().fs
    Document(fs, "settings").save(cbor.dumps([3, {INTERVAL_S: 60}, "new"]))
    settings = Settings(Document(fs, "settings"), {INTERVAL_S: 900})
    assert (settings.version, settings[INTERVAL_S]) == (3, 60)
    in_force: dict[int, Any] = {1: [5, 686, 700, 918, 930]}
    data = cbor.dumps([in_force, {}, "new"])
    assert calibration._load(len(data).to_bytes(2, "big") + data) == (in_force, {})


@pytest.mark.parametrize("kept", [b"", b"\2", b"\2\3\0\0", b"\3" + bytes(40)])
def test_floors_of_another_version_or_cut_short_are_none(kept: bytes) -> None:
    assert Floors(kept).learned is False
