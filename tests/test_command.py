"""The `tidegate` command: what is imported when, and what a person is told when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest
import typer

import tidegate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What a group needs and the bare command does not: each of these costs a gateway's SD card a visible wait.
HEAVY = ("cbor2", "cryptography", "gmqtt", "pydantic", "prometheus_client", "serial", "structlog", "littlefs")


class Told(Exception):
    """Stands in for a member of a package's error tree."""


Told.__module__ = "gateway.errors"


def test_a_terminal_that_has_no_sign_for_a_letter_shows_another() -> None:
    script = (
        "import tidegate\ntry:\n    tidegate.main(['--version'])\nexcept SystemExit:\n    print('1 → 2')\n"
    )
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=ascii_only, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "1 ? 2"


def test_help_lists_every_group_and_imports_none_of_them() -> None:
    script = (
        "import json, sys, tidegate\n"
        "try:\n"
        "    tidegate.main(['--help'])\n"
        "except SystemExit as exc:\n"
        "    print(json.dumps([exc.code, sorted(sys.modules)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *help_text, last = done.stdout.splitlines()
    code, modules = json.loads(last)
    assert code == 0
    for name, group in tidegate.GROUPS.items():
        assert any(name in line and group.help in line for line in help_text), f"{name} is not listed"
    imported = {module.partition(".")[0] for module in modules}
    assert imported.isdisjoint(tidegate.PACKAGES), "a listing imported one of our packages"
    assert imported.isdisjoint(HEAVY)


def test_a_mistyped_group_is_answered_with_the_likely_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gatway") == 2
    assert "Did you mean 'gateway'?" in capsys.readouterr().err


def test_a_group_is_imported_when_it_is_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group(monkeypatch, lambda: typer.echo("called"))
    assert run("probe") == 0
    assert capsys.readouterr().out == "called\n"


def test_an_error_of_ours_is_one_paragraph_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise Told("gateway.toml:3: 'portt' is not a key here; did you mean 'port'?")

    group(monkeypatch, fail)
    assert run("probe") == 1
    assert (
        capsys.readouterr().err
        == "tidegate: gateway.toml:3: 'portt' is not a key here; did you mean 'port'?\n"
    )


def test_an_error_tree_chooses_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class CallersMistake(Told):
        exit_code = 2

    def fail() -> None:
        raise CallersMistake

    group(monkeypatch, fail)
    assert run("probe") == 2


def test_debug_shows_the_traceback_of_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise Told

    group(monkeypatch, fail)
    with pytest.raises(Told):
        run("--debug", "probe")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    group(monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        run("probe")


def test_a_missing_extra_breaks_its_own_group_only_and_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "needs_a_library.py").write_text("import no_such_library.part\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(tidegate.GROUPS, "probe", tidegate.Group("needs_a_library", "A probe.", "flash"))
    assert run("probe") == 2
    said = capsys.readouterr().err
    assert "'no_such_library'" in said
    assert "pip install 'tidegate[flash]'" in said
    assert run("--version") == 0


def test_a_missing_file_of_ours_is_a_bug_and_not_blamed_on_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tidegate.GROUPS, "probe", tidegate.Group("gateway.no_such_module", "A probe.", ""))
    with pytest.raises(ModuleNotFoundError):
        run("probe")


def run(*args: str) -> object:
    """Run the command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        tidegate.main(list(args))
    return ended.value.code


def group(monkeypatch: pytest.MonkeyPatch, command: Callable[[], None]) -> None:
    """Register a group named `probe` with one command."""
    module = types.ModuleType("probe_group")
    module.app = typer.Typer()  # type: ignore[attr-defined]
    module.app.command()(command)
    monkeypatch.setitem(sys.modules, "probe_group", module)
    monkeypatch.setitem(tidegate.GROUPS, "probe", tidegate.Group("probe_group", "A probe.", ""))
