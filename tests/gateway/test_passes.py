"""A pass brings the rows that cost nothing twice: it waits for who is on the way, and for nobody for ever."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway import campaign_limits as limits
from gateway.campaign_passes import Passes
from gateway.campaign_sessions import Sessions
from gateway.campaign_talk import Pass, Way
from gateway.clock import Clock
from gateway.links.routes import Routes
from protocols.wire import ota, update

_SESSION, _SF, _WHOLE = 1, 7, 20


class Time:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class OneSession:
    """As campaign_sessions.py has it, without a store."""

    row_number = piv = 0

    def fragments(self, number: int) -> int:
        return _WHOLE

    def broadcast(self, number: int) -> int:
        return self.row_number

    def row(self, number: int, row: int) -> bytes:
        return ota.data_fragment(row, bytes(190))

    def key(self, number: int) -> bytes:
        return bytes(16)

    def report_s(self, number: int) -> int:
        return 256

    async def take_row(self, number: int) -> int:
        self.row_number += 1
        return self.row_number

    async def take_piv(self, number: int) -> int:
        self.piv += 1
        return self.piv


class Desk:
    """Nodes that are called, and come or do not."""

    def __init__(self) -> None:
        self.clock = Time()
        sessions = cast("Sessions", OneSession())
        self.passes = Passes(sessions, cast("Clock", self.clock), lambda address: 0.0)

    def call(self, *addresses: int, comes: bool = True) -> None:
        for address in addresses:
            called = self.passes.call(
                address, _SESSION, Way(False, 222, 0, _SF, 470_000_000), [], self.clock.now_s
            )
            assert called is not None
            assert update.decode_pass(called).begins_in <= 10 * update.APPOINTMENT_S
            if comes:
                self.passes.answered(address, _SESSION, update.COMES)

    def hold(self, deficits: dict[int, int | None]) -> int:
        """The pass that is planned: how many rows it brings."""
        return asyncio.run(self._hold(deficits))

    async def _hold(self, deficits: dict[int, int | None]) -> int:
        (found,) = cast("dict[Any, Pass]", self.passes._passes).values()
        self.clock.now_s = found.begins_s
        assert self.passes.due() == [found]
        rows = 0
        while await self.passes.frame(found, deficits, 3600.0) is not None:
            rows += 1
        assert await self.passes.question(found) is not None
        return rows


def test_a_pass_waits_three_times_for_one_that_was_heard_and_did_not_say_that_it_comes() -> None:
    desk, lacking = Desk(), dict.fromkeys((1, 2, 3), None)
    brought = []
    for _ in range(limits.PASSES_HELD_MAX + 1):
        desk.call(1, 2)
        desk.call(3, comes=False)
        brought.append(desk.hold(dict(lacking)))
    print(f"brought={brought}")
    assert brought[:-1] == [0] * limits.PASSES_HELD_MAX
    assert brought[-1] == round(_WHOLE / (1 - limits.LOSS)) + limits.EXTRA_ROWS


def test_few_nodes_wait_once_for_one_that_is_not_heard_again() -> None:
    desk, lacking = Desk(), dict.fromkeys((1, 2, 3), None)
    desk.call(1, 2)
    desk.call(3, comes=False)  # its answer was lost: it says nothing until its next report
    assert desk.hold(dict(lacking)) == 0
    desk.call(1, 2)
    assert desk.hold(dict(lacking)) > _WHOLE


def test_a_crowd_waits_three_times_for_one_that_is_not_heard_again() -> None:
    crowd = list(range(1, 60))
    desk, lacking = Desk(), dict.fromkeys([*crowd, 99], None)
    desk.call(*crowd)
    desk.call(99, comes=False)
    (found,) = desk.passes._passes.values()
    for _ in range(limits.PASSES_HELD_MAX):
        (found,) = desk.passes._passes.values()
        found.begins_s = desk.clock.now_s + 250
        assert desk.hold(dict(lacking)) == 0
        desk.call(*crowd)
    (found,) = desk.passes._passes.values()
    found.begins_s = desk.clock.now_s + 100
    assert desk.hold(dict(lacking)) > _WHOLE


def test_who_lacks_less_holds_back_only_what_it_lacks() -> None:
    desk = Desk()
    desk.call(1, 2)
    desk.call(3, comes=False)
    assert desk.hold({1: 12, 2: 3, 3: 5}) == 12 - 5
    desk.call(1, 3)
    assert desk.hold({1: 4, 3: 5}) > 5  # 2 is not missing anything, and 3 has come


def test_who_was_not_heard_for_long_holds_nobody_up() -> None:
    desk = Desk()
    desk.call(3, comes=False)
    desk.clock.now_s += 30
    desk.call(1, 2)
    (found,) = desk.passes._passes.values()
    found.begins_s += limits.PASS_HEARD_S - 100
    assert desk.passes.waited_for(found) == []
    assert desk.hold({1: None, 2: None, 3: None}) > _WHOLE


def test_rows_are_as_many_as_the_worst_needs_at_the_loss_that_was_seen() -> None:
    desk = Desk()
    desk.call(1, 2)
    sent = desk.hold({1: None, 2: None})
    desk.call(1, 2)
    came = round(sent * 0.6)
    more = desk.hold({1: _WHOLE - came, 2: _WHOLE - came})
    assert more == round((_WHOLE - came) / (came / sent)) + limits.EXTRA_ROWS


class OneWay:
    """Of one uplink, and who heard it."""

    name = "lora"
    listens = can_answer = wants_answer = False
    room = 222

    def __init__(self, *radios: str) -> None:
        self.radios = list(radios)

    def send(self, address: int, frame: bytes) -> bool:
        return False


def test_a_radio_that_missed_an_uplink_is_still_near() -> None:
    routes = Routes()
    routes.heard(7, OneWay("a", "b"))
    for _ in range(15):
        routes.heard(7, OneWay("b"))
    assert routes.radios_near(7) == {"a", "b"}
    for _ in range(3):
        routes.heard(7, OneWay("b"))
    assert routes.radios_near(7) == {"b"}
    routes.forget(7)
    assert routes.radios_near(7) == set()
