"""Bytes as people hand them over: hexadecimal digits in whatever way tools print them, base64, or as they are."""

from __future__ import annotations

import binascii
import re

from protocols.inspection.errors import InspectError

INPUT_BYTES_MAX = 4 * 1024 * 1024
# Things looked at in one call; a day's log of a busy port is more, and is given in parts.
PIECES_MAX = 10_000
_BETWEEN = re.compile(r"0[xX]|\\x|[\s,:;-]")
_HEX = re.compile(r"[0-9a-fA-F]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_SHOWN = 40


def pieces(data: bytes, is_one: bool = False, source: str = "") -> list[bytes]:
    """One of each line of a text (hex or base64; lines that begin with # are passed over), or the bytes themselves.

    ``is_one``: the lines are one thing that was broken into several. ``source``: the file that they are from; it may be
    one of keys, so a mistake in it is told by its line, and not shown.
    """
    if not data:
        raise InspectError("nothing is there: give hexadecimal digits, base64, a file, or - for a pipe.")
    if len(data) > INPUT_BYTES_MAX:
        raise InspectError(f"more than {INPUT_BYTES_MAX} bytes: give them in parts.")
    text = _text(data)
    if text is None:
        return [data]
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    numbered = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    lines = [line for _, line in numbered]
    if not lines:
        raise InspectError("there is nothing in it but blank lines and comments.")
    if len(lines) > PIECES_MAX:
        raise InspectError(f"{len(lines)} lines; at most {PIECES_MAX} are looked at in one call.")
    if is_one:
        return [unpacked("".join(lines), source)]
    return [unpacked(line, source and f"{source}:{number}") for number, line in numbered]


def unpacked(line: str, place: str = "") -> bytes:
    """The bytes of one line. ``place``: what is named in the place of the line itself when it has a mistake."""
    shown = place or f"{line!r:.{_SHOWN}}"
    digits = _BETWEEN.sub("", line)
    if _HEX.fullmatch(digits):
        if len(digits) % 2:
            raise InspectError(
                f"{len(digits)} hexadecimal digits: a byte has two, so one is missing or too many: {shown}"
            )
        return bytes.fromhex(digits)
    packed = line.strip()
    if _BASE64.fullmatch(packed):
        plain = packed.replace("-", "+").replace("_", "/").rstrip("=")
        try:
            return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
        except ValueError:
            pass
    wrong = re.search(r"[^0-9a-fA-F]", digits)
    found = "" if wrong is None else f" ({wrong[0]!r} is no hexadecimal digit)"
    other = "what is looked at here" if place else "a file"
    raise InspectError(f"{shown} is neither hexadecimal digits nor base64, nor {other}{found}.")


def _text(data: bytes) -> str | None:
    """The text that it is; None when it is no text."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return None
    return text if all(letter.isprintable() or letter in "\r\n\t" for letter in text) else None


def hexed(data: bytes, limit: int = 32) -> str:
    """Bytes as digits, cut."""
    return data[:limit].hex() + (f"… ({len(data)} bytes)" if len(data) > limit else "")


def printable(text: str) -> str:
    """Whatever is in the bytes, nothing else comes out of a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
