"""What a node does not need is left out of its image, what it needs is not, and lines stay where they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from flash_tools.errors import ImageError
from flash_tools.images import node_sources
from flash_tools.naming import Names
from flash_tools.shake import shake
from flash_tools.shorten import shorten

ROOT = Path(__file__).resolve().parent.parent.parent


def shaken(root: str, by_name: tuple[str, ...] = (), **modules: str) -> dict[str, str]:
    """Shake modules given by name with "_" for "."; the module `main` is the root."""
    sources = {name.replace("__", "."): dedent(text) for name, text in {**modules, "main": root}.items()}
    return shake({name: text.lstrip("\n") for name, text in sources.items()}, "main", by_name)


def defined(text: str) -> set[str]:
    return {
        node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def test_functions_that_nobody_reaches_are_left_out_with_what_only_they_need() -> None:
    out = shaken(
        "from tool import used\nused()\n",
        tool="""
            import deep
            def used(): return helper()
            def helper(): return 1
            def unused(): return deep.only_for_unused()
        """,
        deep="def only_for_unused(): pass\n",
    )
    assert defined(out["tool"]) == {"used", "helper"}
    assert "only_for_unused" not in out.get("deep", "")


def test_an_attribute_of_an_imported_module_reaches_that_modules_name_alone() -> None:
    out = shaken(
        "from pack import one, two\none.run()\ntwo.other\n",
        pack="",
        pack__one="def run(): pass\ndef other(): pass\n",
        pack__two="def run(): pass\ndef other(): pass\n",
    )
    assert defined(out["pack.one"]) == {"run"}
    assert defined(out["pack.two"]) == {"other"}


def test_a_method_stays_when_its_name_is_looked_up_on_anything() -> None:
    out = shaken(
        "from tool import Box\nbox = Box()\nbox.open()\ngetattr(box, 'by_text')()\n",
        tool="""
            class Box:
                def __init__(self): self.x = 1
                def open(self): return self._inner()
                def _inner(self): pass
                def by_text(self): pass
                def never(self): pass
        """,
    )
    assert defined(out["tool"]) == {"Box", "__init__", "open", "_inner", "by_text"}


def test_a_module_that_is_handed_around_keeps_what_is_looked_up_anywhere() -> None:
    out = shaken(
        "from pack import portable\nchosen = portable\nchosen.dumps()\n",
        pack="",
        pack__portable="def dumps(): pass\ndef loads(): pass\n",
    )
    assert defined(out["pack.portable"]) == {"dumps"}


def test_a_module_imported_by_a_name_of_run_time_keeps_what_is_looked_up_on_it() -> None:
    out = shaken(
        "import sys\n__import__('types.' + 'river')\nsys.modules['types.river'].NODE_TYPE\n",
        ("types.river",),
        types="",
        types__river="NODE_TYPE = [1]\nOTHER = [2]\n",
    )
    assert "NODE_TYPE" in out["types.river"]
    assert "OTHER" not in out["types.river"]


def test_whole_numbers_are_written_out_in_every_module() -> None:
    out = shaken(
        "from limits import BIG, SMALL as LEAST\nimport limits\nprint(BIG - LEAST, [BIG] * 2)\n",
        limits="SMALL = 1 << 3\nBIG = (SMALL - 1) * 100 + 0x10\nTEXT = 'stays'\n",
    )
    assert "print(716 - 8, [716] * 2)" in out["main"]
    assert "BIG" not in out["main"]


def test_numbers_of_one_line_are_written_out_and_what_has_an_effect_stays() -> None:
    out = shaken(
        "from codes import FIRST, LAST, PAIR\nfrom codes import A\nprint(FIRST, LAST, PAIR, A)\n",
        codes="FIRST, LAST = 1, 1 << 4\nPAIR = (1, 2)\nA, B = PAIR\nC, *D = 1, 2\n",
    )
    assert "print(1, 16, PAIR, A)" in out["main"]
    assert "FIRST" not in out["codes"]
    assert "A, B = PAIR" in out["codes"]
    assert "C, *D = 1, 2" in out["codes"]


def test_what_a_class_declares_without_a_value_is_not_on_a_node() -> None:
    out = shaken(
        "from tool import Tool\nTool().run()\n", tool="class Tool:\n    part: int\n    def run(self): pass\n"
    )
    assert "part" not in out["tool"]


def test_a_number_that_changes_is_no_constant() -> None:
    out = shaken("import tool\ntool.count()\n", tool="N = 0\ndef count():\n    global N\n    N += 1\n")
    assert "N += 1" in out["tool"]


def test_only_the_branch_that_a_node_takes_is_left() -> None:
    out = shaken(
        """
        import sys
        TYPE_CHECKING = False
        if TYPE_CHECKING:
            from typing import Any
        else:
            Any = 3
        if sys.implementation.name == "micropython":
            def which(): return "node"
        else:
            import traceback
            def which(): return traceback
        print(which(), Any)
        """
    )
    scope: dict[str, object] = {"print": lambda *_: None}
    exec(out["main"], scope)
    assert scope["which"]() == "node"  # type: ignore[operator]
    assert "traceback" not in out["main"]
    assert "typing" not in out["main"]


def test_texts_of_errors_of_the_wire_become_line_numbers_and_reasons_stay() -> None:
    out = shaken(
        "from protocols.wire import tool\ntool.check(1)\n",
        protocols="",
        protocols__wire="",
        protocols__wire__tool="""
            def check(n):
                if n:
                    raise ValueError(
                        "the number %d is "
                        "too large" % n
                    )
                raise KeyError("reason", "with a text")
        """,
    )
    scope: dict[str, object] = {}
    exec(out["protocols.wire.tool"], scope)
    with pytest.raises(ValueError, match=r"^4$"):
        scope["check"](1)  # type: ignore[operator]
    with pytest.raises(KeyError) as told:
        scope["check"](0)  # type: ignore[operator]
    assert told.value.args == ("reason", 7)


def test_what_is_no_python_is_named_with_its_line() -> None:
    with pytest.raises(ImageError, match=r"broken\.py, line 2"):
        shaken("import broken\n", broken="x = 1\ndef nonsense(:\n")


def test_private_names_of_two_modules_share_short_ones_and_public_ones_stay() -> None:
    sources = {
        "a": "from b import Tool\n_cache = {}\ndef ask(question):\n    _cache[question] = Tool(_count=1)._answer\n",
        "b": "class Tool:\n    def __init__(self, _count):\n        self._answer = self._work(_count)\n"
        "    def _work(self, amount):\n        return amount\n",
    }
    out = shorten(sources, keep=["ask"])
    assert "_cache" not in out["a"]
    assert "def ask(" in out["a"]
    assert "_answer" in out["a"] and "_answer" in out["b"], "used across modules"  # noqa: PT018
    assert "_count" in out["b"], "passed as a keyword"
    assert "_work" not in out["b"]
    assert [text.count("\n") for text in out.values()] == [text.count("\n") for text in sources.values()]


def test_names_in_strings_of_the_interpreter_and_imported_ones_stay() -> None:
    text = (
        "import _thread\nfrom os import path\n\nclass A:\n"
        "    def readinto(self, view): return getattr(self, 'hidden')\n"
        "    def hidden(self): return len(path.sep)\n"
    )
    out = shorten({"a": text}, keep=["A"])["a"]
    for name in ("_thread", "path", "readinto", "hidden", "getattr", "len", "sep"):
        assert name in out
    assert "view" not in out


def test_every_line_of_the_real_tree_stays_where_it_was() -> None:
    for path, text in node_sources(ROOT, "virtual").items():
        source = (ROOT / path).read_text(encoding="utf-8").split("\n")
        lines = text.split("\n")
        assert len(lines) == len(source), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert source[node.lineno - 1].lstrip().startswith("def "), f"{path}:{node.lineno}"


def test_the_real_tree_imports_as_a_whole_after_shaking(tmp_path: Path) -> None:
    """On CPython, so that every name of every module-level statement is resolved (hal and crypto need MicroPython)."""
    for path, text in node_sources(ROOT, "virtual").items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (tmp_path / "cryptolib.py").write_text("def aes(*_): pass\n")
    program = "import firmware.main, firmware.nodes.river_station, boards.virtual.board"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_half_of_the_wire_is_not_on_a_node() -> None:
    given = Names()
    out = node_sources(ROOT, "virtual", names=given)
    names = set().union(*(defined(text) for text in out.values()), given.publics)
    assert not names & {"decode_up", "GatewayJoin", "ReplayWindow", "RangeDecoder"}
    assert names >= {"decode_down", "NodeJoin", "RangeEncoder", "Outbox"}


def test_a_class_and_its_heir_in_another_module_keep_their_names_apart_and_together() -> None:
    base = dedent("""
        class Base:
            def run(self):
                return self._first() + self._second()
            def _first(self):
                return 1
            def _second(self):
                return 20
    """)
    heir = dedent("""
        from base import Base
        class Heir(Base):
            def _own(self):
                return 300
            def _second(self):
                return self._own() + self._own() + self._own()
    """)
    out = shorten({"base": base, "heir": heir}, keep=["Base", "Heir", "run"])
    assert "_second" not in out["base"] + out["heir"]
    scope: dict[str, object] = {}
    exec(out["base"], scope)
    exec(out["heir"].replace("from base import Base", ""), scope)
    assert scope["Base"]().run() == 21  # type: ignore[operator]
    assert scope["Heir"]().run() == 901  # type: ignore[operator]


def test_the_list_of_public_names_is_left_out() -> None:
    """Each of them would be a name on the heap."""
    out = shaken("import tool\ntool.used()\n", tool='__all__ = ["used"]\n__version__ = 1\ndef used(): pass\n')
    assert "__all__" not in out["tool"]
    assert "__version__" in out["tool"]
