"""Take out of a source tree what a program does not need: unreachable definitions, and constants that can be numbers.

A node loads its program from flash into a heap of 160 kB, and half of what `protocols.wire` defines is for the gateway.
A linker would drop it; MicroPython has none, so this does it before mpy-cross, on the source text: what is dropped
becomes empty lines, so that tracebacks keep their line numbers.

Reachability errs towards keeping. What a module defines at its top level stays when code that stays names it, in the
module or through an import; a method stays when its name is looked up anywhere, whatever the object. Upper-case module
variables that are whole numbers are written out where they are used, in every module that imports them; each saves a
dictionary entry, its interned name and, in a function, a look-up. What a `raise` in the wire says becomes the number of
its line: a node counts refusals by their reason, the texts are for the host, which runs the same sources.
"""

import ast
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flash_tools.errors import ImageError
from flash_tools.trees import CODE, walk

_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
}
_BY_NAME = frozenset(("getattr", "hasattr", "setattr", "__import__"))

# Modules whose errors are only ever counted by their `reason` on a node: their texts are for whoever debugs a gateway.
_WITHOUT_TEXTS = ("protocols.wire", "firmware.sensors")

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def shake(sources: Mapping[str, str], root: str, by_name: Iterable[str] = ()) -> dict[str, str]:
    """Module name (``firmware.node``; a package by its own name) -> text, for what the module ``root`` needs.

    ``by_name``: modules that are imported under a name known only at run time.
    """
    modules = {name: _Module(name, text) for name, text in sources.items()}
    for module in modules.values():
        module.drop_branches()
    constants = _Constants(modules)
    for module in modules.values():
        constants.write_out(module)
        if module.name.startswith(_WITHOUT_TEXTS):
            _drop_texts(module)
    reach = _Reach(modules)
    reach.visit(root, by_name)
    return {name: modules[name].shaken(reach.names[name], reach.attributes) for name in sorted(reach.visited)}


@dataclass
class _Module:
    """One file: its statements at the top level, flattened out of the branches that are taken, and its edits."""

    name: str
    text: str
    statements: list[ast.stmt] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)  # lines, first and last
    edits: list[tuple[int, int, int, str]] = field(default_factory=list)  # line, from byte, to byte, text
    _imports: tuple[list[ast.stmt], list[ast.ImportFrom | ast.Import]] | None = None

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")
        try:
            self.statements = ast.parse(self.text).body
        except SyntaxError as error:
            raise ImageError(f"{self.name.replace('.', '/')}.py, line {error.lineno}: {error.msg}") from error
        for statement in self.imports():
            if isinstance(statement, ast.ImportFrom) and statement.level:
                package = self.name.rsplit(".", statement.level)[0]
                statement.module = f"{package}.{statement.module}" if statement.module else package
                statement.level = 0

    def drop_branches(self) -> None:
        """Take the one branch of `if TYPE_CHECKING` and of tests for the interpreter that a node takes."""
        flat: list[ast.stmt] = []
        for statement in self.statements:
            taken = _known_test(statement.test) if isinstance(statement, ast.If) else None
            if not isinstance(statement, ast.If) or taken is None:
                flat.append(statement)
                continue
            body, other = (statement.body, statement.orelse) if taken else (statement.orelse, statement.body)
            if other:
                self.dropped.append((other[0].lineno, other[-1].end_lineno or 0))
            if body:
                self._unwrap(statement, body)
                flat.extend(body)
            else:
                self.dropped.append((statement.lineno, statement.end_lineno or 0))
        self.statements = flat

    def _unwrap(self, statement: ast.If, body: list[ast.stmt]) -> None:
        """Make the branch that is taken unconditional, without moving a line."""
        for number in range(statement.lineno, (statement.end_lineno or 0) + 1):
            if self.lines[number - 1].startswith(("if ", "else:")):
                self.lines[number - 1] = ""
        self.lines[body[0].lineno - 2] = "if True:"

    def imports(self) -> list[ast.ImportFrom | ast.Import]:
        """Looked up once for these statements: they are asked for again and again."""
        if self._imports is None or self._imports[0] is not self.statements:
            found = [
                node
                for statement in self.statements
                for node in walk(statement)
                if isinstance(node, ast.ImportFrom | ast.Import)
            ]
            self._imports = self.statements, found
        return self._imports[1]

    def shaken(self, names: set[str], attributes: set[str]) -> str:
        """The text without what is neither in ``names`` (top level) nor in ``attributes`` (methods)."""
        own = set(names)
        for statement in self.statements:
            if not _is_wanted(statement, names):
                self.drop(statement)
                continue
            for code in _wanted(statement, attributes):
                own |= {node.id for node in walk(code, CODE) if isinstance(node, ast.Name)}
            if isinstance(statement, ast.ClassDef):
                for part in statement.body:
                    if not _is_wanted(part, attributes) or _is_declaration(part):
                        self.drop(part)
        for imported in self.imports():
            if isinstance(imported, ast.ImportFrom):
                self._narrow(imported, own)
        return self._render()

    def drop(self, statement: ast.stmt) -> None:
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
        self.dropped.append((first, statement.end_lineno or 0))

    def _narrow(self, statement: ast.ImportFrom, own: set[str]) -> None:
        """Import only what is still used here."""
        left = [alias for alias in statement.names if (alias.asname or alias.name) in own]
        if len(left) == len(statement.names):
            return
        self.drop(statement)
        if left:
            names = ", ".join(a.name + (f" as {a.asname}" if a.asname else "") for a in left)
            indent = " " * statement.col_offset
            self.edits.append((statement.lineno, -1, -1, f"{indent}from {statement.module} import {names}"))

    def _render(self) -> str:
        lines = [line.encode() for line in self.lines]
        for number, start, end, text in sorted(self.edits, reverse=True):
            if start >= 0:
                line = lines[number - 1]
                lines[number - 1] = line[:start] + text.encode() + line[end:]
        for first, last in self.dropped:
            lines[first - 1 : last] = [b""] * (last - first + 1)
        for number, start, _, text in self.edits:
            if start < 0:
                lines[number - 1] = text.encode()
        return b"\n".join(lines).decode()


def _bindings(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Each name as often as it is bound, or named by a `global`."""
    for statement in statements:
        for node in walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Global):
                yield from node.names


class _Constants:
    """The whole-number constants of all modules, and the names by which each module knows them."""

    def __init__(self, modules: Mapping[str, _Module]) -> None:
        self._modules = modules
        self._values: dict[str, dict[str, int]] = {name: {} for name in modules}
        self._bindings: dict[str, Counter[str]] = {}
        self._done: set[str] = set()
        for name in modules:
            self._collect(name, set())

    def _collect(self, name: str, under_way: set[str]) -> dict[str, int]:
        """Constants of a module, its imports first."""
        known = self._values[name]
        if name in under_way or name in self._done:
            return known
        under_way.add(name)
        for statement in self._modules[name].statements:
            if (
                isinstance(statement, ast.ImportFrom)
                and statement.module
                and statement.module in self._modules
            ):
                theirs = self._collect(statement.module, under_way)
                for alias in statement.names:
                    if alias.name in theirs:
                        known[alias.asname or alias.name] = theirs[alias.name]
            elif isinstance(statement, ast.Assign):
                for target, expression in _assigned(statement):
                    value = _evaluate(expression, known)
                    if (
                        value is not None
                        and target.lstrip("_").isupper()
                        and self._is_bound_once(name, target)
                    ):
                        known[target] = value
        self._done.add(name)
        return known

    def _is_bound_once(self, module: str, target: str) -> bool:
        if module not in self._bindings:
            self._bindings[module] = Counter(_bindings(self._modules[module].statements))
        return self._bindings[module][target] == 1

    def write_out(self, module: _Module) -> None:
        """Put numbers where this module reads constants."""
        known = self._values[module.name]
        aliases = self._module_aliases(module)
        for statement in module.statements:
            for node in walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    _replace(module, node, known.get(node.id))
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    theirs = self._values.get(aliases.get(node.value.id, ""), {})
                    _replace(module, node, theirs.get(node.attr))

    def _module_aliases(self, module: _Module) -> dict[str, str]:
        found: dict[str, str] = {}
        for statement in module.imports():
            if isinstance(statement, ast.ImportFrom):
                for alias in statement.names:
                    full = f"{statement.module}.{alias.name}"
                    if full in self._modules:
                        found[alias.asname or alias.name] = full
        return found


def _replace(module: _Module, node: ast.Name | ast.Attribute, value: int | None) -> None:
    if value is None:
        return
    text = str(value) if value >= 0 else f"({value})"
    module.edits.append((node.lineno, node.col_offset, node.end_col_offset or 0, text))
    # From here on the tree says what the text will say.
    node.__class__ = ast.Constant  # type: ignore[assignment]
    node.value = value  # type: ignore[union-attr]


def _drop_texts(module: _Module) -> None:
    """Raise errors with the number of their line instead of a text for people."""
    for statement in module.statements:
        for node in walk(statement):
            call = node.exc if isinstance(node, ast.Raise) else None
            if not isinstance(call, ast.Call):
                continue
            for argument in call.args:
                if _is_text(argument):
                    _replace_lines(module, argument, str(argument.lineno))


def _is_text(node: ast.expr) -> bool:
    """A text with blanks in it, or one that is formatted or joined."""
    match node:
        case ast.Constant(value=str(text)):
            return " " in text
        case ast.BinOp(left=left, op=ast.Mod() | ast.Add()):
            return isinstance(left, ast.Constant) and isinstance(left.value, str)
    return False


def _replace_lines(module: _Module, node: ast.expr, text: str) -> None:
    """Replace an expression that may go over several lines; edits inside it are forgotten."""
    end = node.end_lineno or node.lineno
    first, last = (node.lineno, node.col_offset), (end, node.end_col_offset or 0)
    module.edits = [e for e in module.edits if not first <= (e[0], e[1]) < last]
    if end == node.lineno:
        module.edits.append((node.lineno, node.col_offset, node.end_col_offset or 0, text))
    else:
        module.edits.append((node.lineno, node.col_offset, len(module.lines[node.lineno - 1].encode()), text))
        for number in range(node.lineno + 1, end):
            module.edits.append((number, 0, len(module.lines[number - 1].encode()), ""))
        module.edits.append((end, 0, node.end_col_offset or 0, ""))
    node.__class__ = ast.Constant
    vars(node)["value"] = node.lineno


class _Reach:
    """What code that stays refers to, from the roots on.

    ``names`` per module: what it defines at its top level and is used, in it or by an import. ``attributes``: what is
    looked up on objects of unknown class; it decides about methods, and about modules that are handed around as values.
    """

    def __init__(self, modules: Mapping[str, _Module]) -> None:
        self._modules = modules
        self._imports = {name: _imported_names(module) for name, module in modules.items()}
        self._open: set[str] = set()
        self._taken: set[ast.AST] = set()
        self.visited: set[str] = set()
        self.names: dict[str, set[str]] = {name: set() for name in modules}
        self.attributes: set[str] = set()

    def visit(self, root: str, by_name: Iterable[str]) -> None:
        """Keep all of the root, and what it needs; of modules found by name, what is looked up on them."""
        for name in by_name:
            self._enter(name)
            self._open.add(name)
        self._enter(root)
        for statement in self._modules[root].statements:
            self.names[root] |= _defined(statement)
        while self._spread():
            pass

    def _enter(self, name: str) -> None:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            package = ".".join(parts[:count])
            if package in self._modules:
                self.visited.add(package)

    def _size(self) -> int:
        return len(self.visited) + len(self._open) + len(self.attributes) + sum(map(len, self.names.values()))

    def _spread(self) -> bool:
        """One round over everything that is wanted by now; whether it found anything new."""
        before = self._size()
        for name in sorted(self._open):
            self.names[name] |= self.attributes
        for name in sorted(self.visited):
            for statement in self._modules[name].statements:
                if _is_wanted(statement, self.names[name]):
                    for code in _wanted(statement, self.attributes):
                        self._take(name, code)
        return self._size() != before

    def _take(self, module: str, code: ast.AST) -> None:
        if code in self._taken:  # whatever it asks for has been asked for
            return
        self._taken.add(code)
        imports = self._imports[module]
        bases: set[ast.AST] = set()
        for node in walk(code, CODE):
            if isinstance(node, ast.Attribute):
                target = imports.get(node.value.id) if isinstance(node.value, ast.Name) else None
                if target in self._modules:
                    bases.add(node.value)
                    self._use(str(target), node.attr)
                else:
                    self.attributes.add(node.attr)
            elif isinstance(node, ast.Name) and node not in bases:
                self._name(module, node.id)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BY_NAME:
                texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
                self.attributes |= {text for text in texts if isinstance(text, str)}
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self._enter(alias.name)
                    if "." in alias.name and alias.name in self._modules:
                        self._open.add(alias.name)  # looked up through its packages: too deep to follow

    def _name(self, module: str, name: str) -> None:
        self.names[module].add(name)
        target = self._imports[module].get(name)
        if target in self._modules:
            self._enter(str(target))
            self._open.add(str(target))  # the module itself is a value here
        elif target is not None:
            owner, _, what = target.rpartition(".")
            self._use(owner, what)

    def _use(self, module: str, name: str) -> None:
        if module in self._modules:
            self._enter(module)
            self._name(module, name)


def _imported_names(module: _Module) -> dict[str, str]:
    """Name here -> ``module`` or ``module.name`` there."""
    found: dict[str, str] = {}
    for statement in module.imports():
        for alias in statement.names:
            if isinstance(statement, ast.ImportFrom):
                found[alias.asname or alias.name] = f"{statement.module}.{alias.name}"
            elif alias.asname or "." not in alias.name:
                found[alias.asname or alias.name] = alias.name
    return found


def _known_test(test: ast.expr) -> bool | None:
    """What a node knows of a condition: TYPE_CHECKING is false, the interpreter is MicroPython."""
    if isinstance(test, ast.Name) and test.id == "TYPE_CHECKING":
        return False
    if isinstance(test, ast.Compare) and ast.unparse(test.left) == "sys.implementation.name":
        is_equal = isinstance(test.ops[0], ast.Eq)
        return bool(ast.literal_eval(test.comparators[0]) == "micropython") == is_equal
    return None


def _assigned(statement: ast.Assign) -> list[tuple[str, ast.expr]]:
    """Each name with its value, also of `A, B = 1, 2`; nothing where it is not as plain as that."""
    if len(statement.targets) != 1:
        return []
    match statement.targets[0], statement.value:
        case ast.Name(id=name), value:
            return [(name, value)]
        case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values):
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            is_plain = len(names) == len(targets) and not any(isinstance(v, ast.Starred) for v in values)
            return list(zip(names, values, strict=True)) if is_plain else []
    return []


def _evaluate(expression: ast.expr, known: Mapping[str, int]) -> int | None:
    match expression:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return known.get(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _evaluate(operand, known)
            return None if inner is None else -inner
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            a, b = _evaluate(left, known), _evaluate(right, known)
            return None if a is None or b is None else int(_BINARY[type(op)](a, b))
    return None


def _defined(statement: ast.stmt) -> set[str]:
    """The names that a statement defines and that may be dropped with it; empty: it must stay."""
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=[ast.Tuple()]):
            return {name for name, _ in _assigned(statement)}
        case ast.Assign(targets=targets):
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            return names if len(names) == len(targets) else set()
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def _is_wanted(statement: ast.stmt, used: set[str]) -> bool:
    names = _defined(statement)
    if "__all__" in names:  # for a star, which nobody here imports by
        return False
    if any(name.startswith("__") and name.endswith("__") for name in names):
        return True
    return not names or bool(names & used)


def _is_declaration(part: ast.stmt) -> bool:
    """Of a type alone, as `hal: "Hal"`: nothing happens there."""
    return isinstance(part, ast.AnnAssign) and part.value is None


def _wanted(statement: ast.stmt, attributes: set[str]) -> Iterator[ast.AST]:
    """What stays of a statement that stays: all, but of a class only the methods that are looked up somewhere."""
    if not isinstance(statement, ast.ClassDef):
        yield statement
        return
    yield from statement.bases
    yield from statement.decorator_list
    for part in statement.body:
        if _is_wanted(part, attributes):
            yield from _wanted(part, attributes)
