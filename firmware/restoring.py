"""What stands in the document of settings, at a start: of this release, of an older one, or of a newer one."""

from protocols.wire import cbor
from protocols.wire.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.settings import Settings


def settings(to: "Settings", kept: bytes) -> None:
    """What this firmware does not allow has its default: that is safer than a node that does not start. The gateway
    sees version 0 and sends the document again. What it does not know belongs to another release, which may run again:
    it is kept in the document, which nobody sees, until another one comes.
    """
    try:
        found = cbor.loads(kept)
        if not isinstance(found, list) or type(found[0]) is not int or not isinstance(found[1], dict):
            return
        version = found[0]
        known: "dict[int, int]" = {}
        for key, value in found[1].items():
            if to.has(key):
                known[key] = value
            elif type(key) is not int or type(value) is not int:
                return
        if to.problem(known):
            version = 0
            for key in known:
                if to.problem({key: known[key]}):
                    del found[1][key]
    except (DecodeError, IndexError, TypeError, ValueError):  # TypeError: a value that is no number, for one
        return
    to.take(version, found[1])
