"""Files of mistakes and what is told of them: pieces of TOML apart by blank lines, each followed by lines with =>."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def mistakes(name: str) -> list[tuple[str, list[str]]]:
    """(TOML, what must be told of it), in the order of the file."""
    found: list[tuple[str, list[str]]] = []
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    piece: list[str] = []
    told: list[str] = []
    for line in [*lines, "", "#"]:
        if line.startswith("=> "):
            told.append(line[3:])
        elif told and not line.strip():
            found.append(("\n".join(piece) + "\n", told))
            piece, told = [], []
        elif not line.startswith("#") and (line.strip() or piece):
            piece.append(line)
    return found
