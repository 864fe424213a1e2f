"""The drawing of `tidegate plan`: delivery and load over the number of nodes, as an SVG that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from hil_tests.world.survey import Outcome

_WIDTH, _HEIGHT = 760, 560
_LEFT, _RIGHT = 70, 30
_PANELS = ((70, 290), (350, 500))  # top and bottom of the two plots
_COLOURS = {"records delivered": "#1b6ca8", "packets heard": "#d1495b", "up": "#3a7d44", "down": "#8d6a9f"}


def draw(outcomes: Sequence[Outcome], asked: int, title: str) -> str:
    """`asked`: the number of nodes that the question was about."""
    points = sorted(outcomes, key=lambda outcome: outcome.total)
    across = _scale_log([point.total for point in points], _LEFT, _WIDTH - _RIGHT)
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="#222">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 26, title, 13, "start"),
    ]
    share = {
        "records delivered": [100 * point.delivered for point in points],
        "packets heard": [100 * point.heard for point in points],
    }
    load = {
        "up": [100 * point.channel_load for point in points],
        "down": [100 * point.down_load for point in points],
    }
    numbers = [point.total for point in points]
    lowest = math.floor(min(min(values) for values in share.values()) / 20) * 20
    parts += _panel(_PANELS[0], "delivery, %", numbers, share, across, (min(lowest, 80), 100), asked)
    parts += _panel(_PANELS[1], "channel load, %", numbers, load, across, (0, _nice(load)), asked)
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, "nodes (those in reach are counted)", 12))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _panel(
    edges: tuple[int, int],
    name: str,
    numbers: Sequence[int],
    lines: dict[str, list[float]],
    across: Callable[[float], float],
    limits: tuple[float, float],
    asked: int,
) -> list[str]:
    top, bottom = edges
    low, high = limits

    def up(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    right = _WIDTH - _RIGHT
    parts = [_text(_LEFT, top - 12, name, 12, "start")]
    for step in range(5):
        value = low + (high - low) * step / 4
        y = up(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.4g}", 11, "end"))
    x = across(asked)
    parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#999" stroke-dasharray="4 4"/>')
    parts += [_text(across(number), bottom + 18, str(number), 11) for number in numbers]
    for at, (label, values) in enumerate(lines.items()):
        colour = _COLOURS[label]
        spots = [(across(number), up(value)) for number, value in zip(numbers, values, strict=True)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), value in zip(spots, values, strict=True):
            told = f"<title>{escape(label)}: {value:.2f} %</title>"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">{told}</circle>')
        x = right - 150 * (len(lines) - at)
        parts.append(f'<rect x="{x + 20}" y="{top - 22}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 38, top - 12, label, 12, "start"))
    return parts


def _nice(load: dict[str, list[float]]) -> float:
    """A round number at or above everything."""
    most = max(max(values) for values in load.values()) or 1.0
    step = 10.0 ** math.floor(math.log10(most))
    return next(step * times for times in (1, 2, 4, 5, 10) if step * times >= most)


def _scale_log(numbers: Sequence[int], left: float, right: float) -> Callable[[float], float]:
    low, high = math.log(min(numbers)), math.log(max(numbers))
    inset = 30.0
    if low == high:
        return lambda number: (left + right) / 2
    return lambda number: left + inset + (math.log(number) - low) / (high - low) * (right - left - 2 * inset)


def _text(x: float, y: float, text: str, size: int, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
