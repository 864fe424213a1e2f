"""A node on a serial port: its sealed frames are channel 01 of the framing (SPEC 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.links.port import SerialPort
from gateway.log import Logger
from protocols.wire import framing
from protocols.wire.limits import MAX_FRAME


class SerialLink(SerialPort):
    """`on_frame(link, payload)` gets every intact sealed frame."""

    listens = True
    can_answer = True
    wants_answer = True
    room = MAX_FRAME

    def __init__(
        self,
        name: str,
        path: str,
        baud: int,
        on_frame: Callable[[SerialLink, bytes], None],
        log: Logger,
        **options: Any,
    ) -> None:
        super().__init__(name, path, baud, log, **options)
        self._on_frame = on_frame

    def _take(self, channel: int, payload: bytes) -> bool:
        if channel != framing.SEALED:
            return False
        self._on_frame(self, payload)
        return True

    def send(self, address: int, frame: bytes) -> bool:
        """Queue `frame`; False while the port is closed. There is one node on a cable."""
        return self._put(frame, framing.SEALED)
