"""Who may import whom, and that what is imported is also declared, pinned and installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.house import PACKAGES, ROOT, imported, places, python_files, text_of, told, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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


# The extras a person has who uses the folder; "" is a plain `pip install tidegate`.
EXTRA_OF = {
    "protocols": "",
    "firmware": "",
    "gateway": "",
    "flash_tools": "flash",
    "boards": "demo",
    "hil_tests": "demo",
    "bench": "dev",
    "tests": "dev",
}
ONLY_ON_NODES = {
    "_board",
    "cryptolib",
    "deflate",
    "esp32",
    "machine",
    "micropython",
    "uselect",
    "utime",
    "vfs",
}
COMES_WITH = {"pydantic-core": "pydantic", "numpy": "ioos-qc", "dbus-fast": "bleak"}
# A script that is run, or an adapter that is imported, with another extra than its folder's.
RUN_WITH = {
    "tests/wire/make_quality_oracle.py": "oracle",
    "tests/northbound/make_aggregate_oracle.py": "oracle",
    "gateway/pollers/modbus_client.py": "modbus",
}
# Parts of the gateway that are imported only when the configuration or a command names them.
PARTS_WITH = {"gateway/pollers/ble": "radio"}


def requirements(extra: str) -> set[str]:
    """The names that an installation with `extra` declares."""
    project = tomllib.loads(text_of(Path("pyproject.toml")))["project"]
    names = {
        canonical(match.group()) for one in project["dependencies"] if (match := re.match(r"[\w.-]+", one))
    }
    for one in project["optional-dependencies"].get(extra, []):
        if inner := re.match(r"tidegate\[([\w,]+)\]", one):
            names |= set().union(*map(requirements, inner.group(1).split(",")))
        else:
            names.add(canonical(re.split(r"[^\w.-]", one)[0]))
    return names


def undeclared(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """The imports of a file that its users need not have installed."""
    # A contract is a test class that others inherit.
    is_test = path.name.startswith("test_") or path.name == "conftest.py" or path.stem.endswith("_contract")
    extra = RUN_WITH.get(path.as_posix(), EXTRA_OF[path.parts[0]])
    extra = next((one for start, one in PARTS_WITH.items() if path.as_posix().startswith(start)), extra)
    allowed = requirements("dev" if is_test else extra)
    # What is installed for users comes without the tests and the benches.
    ours = {*PACKAGES, "tidegate"} if path.parts[0] in PACKAGES else {*EXTRA_OF, "tidegate"}
    if path.is_relative_to("boards/virtual/rom"):
        ours |= {
            module.stem for module in python_files("boards/virtual/rom")
        }  # top level on the virtual board
    for node, name in imported(tree_of(path)):
        if name in sys.stdlib_module_names | ONLY_ON_NODES | ours:
            continue
        distributions = {canonical(one) for one in installed_distributions().get(name, [name])}
        if not {COMES_WITH.get(one, one) for one in distributions} & allowed:
            yield node, name


@cache
def installed_distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def test_every_library_a_folder_imports_is_declared_for_its_users() -> None:
    """Or it works on the machine of whoever wrote it, and nowhere else."""
    found = [
        place
        for path in python_files(*EXTRA_OF)
        for node, _name in undeclared(path)
        for place in places(path, [node])
    ]
    assert not found, f"add it to the dependencies or the extra in pyproject.toml:{told(found)}"
