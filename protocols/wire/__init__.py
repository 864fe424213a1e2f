"""One code base for nodes (MicroPython) and gateway (CPython); the authority is protocols/SPEC.md."""
