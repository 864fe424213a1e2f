"""From what pydantic found in a config to a sentence: key, value, what is allowed, what was likely meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.toml_lines import Path

# Values of such keys are not repeated in a message that ends up in logs and screenshots.
SECRET_WORDS = ("password", "passwd", "secret", "token", "private", "psk", "credential")
VALUE_CHARS_MAX = 60
# Keys of nodes and gateways are 16, 32 and 64 digits, salts 16; an area code has 12.
KEY_DIGITS = re.compile(r"[0-9A-Fa-f]{16,}")
BOOLS = {
    **dict.fromkeys(("yes", "on", "1", "true"), "true"),
    **dict.fromkeys(("no", "off", "0", "false"), "false"),
}


# What the items of an array are.
_NOUNS = {"object": "tables", "string": "texts", "integer": "integers", "number": "numbers"}
# Names of number types and byte orders elsewhere.
MEANT = {
    "int16": "s16", "uint16": "u16", "int32": "s32", "uint32": "u32", "int64": "s64", "uint64": "u64", "int8": "s8",
    "uint8": "u8", "i16": "s16", "i32": "s32", "i64": "s64", "float": "f32", "float32": "f32", "float64": "f64",
    "double": "f64", "real": "f32", "word": "u16", "dword": "u32", "bool": "bit", "big": "ABCD", "little": "DCBA",
    "n": "none", "e": "even", "o": "odd",
}  # fmt: skip


class Problem(NamedTuple):
    """One problem; `path` names the key and finds the line."""

    path: Path
    message: str

    def __str__(self) -> str:
        return join(self.path) + (" " if self.message.startswith("=") else ": ") + self.message


def join(path: Path) -> str:
    """("serial", 0, "path") as serial[0].path."""
    text = ""
    for part in path:
        shown = part if isinstance(part, int) or part.isprintable() else ascii(part)[1:-1]
        if isinstance(shown, str) and len(shown) > VALUE_CHARS_MAX:
            shown = shown[:VALUE_CHARS_MAX] + "…"
        text += f"[{shown}]" if isinstance(shown, int) else f".{shown}" if text else shown
    return text


def rows_of(raw: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """The tables [[kind]] of a raw file; what is none of them is empty here, and named elsewhere."""
    tables = raw.get(kind)
    return [row if isinstance(row, dict) else {} for row in tables] if isinstance(tables, list) else []


def unique_names(raw: Mapping[str, Any], kinds: Sequence[str]) -> Iterator[Problem]:
    """Tables of several kinds that share a name, which each needs for itself."""
    first: dict[str, tuple[str, int]] = {}
    for kind in kinds:
        for index, row in enumerate(rows_of(raw, kind)):
            value = row.get("name")
            if not isinstance(value, str):
                continue
            if value in first:
                used = join((*first[value], "name"))
                told = f'"{value}" is already used by {used}: each [[{kind}]] needs its own.'
                yield Problem((kind, index, "name"), told)
            first.setdefault(value, (kind, index))


def unique(kind: str, key: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Tables of one kind that share what each needs for itself. Values of a wrong type are skipped: they are named."""
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        value = row.get(key)
        if not isinstance(value, str):
            continue
        if value in first:
            yield Problem(
                (kind, index, key),
                f'"{value}" is already used by {join((kind, first[value], key))}: '
                f"each [[{kind}]] needs its own.",
            )
        first.setdefault(value, index)


def explain_all(
    errors: Sequence[Mapping[str, Any]], schema: dict[str, Any], raw: dict[str, Any]
) -> list[Problem]:
    """Say everything that pydantic found. It takes an array whose items are refused for one that is too short, too."""
    paths = [tuple(error["loc"]) for error in errors]
    return [
        explain(error, schema, raw)
        for error, path in zip(errors, paths, strict=True)
        if error["type"] != "too_short" or not any(other[: len(path)] == path != other for other in paths)
    ]


def explain(error: Mapping[str, Any], schema: dict[str, Any], raw: dict[str, Any]) -> Problem:
    """Say what pydantic found at `error["loc"]`; `schema` is the JSON schema, `raw` what the file holds."""
    path: Path = tuple(error["loc"])
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return Problem(path, _unknown_key(path, schema, raw))
    if path and isinstance(path[-1], int) and "prefixItems" in _rule(schema, path[:-1]):
        path = path[:-1]  # a pair is told of as a whole
        value = _at(raw, path)
        kind = "pair"
    rule = _rule(schema, path)
    allowed = describe(rule, schema)
    if kind == "missing":
        return Problem(path, f"missing. Needed is {allowed}{_about(rule)}.")
    hint = _value_hint(value, rule, schema, path)
    return Problem(path, f"{_show(path, value)} is not allowed. Allowed is {allowed}.{hint}")


def _at(raw: Any, path: Path) -> Any:
    for part in path:
        raw = raw[part]
    return raw


def describe(rule: dict[str, Any], schema: dict[str, Any]) -> str:
    """What `rule`, a part of a JSON schema, allows, in words."""
    rule = _plain(rule, schema)
    if "allowed" in rule:
        return str(rule["allowed"])
    if "enum" in rule:
        return "one of " + ", ".join(_toml(item) for item in rule["enum"])
    kind = rule.get("type")
    if kind in ("integer", "number"):
        noun = "an integer" if kind == "integer" else "a number"
        return noun + _span(rule.get("minimum"), rule.get("maximum"))
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        return f"a text of {rule.get('minLength', 0)} to {rule.get('maxLength', 'any number of')} characters"
    if kind == "array":
        noun = _NOUNS.get(_plain(rule.get("items", {}), schema).get("type", ""), "values")
        least = f"{rule['minItems']} to" if rule.get("minItems") else "at most"
        return f"{least} {rule['maxItems']} {noun}" if "maxItems" in rule else f"an array of {noun}"
    keys = ", ".join(rule.get("properties", {}))
    return f"a table with the keys {keys}" if keys else "a table"


def _span(low: object, high: object) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else f" of at most {high}" if high is not None else ""


def _about(rule: dict[str, Any]) -> str:
    return f" ({rule['description']})" if "description" in rule else ""


def _plain(rule: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; of "x or nothing" take x."""
    if "$ref" in rule:
        target: dict[str, Any] = schema["$defs"][rule["$ref"].rpartition("/")[2]]
        return {**target, **{key: item for key, item in rule.items() if key != "$ref"}}
    if "anyOf" in rule:
        inner = next(item for item in rule["anyOf"] if item.get("type") != "null")
        return {**_plain(inner, schema), **{key: item for key, item in rule.items() if key != "anyOf"}}
    return rule


def _rule(schema: dict[str, Any], path: Path) -> dict[str, Any]:
    """The part of `schema` that is about `path`; {} when it knows nothing of it."""
    rule = schema
    for part in path:
        rule = _plain(rule, schema)
        if isinstance(part, int):
            places = rule.get("prefixItems", ())  # of a tuple
            rule = places[part] if part < len(places) else rule.get("items", {})
        else:
            others = rule.get("additionalProperties") or {}  # false where only the listed keys are allowed
            if "patternProperties" in rule:  # a table with keys of one's own
                others = next(iter(rule["patternProperties"].values()))
            rule = rule.get("properties", {}).get(part, others)
    return _plain(rule, schema)


def _unknown_key(path: Path, schema: dict[str, Any], raw: dict[str, Any]) -> str:
    name = str(path[-1])
    known = list(_rule(schema, path[:-1]).get("properties", {}))
    value: Any = raw
    for part in path:
        value = value[part]
    shown = "unknown table" if isinstance(value, (dict, list)) else f"{_show(path, value)}: unknown key"
    text = f"{shown}. Allowed here: {', '.join(known)}."
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    if near:
        return f'{text} Did you mean "{near[0]}"?'
    homes = [_header(table, schema) for table in schema["properties"] if name in _keys_of(table, schema)]
    return f"{text} It belongs in {' or '.join(homes)}." if homes else text


def _keys_of(table: str, schema: dict[str, Any]) -> Iterable[str]:
    rule = _plain(schema["properties"][table], schema)
    rule = _plain(rule.get("items", rule), schema)
    keys: dict[str, Any] = rule.get("properties", {})
    return keys


def _header(table: str, schema: dict[str, Any]) -> str:
    is_array = _plain(schema["properties"][table], schema).get("type") == "array"
    return f"[[{table}]]" if is_array else f"[{table}]"


def _value_hint(value: object, rule: dict[str, Any], schema: dict[str, Any], path: Path) -> str:
    """Guess what was meant; "" without a good guess."""
    kind = rule.get("type")
    if kind == "array" and isinstance(value, dict):
        return f" Did you mean [[{path[-1]}]], with two brackets?"
    if kind == "boolean":
        meant = BOOLS.get(str(value).strip().lower())
        return f" Did you mean {meant}?" if meant else ""
    choices = rule.get("enum")
    if choices:
        return _choice_hint(value, choices)
    if kind == "integer" and isinstance(value, str) and value.strip().isdecimal():
        return f" Did you mean {int(value)}, without quotes?"
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return f" Did you mean {int(value)}, without a decimal point?"
    if kind == "string" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f' Did you mean "{value}", with quotes?'
    if kind == "string" and "pattern" in rule and isinstance(value, str):
        meant = "-".join(value.lower().split())
        if rule["pattern"].startswith("^[0-9a-fA-F]"):  # as people copy it: 00-80-00-00-a0-00-12-34
            meant = re.sub("[^0-9a-f]", "", value.lower())
        if "[0-9A-F]{2}:" in rule["pattern"]:  # a Bluetooth address
            meant = value.strip().upper().replace("-", ":")
        is_allowed = meant.isascii() and re.fullmatch(rule["pattern"].strip("^$"), meant)
        return f' Did you mean "{meant}"?' if meant != value and is_allowed else ""
    return ""


_NEAR_RATIO = 1.25


def _choice_hint(value: object, choices: list[Any]) -> str:
    if isinstance(value, bool):
        return ""
    texts = {str(choice): choice for choice in choices}
    plain = str(value).strip().lower()
    for text, choice in texts.items():
        if text.lower() == MEANT.get(plain, plain):
            return f" Did you mean {_toml(choice)}?"
    cutoff = 0.7 if isinstance(value, int) else 0.5  # 7 has a digit of 720, and does not mean it
    near = [texts[text] for text in difflib.get_close_matches(plain, texts, n=1, cutoff=cutoff)]
    near += [choice for choice in _close_numbers(value, choices) if choice not in near]
    return f" Did you mean {' or '.join(map(_toml, near))}?" if near else ""


def _close_numbers(value: object, choices: list[Any]) -> list[int]:
    """The one nearest to a number, when it is near: 96000 baud is one digit from 9600, and a fifth from 115200."""
    numbers = [choice for choice in choices if isinstance(choice, int) and choice > 0]
    if not isinstance(value, int) or value <= 0 or not numbers:
        return []
    ratio, choice = min((max(value / choice, choice / value), choice) for choice in numbers)
    return [choice] if ratio < _NEAR_RATIO else []


def _show(path: Path, value: object) -> str:
    """`= value` as it would stand in the file, short, and nothing of what looks like a secret."""
    name = str(path[-1]).lower() if path else ""
    if any(word in name for word in SECRET_WORDS) and isinstance(value, str):
        return "= (hidden)"
    text = hide_keys(_toml(value))
    return f"= {text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + '…'}"


# Who asks, and the password, as some write them into a URL.
_USER = re.compile(r"//[^/@\s]*@")


def hide_keys(text: str) -> str:
    """`text` without anything that may be a key: somebody pastes one, or names the key file as the config."""
    return KEY_DIGITS.sub("(hidden)", _USER.sub("//(hidden)@", text))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(value) + " }"
    if isinstance(value, (list, tuple)):
        if len(value) <= 3 and all(isinstance(item, (int, float)) for item in value):
            return f"[{', '.join(map(_toml, value))}]"
        return f"[ {len(value)} items ]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=not value.isprintable())
    try:
        return str(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
