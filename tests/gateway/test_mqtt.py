"""The northbound contract with a real Mosquitto, and what only MQTT can be asked."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path

import pytest

from gateway.errors import NorthboundError
from gateway.northbound.mqtt import MqttSender, MqttSettings
from gateway.northbound.runner import Destination, OnConfirm
from hil_tests.northbound_contract import WINDOW, Bench, Contract, FarSide
from tests.gateway.mqtt_far_side import Mosquitto, MqttFarSide
from tests.gateway.mqtt_subscriber import Subscriber

DESTINATION = Destination("330106", "lishui-3", "0012", "readings")


def ignore(token: int, taken: bool) -> None:
    """For sessions that publish nothing."""


@pytest.mark.xdist_group("mosquitto")
class TestMqtt(Contract):
    def far_side(self) -> FarSide:
        return MqttFarSide()

    def test_a_subscriber_gets_the_json_under_the_topic_of_the_template(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            assert isinstance(bench.far, MqttFarSide)
            async with Subscriber(bench.far.broker_port, "tidegate/#") as subscriber:
                bench.begin()
                await bench.connected()
                await bench.readings(1)
                topic = "tidegate/330106/lishui-3/0012/readings"
                payload = await subscriber.until(topic)
            record = json.loads(payload)
            assert record["readings"]["ph"] == {"v": 7.8, "u": "[pH]", "q": 1}
            assert (record["node"], record["site"], record["seq"]) == ("0012", "lishui-3", 1)

        self.tell(tmp_path, story)

    def test_the_brokers_receive_maximum_bounds_the_window(self, tmp_path: Path) -> None:
        async def run() -> None:
            far = MqttFarSide(max_inflight_messages=10)
            await far.start()
            session = await far.sender().connect(ignore)
            assert 1 <= session.window < 10
            session.abort()
            await far.close()

        asyncio.run(run())

    def test_with_a_small_receive_maximum_everything_still_arrives(self, tmp_path: Path) -> None:
        class Narrow(Contract):
            def far_side(self) -> FarSide:
                return MqttFarSide(max_inflight_messages=3)

        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            await bench.readings(100)
            await bench.drained()
            bench.check_complete()

        Narrow().tell(tmp_path, story)

    def test_a_packet_id_is_not_confirmed_by_what_its_last_session_still_held(self, tmp_path: Path) -> None:
        async def run() -> None:
            confirmed: list[int] = []
            on_confirm: OnConfirm = lambda token, taken: confirmed.append(token)  # noqa: E731
            far = MqttFarSide()
            await far.start()
            session = await MqttSender(far.settings()).connect(on_confirm)
            token = session.publish(
                DESTINATION, b'{"node":"0012","epoch":1,"seq":1,"lane":"fresh","resent":false}'
            )
            session.abort()
            session._on_puback(0x40, token.to_bytes(2, "big"))
            assert confirmed == []
            await far.close()

        asyncio.run(run())


@pytest.mark.xdist_group("mosquitto")
class TestMqtt311(Contract):
    """The same against a broker that is spoken to in MQTT 3.1.1."""

    def far_side(self) -> FarSide:
        return _Old()


class _Old(MqttFarSide):
    def __init__(self) -> None:
        super().__init__(version=4)

    def sender(self) -> MqttSender:
        sender = MqttSender(self.settings())
        sender._version = 4
        return sender

    @pytest.mark.may_skip_in_ci("MQTT 3.1.1 has no reason code: there is nothing to test")
    def test_a_refusal_is_no_success_and_the_record_is_offered_again(self, tmp_path: Path) -> None:
        pytest.skip("MQTT 3.1.1 has no reason code")

    @pytest.mark.may_skip_in_ci("MQTT 3.1.1 has no reason code: there is nothing to test")
    def test_a_refused_event_holds_the_cursor_until_it_is_taken(self, tmp_path: Path) -> None:
        pytest.skip("MQTT 3.1.1 has no reason code")


# ---- connecting ------------------------------------------------------------------------------------------------------


def connect(settings: MqttSettings) -> None:
    async def run() -> None:
        session = await MqttSender(settings).connect(ignore)
        session.abort()

    asyncio.run(run())


def test_a_port_nobody_listens_on_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NorthboundError, match=rf"127\.0\.0\.1:{port} cannot be reached"):
        connect(MqttSettings("127.0.0.1", port))


def test_a_listener_that_never_answers_costs_the_time_out_and_no_more() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        settings = MqttSettings("127.0.0.1", listener.getsockname()[1], connect_timeout_s=0.1)
        with pytest.raises(NorthboundError, match="no answer in time"):
            connect(settings)


def test_a_broker_that_refuses_us_is_quoted() -> None:
    broker = Mosquitto(allow_anonymous="false")
    try:
        with pytest.raises(NorthboundError, match=r"refused us: .*135"):
            connect(MqttSettings("127.0.0.1", broker.port, username="nobody", password="wrong"))
    finally:
        broker.close()


def test_a_broker_that_speaks_only_3_1_1_is_spoken_to_in_it() -> None:
    async def run() -> None:
        versions: list[int] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            packet = await reader.read(200)
            versions.append(packet[packet.index(b"MQTT") + 4])
            writer.write(bytes((0x20, 2, 0, 0 if versions[-1] == 4 else 1)))
            if versions[-1] != 4:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sender = MqttSender(MqttSettings("127.0.0.1", port, connect_timeout_s=2))
        with pytest.raises(NorthboundError, match="cannot be reached"):
            await sender.connect(ignore)
        session = await sender.connect(ignore)
        session.abort()
        server.close()
        assert versions == [5, 4]

    asyncio.run(run())


def test_an_idle_connection_that_went_dead_is_noticed() -> None:
    async def run() -> None:
        far = MqttFarSide()
        await far.start()
        settings = MqttSettings("127.0.0.1", far._port, keepalive_s=1)
        session = await MqttSender(settings).connect(ignore)
        far.swallow()
        why = await asyncio.wait_for(session.lost(), 10)
        assert "nothing came" in why or "broke" in why
        session.abort()
        await far.close()

    asyncio.run(run())


def test_gmqtt_is_as_this_adapter_expects_it(caplog: pytest.LogCaptureFixture) -> None:
    """The private parts that are replaced are there, and replacing them works: an update of gmqtt must pass here."""

    async def run() -> None:
        far = MqttFarSide()
        await far.start()
        answers: list[tuple[int, bool]] = []
        done = asyncio.Event()

        def on_confirm(token: int, taken: bool) -> None:
            answers.append((token, taken))
            if len(answers) == 2:
                done.set()

        session = await MqttSender(far.settings()).connect(on_confirm)
        far.refuse_next(1)
        payload = b'{"node":"0012","epoch":1,"seq":1,"lane":"fresh","resent":false}'
        first, second = session.publish(DESTINATION, payload), session.publish(DESTINATION, payload)
        await asyncio.wait_for(done.wait(), 10)
        assert sorted(answers) == [(first, False), (second, True)]
        assert session.client._package_handler.id_generator._used_ids == set()
        assert session.window == WINDOW
        await far.stop()
        assert "broke" in await asyncio.wait_for(session.lost(), 10)
        await far.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert [record for record in caplog.records if record.name.startswith("gmqtt")] == []
