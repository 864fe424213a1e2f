"""Where each key of a TOML text stands, so that an error can say file:line.

tomlkit keeps every character of a file but not where it stood. This scanner walks the same text and notes
the line of each table header and each key. It relies on the text being valid TOML (parse it first) and
needs no more grammar than strings, brackets, keys and comments.
"""

from __future__ import annotations

import bisect

Path = tuple[str | int, ...]


def key_lines(text: str) -> dict[Path, int]:
    """Map the path of every table and key of valid TOML `text` to its 1-based line.

    An element of an array of tables is named by its index: ("serial", 0, "path").
    """
    return _Scanner(text).scan()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest thing around it; 1 when nothing of it is in the file."""
    for end in range(len(path), 0, -1):
        line = lines.get(path[:end])
        if line is not None:
            return line
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_starts = [0] + [index + 1 for index, char in enumerate(text) if char == "\n"]
        self._lines: dict[Path, int] = {}
        self._table: Path = ()
        self._counts: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        while self._skip_blank():
            line = self._line()
            if self._text[self._at] == "[":
                self._header(line)
            else:
                self._pair(self._table, line)
        return self._lines

    def _line(self) -> int:
        return bisect.bisect_right(self._line_starts, self._at)

    def _skip_blank(self) -> bool:
        """Move to the next key or header; False at the end."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#":
                self._skip_line()
            elif char in " \t\r\n":
                self._at += 1
            else:
                return True
        return False

    def _skip_line(self) -> None:
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end

    def _header(self, line: int) -> None:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        names = self._key_parts("]")
        self._at += 2 if is_array else 1
        path = (*self._resolve((), names[:-1]), names[-1])
        if is_array:
            index = self._counts.get(path, 0)
            self._counts[path] = index + 1
            self._lines.setdefault(path, line)
            path += (index,)
        elif path in self._counts:  # [a.b] below [[a.b]] cannot be; kept total for safety
            path += (self._counts[path] - 1,)
        self._table = path
        for end in range(1, len(path) + 1):  # [a.b] makes a, too
            self._lines.setdefault(path[:end], line)
        self._skip_line()

    def _resolve(self, base: Path, names: list[str]) -> Path:
        """Descend through `names`; an array of tables on the way stands for its latest element."""
        path = base
        for name in names:
            path += (name,)
            if path in self._counts:
                path += (self._counts[path] - 1,)
        return path

    def _pair(self, base: Path, line: int) -> None:
        names = self._key_parts("=")
        self._at += 1
        path = base
        for name in names:
            path += (name,)
            self._lines.setdefault(path, line)
        self._value(path)

    def _key_parts(self, end: str) -> list[str]:
        """Read a dotted key up to `end` (left unread)."""
        parts: list[str] = []
        while True:
            self._skip_spaces()
            char = self._text[self._at]
            if char == end:
                return parts
            if char == ".":
                self._at += 1
            elif char in "\"'":
                parts.append(self._string())
            else:
                start = self._at
                while self._text[self._at] not in ". \t" + end:
                    self._at += 1
                parts.append(self._text[start : self._at])

    def _skip_spaces(self) -> None:
        while self._text[self._at] in " \t":
            self._at += 1

    def _string(self) -> str:
        """Step over a string and return what it holds, escapes undecoded: only a line is at stake."""
        quote = self._text[self._at]
        fence = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        start = self._at = self._at + len(fence)
        while not self._text.startswith(fence, self._at):
            self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
        content = self._text[start : self._at]
        self._at += len(fence)
        while len(fence) == 3 and self._text.startswith(quote, self._at):
            self._at += 1  # up to two quotes may stand before the closing three
        return content

    def _value(self, path: Path) -> None:
        """Step over the value of `path`, noting keys of inline tables on the way."""
        self._skip_inside()
        char = self._text[self._at]
        if char in "\"'":
            self._string()
        elif char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}\n#":
                self._at += 1

    def _skip_inside(self) -> None:
        """Step over what may stand between the items of an array: blanks, newlines, comments."""
        while self._at < len(self._text) and self._text[self._at] in " \t\r\n#":
            if self._text[self._at] == "#":
                self._skip_line()
            else:
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip_inside()
            char = self._text[self._at]
            if char == "]":
                self._at += 1
                return
            if char == ",":
                self._at += 1
                continue
            self._lines.setdefault((*path, index), self._line())
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip_inside()
            char = self._text[self._at]
            if char == "}":
                self._at += 1
                return
            if char == ",":
                self._at += 1
                continue
            self._pair(path, self._line())
