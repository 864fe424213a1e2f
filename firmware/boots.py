"""How often this node has started: needed once, at a start (a wake from deep sleep is none)."""

from struct import pack, unpack

from firmware.durable import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def counted(fs: "Any", is_start: bool) -> int:
    """How often; this one is counted, durably on return, if it ``is_start``."""
    document = Document(fs, "boots")
    data = document.load()
    count: int = unpack("<I", data[:4])[0] if data else 0
    if is_start:
        count += 1
        document.save(pack("<I", count))
    return count
