"""What a session tells a platform beside records, with a real Mosquitto: status, discovery, a topic for each value."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import cbor2
import pytest

from gateway.config_mqtt import MqttSection
from gateway.northbound import mqtt_build
from gateway.northbound.mqtt import MqttSender
from gateway.northbound.runner import Runner
from hil_tests.northbound_contract import LoopClock, Place
from hil_tests.southbound import South, TestNode
from protocols.wire.codes import NODE_SILENT
from tests.gateway.mqtt_far_side import Mosquitto
from tests.gateway.mqtt_subscriber import Subscriber

pytestmark = pytest.mark.xdist_group("mosquitto")
STATUS = "tidegate/gw/status"


class Desk:
    """A gateway with one node, its northbound made from a table, and a real broker."""

    def __init__(self, folder: Path, broker: Mosquitto, keys: dict[str, Any]) -> None:
        self.south = South(folder / "gateway.db")
        self.node = TestNode(self.south)
        self.broker = broker
        section = MqttSection(name="city", host="127.0.0.1", port=broker.port, **keys)
        self.runner = mqtt_build.build(
            section, "gw", None, None, None, self.south.store, lambda node, at_ms: Place("lishui-3", "330106003002"),
            None, None, LoopClock(), random.Random(1),
        )  # fmt: skip

    async def readings(self, count: int = 1) -> None:
        self.node.give(*(self.node.reading() for _ in range(count)))
        await self.south.commit()

    async def event(self, **fields: Any) -> None:
        self.node.give(self.node.event(**fields))
        await self.south.commit()


def tell(folder: Path, keys: dict[str, Any], story: Any, **options: object) -> None:
    async def run() -> None:
        broker = Mosquitto(**{"max_inflight_messages": 0, **options})
        desk = Desk(folder, broker, keys)
        await desk.node.join()
        running = asyncio.ensure_future(desk.runner.run())
        try:
            async with Subscriber(broker.port, "#") as far:
                await asyncio.wait_for(story(desk, far), 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            desk.south.stop()
            broker.close()

    asyncio.run(run())


@pytest.mark.parametrize(("payload", "load"), [("cbor", cbor2.loads), ("senml", json.loads)])
def test_the_payload_is_the_one_of_the_table(tmp_path: Path, payload: str, load: Any) -> None:
    async def story(desk: Desk, far: Subscriber) -> None:
        await desk.readings()
        await desk.event()
        record = load(await far.until("tidegate/330106003002/lishui-3/0012/readings"))
        happening = load(await far.until("tidegate/330106003002/lishui-3/0012/events"))
        if payload == "cbor":
            assert record["readings"]["ph"]["v"] == 7.8
            assert happening["event"]["state"] == "raised"
        else:
            assert {"n": "ph", "u": "pH", "v": 7.8} in record
            assert {"n": "state", "vs": "raised"} in happening

    tell(tmp_path, {"payload": payload}, story)


@pytest.mark.parametrize("inflight", [0, 3])
def test_each_measurand_has_its_topic_and_a_record_is_confirmed_when_all_are(
    tmp_path: Path, inflight: int
) -> None:
    """Also where the broker allows fewer unconfirmed publishes than a set has values."""

    async def story(desk: Desk, far: Subscriber) -> None:
        await desk.readings(20)
        await desk.event()
        root = "zj/3301/330106/330106003/0012"
        await far.until(f"{root}/events/low_dissolved_oxygen")
        await far.reached(lambda: desk.runner.counters["delivered"] >= 21)
        value = json.loads(far.last(f"{root}/readings/ph") or b"")
        assert (value["measurand"], value["v"], value["u"], value["seq"]) == ("ph", 7.8, "[pH]", 20)
        counted = [topic for topic in far.topics() if topic.startswith(root)]
        assert len(counted) == 20 * 8 + 1
        assert desk.runner.status()["backlog"] == 0

    keys = {"topic": "zj/{city}/{district}/{street}/{node}/{stream}/{measurand}"}
    tell(tmp_path, keys, story, max_inflight_messages=inflight)


def test_home_assistant_is_told_of_each_sensor_once_and_before_its_first_value(tmp_path: Path) -> None:
    async def story(desk: Desk, far: Subscriber) -> None:
        await desk.readings(3)
        topic = "tidegate/330106003002/lishui-3/0012/readings"
        await far.reached(lambda: far.topics().count(topic) >= 3)
        told = [got for got in far.got if got.topic.startswith("homeassistant/")]
        assert len(told) == 8
        assert far.topics().index(topic) > far.topics().index(told[-1].topic)
        sensor = json.loads(far.last("homeassistant/sensor/tidegate_0012/ph/config") or b"")
        assert sensor["state_topic"] == topic
        assert sensor["availability_topic"] == STATUS
        assert sensor["device"]["name"] == "lishui-3"
        async with Subscriber(desk.broker.port, "homeassistant/#") as later:
            await later.until("homeassistant/sensor/tidegate_0012/ph/config")
            assert later.got[0].retained

    tell(tmp_path, {"homeassistant": "homeassistant", "status_topic": "tidegate/{gateway}/status"}, story)


def test_thingsboard_hears_who_is_there_then_what_they_measure_and_who_fell_silent(tmp_path: Path) -> None:
    async def story(desk: Desk, far: Subscriber) -> None:
        await desk.readings(2)
        await far.until("v1/gateway/telemetry")
        await desk.event(code=NODE_SILENT)
        gone = await far.until("v1/gateway/disconnect")
        await far.reached(lambda: desk.runner.counters["delivered"] >= 3)
        assert far.topics()[:2] == ["v1/gateway/connect", "v1/gateway/attributes"]
        assert far.topics().count("v1/gateway/connect") == 2  # by readings and by events
        assert json.loads(far.got[0].payload) == {"device": "lishui-3-0012", "type": "tidegate"}
        assert json.loads(gone) == {"device": "lishui-3-0012"}
        telemetry = json.loads(next(got.payload for got in far.got if got.topic == "v1/gateway/telemetry"))
        assert telemetry["lishui-3-0012"][0]["values"]["ph"] == 7.8

    tell(tmp_path, {"payload": "thingsboard"}, story)


def test_mqtt_3_1_1_is_spoken_when_the_table_says_so(tmp_path: Path) -> None:
    async def story(desk: Desk, far: Subscriber) -> None:
        await desk.readings()
        await far.until("tidegate/330106003002/lishui-3/0012/readings")
        assert isinstance(desk.runner._sender, MqttSender)
        assert desk.runner._sender._version == 4
        assert isinstance(desk.runner, Runner)

    tell(tmp_path, {"version": "3.1.1"}, story)


def test_a_record_too_large_for_the_broker_is_refused_here_and_others_go_on(tmp_path: Path) -> None:
    """Mosquitto would end the connection for it, and again after each new one."""

    async def story(desk: Desk, far: Subscriber) -> None:
        await desk.readings()
        await desk.event()
        await far.until("tidegate/330106003002/lishui-3/0012/events")
        await far.reached(lambda: desk.runner.counters["refused"] and desk.runner.counters["delivered"])
        assert desk.runner.counters["sessions"] == 1
        assert desk.runner.status()["backlog"] == 1

    tell(tmp_path, {}, story, max_packet_size=400)
