"""Time on the air, reserved in flash before it is used: the durable half of protocols/wire/law.py."""

from firmware.durable import Document
from firmware.errors import StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Spent:
    """Implements protocols.wire.law.Spent; only a plan with duty cycle ever touches the document."""

    def __init__(self, fs: "Any") -> None:
        self._document = Document(fs, "airtime")

    def load(self) -> "bytes | None":
        """b"" when it was never written, None when it was and both copies are unreadable."""
        data = self._document.load()
        return b"" if data is None and not self._document.damaged else data

    def save(self, data: bytes) -> bool:
        try:
            self._document.save(data)
        except (StorageError, OSError):
            return False
        return True
