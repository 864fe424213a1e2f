"""The tree as the house tests see it: its tracked files, their text, their syntax."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
PACKAGES = ("protocols", "boards", "firmware", "gateway", "flash_tools", "hil_tests")


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
