"""Names that several modules share, from the interpreter's own stock: the program does the same under them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from boards.virtual.rom_image import micropython
from flash_tools.fields import STOCK
from flash_tools.naming import Names
from flash_tools.publics import MORE_STOCK, name_publics

if TYPE_CHECKING:
    from pathlib import Path

SHARED = """
import os
LIMIT_OF_ALL = 3
class Boxes:
    def area_of(self, factor):
        return factor * LIMIT_OF_ALL
    def by_string(self):
        return 7
def count_them(boxes, how_many=1):
    return boxes * how_many
"""
USER = """
from shared import LIMIT_OF_ALL, Boxes, count_them as counted
def run(EIO):
    box = Boxes()
    return box.area_of(2) + LIMIT_OF_ALL, getattr(box, "by_string")(), counted(4, how_many=2)
"""
THIRD = """
from shared import Boxes, count_them
def other(how_many, by_string):
    return Boxes().area_of(1), Boxes().by_string(), count_them(1)
"""
SOURCES = {"shared": SHARED, "user": USER, "third": THIRD}


def test_a_name_is_one_name_in_all_modules_and_the_program_does_the_same() -> None:
    out = name_publics(SOURCES, ["run"])
    text = "".join(
        "\n".join(line for line in out[name].split("\n") if not line.startswith("from shared"))
        for name in ("shared", "user")
    )
    for name in ("LIMIT_OF_ALL", "Boxes", "area_of", "count_them"):
        assert name not in text, name
    imported = re.findall(r"from shared import (\w+), (\w+), (\w+) as counted", out["user"])[0]
    names: dict[str, object] = {}
    exec(text.replace("counted(", imported[2] + "("), names)
    assert names["run"](0) == (9, 7, 8)  # type: ignore[operator]
    assert [text.count("\n") for text in out.values()] == [text.count("\n") for text in SOURCES.values()]


def test_what_may_be_asked_for_otherwise_keeps_its_name() -> None:
    out = "".join(name_publics(SOURCES, ["run", "area_of"]).values())
    assert "def by_string" in out, "a string"
    assert "how_many" in out, "a keyword"
    assert "def area_of" in out, "asked for from outside"
    assert "import os" in out
    hal = "".join(name_publics({**SOURCES, "firmware.hal.x": "Boxes = 1\n"}, ["run"]).values())
    assert "class Boxes" in hal, "the hardware has it"


def test_a_name_that_the_sources_use_is_not_given() -> None:
    assert "EIO" not in name_publics(SOURCES)["shared"]


def test_the_next_build_is_told() -> None:
    names = Names()
    first = name_publics(SOURCES, (), names)
    again = Names.load(names.dump())
    more = {**SOURCES, "fourth": "from shared import Boxes, LIMIT_OF_ALL\nLIMIT_OF_ALL + LIMIT_OF_ALL\n"}
    assert name_publics(more, (), again)["shared"] == first["shared"]


def test_all_stock_names_are_in_the_rom_and_none_twice(tmp_path: Path) -> None:
    script = tmp_path / "stock.py"
    script.write_text(
        f"import micropython\nnames = {' '.join(MORE_STOCK)!r}.split()\n"
        "for name in names:\n    setattr(type('A', (), {}), name, 0)\nmicropython.qstr_info(1)\n"
    )
    done = subprocess.run([str(micropython()), str(script)], capture_output=True, text=True, check=True)
    dynamic = set(re.findall(r"^Q\((.*)\)$", done.stdout, re.MULTILINE))
    assert dynamic
    assert not dynamic & set(MORE_STOCK)
    assert not set(MORE_STOCK) & set(STOCK)
    assert len(set(MORE_STOCK)) == len(MORE_STOCK)
