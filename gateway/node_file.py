"""The file that minting writes and `tidegate gateway node import` reads: who a node is, and its keys.

JSON lines (one object a line) or TOML ([[node]] tables), with the same keys:

    {"address": "0012", "node_type": "river_station", "area": "330106", "site": "yuhang-3",
     "master_secret": "<32 hex digits>", "master_salt": "<16 hex digits>"}

area and site may be missing; lat and lon say where the site is, in degrees of WGS 84. Every problem of a file is
reported at once, with its line, and never with a key in it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tomlkit
from tomlkit.exceptions import TOMLKitError

from gateway import positions
from gateway.errors import RegistryError
from gateway.keys import NodeKeys
from gateway.positions import Position
from gateway.toml_lines import key_lines, line_of
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE, MAX_ADDRESS, MAX_NAME

REQUIRED = ("address", "node_type", "master_secret", "master_salt")
# Minted like a node, and none: it opens no frame and is never heard of as one.
BRIDGE = "bridge"
# `board` and `minted` are notes of the minting tool: allowed, not needed here.
OPTIONAL = ("area", "site", "lat", "lon", "board", "minted")
# One level of an MQTT topic (config.py says the same of areas).
LEVEL = re.compile(r"[^/+#\s]{1,64}\Z")
PROBLEMS_MAX = 20


class MintedNode(NamedTuple):
    """One node of an import file."""

    address: int
    node_type: str
    area: str | None
    site: str | None
    keys: NodeKeys
    position: Position | None = None  # of its site


def parse(text: str, name: str) -> list[MintedNode]:
    """Read `text`, called `name` in messages. Raises RegistryError with every problem found."""
    rows = _json_rows(text) if text.lstrip().startswith("{") else _toml_rows(text, name)
    nodes: list[MintedNode] = []
    problems: list[str] = []
    first: dict[int, int] = {}
    for line, row in rows:
        found = [row] if isinstance(row, str) else list(_problems(row))
        if not found and not isinstance(row, str):
            node = _node(row)
            if node.address in first:
                found = [f"address {node.address:04x} stands in line {first[node.address]} already."]
            first.setdefault(node.address, line)
            if node.node_type != BRIDGE:
                nodes.append(node)
        problems += [f"{name}:{line}: {problem}" for problem in found]
    if len(problems) > PROBLEMS_MAX:
        problems[PROBLEMS_MAX:] = [f"… and {len(problems) - PROBLEMS_MAX} more."]
    if problems:
        raise RegistryError("\n".join(problems))
    if not nodes:
        bridges = f"; a {BRIDGE} is none, it has a [[bridge]] table in gateway.toml" if first else ""
        raise RegistryError(f"{name}: holds no node{bridges}.")
    return nodes


def parse_address(value: object) -> int | None:
    """A node address: hexadecimal text as it is printed on labels, or a number. None when it is neither."""
    if isinstance(value, str):
        digits = value.lower().removeprefix("0x")
        if not re.fullmatch(r"[0-9a-f]{1,4}", digits):
            return None
        value = int(digits, 16)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_ADDRESS:
        return None
    return value


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            reason = exc.msg if isinstance(exc, json.JSONDecodeError) else "nested too deeply"
            yield number, f"not JSON: {reason}."
            continue
        yield number, row if isinstance(row, dict) else "not a JSON object with the keys of a node."


def _toml_rows(text: str, name: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        document = tomlkit.parse(text).unwrap()
    except TOMLKitError as exc:
        raise RegistryError(f"{name}: not valid TOML: {exc}.") from exc
    tables = document.pop("node", [])
    if document or not isinstance(tables, list) or not all(isinstance(row, dict) for row in tables):
        raise RegistryError(
            f"{name}: allowed are [[node]] tables only, with the keys {', '.join(REQUIRED + OPTIONAL)}."
        )
    lines = key_lines(text)
    for index, row in enumerate(tables):
        yield line_of(lines, ("node", index)), row


def _problems(row: dict[str, Any]) -> Iterator[str]:
    for key in row:
        if key not in REQUIRED and key not in OPTIONAL:
            near = difflib.get_close_matches(key, REQUIRED + OPTIONAL, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            yield f'unknown key "{key[:MAX_NAME]}". Allowed: {", ".join(REQUIRED + OPTIONAL)}.{hint}'
    for key, rule in _RULES.items():
        if key in row and row[key] is not None:
            problem = rule(row[key])
            if problem:
                yield f"{key} {problem}"
        elif key in REQUIRED:
            yield f"{key} is missing."
    yield from _position_problems(row)


def _position_problems(row: dict[str, Any]) -> Iterator[str]:
    lat, lon = row.get("lat"), row.get("lon")
    if lat is None and lon is None:
        return
    if row.get("site") is None:
        yield "lat and lon are those of a site: name it."
    try:
        positions.check(lat, lon)
    except RegistryError as exc:
        yield str(exc)


def _address_problem(value: object) -> str:
    if parse_address(value) is not None:
        return ""
    return f"= {value!r:.40} is not allowed. Allowed is 0001 to {MAX_ADDRESS:04X}, hexadecimal, in quotes."


def _type_problem(value: object) -> str:
    if isinstance(value, str) and 1 <= len(value.encode()) <= MAX_NAME and value.isprintable():
        return ""
    return f"= {value!r:.40} is not allowed. Allowed is a text of 1 to {MAX_NAME} bytes."


def _level_problem(value: object) -> str:
    if isinstance(value, str) and LEVEL.match(value):
        return ""
    return f"= {value!r:.80} is not allowed. Allowed are 1 to 64 characters without spaces, '/', '+' and '#'."


def _hex_problem(size: int) -> Callable[[object], str]:
    def rule(value: object) -> str:
        if isinstance(value, str) and re.fullmatch(f"[0-9a-fA-F]{{{2 * size}}}", value):
            return ""
        return (
            f"is not allowed (its value is not shown). Allowed are {2 * size} hexadecimal digits in quotes."
        )

    return rule


_RULES: dict[str, Callable[[object], str]] = {
    "address": _address_problem,
    "node_type": _type_problem,
    "area": _level_problem,
    "site": _level_problem,
    "master_secret": _hex_problem(MASTER_SECRET_SIZE),
    "master_salt": _hex_problem(MASTER_SALT_SIZE),
}


def _node(row: dict[str, Any]) -> MintedNode:
    address = parse_address(row["address"])
    if address is None:  # _problems has let it through
        raise RegistryError("address is not allowed.")
    keys = NodeKeys(bytes.fromhex(row["master_secret"]), bytes.fromhex(row["master_salt"]))
    position = None if row.get("lat") is None else positions.check(row["lat"], row["lon"])
    return MintedNode(address, row["node_type"], row.get("area"), row.get("site"), keys, position)
