"""Give names that nobody outside a module sees short ones, the same in every module.

Modules with a class and its heirs count as one: what occurs in these alone is seen by nobody else.

A name costs a node 26 bytes of heap or more, once, however often it is used. Renamed are names with one leading
underscore, names of parameters and local variables, and every other name that is defined in one module and occurs in
no other. A name stays when it is used in some module that does not define it, is imported or passed as a keyword
anywhere, occurs as a string, or is part of what Python or MicroPython offers. Lines stay where they are, so a traceback
still says where it was: "firmware.uplink", line 212.
"""

import ast
import builtins
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flash_tools.naming import Names, assign
from flash_tools.trees import ALL, nodes, walk

# (line, column in bytes, the name there)
Place = tuple[int, int, str]

_SHORT = [f"_{a}{b}" for b in ("", *string.ascii_lowercase) for a in string.ascii_letters]
# Attributes of objects that are not ours, beside those of the built-in types: machine, esp32, vfs, os, sys, select …
_FOREIGN = """
    value init deinit on off any name readinto readline write flush feed datetime memory atten read_uv read_u16 read
    find info readblocks writeblocks ioctl open remove rename ilistdir mkdir rmdir stat statvfs mount umount mkfs
    ticks_ms ticks_diff ticks_add sleep_ms sleep time gmtime poll register unregister modify urandom buffer
    modules path stdin stdout implementation print_exception collect mem_free mem_alloc threshold kbd_intr
    reset reset_cause deepsleep encrypt decrypt update digest sha256 aes crc32 pack unpack pack_into unpack_from
    namedtuple array getvalue close seek errno args
"""
_TYPES = (str, bytes, bytearray, memoryview, int, float, list, dict, tuple, set, BaseException, property)
OFFERED = {*dir(builtins), *_FOREIGN.split(), *(name for kind in _TYPES for name in dir(kind))}
# A name that is given to one of these as a string is asked for.
_ASKS = {"getattr", "hasattr", "setattr", "delattr", "namedtuple", "__import__"}
_WORD = re.compile(r"[A-Za-z_]\w*\Z")


def shorten(
    sources: Mapping[str, str], keep: Iterable[str] = (), names: Names | None = None
) -> dict[str, str]:
    """Module name -> text. ``keep``: names that are asked for from outside."""
    names = names or Names()
    before, names.hidden = names.hidden, {}
    trees = {name: ast.parse(text) for name, text in sources.items()}
    families = _families(trees)
    fixed = OFFERED.union(keep, *(_fixed([trees[name] for name in family]) for family in families))
    homes = Counter(name for tree in trees.values() for name in identifiers(tree) - local_names(tree))
    shortened: dict[str, str] = {}
    for family in families:
        kin = {name: trees[name] for name in family}
        found = {name: list(places(trees[name], _lines(sources[name]))) for name in family}
        known = {old: new for name in family for old, new in before.get(name, {}).items()}
        new = _new_names(kin, [place for places in found.values() for place in places], fixed, homes, known)
        names.hidden |= {
            name: {old: new[old] for old in sorted({old for _, _, old in found[name]} & new.keys())}
            for name in family
        }
        shortened |= {name: replaced(sources[name], found[name], new) for name in family}
    return {name: shortened[name] for name in sources}


def _families(trees: Mapping[str, ast.Module]) -> list[list[str]]:
    """Modules whose classes inherit from each other: in those, one name is one name."""
    heads = {name: name for name in trees}
    for name, tree in trees.items():
        imported = {
            alias.asname or alias.name: node.module
            for node in nodes(tree)
            if isinstance(node, ast.ImportFrom) and node.module in trees
            for alias in node.names
        }
        for node in nodes(tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                if isinstance(base, ast.Name) and base.id in imported:
                    old, new = heads[name], heads[str(imported[base.id])]
                    heads = {one: new if head == old else head for one, head in heads.items()}
    return [[name for name in trees if heads[name] == head] for head in dict.fromkeys(heads.values())]


def _new_names(
    kin: Mapping[str, ast.Module],
    found: list[Place],
    fixed: set[str],
    homes: Mapping[str, int],
    before: Mapping[str, str],
) -> dict[str, str]:
    names = {name for _, _, name in found}
    at_home = Counter(name for tree in kin.values() for name in identifiers(tree) - local_names(tree))
    hidden = {name for name in names if _is_private(name) or at_home[name] in (0, homes[name])}
    hidden = {name for name in hidden - fixed if not name.startswith("__") and name != "_"}
    free = (short for short in _SHORT if short not in names - hidden)
    ranked = Counter(name for _, _, name in found if name in hidden).most_common()
    return assign([name for name, _ in sorted(ranked, key=lambda item: (-item[1], item[0]))], free, before)


def _lines(text: str) -> list[bytes]:
    return [line.encode() for line in text.split("\n")]


def replaced(text: str, places: Iterable[Place], new: Mapping[str, str]) -> str:
    """The text with the names at these places replaced by what ``new`` has for them; no line moves."""
    lines = [line.encode() for line in text.split("\n")]
    for number, column, name in sorted(set(places), reverse=True):
        line = lines[number - 1]
        lines[number - 1] = line[:column] + new.get(name, name).encode() + line[column + len(name) :]
    return b"\n".join(lines).decode()


def _words(root: ast.AST) -> set[str]:
    """Strings in this expression that may be names."""
    texts = (node.value for node in walk(root) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and _WORD.match(text)}


def _is_private(name: str) -> bool:
    return name.startswith("_")


def places(tree: ast.Module, lines: list[bytes]) -> Iterator[Place]:
    """Wherever an identifier of this module stands in the text."""
    for node in nodes(tree):
        match node:
            case ast.Name(id=name):
                yield node.lineno, node.col_offset, name
            case ast.Attribute(attr=name):
                yield node.end_lineno or 0, (node.end_col_offset or 0) - len(name), name
            case ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield node.lineno, node.col_offset, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, lines[node.lineno - 1].index(name.encode(), node.col_offset + 4), name
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, lines[node.lineno - 1].rindex(b" as " + name.encode()) + 4, name
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                for name in names:
                    yield node.lineno, lines[node.lineno - 1].index(name.encode()), name


def identifiers(tree: ast.Module) -> set[str]:
    """Every identifier that occurs in this module."""
    found: set[str] = set()
    for node in nodes(tree):
        match node:
            case (
                ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name))
            ):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.alias(name=name, asname=asname):
                found |= {*name.split("."), asname or name}
    return found


def local_names(tree: ast.Module) -> set[str]:
    """Names that occur in this module as parameters and local variables and as nothing else."""
    inside: set[str] = set()
    outside: set[str] = set()
    for node, is_inside in _walk(tree):
        match node:
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                inside.add(name)
            case ast.Name(id=name, ctx=context):
                if is_inside and isinstance(context, ast.Store):
                    inside.add(name)
                elif not is_inside:
                    outside.add(name)
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                outside.add(name)
            case ast.Global(names=names):
                outside |= set(names)
    return inside - outside


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands in the body of a function."""
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, is_inside = todo.pop()
        yield node, is_inside
        is_function = isinstance(node, ast.FunctionDef | ast.Lambda)
        for name in ALL[type(node)]:
            value = getattr(node, name)
            within = is_inside or (is_function and name in ("body", "args"))
            children = value if isinstance(value, list) else [value]
            todo.extend([(child, within) for child in children if isinstance(child, ast.AST)])


def _fixed(family: Sequence[ast.Module]) -> set[str]:
    """Names that these modules use without defining them, import, pass as keywords, or may ask for by a string."""
    used: set[str] = set()
    defined: set[str] = set()
    fixed: set[str] = set()
    for node in (node for tree in family for node in nodes(tree)):
        match node:
            case ast.Name(id=name, ctx=context) | ast.Attribute(attr=name, ctx=context):
                (used if isinstance(context, ast.Load) else defined).add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                defined.add(name)
            case ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.alias(name=name, asname=asname):
                fixed |= {*name.split("."), asname or name}
            case ast.ImportFrom(module=str(name)):
                fixed |= set(name.split("."))
            case ast.Call(func=ast.Name(id=name)) if name in _ASKS:
                fixed |= _words(node)
            case ast.Assign(targets=[ast.Name(id="__slots__")]):
                fixed |= _words(node)
            case ast.keyword(arg=str(name)):
                fixed.add(name)
    return fixed | (used - defined)
