"""Who brings an update to one node: the sender of the gateway (ota_host.py) at the other end of its line or its air."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firmware.pieces import Whole
from protocols.wire import messages, ota, update
from protocols.wire.ota_host import COMPLETE, TAKING, OtaSender

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = 0x10
SESSION = 7
RELEASE = 12
SETTINGS = {0: 300, 1: 300, 2: 3600}


def data_of(size: int, seed: int = 1) -> bytes:
    """Bytes that no fragment has twice."""
    return bytes((at * 31 + (at >> 8) * 7 + seed) & 0xFF for at in range(size))


def sender_of(data: bytes, size: int = 72, session: int = SESSION, delay: int = 0) -> OtaSender:
    return OtaSender(data, size, session, RELEASE, [NODE], delay)


def answers(peer: Any) -> list[bytes]:
    """What the node said of updates, in order."""
    return [message.answer for message in peer.of(messages.UpdateStatus)]


def is_receiving(station: Any) -> bool:
    return type(station.node).__name__ in ("Receiving", "OnAir")


def alone(piv: int, begins_in_s: float = 2.0, lasts_s: int = 300) -> messages.Update:
    """Come to a pass on your own link."""
    one = update.Pass(piv, round(begins_in_s * 10), lasts_s, 0, 0, b"")
    return messages.Update(SESSION, update.encode_pass(one))


class Desk:
    """The sender on a serial line: what it says is a message to the node, what the node answers it hears."""

    def __init__(self, street: Any, sender: OtaSender, loses: Callable[[], bool] = lambda: False) -> None:
        self.street = street
        self.sender = sender
        self.loses = loses
        self._heard = 0

    def say(self, command: bytes) -> None:
        self.street.say(messages.Update(self.sender.session, command))
        self.hear()

    def hear(self) -> None:
        found = answers(self.street.peer)
        for answer in found[self._heard :]:
            if answer[0] in (ota.SETUP, ota.STATUS, ota.MISSING, ota.DELETE):
                self.sender.hear(NODE, answer)
        self._heard = len(found)

    def invite(self) -> None:
        command = self.sender.for_node(NODE)
        assert command is not None
        self.say(command)

    def call(self, **kind: Any) -> bytes:
        """Ask the node for an uplink, call it to a pass in answer to it; what it answered."""
        self.street.say(messages.Ping(1))
        self.street.say(alone(self.street.peer.latest_piv, **kind))
        return answers(self.street.peer)[-1]

    def send(self, rows: int = 3000) -> None:
        """Everything that the sender has to say, until it has ended or so many messages went out."""
        sender = self.sender
        while not sender.is_ended and rows and self.state == TAKING and is_receiving(self.street.station):
            command = sender.broadcast() or sender.for_node(NODE)
            rows -= 1
            if command is None:
                sender.collected()
            elif not (command[0] == ota.DATA and self.loses()):
                self.say(command)

    @property
    def state(self) -> str:
        return self.sender.receivers[NODE].state

    @property
    def is_complete(self) -> bool:
        return self.state == COMPLETE


def received(station: Any) -> bytes:
    """What is put away, put together."""
    from hil_tests.world.flash import LittleFs

    whole = Whole(LittleFs(station.flash))
    return whole.read(whole.end)
