"""What is told of something, as lines for a person or as data for a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from protocols.inspection.words import printable
from protocols.northbound.told import Told


def lines_of(told: Told) -> Iterator[str]:
    """One thing. Whatever is in the bytes, nothing but printable letters comes out."""
    width = max((len(line.field) for line in told.lines), default=0)
    for line in told.lines:
        words = " ".join(part for part in (line.meaning, line.chinese) if part)
        yield printable(f"{line.field:{width}}  {line.value}{f'  ({words})' if words else ''}")
    for note in told.notes:
        yield printable(f"note: {note}")
    for problem in told.problems:
        yield printable(f"WRONG: {problem}")


def page(all_told: Sequence[Told], noun: str) -> Iterator[str]:
    """All of them, and how many are wrong."""
    for index, told in enumerate(all_told):
        if index:
            yield ""
        if len(all_told) > 1:
            yield f"{index + 1}: {told.protocol}"
        yield from lines_of(told)
    if len(all_told) > 1:
        bad = sum(bool(told.problems) for told in all_told)
        yield f"\n{len(all_told)} {noun}, {bad} with something wrong."


def as_json(all_told: Sequence[Told]) -> dict[str, Any]:
    return {
        "good": not any(told.problems for told in all_told),
        "things": [told.as_json() for told in all_told],
    }
