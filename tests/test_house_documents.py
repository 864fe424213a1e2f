"""The documents hold: links lead somewhere, and every command a reader is told to type exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import tidegate
from tests.house import ROOT, python_files, text_of, told, tracked, tree_of

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
        if (
            words[0] == "inspect" and command.name in tidegate.INSPECT
        ):  # each is at home in a folder of its own
            command = tidegate.load(command.name, tidegate.INSPECT, "tidegate inspect")
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


def test_every_test_named_in_the_documents_exists() -> None:
    """An invariant is worth as much as the test that proves it."""
    defined = {
        node.name
        for path in python_files("tests", "hil_tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = [(path, name) for path in documents() for name in re.findall(r"`(test_\w+)`", text_of(path))]
    assert named, "no document names a test: this one would prove nothing"
    missing = [f"{path}: {name}" for path, name in named if name not in defined]
    assert not missing, told(missing)
