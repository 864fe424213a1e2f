"""The error tree of the wire: who is at fault is in the type, what to do next is in the message.

One parent each: MicroPython cannot inherit from two exceptions.
"""


class WireError(Exception):
    """Anything that protocols.wire refuses."""


class EncodeError(WireError):
    """We were asked to put something on the wire that SPEC.md does not allow."""


class DecodeError(WireError):
    """Bytes that came in are not what SPEC.md allows; the sender is at fault, or the line."""


class FrameError(WireError):
    """A sealed frame that must not be opened: ``reason`` is the name of the counter it belongs to."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason
