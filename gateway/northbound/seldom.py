"""Lines in the log that a far side can bring about as often as it likes: one a minute of each kind."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

from gateway.limits import FAR_SIDE_TOLD_S


class Seldom:
    """`kind` is one of a few: each has a line and a count of its own."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float]) -> None:
        self._log = log
        self._now_s = now_s
        self._told_s: dict[object, float] = {}
        self._untold: dict[object, int] = defaultdict(int)

    def warning(self, kind: object, text: str, *values: object) -> None:
        """Tell it, or count it for the next line of its kind."""
        now_s = self._now_s()
        told_s = self._told_s.get(kind)
        if told_s is not None and now_s - told_s < FAR_SIDE_TOLD_S:
            self._untold[kind] += 1
            return
        self._told_s[kind] = now_s
        untold = self._untold.pop(kind, 0)
        if untold:
            text, values = text + " (%d more like it since the last line)", (*values, untold)
        self._log.warning(text, *values)
