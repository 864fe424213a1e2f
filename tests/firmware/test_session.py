"""firmware/session.py alone: what a node believes while it is between two epochs."""

from __future__ import annotations

import random

import pytest

from firmware.session import Identity, Session
from hil_tests.world.flash import formatted
from protocols.wire import codes, envelope, messages
from protocols.wire.errors import FrameError
from protocols.wire.join import GatewayJoin

IDENTITY = Identity(0x12, bytes(range(16)), bytes(range(8)), "river_station", "virtual", None)
BLOCKS = 32


class StillClock:
    """Nothing in these stories takes time."""

    def uptime_s(self) -> int:
        return 100

    def ticks_ms(self) -> int:
        return 100_000

    def ticks_diff(self, later: int, earlier: int) -> int:
        return later - earlier


class Story:
    """A session on a fresh flash, and the gateway's side of its joins."""

    def __init__(self) -> None:
        self.random = random.Random(5)
        self.session = Session(formatted(BLOCKS)[1], IDENTITY, StillClock(), self.random.randbytes)  # type: ignore[arg-type]
        self.gateway = GatewayJoin(IDENTITY.master_secret, IDENTITY.master_salt, IDENTITY.address)

    def hello(self) -> messages.Hello:
        return messages.Hello(0, self.session.epoch, 1, 1, "river_station", "virtual", "1", 1, 1)

    def second_hello(self) -> bytes:
        """Steps 1 to 3: the node has answered its challenge, and waits for the ack."""
        first = self.session.start_join(self.hello())
        challenge = self.gateway.challenge(envelope.parse(first, 2), self.random.randbytes(8), 0.0)
        _, second = self.session.open(challenge, self.hello)
        assert second is not None
        return second

    def down(self, id_context: bytes, piv: int, message: messages.Down) -> bytes:
        kid = envelope.gateway_kid(IDENTITY.address)
        key = envelope.sender_key(IDENTITY.master_secret, IDENTITY.master_salt, id_context, kid)
        return envelope.seal(key, piv, messages.encode(message))

    def join(self) -> bytes:
        """All of it; the ID Context."""
        second = self.second_hello()
        id_context = envelope.parse(second, 2).kid_context
        message, _ = self.session.open(self.down(id_context, 0, messages.Ack(0, (), None)), self.hello)
        assert isinstance(message, messages.Ack)
        return id_context


def test_the_gateway_may_give_the_time_in_answer_to_the_hello_that_began_the_epoch() -> None:
    story = Story()
    id_context = story.join()
    now = messages.Time(0, 1_790_000_000, 0)
    assert story.session.open(story.down(id_context, 1, now), story.hello) == (now, None)


def test_a_command_held_back_since_the_last_join_is_not_believed_during_the_next_one() -> None:
    """Both answer a PIV 0, but each that of its own epoch: the hello just sent is in the new one."""
    story = Story()
    held_back = story.down(story.join(), 1, messages.Command(0, 7, 60, codes.REBOOT, None))
    for piv in range(1, 4):  # unanswered: whoever holds back the one holds back them all
        assert envelope.parse(story.session.seal(messages.Status(0, 0, 3, {})), 2).piv == piv
    story.second_hello()
    with pytest.raises(FrameError) as refused:
        story.session.open(held_back, story.hello)
    assert refused.value.reason == "late"
