"""Brokers that are none, or mean harm: nothing leaves the tree of errors, nothing spins, all waits are bounded."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import NorthboundError
from gateway.limits import MQTT_PACKET_IN_MAX, RECONNECT_MAX_S
from gateway.northbound import mqtt, runner
from gateway.northbound.mqtt import MqttSender, MqttSettings
from gateway.northbound.mqtt_client import Violation, split
from gateway.northbound.runner import Destination, Runner
from hil_tests.northbound_contract import LoopClock, Place
from hil_tests.southbound import South, TestNode

CONNACK = bytes((0x20, 3, 0, 0, 0))
DESTINATION = Destination("330106", "lishui-3", "0012", "readings")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Hostile:
    """A listener that does what the test wants with each connection. `unhandled` is what the loop complained of."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.unhandled: list[dict[str, Any]] = []

    async def __aenter__(self) -> Hostile:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.unhandled.append(context))
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return

    def sender(self, **options: Any) -> MqttSender:
        return MqttSender(
            MqttSettings("127.0.0.1", self.port, "hostile", **{"connect_timeout_s": 1.0, **options})
        )


async def taken_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The friendly beginning."""
    await reader.read(1000)
    writer.write(CONNACK)
    await writer.drain()


def says(*pieces: bytes) -> Serve:
    """Lets in, and then says that, in pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken_in(reader, writer)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        await reader.read()

    return serve


async def end_of(hostile: Hostile) -> str:
    """How a session ends there, or why none began: what follows a CONNACK may come with it."""
    try:
        session = await hostile.sender().connect(lambda token, taken: None)
    except NorthboundError as error:
        return str(error)
    session.publish(DESTINATION, b"{}")
    why = await asyncio.wait_for(session.lost(), 20)
    session.abort()
    return why


def play(serve: Serve, story: Callable[[Hostile], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Hostile(serve) as hostile:
            await story(hostile)
            assert hostile.unhandled == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (bytes((0x40, 0)), "cut short"),  # a PUBACK without a packet id
        (bytes((0x40, 1, 7)), "cut short"),
        (bytes((0x30, 5)) + b"\0\1t\0\0", "PUBLISH, which nobody asked for"),
        (bytes((0x90, 3, 0, 1, 0)), "SUBACK, which nobody asked for"),
        (bytes((0x00, 0)), "0x00, which nobody asked for"),
        (bytes((0x4F, 2, 0, 1)), "PUBACK|0x4f, which nobody asked for"),
        (bytes((0x40, 0xFF, 0xFF, 0xFF, 0x7F)), "packet of 268435455 bytes"),
        (bytes((0x40, 0xFF, 0xFF, 0xFF, 0xFF, 0x01)), "length does not end"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "which nobody asked for"),
        (bytes((0xE0, 2, 0x9C, 0)), "closed it"),  # use another server
        (
            bytes((0xE0, 18, 0x9D, 16, 0x1C, 0, 13)) + b"evil.exmpl:66",
            "closed it",
        ),  # server moved, and where to
    ],
)
def test_what_no_broker_says_ends_the_session_with_a_reason(said: bytes, told: str) -> None:
    async def story(hostile: Hostile) -> None:
        why = await end_of(hostile)
        assert any(word in why for word in told.split("|")), why
        assert hostile.connections == 1, "nobody is followed anywhere"

    play(says(said), story)


def test_confirmations_of_what_was_never_sent_confirm_nothing() -> None:
    async def story(hostile: Hostile) -> None:
        confirmed: list[int] = []
        session = await hostile.sender().connect(lambda token, taken: confirmed.append(token))
        for token in (1, 2, 3):
            assert session.publish(DESTINATION, b"{}") == token
        await asyncio.wait_for(session.lost(), 10)
        assert sorted(confirmed) == [1, 2, 3], "each once, and no other"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken_in(reader, writer)
        await reader.readuntil(b"{}")
        pubacks = b"".join(bytes((0x40, 2)) + mid.to_bytes(2, "big") for mid in range(65_536))
        writer.write(pubacks * 2 + bytes((0xE0, 0)))
        await reader.read()

    play(serve, story)


@pytest.mark.parametrize(
    "answer",
    [b"\x20\x03\x00\x9c\x00", b"\x20\x03\x00\x9d\x00", b"\x20\x02\x00\x05", b"\x20\x00", b"\x20\x7f"],
)
def test_a_connack_that_refuses_redirects_or_is_broken_is_told_in_bounded_time(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await reader.read()

    async def story(hostile: Hostile) -> None:
        with pytest.raises(NorthboundError, match=f"broker 127.0.0.1:{hostile.port}"):
            await hostile.sender(connect_timeout_s=0.3).connect(lambda token, taken: None)
        assert hostile.connections == 1

    play(serve, story)


def test_a_connack_with_properties_that_cannot_be_read_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes((0x20, 5, 0, 0, 2, 0x21, 0)))  # a receive maximum that is cut short
        await reader.read()

    async def story(hostile: Hostile) -> None:
        with pytest.raises(NorthboundError):
            await hostile.sender(connect_timeout_s=0.3).connect(lambda token, taken: None)

    play(serve, story)


def test_a_broker_that_only_takes_qos_0_is_told_for_it_confirms_nothing() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes((0x20, 5, 0, 0, 2, 0x24, 0)))
        await reader.read()

    async def story(hostile: Hostile) -> None:
        with pytest.raises(NorthboundError, match="only QoS 0"):
            await hostile.sender().connect(lambda token, taken: None)

    play(serve, story)


def test_bytes_that_drip_cost_the_time_out_and_no_more() -> None:
    """A CONNACK byte by byte, never whole."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes((0x20, 0x7F)))
        await writer.drain()
        await reader.read()

    async def story(hostile: Hostile) -> None:
        with pytest.raises(NorthboundError, match="no answer in time"):
            await hostile.sender(connect_timeout_s=0.3).connect(lambda token, taken: None)

    play(serve, story)


def test_a_broker_that_hangs_up_on_mqtt_5_is_spoken_to_in_3_1_1() -> None:
    versions: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await reader.read(200)
        versions.append(packet[packet.index(b"MQTT") + 4])
        if versions[-1] == 4:
            writer.write(bytes((0x20, 2, 0, 0)))
            await reader.read()
        writer.close()

    async def story(hostile: Hostile) -> None:
        sender = hostile.sender()
        for _ in range(2):
            with pytest.raises(NorthboundError):
                await sender.connect(lambda token, taken: None)
        session = await sender.connect(lambda token, taken: None)
        session.abort()
        assert versions == [5, 5, 4]

    play(serve, story)


def test_a_broker_that_asks_for_a_longer_keep_alive_does_not_make_us_blind() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes((0x20, 6, 0, 0, 3, 0x13, 0xFF, 0xFF)))
        await reader.read()

    async def story(hostile: Hostile) -> None:
        session = await hostile.sender(keepalive_s=1).connect(lambda token, taken: None)
        assert session.client._connection.keepalive == 1
        session.abort()

    play(serve, story)


def test_one_who_lets_in_and_hangs_up_is_not_asked_faster_than_one_who_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def asked(seconds: float, *rest: Any) -> None:
        if seconds > 0.01:
            pauses.append(seconds)
        await sleep(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken_in(reader, writer)
        writer.close()

    async def story(hostile: Hostile) -> None:
        south = South(tmp_path / "gateway.db")
        node = TestNode(south)
        await node.join()
        node.give(*(node.reading() for _ in range(20)))
        await south.commit()
        place = Place("lishui-3", "330106")
        delivery = Runner(
            "city", south.store, mqtt.format, hostile.sender(), lambda node, at_ms: place, LoopClock(), random.Random(1)
        )  # fmt: skip
        monkeypatch.setattr(runner.asyncio, "sleep", asked)
        running = asyncio.ensure_future(delivery.run())
        while hostile.connections < 30 and not running.done():
            await sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        monkeypatch.undo()
        south.stop()
        assert delivery.counters["delivered"] == 0
        assert len(pauses) >= 28
        assert sum(pauses[-10:]) > 10 * RECONNECT_MAX_S / 2 - 0.001

    with caplog.at_level(logging.INFO):
        play(serve, story)
    told = [record for record in caplog.records if record.name == "gateway.northbound.runner"]
    assert len(told) <= 8, "a storm is not a storm in the log"


def test_no_secret_is_in_what_is_told_of_a_broker_that_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes((0x20, 3, 0, 0x86, 0)))
        await reader.read()

    async def story(hostile: Hostile) -> None:
        sender = hostile.sender(username="geheim-user", password="geheim-password")
        with pytest.raises(NorthboundError) as caught:
            await sender.connect(lambda token, taken: None)
        caplog.set_level(logging.DEBUG)
        assert "geheim-password" not in str(caught.value) + repr(caught.value) + caplog.text
        assert "geheim" not in repr(sender._settings)

    with caplog.at_level(logging.DEBUG):
        play(serve, story)
    assert "geheim" not in caplog.text


# ---- the splitter, by itself -----------------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20))
@settings(max_examples=300)
def test_packets_are_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    def fed(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], str | None]:
        packets: list[tuple[int, bytes]] = []
        rest = b""
        for piece in pieces:
            try:
                rest = split(rest + piece, packets)
            except Violation as error:
                return packets, str(error)
            assert len(rest) <= MQTT_PACKET_IN_MAX + 5
        return packets, None

    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    assert fed([*pieces, data[at:]]) == fed([data])


@given(st.lists(st.tuples(st.sampled_from((0x20, 0x40, 0xD0, 0xE0)), st.binary(min_size=2, max_size=300))))
def test_what_brokers_say_comes_through_whole(packets: list[tuple[int, bytes]]) -> None:
    line = b"".join(
        bytes((head,))
        + (bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, len(body) >> 7)))
        + body
        for head, body in packets
    )
    got: list[tuple[int, bytes]] = []
    assert split(line, got) == b""
    assert got == packets


def test_random_bytes_after_the_handshake_end_the_session_and_nothing_else() -> None:
    rng = random.Random(5)

    async def story(hostile: Hostile) -> None:
        for _ in range(40):
            assert await end_of(hostile)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken_in(reader, writer)
        writer.write(rng.randbytes(rng.randrange(1, 200)))
        writer.close()

    play(serve, story)
