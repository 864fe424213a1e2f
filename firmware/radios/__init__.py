"""Radio drivers: one file per family of chips. README.md has the recipe for a new one."""

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Event(NamedTuple):
        """What a radio has come to. ``at_ms``: ticks of the node's clock when it was noticed.

        ``payload``, ``rssi_dbm`` and ``snr_tenth_db`` (both signed) are those of HEARD; b"" and 0 elsewhere.
        """

        kind: int
        at_ms: int
        payload: bytes
        rssi_dbm: int
        snr_tenth_db: int

else:
    Event = namedtuple("Event", ("kind", "at_ms", "payload", "rssi_dbm", "snr_tenth_db"))

SENT = 0  # the last symbol has left
HEARD = 1  # a packet whose header and CRC are right
SILENCE = 2  # nothing began within the time-out
BUSY = 3  # somebody else sends: nothing was sent; try again later
FREE = 4  # nobody does
BAD = 5  # a packet, but its header or its CRC is wrong: it does not exist
FAULT = 6  # the chip did not do as told; it was reset, and what it was doing is lost
