"""What can be said of a frame to a person: its fields, what is wrong, what is unusual. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """One field. `chinese` is its name or meaning in the standard, "" where it has none."""

    field: str
    value: str
    meaning: str = ""
    chinese: str = ""


class Told(NamedTuple):
    """A frame with no `problems` is good; `notes` say what a person may wonder about."""

    protocol: str
    lines: list[Line]
    problems: list[str]
    notes: list[str]

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "protocol": self.protocol,
            "good": not self.problems,
            "fields": [line._asdict() for line in self.lines],
            "problems": self.problems,
            "notes": self.notes,
        }


def nearest(number: int, known: dict[int, tuple[str, str]]) -> str:
    """The known codes beside one that is not known."""
    near = sorted(known, key=lambda code: (abs(code - number), code))[:2]
    return " and ".join(f"{code:02X} ({known[code][1]})" for code in sorted(near))
