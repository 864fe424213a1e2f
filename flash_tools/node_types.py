"""What a source tree has to choose from, boards and node types, and what of its tables one node type needs.

Read, never imported: the bench takes the firmware as data, from whatever tree it is pointed at.
"""

import ast
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flash_tools.errors import ImageError

PACKAGE = "firmware.nodes"
# What is minted and built like a node and is none: the module where its program begins.
ROLES = {"bridge": "firmware.bridge"}
_REGISTRY = "protocols.wire.registry_table"
_LIMITS = "protocols.wire.limits_table"


def boards(root: Path) -> list[str]:
    """The folders of boards/ that describe one."""
    return sorted(path.parent.name for path in root.glob("boards/*/board.py"))


def modules(root: Path) -> dict[str, str]:
    """Node type -> the module that describes it: MODULES of firmware/nodes, sorted; empty without that file."""
    source = root / "firmware/nodes/__init__.py"
    if not source.exists():
        return {}
    tables = _dicts(source.read_text(encoding="utf-8"))
    if "MODULES" not in tables:
        raise ImageError(f"{source} names no node types (MODULES): this source tree is damaged")
    return {
        name: f"{PACKAGE}.{module}" for name, module in sorted(ast.literal_eval(tables["MODULES"]).items())
    }


def minted(root: Path) -> list[str]:
    """All that can be minted: node types, and roles whose program this tree has."""
    roles = [role for role, module in ROLES.items() if (root / f"{module.replace('.', '/')}.py").exists()]
    return [*modules(root), *roles]


def choose(kind: str, name: str, there: Iterable[str], where: Path) -> str:
    """``name``, if it is there; else an error with all there are and the likely one."""
    known = sorted(there)
    if name in known:
        return name
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ImageError(f"no {kind} {name!r} in {where}; there are: {', '.join(known) or 'none'}.{hint}")


def narrow(sources: Mapping[str, str], node_type: str, module: str) -> dict[str, str]:
    """The sources with the tables of node types, schemas, measurands and limits cut down to one node type's."""
    kept = dict(sources)
    kept[PACKAGE] = keep_entries(kept[PACKAGE], {"MODULES": {node_type}})
    if _REGISTRY in kept:
        schema = _schema_id(kept[module], module)
        tables = {name: ast.literal_eval(table) for name, table in _dicts(kept[_REGISTRY]).items()}
        if schema not in tables["SCHEMAS"]:
            raise ImageError(
                f"{module}: schema {schema} is not in the registry: add it to protocols/schemas.toml"
            )
        measurands = set(tables["SCHEMAS"][schema][1])
        kept[_REGISTRY] = keep_entries(kept[_REGISTRY], {"SCHEMAS": {schema}, "MEASURANDS": measurands})
        if _LIMITS in kept:
            names = {tables["MEASURANDS"][measurand][0] for measurand in measurands}
            kept[_LIMITS] = keep_entries(kept[_LIMITS], {"LIMITS": names})
    return kept


def keep_entries(text: str, wanted: Mapping[str, set[Any]]) -> str:
    """The text with, of the dicts of these names at its top level, the entries of these keys; no line moves."""
    lines = text.split("\n")
    for name, table in _dicts(text).items():
        for key, value in zip(table.keys, table.values, strict=True):
            if name in wanted and key is not None and ast.literal_eval(key) not in wanted[name]:
                end = value.end_lineno or key.lineno
                lines[key.lineno - 1 : end] = [""] * (end - key.lineno + 1)
    return "\n".join(lines)


def members(text: str) -> set[str]:
    """The names of the methods and attributes of all classes in a source text."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.FunctionDef):
                found.add(part.name)
            elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                found.add(part.target.id)
    return found


def _dicts(text: str) -> dict[str, ast.Dict]:
    """The dict displays that a module binds to a name at its top level."""
    return {
        statement.targets[0].id: statement.value
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Dict)
    }


def _schema_id(text: str, module: str) -> int:
    """The `schema_id` that a node type gives NodeType: a number, or a constant of its module."""
    constants: dict[str, object] = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        if isinstance(statement.value, ast.Constant):
            constants[statement.targets[0].id] = statement.value.value
        if isinstance(statement.value, ast.Call):
            for keyword in statement.value.keywords:
                if statement.targets[0].id == "NODE_TYPE" and keyword.arg == "schema_id":
                    found = (
                        constants.get(keyword.value.id)
                        if isinstance(keyword.value, ast.Name)
                        else ast.literal_eval(keyword.value)
                    )
                    if isinstance(found, int):
                        return found
    raise ImageError(
        f"{module}: NODE_TYPE = NodeType(…, schema_id=…) must name a whole number, or a constant of the same module "
        "that is one, so that the image gets the tables of that schema and no others"
    )
