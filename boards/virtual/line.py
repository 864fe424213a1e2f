"""A serial line that damages what passes: bytes corrupted, dropped, doubled or swapped, from a seed."""

import random
from dataclasses import dataclass, field

FAULTS = ("corrupt", "drop", "duplicate", "reorder")


@dataclass
class LineFaults:
    """Shares of bytes (0 to 1) that suffer each fault, in each direction on its own.

    ``counts`` says what was really done. Assign to the rates at any time; the same seed and the same bytes in the
    same order suffer the same faults.
    """

    seed: int = 0
    corrupt: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))

    def __post_init__(self) -> None:
        if min(self.corrupt, self.drop, self.duplicate, self.reorder) < 0 or self._total() > 1:
            raise ValueError(f"fault rates must be >= 0 and sum to at most 1, not {self._total():g}")
        self._random = {way: random.Random(f"{self.seed} {way}") for way in ("up", "down")}

    def pass_through(self, data: bytes, way: str) -> bytes:
        """``way`` is "up" (node to gateway) or "down"."""
        rng = self._random[way]
        total = self._total()
        out = bytearray()
        held: int | None = None  # a byte overtaken by its successor
        for byte in data:
            if rng.random() >= total:
                out.append(byte)
            else:
                fault = rng.choices(FAULTS, (self.corrupt, self.drop, self.duplicate, self.reorder))[0]
                self.counts[fault] += 1
                if fault == "corrupt":
                    out.append(byte ^ (1 << rng.randrange(8)))
                elif fault == "duplicate":
                    out += bytes((byte, byte))
                elif fault == "reorder" and held is None:
                    held = byte
                    continue
                elif fault == "reorder":
                    out.append(byte)
            if held is not None:
                out.append(held)
                held = None
        if held is not None:
            out.append(held)
        return bytes(out)

    def _total(self) -> float:
        return self.corrupt + self.drop + self.duplicate + self.reorder
