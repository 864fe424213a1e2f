"""What foreign LoRa traffic costs the gateway, from the forwarder's datagram on, beside what a frame of its own costs.

    python bench/foreign.py [--packets 20000]

prints `own_us=…` and `NAME_ratio=…` for each kind of packet that is none of ours: the CPU time of one of it over that
of one frame that is opened, decoded and put into the next transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import structlog

from bench import rig
from gateway.links.lora import LoraLink
from gateway.links.semtech import SemtechServer
from protocols.wire.law import CN470, Law

EUI = "aa555a0000000101"
NODES = 64
SOURCE = ("127.0.0.1", 1)


def datagram(packet: bytes) -> bytes:
    rxpk = {
        "tmst": 5,
        "freq": 474.3,
        "stat": 1,
        "modu": "LORA",
        "datr": "SF9BW125",
        "codr": "4/5",
        "lsnr": 7.5,
        "rssi": -71,
        "size": len(packet),
        "data": base64.b64encode(packet).decode(),
    }
    return bytes((2, 0, 0, 0)) + bytes.fromhex(EUI) + json.dumps({"rxpk": [rxpk]}).encode()


async def measure(folder: Path, count: int) -> dict[str, float]:
    """CPU seconds for one packet of each kind."""
    gateway = rig.Gateway(folder / "gateway.db", NODES)
    stations = [rig.Station(address, 1) for address in range(1, NODES + 1)]
    await rig.join_all(gateway, stations)
    server = SemtechServer("roof", ("127.0.0.1", 0), (EUI,), structlog.get_logger(), now_s=time.monotonic)
    law = Law(CN470)
    LoraLink(
        list(server.radios),
        lambda name: law,
        (474_300_000,),
        law.size_max,
        17,
        gateway.ingest.frame,
        lambda address: 1 <= address <= NODES,
        now_s=time.monotonic,
    )
    server._budget.take = lambda: True  # type: ignore[method-assign]  (the bench is a flood)
    rng = random.Random(7)
    own = rig.frames_of(stations, count, 2)
    kinds: dict[str, Callable[[bytes], bytes]] = {
        "own": lambda frame: frame,
        "lorawan": lambda frame: b"\x40" + rng.randbytes(len(frame) - 1),
        "random": lambda frame: rng.randbytes(len(frame)),
        "wrong_network": lambda frame: frame[:3] + b"\x77\x77" + rng.randbytes(len(frame) - 5),
        "wrong_key": lambda frame: b"\x0a\xf0" + rng.randbytes(1) + frame[3:],
        "fragment_of_stranger": lambda frame: b"\xe0\x01\x77\x77" + rng.randbytes(len(frame) - 4),
        "fragment_in_our_name": lambda frame: b"\xe0" + rng.randbytes(1) + frame[3:5] + rng.randbytes(40),
    }
    took: dict[str, float] = {}
    for name, make in kinds.items():
        datagrams = [datagram(make(frame)) for frame in own]
        before = time.process_time()
        for number, data in enumerate(datagrams):
            server.datagram_received(data, SOURCE)
            if name == "own" and number % 512 == 511:
                took[name] = took.get(name, 0.0) + time.process_time() - before
                await gateway.store.write(lambda connection: None)
                before = time.process_time()
        took[name] = (took.get(name, 0.0) + time.process_time() - before) / count
    stored = gateway.store.counters["commits"]
    if not stored or set(gateway.ingest.refused) - {
        "malformed",
        "unknown_node",
        "auth",
        "replay",
        "oversize",
    }:
        raise SystemExit(f"the bench measured something else: {gateway.ingest.refused}")
    await gateway.store.write(lambda connection: None)
    gateway.store.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packets", type=int, default=20_000)
    count = parser.parse_args().packets
    with tempfile.TemporaryDirectory() as folder:
        took = asyncio.run(measure(Path(folder), count))
    own = took.pop("own")
    print(f"own_us={own * 1e6:.1f}", *(f"{name}_ratio={one / own:.2f}" for name, one in took.items()))


if __name__ == "__main__":
    main()
