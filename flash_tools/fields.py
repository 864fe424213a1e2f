"""Give data fields the names of things that are in every MicroPython's ROM.

A name that a program brings along costs a node 26 bytes of heap or more, and makes its table of names double when it is
full; a name that the interpreter has anyway costs nothing. So `self.outbox` becomes `self.acos`: what an attribute is
called matters to nobody at run time, as long as it is the same everywhere. Functions, methods and classes keep their
names: they stand in tracebacks.

A field is a name that is stored on an object (`self.x = …`) or is in the list of a namedtuple. It keeps its name if it
is anything else besides, in any module: a function, a variable of a module, a keyword of a call (other than of a
namedtuple), a string, or part of what Python or MicroPython offers.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from flash_tools.naming import Names, assign
from flash_tools.shorten import OFFERED, Place, replaced
from flash_tools.trees import nodes, walk

# In the ROM of every port: functions and methods of the core, its exceptions, and the mathematics.
_IN_ROM = """
    abs all bin bytearray callable chr classmethod dict dir divmod enumerate eval exec filter float frozenset getattr
    globals hasattr hash hex int isinstance issubclass iter len list locals map max memoryview min object oct ord pow
    print property range repr reversed round set setattr slice sorted staticmethod str sum super tuple type zip
    clear copy insert reverse fromkeys keys popitem setdefault discard difference intersection isdisjoint issubset
    issuperset symmetric_difference union startswith endswith strip lstrip format lower upper isspace isalpha isdigit
    isupper islower rfind rindex rsplit splitlines partition center throw real imag
    acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh degrees erf erfc exp expm1 fabs floor fmod frexp gamma
    isfinite isinf isnan ldexp lgamma log10 log2 modf radians sin sinh sqrt tan tanh trunc
    ArithmeticError AssertionError AttributeError BaseException EOFError GeneratorExit ImportError IndentationError
    IndexError KeyError KeyboardInterrupt LookupError MemoryError NameError NotImplementedError OverflowError
    RuntimeError StopIteration SyntaxError SystemExit TypeError UnicodeError ValueError ViperTypeError ZeroDivisionError
    Ellipsis argv byteorder maxsize platform stderr version_info localtime mktime sleep_us ticks_cpu ticks_us calcsize
    heap_lock heap_unlock isenabled mem_info qstr_info stack_use schedule opt_level OrderedDict deque popleft appendleft
    a2b_base64 b2a_base64 hexlify unhexlify getenv getcwd chdir
"""
STOCK = tuple(_IN_ROM.split())


def name_fields(
    sources: Mapping[str, str], keep: Iterable[str] = (), names: Names | None = None
) -> dict[str, str]:
    """Module name -> text. ``keep``: names that programs outside of ``sources`` use too."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    tuples = {name for tree in trees.values() for name in _tuple_types(tree)}
    uses: Counter[str] = Counter()
    fields: set[str] = set()
    taken = set(keep)
    for tree in trees.values():
        stored, other = _sorted_out(tree, tuples)
        fields |= stored
        taken |= other
        uses.update(name for _, _, name in _places(tree, tuples))
    stock = (name for name in STOCK if name not in taken and name not in fields)
    ranked = sorted(
        (name for name in fields - taken - OFFERED if not name.startswith("_")),
        key=lambda name: (-uses[name], name),
    )
    names = names or Names()
    names.fields = new = assign(ranked, stock, names.fields)
    return {name: replaced(text, _places(trees[name], tuples), new) for name, text in sources.items()}


def _is_namedtuple(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "namedtuple"


def _tuple_types(tree: ast.Module) -> Iterator[str]:
    """The names that namedtuples are bound to."""
    for node in nodes(tree):
        if isinstance(node, ast.Assign) and _is_namedtuple(node.value):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _field_strings(node: ast.Call) -> list[ast.Constant]:
    """The names in a call of namedtuple(), as they stand there."""
    return [item for item in walk(node.args[1]) if isinstance(item, ast.Constant)]


def _makes_tuple(call: ast.Call, tuples: set[str]) -> bool:
    """Whether the keywords of a call are fields of a namedtuple."""
    match call.func:
        case ast.Attribute(attr="_replace"):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in tuples
    return False


def _sorted_out(tree: ast.Module, tuples: set[str]) -> tuple[set[str], set[str]]:
    """Names of fields in this module, and names that are something else."""
    fields: set[str] = set()
    other: set[str] = set()
    strings: set[int] = set()
    for node in nodes(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Store()):
                fields.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                other.add(name)
            case ast.alias(name=name, asname=asname):
                other |= {*name.split("."), asname or name}
            case ast.ImportFrom(module=str(name)):
                other |= set(name.split("."))
            case ast.Call() if _is_namedtuple(node):
                found = _field_strings(node)
                fields |= {str(one.value) for one in found}
                strings |= {id(one) for one in found}
            case ast.Call(keywords=keywords) if not _makes_tuple(node, tuples):
                other |= {keyword.arg for keyword in keywords if keyword.arg}
    for statement in tree.body:
        # Variables of the module, in whatever branch or loop they are bound, and what a class binds.
        for node in _outside_functions(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                other.add(node.id)
    for node in nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in strings:
            other.add(node.value)
    return fields, other


def _outside_functions(root: ast.AST) -> Iterator[ast.AST]:
    if isinstance(root, ast.FunctionDef | ast.Lambda):
        return
    yield root
    for child in ast.iter_child_nodes(root):
        yield from _outside_functions(child)


def _places(tree: ast.Module, tuples: set[str]) -> Iterator[Place]:
    """Wherever a field may stand in the text: attributes, lists of namedtuples, and keywords that make them."""
    for node in nodes(tree):
        match node:
            case ast.Attribute(attr=name):
                yield node.end_lineno or 0, (node.end_col_offset or 0) - len(name), name
            case ast.Call() if _is_namedtuple(node):
                for one in _field_strings(node):
                    yield one.lineno, one.col_offset + 1, str(one.value)
            case ast.Call(keywords=keywords) if _makes_tuple(node, tuples):
                for keyword in keywords:
                    if keyword.arg:
                        yield keyword.lineno, keyword.col_offset, keyword.arg
