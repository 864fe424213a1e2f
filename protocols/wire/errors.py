"""The error tree of the wire: who is at fault is in the type, what to do next is in the message.

One parent each: MicroPython cannot inherit from two exceptions. Whatever a receiver refuses has a
``reason``: the name of the counter it belongs to (SPEC.md section 5).
"""


class WireError(Exception):
    """Anything that protocols.wire refuses."""

    reason = "message"


class EncodeError(WireError):
    """We were asked to put something on the wire that SPEC.md does not allow."""


class DecodeError(WireError):
    """Bytes that came in are not what SPEC.md allows; the sender is at fault, or the line."""


class CborError(DecodeError):
    """Not even the CBOR that SPEC.md allows."""

    reason = "cbor"


class FrameError(WireError):
    """A sealed frame that must not be opened, or that this key does not open."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
