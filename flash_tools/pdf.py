"""A PDF writer for labels: pages of filled rectangles and lines of Helvetica, and nothing else.

The same content gives the same bytes. Coordinates are millimetres from the top left, as in SVG. Text is ASCII: the
fonts that every reader of PDF has know no more.
"""

from __future__ import annotations

_POINTS_PER_MM = 72 / 25.4


class Page:
    def __init__(self, width_mm: float, height_mm: float) -> None:
        self.width = width_mm * _POINTS_PER_MM
        self.height = height_mm * _POINTS_PER_MM
        self._commands: list[str] = []

    def rectangle(self, x_mm: float, y_mm: float, width_mm: float, height_mm: float) -> None:
        """Filled black."""
        x, y, width, height = (value * _POINTS_PER_MM for value in (x_mm, y_mm, width_mm, height_mm))
        self._commands.append(f"{x:.3f} {self.height - y - height:.3f} {width:.3f} {height:.3f} re f")

    def text(self, x_mm: float, y_mm: float, size_mm: float, text: str, *, is_bold: bool = False) -> None:
        """From the left end of its base line."""
        x, y, size = (value * _POINTS_PER_MM for value in (x_mm, y_mm, size_mm))
        shown = text.encode("ascii", "replace").decode()
        for mark in "\\()":
            shown = shown.replace(mark, "\\" + mark)
        font = "F2" if is_bold else "F1"
        self._commands.append(f"BT /{font} {size:.2f} Tf {x:.3f} {self.height - y:.3f} Td ({shown}) Tj ET")

    @property
    def content(self) -> bytes:
        return "\n".join(self._commands).encode("ascii")


class Pdf:
    """PDF 1.4, objects in order, one cross-reference table."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._pages: list[Page] = []

    def add(self, page: Page) -> None:
        self._pages.append(page)

    def data(self) -> bytes:
        first = 6  # behind catalogue, page tree, two fonts and the title
        kids = " ".join(f"{first + 2 * index} 0 R" for index in range(len(self._pages)))
        title = self._title.encode("ascii", "replace").decode()
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            f"<< /Type /Pages /Kids [{kids}] /Count {len(self._pages)} >>".encode(),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>",
            f"<< /Title ({title}) /Producer (Tidegate) >>".encode(),
        ]
        for index, page in enumerate(self._pages):
            objects.append(
                (
                    f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {page.width:.3f} {page.height:.3f}] /Contents "
                    f"{first + 2 * index + 1} 0 R /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>"
                ).encode()
            )
            objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(page.content), page.content))
        return _file(objects)


def _file(objects: list[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
    )
    return bytes(out)
