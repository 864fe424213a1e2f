"""What carries frames to the gateway and back: a serial line here, LoRa in lora.py; assembly.py takes the right one.

A carrier knows nothing of what is in a frame. send() does not wait, poll() is called in every step. While ``is_busy``
the next thing to do has its moment: no other step may take long.
"""

from protocols.wire import framing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from firmware.hal import Link

    class Carrier(Protocol):
        is_busy: bool

        @property
        def line_errors(self) -> int:
            """What arrived and was no frame."""

        def send(self, frame: bytes, wants_answer: bool) -> None:
            """Begin to send; ``wants_answer`` where the way knows the difference."""

        def poll(self) -> "list[bytes]":
            """The frames that have arrived, in order."""


# Reads per poll: a babbling line must not keep the node from its measurements.
_READS_MAX = 4


class SerialLine:
    """Implements Carrier: frames among the lines of the console (SPEC.md section 4)."""

    is_busy = False

    def __init__(self, link: "Link") -> None:
        self._link = link
        self._decoder = framing.Decoder(keep_log=False)

    @property
    def line_errors(self) -> int:
        return self._decoder.crc_errors + self._decoder.oversize

    def send(self, frame: bytes, wants_answer: bool) -> None:
        self._link.write(framing.encode(frame))

    def poll(self) -> "list[bytes]":
        frames: "list[bytes]" = []
        for _ in range(_READS_MAX):
            data = self._link.read()
            if not data:
                break
            for channel, payload in self._decoder.feed(data):
                if channel == framing.SEALED:
                    frames.append(payload)
        return frames
