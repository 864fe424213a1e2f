"""The join: two state machines in memory, and everything an attacker can do to them."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.wire import envelope, join, messages
from protocols.wire.errors import DecodeError, FrameError, WireError
from protocols.wire.limits import CHALLENGE_LIFE_S, MAX_CHALLENGES

SECRET = bytes(range(16))
SALT = bytes(8)
NODE = 0x0012
HELLO = messages.Hello(0, None, 1, 1, "river_station", "virtual", "0.1.0", 1, 1)
ACK = messages.Ack(0, (), None)


class Numbers:
    """8 bytes that never come twice."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> bytes:
        self._last += 1
        return self._last.to_bytes(8, "big")


class Pair:
    """A node and its gateway, and every frame that was on the air."""

    def __init__(self) -> None:
        self.fresh = Numbers()
        self.node = join.NodeJoin(SECRET, SALT, NODE)
        self.gateway = join.GatewayJoin(SECRET, SALT, NODE)

    def first(self) -> bytes:
        return self.node.start(self.fresh(), HELLO)

    def challenge(self, frame: bytes, now_s: float = 0) -> bytes:
        header = up(frame)
        self.gateway.hello(header, frame)
        return self.gateway.challenge(header, self.fresh(), now_s)

    def receive(self, frame: bytes) -> bytes | None:
        return self.node.receive(envelope.parse(frame, envelope.KID_DOWN), frame, self.fresh(), HELLO)

    def second(self, frame: bytes) -> bytes:
        reply = self.receive(frame)
        assert reply is not None
        return reply

    def agree(self, frame: bytes, now_s: float = 0) -> bytes:
        hello, id_context = self.gateway.agree(up(frame), frame, now_s)
        assert hello == HELLO
        return id_context


def up(frame: bytes) -> envelope.Header:
    return envelope.parse(frame, envelope.KID_UP)


def ack_in(id_context: bytes, message: Any = ACK, piv: int = 0) -> bytes:
    key = envelope.sender_key(SECRET, SALT, id_context, envelope.gateway_kid(NODE))
    return envelope.seal(key, piv, messages.encode(message))


def reason(call: Any, *args: Any) -> str:
    with pytest.raises(WireError) as refused:
        call(*args)
    return refused.value.reason


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_both_sides_end_with_the_same_epoch(pair: Pair) -> None:
    id_context = pair.agree(pair.second(pair.challenge(pair.first())))
    assert pair.node.agreed == b""
    assert pair.receive(ack_in(id_context)) is None
    assert pair.node.agreed == id_context
    assert (pair.node.ack, pair.node.ack_piv) == (ACK, 0)
    assert 0 <= join.epoch_number(id_context) < 1 << 48


def test_two_joins_never_give_the_same_epoch(pair: Pair) -> None:
    seen = {pair.agree(pair.second(pair.challenge(pair.first()))) for _ in range(20)}
    assert len(seen) == 20


def test_no_key_is_ever_used_twice_with_piv_0(pair: Pair) -> None:
    """Every frame of many joins, broken off anywhere, has its own ID Context for its kid."""
    used = set()
    for stop in [1, 2, 3, 4] * 5:
        first = pair.first()
        used.add((b"up", up(first).kid_context))
        if stop > 1:
            challenge = pair.challenge(first)
            used.add((b"down", envelope.parse(challenge, 3).kid_context + up(first).kid_context))
        if stop > 2:
            used.add((b"up", up(pair.second(challenge)).kid_context))
    assert len(used) == 5 * (1 + 2 + 3 + 3)


def test_a_recorded_first_hello_gains_a_challenge_and_nothing_else(pair: Pair) -> None:
    recorded = pair.first()
    pair.challenge(recorded)
    # Without the secret there is no second hello, and an old one names another r2.
    old_second = pair.second(pair.challenge(pair.first()))
    pair.agree(old_second)
    pair.challenge(recorded)
    assert reason(pair.gateway.agree, up(old_second), old_second, 0) == "late"


def test_a_challenge_is_used_once(pair: Pair) -> None:
    second = pair.second(pair.challenge(pair.first()))
    pair.agree(second)
    assert reason(pair.gateway.agree, up(second), second, 0) == "late"


def test_a_challenge_lives_a_minute(pair: Pair) -> None:
    second = pair.second(pair.challenge(pair.first(), now_s=100))
    assert reason(pair.gateway.agree, up(second), second, 100 + CHALLENGE_LIFE_S + 1) == "late"
    assert pair.agree(pair.second(pair.challenge(pair.first(), now_s=100)), now_s=100 + CHALLENGE_LIFE_S)


def test_a_forged_second_hello_does_not_use_up_the_challenge(pair: Pair) -> None:
    second = pair.second(pair.challenge(pair.first()))
    forged = second[:-1] + bytes((second[-1] ^ 1,))
    assert reason(pair.gateway.agree, up(forged), forged, 0) == "auth"
    assert pair.agree(second)


def test_recorded_hellos_in_between_do_not_break_a_join(pair: Pair) -> None:
    recorded = [pair.first() for _ in range(MAX_CHALLENGES - 1)]
    second = pair.second(pair.challenge(pair.first()))
    for frame in recorded:
        pair.challenge(frame)
    assert pair.agree(second)


def test_one_recorded_hello_played_a_hundred_times_takes_one_place(pair: Pair) -> None:
    recorded = pair.first()
    challenge = pair.challenge(pair.first())
    assert len({pair.challenge(recorded) for _ in range(100)}) == 1
    assert len(pair.agree(pair.second(challenge))) == 16


def test_challenges_are_bounded(pair: Pair) -> None:
    for _ in range(1000):
        pair.challenge(pair.first())
    assert len(pair.gateway._challenges) == MAX_CHALLENGES


def test_an_old_challenge_does_not_answer_a_new_hello(pair: Pair) -> None:
    old = pair.challenge(pair.first())
    pair.first()
    assert reason(pair.receive, old) == "auth"


def test_a_node_takes_one_challenge_per_hello(pair: Pair) -> None:
    first = pair.first()
    pair.second(pair.challenge(first))
    assert reason(pair.receive, pair.challenge(first)) == "unknown_epoch"


def test_a_node_that_did_not_ask_ignores_the_whole_play(pair: Pair) -> None:
    asked = Pair()
    challenge = asked.challenge(asked.first())
    id_context = asked.agree(asked.second(challenge))
    assert reason(pair.receive, challenge) == "unknown_epoch"
    assert reason(pair.receive, ack_in(id_context)) == "unknown_epoch"


def test_an_ack_in_another_epoch_agrees_to_nothing(pair: Pair) -> None:
    id_context = pair.agree(pair.second(pair.challenge(pair.first())))
    assert reason(pair.receive, ack_in(bytes(16))) == "auth"
    assert pair.node.agreed == b""
    assert pair.receive(ack_in(id_context, piv=3)) is None
    assert (pair.node.agreed, pair.node.ack_piv) == (id_context, 3)


def test_only_an_ack_ends_a_join(pair: Pair) -> None:
    id_context = pair.agree(pair.second(pair.challenge(pair.first())))
    with pytest.raises(DecodeError, match="must be an ack"):
        pair.receive(ack_in(id_context, messages.Ping(1)))
    assert pair.node.agreed == b""


def test_only_a_hello_comes_in_a_context_that_is_not_agreed(pair: Pair) -> None:
    key = envelope.sender_key(SECRET, SALT, bytes(8), envelope.node_kid(NODE))
    status = envelope.seal(key, 0, messages.encode(messages.Status(0, 0, 3, {})), bytes(8))
    with pytest.raises(DecodeError, match="only a hello"):
        pair.gateway.hello(up(status), status)


def test_contexts_of_the_wrong_size_and_pivs_other_than_0_are_refused(pair: Pair) -> None:
    first = pair.first()
    second = pair.second(pair.challenge(first))
    assert reason(pair.gateway.hello, up(second), second) == "malformed"
    assert reason(pair.gateway.agree, up(first), first, 0) == "malformed"
    key = envelope.sender_key(SECRET, SALT, bytes(8), envelope.node_kid(NODE))
    later = envelope.seal(key, 1, messages.encode(HELLO), bytes(8))
    assert reason(pair.gateway.hello, up(later), later) == "malformed"
    with pytest.raises(ValueError, match="8"):
        pair.node.start(b"short", HELLO)


def test_another_node_and_another_secret_are_refused(pair: Pair) -> None:
    for secret, address, wanted in ((SECRET, NODE + 1, "unknown_node"), (bytes(16), NODE, "auth")):
        stranger = join.NodeJoin(secret, SALT, address)
        frame = stranger.start(pair.fresh(), HELLO)
        assert reason(pair.gateway.hello, up(frame), frame) == wanted
    challenge = pair.challenge(pair.first())
    header = envelope.parse(challenge, envelope.KID_DOWN)._replace(
        kid=envelope.gateway_kid(NODE, envelope.BENCH)
    )
    with pytest.raises(FrameError) as refused:
        pair.node.receive(header, challenge, pair.fresh(), HELLO)
    assert refused.value.reason == "unknown_node"
