"""The label of a node, for its lid: who it is, for people and for a phone's camera. Never a key.

50 × 25 mm, as SVG, and as PDF with one page per label. The QR code says the same as the text, in one line:

    tidegate:0012?mac=240ac4000110&model=river@esp32_devkitc_sx1262&area=330110001001
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import segno

from flash_tools.pdf import Page, Pdf
from flash_tools.provisioning import Unit

WIDTH_MM, HEIGHT_MM = 50.0, 25.0
_MARGIN_MM = 1.5
_QR_MM = HEIGHT_MM - 2 * _MARGIN_MM
# Modules of quiet zone that the standard asks for; the label's own margin is part of it.
_QUIET = 2
_TEXT_X_MM = _MARGIN_MM + _QR_MM + 1.5
# Of Helvetica bold and regular at 1 mm: wide enough for every line that is set here.
_EM = 0.6


class Line(NamedTuple):
    text: str
    y_mm: float  # of its base line, from the top
    size_mm: float
    is_bold: bool


def qr_text(unit: Unit) -> str:
    """What the QR code says. Every part of it is plain ASCII without '&' or '?' (area and names are checked)."""
    wanted = unit.wanted
    return (
        f"tidegate:{unit.name}?mac={unit.mac.replace(':', '')}"
        f"&model={wanted.node_type}@{wanted.board}&area={wanted.area}"
    )


def svg(unit: Unit) -> str:
    """The label as a picture of its own."""
    runs = "".join(f"M{x:g} {y:g}h{w:g}v{h:g}h-{w:g}z" for x, y, w, h in _runs(unit))
    texts = "\n".join(
        f'<text x="{_TEXT_X_MM}" y="{line.y_mm}" font-size="{line.size_mm:g}"'
        f"{' font-weight=' + chr(34) + 'bold' + chr(34) if line.is_bold else ''}>{escape(line.text)}</text>"
        for line in _lines(unit)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_MM:g}mm" height="{HEIGHT_MM:g}mm" '
        f'viewBox="0 0 {WIDTH_MM:g} {HEIGHT_MM:g}">\n'
        f"<title>Label of node {unit.name}</title>\n"
        f'<rect width="{WIDTH_MM:g}" height="{HEIGHT_MM:g}" fill="#fff"/>\n'
        f'<path d="{runs}" fill="#000" shape-rendering="crispEdges"/>\n'
        f'<g font-family="Helvetica, Arial, sans-serif" fill="#000">\n{texts}\n</g>\n</svg>\n'
    )


def pdf(units: Sequence[Unit]) -> bytes:
    """A page per label, each as large as a label: what a label printer takes."""
    made = Pdf(f"Tidegate labels {', '.join(unit.name for unit in units[:8])}")
    for unit in units:
        page = Page(WIDTH_MM, HEIGHT_MM)
        for x, y, w, h in _runs(unit):
            page.rectangle(x, y, w, h)
        for line in _lines(unit):
            page.text(_TEXT_X_MM, line.y_mm, line.size_mm, line.text, is_bold=line.is_bold)
        made.add(page)
    return made.data()


def _lines(unit: Unit) -> list[Line]:
    wanted = unit.wanted
    room = WIDTH_MM - _TEXT_X_MM - _MARGIN_MM

    def small(text: str, y_mm: float, size_mm: float = 2.2) -> Line:
        return Line(text, y_mm, round(min(size_mm, room / (_EM * max(len(text), 1))), 2), False)

    return [
        Line(unit.name.upper(), 8.0, 7.0, True),
        small(wanted.node_type, 11.5, 2.6),
        small(wanted.board, 14.6),
        small(unit.mac, 18.4),
        small(f"area {wanted.area}", 21.6),
    ]


def _runs(unit: Unit) -> Iterator[tuple[float, float, float, float]]:
    """The dark modules of the QR code, a run of a row as one rectangle: x, y, width, height in mm."""
    matrix = segno.make(qr_text(unit), error="m", micro=False).matrix
    module = _QR_MM / (len(matrix) + 2 * _QUIET)
    for row, cells in enumerate(matrix):
        column = 0
        while column < len(cells):
            end = column
            while end < len(cells) and cells[end]:
                end += 1
            if end > column:
                x, y = (_MARGIN_MM + (_QUIET + at) * module for at in (column, row))
                yield round(x, 3), round(y, 3), round((end - column) * module, 3), round(module, 3)
            column = end + 1
