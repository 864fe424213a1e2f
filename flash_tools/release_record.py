"""What book.json and release.json have to say before anything is done by them: somebody may have edited them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flash_tools.naming import Names
from flash_tools.signing import NAMES
from protocols import suit
from protocols.wire import interpreter, manifest

_HEX_256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[a-z0-9_]{1,64}")
_RECORD = {"sequence": int, "size": int, "node_type": str, "board": str, "sha256": str, "notes": str,
           "names": dict, "payloads": list}  # fmt: skip


def book_problem(data: dict[str, Any]) -> str:
    """As far as it is used; "" when there is none."""
    vendor, keys, revoked = data.get("vendor"), data.get("keys"), data.get("revoked")
    if not isinstance(vendor, str) or not isinstance(revoked, dict) or not isinstance(keys, list):
        return "it must have vendor, keys and revoked"
    for at, key in enumerate(keys, 1):
        if not isinstance(key, dict) or not all(
            isinstance(key.get(name), str) for name in ("kid", "algorithm", "public", "name")
        ):
            return f"key {at} must have kid, algorithm, public and name"
        if key["algorithm"] not in NAMES.values():
            return f"key {at} is of {key['algorithm']!r:.40}; allowed are {', '.join(NAMES.values())}"
        if key["kid"] != _kid_of(key["public"]):
            return f"key {at} is called {key['kid']!r:.40}, its public key has another name"
    strange = revoked.keys() - {key["kid"] for key in keys}
    if strange or not all(isinstance(why, str) for why in revoked.values()):
        return f"revoked has {', '.join(map(repr, sorted(strange)))[:60] or 'a reason that is no text'}"
    return ""


def _kid_of(public: str) -> str:
    try:
        return suit.key_id(bytes.fromhex(public)).hex()
    except ValueError:
        return ""


def record_problem(record: dict[str, Any], folder: Path) -> str:
    """As far as it is used; "" when there is none."""
    lacking = [key for key, kind in _RECORD.items() if type(record.get(key)) is not kind]
    lacking += sorted({"commit", "after"} - record.keys())
    if lacking:
        return f"{lacking[0]} is missing or of another kind"
    sequence, after = record["sequence"], record["after"]
    if not 0 < sequence <= manifest.MAX_SEQUENCE:
        return f"sequence {sequence}; allowed are 1 to {manifest.MAX_SEQUENCE}"
    if not _WORD.fullmatch(record["node_type"]) or not _WORD.fullmatch(record["board"]):
        return f"it is for {record['node_type']!r:.40} on {record['board']!r:.40}"
    if not (after is None or (type(after) is int and 0 < after < sequence)):
        return f"after {after!r:.40}; allowed is an earlier sequence, or null"
    if record["size"] < 1 or not _HEX_256.fullmatch(record["sha256"]):
        return "size or sha256 is none"
    if record["node_type"] != interpreter.NAME and not _are_names(record["names"]):
        return "names is not what a build left"
    return _payloads_problem(record["payloads"], sequence) or _place_problem(sequence, folder.resolve())


def _are_names(names: dict[str, Any]) -> bool:
    try:
        Names.load(names)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def _payloads_problem(payloads: list[Any], sequence: int) -> str:
    """A payload's name is that of its files: no other than the one that it is given here leads to a file."""
    if not payloads:
        return "it has no payload"
    for at, one in enumerate(payloads, 1):
        if not isinstance(one, dict) or one.keys() != {"base", "name", "size", "sha256"}:
            return f"payload {at} must have base, name, size and sha256"
        base = one["base"]
        if not (base is None or (type(base) is int and 0 < base < sequence)):
            return f"payload {at} is for base {base!r:.40}; allowed is an earlier sequence, or null"
        name = "full" if base is None else f"from-{base:04d}"
        if one["name"] != name:
            return f"payload {at} is called {one['name']!r:.40}; by its base it is {name}"
        if type(one["size"]) is not int or one["size"] < 1 or not _HEX_256.fullmatch(str(one["sha256"])):
            return f"size or sha256 of payload {name} is none"
    return ""


def _place_problem(sequence: int, folder: Path) -> str:
    """A copy may lie anywhere. One whose folder is a number is found by that."""
    is_other = folder.name.isdecimal() and int(folder.name) != sequence
    return f"it says sequence {sequence}, and lies in {folder.name}" if is_other else ""
