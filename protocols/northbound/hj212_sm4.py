"""The data area of HJ 212 encrypted by SM4: what stands between the && of CP is the text of the cipher.

HJ 212-2025 allows it, and its text was not to be had. What is open is chosen here, as platforms in the field have it:

    what            the data area of each packet that has one, by itself; QN to Flag, PNUM and PNO stay readable
    how             ECB with PKCS #7, of the area's UTF-8 bytes (sm4.py)
    as what         hexadecimal digits in capitals; Base64 by a setting; read is either
    which key       16 bytes that both sides were given; no command carries or changes it

An area is at most 950 bytes as it stands in the frame, so a packet carries half as much text, by Base64 three quarters.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Literal

from protocols.northbound import sm4
from protocols.northbound.hj212 import Frame, Hj212Error, area_room
from protocols.northbound.sm4 import BLOCK, Sm4Error

Form = Literal["hex", "base64"]
_HEX = re.compile(r"(?:[0-9A-Fa-f]{32})+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class Sealer:
    """Encrypts and decrypts data areas with one key."""

    def __init__(self, key: bytes, form: Form = "hex") -> None:
        self._key = key
        self._form = form

    def text_max(self, frame: Frame) -> int:
        """Bytes of text that a packet can carry: whole blocks, of which the last has a byte of padding at least."""
        room = area_room(frame)
        data = room // 2 if self._form == "hex" else room // 4 * 3
        return data // BLOCK * BLOCK - 1

    def seal(self, frame: Frame) -> Frame:
        """The frame with an encrypted data area; an empty one stays empty. Raises Sm4Error."""
        if not frame.area:
            return frame
        data = sm4.encrypt(self._key, frame.area.encode())
        text = data.hex().upper() if self._form == "hex" else base64.b64encode(data).decode()
        return frame._replace(area=text)

    def open(self, frame: Frame) -> Frame:
        """The frame with a readable data area; one that is readable stays so. Raises Hj212Error."""
        data = cipher_of(frame.area)
        if data is None:
            return frame
        try:
            return frame._replace(area=sm4.decrypt(self._key, data).decode())
        except (Sm4Error, UnicodeDecodeError) as error:
            raise Hj212Error(f"the data area of {frame.cn} can not be decrypted: {error}") from error


def cipher_of(area: str) -> bytes | None:
    """The bytes of a data area that is encrypted, None for one that is not: readable ones have key=value."""
    if _HEX.fullmatch(area):
        return bytes.fromhex(area)
    if len(area) % 4 or not _BASE64.fullmatch(area):
        return None
    try:
        data = base64.b64decode(area, validate=True)
    except binascii.Error:
        return None
    return data if len(data) % BLOCK == 0 else None


def key_of(text: str) -> bytes:
    """A key as a person writes it down: 32 hexadecimal digits. Raises Sm4Error."""
    digits = re.sub(r"[\s:-]", "", text)
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        raise Sm4Error(f"a key of SM4 is 32 hexadecimal digits; {len(digits)} characters were found")
    return bytes.fromhex(digits)
