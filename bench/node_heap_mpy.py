"""What each module of a node takes on the heap: run by bench/node_heap.py on the real MicroPython, not by pytest.

Imports everything a node imports, with a collection before and after each module. What a module takes is what is held
after its import and was not before, less what its own imports took: code objects, constants, tables, classes, and the
names (qstrs) that it is the first to use.
"""

import builtins
import gc
import sys

_import = builtins.__import__
_inner = [0]
taken = []


def measured(name, *rest):
    """__import__, with a note of what the module left behind."""
    if name in sys.modules:
        return _import(name, *rest)
    gc.collect()
    before = gc.mem_alloc()
    _inner.append(0)
    module = _import(name, *rest)
    gc.collect()
    whole = gc.mem_alloc() - before
    own = whole - _inner.pop()
    _inner[-1] += whole
    taken.append((own, name))
    return module


builtins.__import__ = measured
for name in sys.argv[1:]:
    measured(name)
for own, name in taken:
    print(own, name)
