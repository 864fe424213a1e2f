"""The real daemon in a conversation with a packet forwarder over UDP: what is heard is stored and answered in its
window, and nothing that a network can send harms it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from gateway import config as configs
from gateway import keys
from gateway.audit import balance
from gateway.daemon import Gateway
from gateway.metrics import Exporter
from gateway.registry import By
from gateway.status import show
from protocols.wire import codes, fragments, messages
from tests.gateway.fake_forwarder import EUI, FakeForwarder, asking, rxpk
from tests.gateway.fake_node import FakeNode
from tests.gateway.test_daemon import ADDRESS, enrol, running
from tests.gateway.test_semtech import OTHER_EUI, mutated

TMST = 4_294_000_000  # a second before the counter wraps


def air_config(tmp_path: Path, euis: tuple[str, ...] = (EUI,)) -> configs.Config:
    key = tmp_path / "master.key"
    if not key.exists():
        keys.write_file(key)
    listed = ", ".join(f'"{eui}"' for eui in euis)
    text = f"""
        [keys]
        master_key_file = "master.key"
        [clock]
        assume_synchronised = true
        [health]
        port = 0
        [lora]
        plan = "cn470"
        channel = 20
        [[semtech]]
        name = "roof"
        bind = "127.0.0.1:0"
        gateways = [{listed}]
    """
    return configs.parse(text, "gateway.toml", tmp_path)


@asynccontextmanager
async def on_the_air(
    tmp_path: Path, euis: tuple[str, ...] = (EUI,)
) -> AsyncIterator[tuple[Gateway, FakeForwarder]]:
    """A gateway with one enrolled node and one forwarder that asks for downlinks."""
    async with running(air_config(tmp_path, euis)) as gateway:
        await enrol(gateway, ADDRESS)
        assert gateway.air is not None
        server = gateway.air.servers[0]
        listens = asyncio.Event()
        server.on_listening = listens.set
        if not server.port:
            await listens.wait()
        forwarder = await FakeForwarder(server.port).open()
        await forwarder.pull()
        try:
            yield gateway, forwarder
        finally:
            forwarder.close()


async def join(node: FakeNode, forwarder: FakeForwarder, tmst: int = 1_000_000) -> None:
    """Both steps of a join, each answered in its window."""
    frame = node.start()
    for _ in range(2):
        await forwarder.push(rxpk(asking(frame), tmst))
        answers = node.receive(payload(await forwarder.downlink()))
        frame = answers[0] if answers else b""
        tmst += 5_000_000
    assert node.epoch is not None, node.refused


def payload(txpk: dict[str, Any]) -> bytes:
    return base64.b64decode(txpk["data"], validate=True)


def stored(gateway: Gateway) -> int:
    count: int = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM event").fetchone()[0])
    return count


def test_an_alarm_is_stored_and_acknowledged_in_the_first_window(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_the_air(tmp_path) as (gateway, forwarder):
            node = FakeNode(ADDRESS)
            await join(node, forwarder)
            time = payload(await forwarder.downlink())  # a hello is told the time, too
            node.receive(time)
            node.keep()
            await forwarder.push(rxpk(asking(node.pending()[0]), TMST))
            txpk = await forwarder.downlink()
            node.receive(payload(txpk))
            assert node.acked == 1
            assert stored(gateway) == 1
            assert txpk == {
                "imme": False,
                "tmst": (TMST + 1_000_000) % 2**32,
                "freq": 474.3,
                "rfch": 0,
                "powe": 17,
                "modu": "LORA",
                "datr": "SF9BW125",
                "codr": "4/5",
                "ipol": True,
                "prea": 8,
                "ncrc": False,
                "size": len(payload(txpk)),
                "data": txpk["data"],
            }

    asyncio.run(scenario())


def test_a_hostile_network_neither_stops_the_daemon_nor_gets_a_frame_in(tmp_path: Path) -> None:
    """Garbage, oversize, forged names, bad CRCs, foreign networks, tampered and replayed frames beside a real node."""

    async def scenario() -> None:
        async with on_the_air(tmp_path) as (gateway, forwarder):
            node = FakeNode(ADDRESS)
            await join(node, forwarder)
            node.receive(payload(await forwarder.downlink()))
            rng = random.Random(5)
            server = forwarder.port
            unknown = await FakeForwarder(server, "00000000000000aa").open()
            forger = await FakeForwarder(server, seed=3).open()
            for seq in range(1, 4):
                node.keep()
                frame = node.pending()[0]
                whole = json.dumps({"rxpk": [rxpk(asking(frame), seq * 9_000_000)]}).encode()
                spoiled = bytearray(asking(frame))
                spoiled[-1 - seq] ^= 4
                unknown.up.send(unknown.head(0) + whole, server)
                forger.up.send(forger.head(0) + whole, server)
                for size in (0, 1, 12, 200, 20_000):
                    forwarder.up.send(forwarder.head(0)[: min(size, 12)] + rng.randbytes(size), server)
                bad = forwarder.head(0) + whole.replace(b'"stat": 1', b'"stat": -1')
                for _ in range(30):
                    for _ in range(10):
                        forwarder.up.send(mutated(rng, bad), server)
                    await forwarder.push()  # so that the kernel has room for all of them
                await forwarder.push(
                    rxpk(asking(frame), stat=-1),
                    rxpk(asking(frame), stat=0),
                    rxpk(bytes(spoiled)),
                    rxpk(bytes.fromhex("4004030201800100015a5a5a5a5a5a5a")),  # LoRaWAN
                    rxpk(bytes.fromhex("00aabbccddeeff00112233445566778899aabbccddeeff")),
                    rxpk(bytes((0x2A, 1, 1, 0x77, 0x77)) + rng.randbytes(20)),
                    rxpk(b"\xe0\x01\x77\x77stranger"),
                    rxpk(asking(frame), freq=868.1),
                )
                assert stored(gateway) == seq - 1
                await forwarder.push(
                    rxpk(asking(frame), seq * 9_000_000, datr=9, data=unpadded(asking(frame)))
                )
                await forwarder.push(rxpk(asking(frame), seq * 9_000_000))  # once more
                node.receive(payload(await forwarder.downlink()))
                assert (node.acked, stored(gateway)) == (seq, seq)
            assert gateway.air is not None
            refused, link = gateway.air.servers[0].refused, gateway.air.link
            print(*(f"{name}={value}" for name, value in refused.items()), sep=" ")
            assert {"unknown_eui", "other_address", "malformed", "oversize", "crc"} <= set(refused)
            assert {"kind", "fragment", "off_plan"} <= set(link.refused)
            assert {"auth", "unknown_node", "malformed"} <= set(gateway.ingest.refused)
            assert unknown.up.inbox == forger.up.inbox == []
            assert all(row.holds for row in gateway.store.read(balance))
            assert not [part.name for part in gateway.parts if part.failures]
            unknown.close()
            forger.close()

    asyncio.run(scenario())


def test_two_concentrators_give_one_record_and_the_better_one_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_the_air(tmp_path, (EUI, OTHER_EUI)) as (gateway, first):
            second = await FakeForwarder(first.port, OTHER_EUI).open()
            await second.pull()
            node = FakeNode(ADDRESS)
            await join(node, first)
            node.receive(payload(await first.downlink()))
            node.keep()
            packet = asking(node.pending()[0])
            await first.push(rxpk(packet, 5_000_000, lsnr=-9.5))
            await second.push(rxpk(packet, 77_000_000, lsnr=4.25, rssi=-88))
            txpk = await second.downlink()
            node.receive(payload(txpk))
            assert (node.acked, stored(gateway), txpk["tmst"]) == (1, 1, 78_000_000)
            air = gateway.node_status(ADDRESS)["air"]
            assert (air["radio"], air["snr_db"], air["heard_by"]) == (f"roof/{OTHER_EUI}", 4.25, 2)
            show(gateway.status(), Console(file=io.StringIO(), width=160))
            assert b"tidegate_radio_packets_in_total" in Exporter(gateway.picture).page().body
            second.close()

    asyncio.run(scenario())


def test_the_ack_of_a_routine_reading_is_held_back_until_something_else_goes_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_the_air(tmp_path) as (gateway, forwarder):
            node = FakeNode(ADDRESS)
            await join(node, forwarder)
            node.receive(payload(await forwarder.downlink()))
            sent = gateway.downlink.counters["ack"]
            node.keep()
            await forwarder.push(rxpk(node.pending()[0], 20_000_000))
            await settled(gateway, 1)
            node.keep()
            await forwarder.push(rxpk(node.pending()[1], 40_000_000))
            await settled(gateway, 2)
            assert gateway.downlink.counters["ack"] == sent
            # A record is missing: it is told at once.
            node.keep()
            node.keep()
            await forwarder.push(rxpk(node.pending()[3], 60_000_000))
            node.receive(payload(await forwarder.downlink()))
            ack = node.got(messages.Ack)[-1]
            assert (ack.cum, ack.runs) == (2, ((4, 1),))  # type: ignore[union-attr]
            # A command that comes while the node still listens goes out in the next window of the same exchange.
            await gateway.commands.add(ADDRESS, codes.IDENTIFY, 7, 60, By("wang", "x"))
            node.receive(payload(await forwarder.downlink()))
            assert node.executed == [(codes.IDENTIFY, 7)]

    asyncio.run(scenario())


async def settled(gateway: Gateway, events: int) -> None:
    """Wait until so many events are committed, and answered or not."""
    committed = asyncio.Event()
    gateway.store.on_commit.append(lambda batch: committed.set())
    async with asyncio.timeout(20):
        while stored(gateway) < events:
            committed.clear()
            await committed.wait()


def unpadded(packet: bytes) -> str:
    return base64.urlsafe_b64encode(packet).decode().rstrip("=")


def test_a_frame_in_pieces_is_stored_and_its_windows_count_from_the_last(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_the_air(tmp_path) as (gateway, forwarder):
            node = FakeNode(ADDRESS)
            await join(node, forwarder)
            node.receive(payload(await forwarder.downlink()))
            node.keep()
            pieces = fragments.split(node.pending()[0], ADDRESS, 3, 16)
            assert len(pieces) == 3
            for number in (0, 2, 1):  # in any order, as of two radios
                await forwarder.push(rxpk(pieces[number], 10_000_000 + number * 500_000))
            txpk = await forwarder.downlink()
            node.receive(payload(txpk))
            assert (node.acked, stored(gateway), txpk["tmst"]) == (1, 1, 12_000_000)

    asyncio.run(scenario())
