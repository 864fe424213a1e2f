"""What goes to everybody who comes to a pass at once: the group envelope of OTA.md section 6.3.

The mechanics of envelope.py under a key that many hold. Whoever knows it can send rows, so nothing is believed for
coming under it: whether what was received is an update is decided by its signature. It keeps strangers and noise out.
"""

from protocols.wire import envelope, messages, update
from protocols.wire.errors import FrameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protocols.wire.envelope import SenderKey

SECRET_SIZE = 16
# FFFF is nobody's address, so nobody else takes such a frame for one of its own; the session follows.
KID = 4
_EVERYBODY = b"\xff\xff"


def key_of(secret: bytes, session: int) -> "SenderKey":
    """The key of one session's passes."""
    return envelope.sender_key(secret, b"", None, _EVERYBODY + session.to_bytes(2, "big"))


def seal(key: "SenderKey", piv: int, command: bytes) -> bytes:
    """The frame of one command. The caller has made ``piv`` durable as used, and never gives it again for this key."""
    session = int.from_bytes(key.kid[2:], "big")
    return envelope.seal(key, piv, messages.encode(update.Update(session, command)))


class Listener:
    """Who came to a pass of `session`."""

    def __init__(self, secret: bytes, session: int) -> None:
        self._session = session
        self._key = key_of(secret, session)
        self._highest = -1  # PIV

    def open(self, frame: bytes) -> bytes:
        """The command in a frame; WireError when it is none of this pass, or not a new one."""
        header = envelope.parse(frame, KID)
        if header.kid_context or header.kid != self._key.kid:
            raise FrameError("unknown_node", "a frame for %s" % header.kid.hex())
        if header.piv <= self._highest:
            raise FrameError("replay", "PIV %d of a pass is not new" % header.piv)
        message = messages.decode_down(envelope.open_(self._key, header, frame))
        if not isinstance(message, update.Update) or message.session != self._session:
            raise FrameError("malformed", "a pass brings its own update alone")
        self._highest = header.piv
        return message.command
