"""A bench at the node's line knocks, learns the epoch, asks, is answered at once; the gateway loses nothing by it."""

from __future__ import annotations

from typing import Any

from protocols.wire import codes, envelope, framing, messages
from protocols.wire.errors import WireError
from protocols.wire.join import epoch_number
from protocols.wire.messages import (
    Command,
    Event,
    Hello,
    Ping,
    Readings,
    Result,
    Settings,
    SettingsReport,
    Status,
)
from tests.firmware.street import IDENTITY, Street
from tests.firmware.test_node import joined

RB = b"knocking"


def key_of(id_context: bytes, kid: bytes) -> Any:
    return envelope.sender_key(IDENTITY.master_secret, IDENTITY.master_salt, id_context, kid)


class Bench:
    """Takes the gateway's place on the line."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.decoder = framing.Decoder()
        self.frames: list[bytes] = []
        self.heard: list[Any] = []
        self.id_context = b""
        self.piv = 0
        self.latest_piv = -1
        street.peer.deaf = True
        street.station.to_gateway = self._up

    def _up(self, data: bytes) -> None:
        for _, frame in self.decoder.feed(data):
            self.frames.append(frame)
            header = envelope.parse(frame, envelope.KID_UP)
            id_context = header.kid_context or self.id_context
            try:
                plain = envelope.open_(key_of(id_context, header.kid), header, frame)
            except WireError:
                continue
            if len(header.kid_context) == 16:
                self.id_context = header.kid_context
            self.latest_piv = header.piv
            self.heard.append(messages.decode_up(plain))

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    def knock(self, r: bytes = RB) -> None:
        key = key_of(r, envelope.gateway_kid(IDENTITY.address, envelope.BENCH))
        self.street.inject(framing.encode(envelope.seal(key, 0, messages.encode(Ping(1)), r)))

    def say(self, message: Any) -> None:
        self.piv += 1
        key = key_of(self.id_context, envelope.gateway_kid(IDENTITY.address, envelope.BENCH))
        self.street.inject(framing.encode(envelope.seal(key, self.piv, messages.encode(message))))

    def ask(self, op: int, args: Any, number: int) -> None:
        self.street.run(1.1)
        self.say(Ping(number))
        self.say(Command(self.latest_piv, number, 60, op, args))


def back_at_the_gateway(street: Street, seconds: float = 600) -> None:
    street.station.to_gateway = street._up
    street.peer.deaf = False
    street.run(seconds)
    street.node.uplink.hurry()
    street.run(60)


def test_a_knock_is_answered_with_the_epoch_and_the_gateways_epoch_goes_on() -> None:
    street = joined()
    epoch = street.node.session.epoch
    bench = Bench(street)
    street.run(2)
    bench.knock()
    (hello,) = bench.of(Hello)
    assert hello.epoch == epoch == epoch_number(bench.id_context)
    joins = street.peer.joins
    back_at_the_gateway(street, 7300)
    assert street.peer.joins == joins
    assert street.peer.refused == {}
    assert sorted(street.peer.seqs()) == list(range(1, street.node.outbox.next_seq))


def test_what_a_bench_asks_for_comes_at_once_past_events_that_nobody_acknowledges() -> None:
    street = joined()
    bench = Bench(street)
    for number in range(3):  # alarms that wait for the gateway
        street.node._keep_event(codes.ALARM_TEST, messages.NOTE, number)
    street.run(2)
    bench.knock()
    bench.ask(codes.IDENTIFY, 30, 1_790_000_001)
    bench.ask(codes.READ_NOW, None, 1_790_000_002)
    street.run(10)
    assert [(r.command_id, r.outcome) for r in bench.of(Result)][:2] == [
        (1_790_000_001, 0),
        (1_790_000_002, 0),
    ]
    assert street.station.identified == [True]
    result = bench.of(Result)[1]
    assert result.detail in {r.seq for r in bench.of(Readings)}
    assert bench.of(Status)[-1].health[0] == 1
    assert {event.detail for event in bench.of(Event)} == {0}, "the first one is offered, again and again"
    back_at_the_gateway(street)
    assert sorted(street.peer.seqs()) == list(range(1, street.node.outbox.next_seq))
    assert {r.command_id for r in street.peer.of(Result)} == {1_790_000_001, 1_790_000_002}


def test_settings_are_set_and_read_back_as_version_0_so_that_a_gateway_that_wants_others_says_so() -> None:
    street = joined()
    street.say(Ping(1))
    street.say(Settings(street.peer.latest_piv, 4, {0: 600}))
    bench = Bench(street)
    street.run(2)
    bench.knock()
    bench.say(Settings(bench.latest_piv, 0, {0: 120}))
    report = bench.of(SettingsReport)[-1]
    assert (report.version, report.document[0]) == (0, 120)
    street.run(1.1)
    bench.say(Ping(2))
    assert bench.of(Status)[-1].health[12] == 0


def test_a_node_without_an_epoch_answers_with_a_join_and_is_the_gateways_again_afterwards() -> None:
    street = Street()
    bench = Bench(street)
    street.run(31)
    street.peer.deaf = False  # its challenges are not sent down: what the node says goes to the bench
    before = len(bench.of(Hello))
    bench.knock()
    assert len(bench.of(Hello)) == before + 1
    assert bench.of(Hello)[-1].epoch is None
    back_at_the_gateway(street)
    assert street.peer.joins == 1
    assert sorted(street.peer.seqs()) == list(range(1, street.node.outbox.next_seq))


def test_a_knock_is_refused_when_it_is_none_or_comes_again_at_once() -> None:
    street = joined()
    bench = Bench(street)
    street.run(2)
    refused = street.node.health.refusals
    kid = envelope.gateway_kid(IDENTITY.address, envelope.BENCH)

    def send(
        message: Any, piv: int = 0, r: bytes = RB, secret: bytes = IDENTITY.master_secret
    ) -> dict[str, int]:
        key = envelope.sender_key(secret, IDENTITY.master_salt, r, kid)
        before = dict(refused)
        street.inject(framing.encode(envelope.seal(key, piv, messages.encode(message), r)))
        return {reason: count for reason, count in refused.items() if count != before.get(reason, 0)}

    assert list(send(Ping(1), secret=bytes(16))) == ["auth"]
    assert list(send(Ping(1), piv=1)) == ["unknown_epoch"]
    assert list(send(Ping(1), r=bytes(16))) == ["unknown_epoch"]
    assert list(send(messages.Challenge(b"12345678"))) == ["message"]
    assert bench.of(Hello) == []
    assert send(Ping(1)) == {}
    assert list(send(Ping(1))) == ["late"]
    assert len(bench.of(Hello)) == 1


def test_no_knock_and_no_bench_uses_a_piv_twice() -> None:
    street = joined()
    bench = Bench(street)
    for number in range(40):
        street.run(1.5)
        bench.knock()
        if number % 10 == 5:
            street.station.power_cut()
            street.station.power_on()
    header = [envelope.parse(frame, envelope.KID_UP) for frame in bench.frames]
    pivs = [one.piv for one in header if len(one.kid_context) != 8]
    assert len(pivs) == len(set(pivs)) > 40
