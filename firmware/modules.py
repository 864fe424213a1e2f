"""Modules that are needed once: on a node, what they take on the heap is worth more than they are."""

import sys

if sys.implementation.name == "micropython":

    def forget(name: str) -> None:
        """Let go of an imported module; whoever still refers to what is in it keeps that alone."""
        module = sys.modules.pop(name, None)
        package, _, last = name.rpartition(".")
        if module is not None and hasattr(sys.modules.get(package), last):
            delattr(sys.modules[package], last)

else:

    def forget(name: str) -> None:
        """On the host nothing is scarce, and the simulated world starts a thousand nodes."""
