"""The garbage collector, as a process wants it that makes many short-lived tuples and hardly a cycle."""

from __future__ import annotations

import gc

# Objects of a full commit, several times over: the youngest generation is looked through once per commit or less. With
# the defaults (700, 10, 10) the collector takes 8 % of a busy gateway's time and finds nothing.
_THRESHOLDS = (20_000, 20, 50)


def quieten_gc() -> None:
    """Once, when everything is set up: what is there now stays and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
