"""QoS 1 publishes per second of the MQTT clients there are, in one run, against one Mosquitto on the other core.

    python bench/mqtt_clients.py [--count 50000] [--window 100]

Each client publishes the same payload and keeps `window` publishes unconfirmed. What decided for gmqtt, and what speaks
against it, is in DESIGN.md. A client that is not installed is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import rig
from gateway.northbound.mqtt import MqttSender, MqttSettings
from gateway.northbound.runner import Destination

TOPIC = "tidegate/330106/river-0012/0012/readings"
PAYLOAD = b"x" * 500


async def with_gmqtt(port: int, count: int, window: int) -> None:
    """By way of our sender."""
    confirmed = 0
    room = asyncio.Event()

    def on_confirm(token: int, taken: bool) -> None:
        nonlocal confirmed
        confirmed += 1
        room.set()

    session = await MqttSender(MqttSettings("127.0.0.1", port, "gmqtt", window=window)).connect(on_confirm)
    destination = Destination("330106", "river-0012", "0012", "readings")
    sent = 0
    while confirmed < count:
        while sent < count and sent - confirmed < window:
            session.publish(destination, PAYLOAD)
            sent += 1
        room.clear()
        await room.wait()
    session.abort()


async def with_aiomqtt(port: int, count: int, window: int) -> None:
    import aiomqtt

    async with aiomqtt.Client("127.0.0.1", port, max_concurrent_outgoing_calls=window) as client:
        client.pending_calls_threshold = window + 1
        left = iter(range(count))

        async def publish() -> None:
            for _ in left:
                await client.publish(TOPIC, PAYLOAD, qos=1)

        await asyncio.gather(*(publish() for _ in range(window)))


async def with_paho(port: int, count: int, window: int) -> None:
    import paho.mqtt.client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(window)
    room = threading.Semaphore(window)
    confirmed = threading.Semaphore(0)

    def on_publish(*answer: object) -> None:
        room.release()
        confirmed.release()

    client.on_publish = on_publish
    client.connect("127.0.0.1", port)
    client.loop_start()
    for _ in range(count):
        room.acquire()
        client.publish(TOPIC, PAYLOAD, qos=1)
    for _ in range(count):
        confirmed.acquire()
    client.loop_stop()
    client.disconnect()


CLIENTS: dict[str, tuple[str, Callable[[int, int, int], Coroutine[Any, Any, None]]]] = {
    "gmqtt": ("gmqtt", with_gmqtt),
    "aiomqtt": ("aiomqtt", with_aiomqtt),
    "paho-mqtt": ("paho", with_paho),
}


async def measure(count: int, window: int) -> None:
    rig.pin(0, rig.GATEWAY_CORE)
    with rig.broker() as port:
        for name, (module, client) in CLIENTS.items():
            if importlib.util.find_spec(module) is None:
                print(f"client={name} not installed")
                continue
            cpu_s, began_s = time.process_time(), time.perf_counter()
            await client(port, count, window)
            rate = count / (time.perf_counter() - began_s)
            cpu_us = (time.process_time() - cpu_s) / count * 1e6
            print(f"client={name} publishes_per_s={rate:.0f} cpu_us_per_publish={cpu_us:.1f} window={window}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--window", type=int, default=100)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.count, arguments.window))


if __name__ == "__main__":
    main()
