"""What comes down the line: bytes to frames to messages, each refusal counted by its reason."""

from firmware.errors import StorageError
from protocols.wire import framing
from protocols.wire.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware.hal import Link
    from firmware.health import Health
    from firmware.session import Session
    from protocols.wire.messages import Down, Hello

# Reads per poll: a babbling line must not keep the node from its measurements.
_READS_MAX = 4


class Downlink:
    def __init__(
        self, link: "Link", session: "Session", health: "Health", hello: "Callable[[], Hello]"
    ) -> None:
        self._link = link
        self._session = session
        self._health = health
        self._hello = hello
        self._decoder = framing.Decoder(keep_log=False)

    def poll(self) -> "list[Down]":
        """The messages that have arrived and are to be acted upon, in order."""
        heard: "list[Down]" = []
        for _ in range(_READS_MAX):
            data = self._link.read()
            if not data:
                break
            for channel, payload in self._decoder.feed(data):
                message = self._open(payload) if channel == framing.SEALED else None
                if message is not None:
                    heard.append(message)
        return heard

    @property
    def line_errors(self) -> int:
        return self._decoder.crc_errors + self._decoder.oversize

    def _open(self, frame: bytes) -> "Down | None":
        try:
            message, reply = self._session.open(frame, self._hello)
        except WireError as exc:
            self._health.refused(exc.reason)
            return None
        except (StorageError, OSError) as exc:
            self._health.flash_failed(exc)
            return None
        if reply is not None:
            self._link.write(framing.encode(reply))
        return message
