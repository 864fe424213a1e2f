"""What a build called things. The next build is told, and calls them the same.

Names are given by how often they are used, so one more use in one place would give half of the firmware other names;
nobody would notice but an update over the air, which sends what differs (protocols/delta.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Names:
    """Goes through a build: comes in as the last one left it, and is what this one gave when it is done."""

    fields: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, dict[str, str]] = field(default_factory=dict)  # of each module
    publics: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Names:
        hidden = {module: dict(names) for module, names in data["hidden"].items()}
        return cls(dict(data["fields"]), hidden, dict(data.get("publics", {})))

    def dump(self) -> dict[str, Any]:
        return {"fields": self.fields, "hidden": self.hidden, "publics": self.publics}


def assign(ranked: Iterable[str], free: Iterable[str], before: Mapping[str, str]) -> dict[str, str]:
    """A name out of ``free`` for each of ``ranked``, as long as there are any: that of before, where it is free."""
    wanted = list(ranked)
    pool = list(free)
    is_free = set(pool)
    given: dict[str, str] = {}
    for name in wanted:
        if before.get(name) in is_free:
            given[name] = before[name]
            is_free.remove(before[name])
    left = (name for name in pool if name in is_free)
    return given | dict(zip((name for name in wanted if name not in given), left, strict=False))
