"""How well a node is heard is told per node, and a node that is heard too well or too badly is told to change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from gateway import adr, limits
from gateway.hearing import Hearing
from gateway.links.lora import Way
from gateway.links.radio import Uplink
from gateway.presence import Presence
from protocols.wire import codes, messages
from protocols.wire.law import CN470, Law
from tests.gateway.air_rig import AirRig, ask
from tests.gateway.desk import BY, Desk, desk
from tests.gateway.downlink_rig import Heard as Uplinked
from tests.gateway.downlink_rig import Rig, Wire

NODE = 0x12
SF9_FLOOR_DB = -12.5


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


class Bench:
    """Hearing with a link in front of it: `uplink` is heard by radios and then told of as ingest does."""

    def __init__(self, office: Desk, *, adapts: bool = True, sf_is_fixed: bool = False) -> None:
        self.office = office
        self.rig = AirRig(3)
        self.presence = Presence(office.clock)
        self.hearing = Hearing(
            Law(CN470),
            self.presence,
            office.commands,
            office.clock,
            structlog.get_logger(),
            adapts=adapts,
            sf_is_fixed=sf_is_fixed,
        )
        self.piv = 0
        self.number = 0

    def uplink(self, *snrs: float | None, sf: int = 9, piv: int | None = None, message: Any = None) -> None:
        self.number += 1
        self.piv = self.piv + 1 if piv is None else piv
        self.rig.hear(ask(self.number), *snrs, ended_s=self.rig.loop.now_s, sf=sf)
        self.rig.run(self.rig.loop.now_s + 0.1)
        self.tell(self.rig.frames[-1][0], message)

    def tell(self, way: Way, message: Any = None, *, new: bool = True) -> None:
        entry: Any = SimpleNamespace(
            link=way,
            node=SimpleNamespace(address=NODE),
            channel=SimpleNamespace(number=5),
            piv=self.piv,
            message=message or messages.Event(1, 0, 0, 0, 1, 1, None, None),
            new=new,
        )
        self.hearing.on_heard([entry])

    def says(self, sf: int, dbm: int) -> None:
        """A status of the node came in."""
        health = {codes.HEALTH_NAMES.index("radio_sf"): sf, codes.HEALTH_NAMES.index("radio_dbm"): dbm}
        self.presence.heard(NODE, "lora", messages.Status(0, 0, 0, health), 0.0, 0)

    async def settle(self) -> None:
        while self.hearing.working:
            await asyncio.gather(*self.hearing.working)

    def asked(self) -> list[Any]:
        return [report for report in self.office.commands.reports() if report.op == codes.SET_RADIO]


def test_the_best_copy_of_the_latest_uplink_is_shown_with_its_margin_and_what_was_lost(office: Desk) -> None:
    bench = Bench(office, adapts=False)
    assert bench.hearing.of(NODE) is None
    bench.uplink(-5.0, 3.5)
    bench.uplink(-5.0, piv=4)
    bench.uplink(None, -7.0, -2.5, piv=5)
    assert bench.hearing.of(NODE) == {
        "radio": "c",
        "heard_by": 2,
        "rssi_dbm": -80.0,
        "snr_db": -2.5,
        "sf": 9,
        "margin_db": 10.0,
        "dbm": None,
        "packets": 3,
        "lost": 2,
    }


def test_a_new_block_of_pivs_after_a_start_is_no_loss(office: Desk) -> None:
    bench = Bench(office, adapts=False)
    for piv in (1, 257, 258, 256):
        bench.uplink(0.0, piv=piv)
    row = bench.hearing.of(NODE)
    assert row is not None
    assert (row["packets"], row["lost"]) == (4, 0)


def test_a_recorded_hello_tells_nothing_of_the_node(office: Desk) -> None:
    bench = Bench(office)
    bench.rig.hear(ask(1), 20.0)
    bench.rig.run(0.1)
    bench.tell(bench.rig.frames[0][0], messages.Hello(0, None, 1, 1, "river", "v", "t", 1, 1), new=False)
    assert bench.hearing.of(NODE) is None


@pytest.mark.parametrize("sf_is_fixed", [False, True])
def test_a_node_that_is_heard_too_well_is_told_to_speak_faster_or_softer_and_only_once(
    office: Desk, sf_is_fixed: bool
) -> None:
    async def scenario() -> None:
        await office.enrol(NODE)
        bench = Bench(office, sf_is_fixed=sf_is_fixed)
        bench.says(9, 17)
        for _ in range(adr.HISTORY + 10):
            bench_uplink(bench, SF9_FLOOR_DB + 25)
            await bench.settle()
        (report,) = bench.asked()
        sf, dbm = report.args
        assert (sf == 9 and dbm < 17) if sf_is_fixed else sf < 9
        assert report.who == "adr"
        assert "median SNR 12.5 dB at SF9, 17 dBm" in report.why
        office.clock.pass_s(limits.ADR_PERIOD_S + 1)
        bench_uplink(bench, SF9_FLOOR_DB + 25)
        await bench.settle()
        assert len(bench.asked()) == 2

    asyncio.run(scenario())


def bench_uplink(bench: Bench, snr_db: float, sf: int = 9) -> None:
    """As `Bench.uplink`, inside a running loop."""
    bench.number += 1
    bench.piv += 1
    radio = bench.rig.radios[0]
    at_us = radio.counter(bench.number * 5.0)
    radio.on_uplink(Uplink("a", at_us, 474_300_000, sf, -80.0, snr_db, ask(bench.number)))
    bench.tell(bench.rig.frames[-1][0])


def test_a_history_ends_with_what_it_was_about(office: Desk) -> None:
    async def scenario() -> None:
        await office.enrol(NODE)
        bench = Bench(office)
        bench.says(9, 17)
        for _ in range(adr.HISTORY - 2):
            bench_uplink(bench, 12.0)
        bench.says(9, 14)
        for _ in range(adr.HISTORY - 2):
            bench_uplink(bench, 12.0)
        bench_uplink(bench, 12.0, sf=10)
        for _ in range(adr.HISTORY - 2):
            bench_uplink(bench, 12.0, sf=10)
        await bench.settle()
        assert bench.asked() == []

    asyncio.run(scenario())


def test_nobody_is_told_anything_without_adr_or_before_it_said_what_it_sends_with(office: Desk) -> None:
    async def scenario() -> None:
        await office.enrol(NODE)
        off, unknown = Bench(office, adapts=False), Bench(office)
        off.says(9, 17)
        for bench in (off, unknown):
            for _ in range(adr.HISTORY + 5):
                bench_uplink(bench, 12.0)
            await bench.settle()
        assert off.asked() == []

    asyncio.run(scenario())


def test_a_node_without_margin_is_helped_at_once_and_what_it_did_begins_a_new_history(office: Desk) -> None:
    async def scenario() -> None:
        await office.enrol(NODE)
        bench = Bench(office)
        bench.says(9, 11)
        for _ in range(adr.HELP_FROM + 1):
            bench_uplink(bench, SF9_FLOOR_DB - 1)
        await bench.settle()
        (report,) = bench.asked()
        assert report.args == [11, 17]
        command = office.commands.due(NODE)
        assert command is not None
        bench.hearing.command_done(NODE, command)
        row = bench.hearing.of(NODE)
        assert row is not None
        assert row["dbm"] == 17

    asyncio.run(scenario())


class QuietWire(Wire):
    """Nodes on it do not listen, and this uplink asked for nothing."""

    def __init__(self) -> None:
        super().__init__(listens=False, wants_answer=False)


def test_an_ack_that_nobody_asked_for_waits_for_a_gap_or_for_company(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            wire = QuietWire()
            rig.wire = wire
            plain = messages.encode(messages.Ack(4, (), None))
            rig.downlink.attach(lambda heard: [(entry.link, NODE, plain) for entry in heard])
            whole, broken = SimpleNamespace(runs=()), SimpleNamespace(runs=(1,))

            def heard(ledger: Any, *, asks: bool = False) -> Any:
                wire.sent.clear()
                wire.wants_answer = asks
                event = messages.Event(1, 0, 0, 0, 1, 1, None, None)
                return Uplinked(wire, event, 3, ledger=ledger)

            await rig.hear(heard(whole))
            assert [type(one) for one in wire.sent] == [
                messages.Ack,
                messages.Time,
            ]  # it was never told the time
            await rig.hear(heard(whole))
            assert wire.sent == []
            await rig.hear(heard(whole, asks=True))
            assert [type(one) for one in wire.sent] == [messages.Ack]
            await rig.hear(heard(broken))
            assert [type(one) for one in wire.sent] == [messages.Ack]
            await rig.add()
            await rig.hear(heard(whole))
            assert [type(one) for one in wire.sent] == [messages.Ack, messages.Command]
            await rig.hear(heard(whole))
            assert wire.sent == []  # the command went out a moment ago
            await office.wishes.set(NODE, {"interval_s": 900}, BY)
            await rig.hear(heard(whole))
            assert [type(one) for one in wire.sent] == [messages.Ack, messages.Settings]

    asyncio.run(scenario())
