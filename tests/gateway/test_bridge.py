"""A bridge on a serial port is tuned, heard, and given packets to send; one that is not right is told of, not used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack
from typing import Any, cast

import pytest

from gateway import limits
from gateway.links import radio as radios
from gateway.links.bridge import CHANNEL, Bridge, Wanted
from gateway.links.port import Timing
from gateway.links.radio import Transmission, Uplink
from protocols.wire import framing
from tests.gateway.fake_node import Pty
from tests.gateway.test_serial_link import KeptLog

FAST = Timing(absent_s=0.005, retry_min_s=0.005, retry_max_s=0.02, check_s=0.01)
WANTED = Wanted(0, 20, 474_300_000, 9)
STATE = pack(">BBBBBI", 3, 1, 0, 20, 9, 77) + b"1.2"


class Bench:
    """A Bridge on a pty, and the board's side of it: `say` and `told`."""

    def __init__(self, pty: Pty) -> None:
        self.pty = pty
        self.now_s = 100.0
        self.log = KeptLog()
        self.heard: list[Uplink] = []
        self.ended: list[tuple[str, int, int]] = []
        self.told: list[bytes] = []
        self.changed = asyncio.Event()
        self.decoder = framing.Decoder()
        self.bridge = Bridge(
            "window",
            str(pty.path),
            115200,
            WANTED,
            cast(Any, self.log),
            on_progress=self.changed.set,
            on_state=lambda port: self.changed.set(),
            timing=FAST,
            monotonic=lambda: self.now_s,
        )
        self.bridge.on_uplink = self._heard
        self.bridge.on_result = self._ended

    def _heard(self, uplink: Uplink) -> None:
        self.heard.append(uplink)
        self.changed.set()

    def _ended(self, name: str, number: int, code: int) -> None:
        self.ended.append((name, number, code))
        self.changed.set()

    def say(self, *payloads: bytes, channel: int = CHANNEL) -> None:
        for payload in payloads:
            os.write(self.pty.master, framing.encode(payload, channel))

    def listen(self) -> None:
        try:
            data = os.read(self.pty.master, 65536)
        except (BlockingIOError, OSError):
            return
        self.told += [payload for channel, payload in self.decoder.feed(data) if channel == CHANNEL]

    def of(self, first: int) -> list[bytes]:
        return [payload for payload in self.told if payload[0] == first]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while True:
                self.listen()
                if condition():
                    return
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def plugged(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(Pty(tmp_path / "port"))
    task = asyncio.create_task(bench.bridge.run())
    try:
        await bench.until(lambda: bench.bridge.is_open)
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_it_is_asked_for_its_state_and_is_a_radio_once_that_is_right(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path) as bench:
            await bench.until(lambda: bench.of(0x13))
            assert not bench.bridge.is_ready
            assert not bench.bridge.send(Transmission(1, 5, 474_300_000, 9, 14, b"x"))
            bench.say(STATE)
            await bench.until(lambda: bench.bridge.is_ready)
            assert bench.bridge.firmware == "1.2"
            bench.say(pack(">BIIBhh", 1, 4_294_967_295, 474_300_000, 9, -121, -115) + b"\x2aframe")
            await bench.until(lambda: bench.heard)
            assert bench.heard == [
                Uplink("window", 4_294_967_295, 474_300_000, 9, -121.0, -11.5, b"\x2aframe")
            ]
            assert bench.bridge.send(Transmission(0xFFFF, 704, 474_300_000, 9, -3, b"\x09ack"))
            await bench.until(lambda: bench.of(0x11))
            assert bench.of(0x11) == [pack(">BHIIBb", 0x11, 0xFFFF, 704, 474_300_000, 9, -3) + b"\x09ack"]
            bench.say(pack(">BHB", 2, 0xFFFF, 4) + "信道忙".encode())
            await bench.until(lambda: bench.ended)
            assert bench.ended == [("window", 0xFFFF, radios.BUSY)]
            assert bench.bridge.last_refusal == "信道忙"

    asyncio.run(scenario())


def test_one_that_listens_elsewhere_is_tuned_and_not_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path) as bench:
            elsewhere = pack(">BBBBBI", 3, 1, 0, 21, 0, 77)
            bench.say(elsewhere)
            await bench.until(lambda: bench.of(0x12))
            assert bench.of(0x12) == [pack(">BIB", 0x12, 474_300_000, 9)]
            bench.say(STATE)
            await bench.until(lambda: bench.bridge.is_ready)
            for number in range(2, 12):
                bench.say(elsewhere)
                await bench.until(lambda number=number: bench.bridge.air["states"] > number)  # type: ignore[misc]
            assert "listens on channel 21 at SF0" in bench.bridge.problem
            assert bench.bridge.air["tunes"] == 6

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (pack(">BBBBBI", 3, 2, 0, 20, 9, 77), "speaks format 2"),
        (pack(">BBBBBI", 3, 1, 1, 20, 9, 77), "was minted for plan 1"),
    ],
)
def test_one_that_can_not_be_used_says_why(tmp_path: Path, state: bytes, told: str) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path) as bench:
            bench.say(state)
            await bench.until(lambda: bench.bridge.air["states"])
            assert told in bench.bridge.problem
            assert not bench.bridge.is_ready
            bench.listen()
            assert bench.of(0x12) == []

    asyncio.run(scenario())


def test_one_that_falls_silent_is_no_radio_until_it_speaks_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path) as bench:
            bench.say(STATE)
            await bench.until(lambda: bench.bridge.is_ready)
            asked = len(bench.of(0x13))
            bench.now_s += limits.BRIDGE_ASK_S + 1
            await bench.until(lambda: len(bench.of(0x13)) > asked)
            bench.now_s += limits.BRIDGE_SILENT_S
            assert not bench.bridge.is_ready
            assert "does it run" in bench.bridge.problem
            bench.say(STATE)
            await bench.until(lambda: bench.bridge.is_ready)

    asyncio.run(scenario())


def test_one_that_was_unplugged_is_unknown_when_it_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path) as bench:
            bench.say(STATE)
            await bench.until(lambda: bench.bridge.is_ready)
            bench.pty.unplug()
            await bench.until(lambda: not bench.bridge.is_open)
            assert not bench.bridge.send(Transmission(1, 5, 474_300_000, 9, 14, b"x"))
            bench.told.clear()
            bench.pty.plug()
            await bench.until(lambda: bench.bridge.is_open and bench.of(0x13))
            assert not bench.bridge.is_ready
            bench.say(STATE)
            await bench.until(lambda: bench.bridge.is_ready)

    asyncio.run(scenario())


def test_what_is_too_short_or_unknown_is_counted_and_a_nodes_frame_is_no_packet(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path) as bench:
            heard = pack(">BIIBhh", 1, 5, 474_300_000, 9, -80, 50)
            bad = [b"\x01", heard, heard[:-1], heard + bytes(256), b"\x02\x00", b"\x03\x01", b"\x77abc"]
            bad.append(pack(">BIIBhh", 1, 5, 474_300_000, 6, -80, 50) + b"x")
            bench.say(*bad)
            bench.say(b"\x0aframe", channel=framing.SEALED)
            bench.say(heard + b"good")
            await bench.until(lambda: bench.heard)
            assert bench.bridge.air["malformed"] == len(bad)
            assert bench.bridge.counters.other_channel == 1
            assert [one.packet for one in bench.heard] == [b"good"]

    asyncio.run(scenario())
