"""Which release a board starts next, as its `app` partition has it: read with the node's own code, on CPython."""

from __future__ import annotations

from firmware import slots
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import release
from protocols.wire.errors import WireError


def release_on(app: bytes) -> int:
    """Its sequence; 0: what is flashed is no release, or there is nothing."""
    try:
        fs = LittleFs(Flash(image=app))
        folder = slots.FOLDERS[slots.Slots(fs).starts]
        with fs.open(f"{folder}/{release.FILE}", "rb") as file:
            return int(release.decode(file.read()).sequence)
    except (OSError, WireError):
        return 0
