"""Walks over syntax trees: a build of a firmware is mostly these, and ast.walk looks at every field of every node."""

import ast
from collections.abc import Iterable

# Fields without anything that a build asks for: texts, numbers, and what an expression does with its parts.
_LEAVES = """
    id attr arg name asname module level kind conversion simple is_async type_comment rest ctx op ops
"""
_ANNOTATIONS = frozenset(("annotation", "returns"))


def _fields(without: Iterable[str]) -> dict[type[ast.AST], tuple[str, ...]]:
    """Of each class of nodes, the fields to look into."""
    kinds = [kind for kind in vars(ast).values() if isinstance(kind, type) and issubclass(kind, ast.AST)]
    left_out = {*_LEAVES.split(), *without}
    fields = {kind: tuple(name for name in kind._fields if name not in left_out) for kind in kinds}
    # A number or a text; and lists of names.
    return {**fields, ast.Constant: (), ast.Global: (), ast.Nonlocal: ()}


ALL = _fields(())
CODE = _fields(_ANNOTATIONS)


def walk(root: ast.AST, fields: dict[type[ast.AST], tuple[str, ...]] = ALL) -> list[ast.AST]:
    """The nodes that ast.walk finds, in its order, without contexts and operators. ``CODE``: without annotations,
    which a node does not evaluate."""
    found = [root]
    for node in found:  # grows meanwhile
        for name in fields[type(node)]:
            value = getattr(node, name)
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found.extend([item for item in value if isinstance(item, ast.AST)])
    return found


def nodes(tree: ast.Module) -> list[ast.AST]:
    """All of a module, looked up once: for a tree that nobody changes any more."""
    kept = vars(tree)
    if "found" not in kept:
        kept["found"] = walk(tree)
    found: list[ast.AST] = kept["found"]
    return found
