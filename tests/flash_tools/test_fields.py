"""Field names from the interpreter's own stock: the program does the same under them."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING

from boards.virtual.rom_image import micropython
from flash_tools.fields import STOCK, name_fields
from flash_tools.images import node_sources
from tests.firmware.lockstep import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SHARED = """
from collections import namedtuple
Point = namedtuple("Point", ("across", "upwards", "label"))
class Box:
    def __init__(self, corner, payload):
        self.corner = corner
        self.payload = payload
        self.__dict__
    def area(self):
        return self.corner.across * self.corner.upwards
"""
USER = """
from shared import Box, Point
def run(corner):
    box = Box(Point(3, 4, label="a"), payload=7)
    box.corner = box.corner._replace(across=5)
    return box.area(), box.payload, getattr(box.corner, "label")
"""


def test_a_field_gets_one_name_in_all_modules_and_the_program_does_the_same() -> None:
    out = name_fields({"shared": SHARED.replace("        self.__dict__\n", ""), "user": USER})
    text = out["shared"] + out["user"].replace("from shared import Box, Point", "")
    names: dict[str, object] = {}
    exec(text, names)
    assert names["run"](None) == (20, 7, "a")  # type: ignore[operator]
    assert "across" not in text
    assert "upwards" not in text


def test_what_is_anything_else_keeps_its_name() -> None:
    text = "".join(name_fields({"shared": SHARED, "user": USER}).values())
    assert re.search(r'"label"\)\)', text), "asked for by a string"
    assert ".payload" in text, "a keyword of a call"
    assert "def area" in text, "a method"
    kept = "".join(name_fields({"shared": SHARED, "user": USER}, keep=["across"]).values())
    assert "across" in kept, "asked for from outside"


def test_no_stock_name_is_one_that_the_sources_already_use() -> None:
    clash = SHARED + "def acos(): pass\nclass Bin:\n    def bin(self): pass\n"
    out = name_fields({"shared": clash, "user": USER})
    assert "self.acos" not in out["shared"]
    assert "self.bin" not in out["shared"]


def test_all_stock_names_are_in_the_rom(tmp_path: Path) -> None:
    """A dynamic name costs; a name of the ROM does not show up in the table of dynamic ones."""
    script = tmp_path / "stock.py"
    script.write_text(
        f"import micropython\nnames = {' '.join(STOCK)!r}.split()\n"
        "for name in names:\n    setattr(type('A', (), {}), name, 0)\nmicropython.qstr_info(1)\n"
    )
    done = subprocess.run([str(micropython()), str(script)], capture_output=True, text=True, check=True)
    dynamic = set(re.findall(r"^Q\((.*)\)$", done.stdout, re.MULTILINE))
    assert dynamic
    assert not dynamic & set(STOCK)


def test_a_node_keeps_the_names_of_functions_and_the_lines_of_everything() -> None:
    for path, text in node_sources(ROOT, "virtual", "river").items():
        original = (ROOT / path).read_text(encoding="utf-8")
        assert text.count("\n") == original.count("\n"), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in STOCK or node.name in original, f"{path}, line {node.lineno}"
