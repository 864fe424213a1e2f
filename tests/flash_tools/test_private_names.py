"""On a node a name with an underscore is another one in each module (shorten.py): who asks an object of another module
for one, finds nothing, or makes a new one; on CPython nobody would notice.
"""

from __future__ import annotations

import ast
from pathlib import Path

from flash_tools.images import shared_sources
from flash_tools.node_types import boards

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted({path for board in boards(ROOT) for path in shared_sources(ROOT, board)})
# Python's own, which keep their names.
_OFFERED = {"_fields", "_replace", "_asdict"}


def strangers(text: str) -> list[str]:
    """Private names that are asked of something else than `self`, and that this module does not define."""
    tree = ast.parse(text)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    asked = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                defined.add(node.attr)
            else:
                asked.append((node.attr, node.lineno))
    return [f"{name} in line {line}" for name, line in asked if name not in defined | _OFFERED]


def test_no_module_of_a_node_asks_another_for_a_private_name() -> None:
    found = {str(path): strangers((ROOT / path).read_text(encoding="utf-8")) for path in SOURCES}
    assert not {path: names for path, names in found.items() if names}
    assert len(found) > 50


def test_one_that_does_is_found() -> None:
    assert strangers("def settings(to):\n    to._document = {}\n") == ["_document in line 2"]
    assert strangers("class A:\n    def f(self, other):\n        self._x = other._x\n") == []
