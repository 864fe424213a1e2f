"""Give names that nobody outside a module sees short ones, the same in every module.

A name costs a node 26 bytes of heap or more, once, however often it is used. Renamed are names with one leading
underscore (functions, methods, attributes, variables) and names of parameters and local variables. A name stays when it
is used in some module that does not define it, is imported or passed as a keyword anywhere, or occurs as a string.
Lines stay where they are, so a traceback still says where it was: "firmware.uplink", line 212.
"""

import ast
import builtins
import string
from collections import Counter
from collections.abc import Iterator, Mapping

# (line, column in bytes, the name there)
Place = tuple[int, int, str]

_SHORT = [f"_{a}{b}" for b in ("", *string.ascii_lowercase) for a in string.ascii_letters]


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """Module name -> text."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    fixed = set(dir(builtins)).union(*(_fixed(tree) for tree in trees.values()))
    return {name: _renamed(text, trees[name], fixed) for name, text in sources.items()}


def _renamed(text: str, tree: ast.Module, fixed: set[str]) -> str:
    lines = [line.encode() for line in text.split("\n")]
    found = list(_places(tree, lines))
    hidden = {name for _, _, name in found if _is_private(name)} | _locals(tree)
    places = [place for place in found if place[2] in hidden - fixed]
    taken = {name for _, _, name in found} & fixed
    free = (short for short in _SHORT if short not in taken)
    ranked = Counter(name for _, _, name in places).most_common()
    new = dict(
        zip([name for name, _ in sorted(ranked, key=lambda item: (-item[1], item[0]))], free, strict=False)
    )
    for number, column, name in sorted(set(places), reverse=True):
        line = lines[number - 1]
        lines[number - 1] = line[:column] + new[name].encode() + line[column + len(name) :]
    return b"\n".join(lines).decode()


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _places(tree: ast.Module, lines: list[bytes]) -> Iterator[Place]:
    """Wherever an identifier of this module stands in the text."""
    for node in ast.walk(tree):
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


def _locals(tree: ast.Module) -> set[str]:
    """Names that occur in this module as parameters and local variables and as nothing else."""
    inside: set[str] = set()
    outside: set[str] = set()
    for node, is_inside in _walk(tree, False):
        match node:
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                inside.add(name)
            case ast.Name(id=name, ctx=context):
                (inside if is_inside and isinstance(context, ast.Store) else set()).add(name)
                if not is_inside:
                    outside.add(name)
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                outside.add(name)
            case ast.Global(names=names):
                outside |= set(names)
    return inside - outside


def _walk(node: ast.AST, is_inside: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands in the body of a function."""
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        within = is_inside or (isinstance(node, ast.FunctionDef | ast.Lambda) and name in ("body", "args"))
        for child in children:
            if isinstance(child, ast.AST):
                yield child, within
                yield from _walk(child, within)


def _fixed(tree: ast.Module) -> set[str]:
    """Names that this module uses without defining them, imports, passes as keywords, or has in a string."""
    used: set[str] = set()
    defined: set[str] = set()
    fixed: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=context) | ast.Attribute(attr=name, ctx=context):
                (used if isinstance(context, ast.Load) else defined).add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                defined.add(name)
            case ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.alias(name=name, asname=asname):
                fixed |= {name, asname or name}
            case ast.Constant(value=str(name)) | ast.keyword(arg=str(name)):
                fixed.add(name)
    return fixed | (used - defined)
