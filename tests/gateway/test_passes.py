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


class Named(Desk):
    """At the end of each pass the next one is named, and nobody says that it comes."""

    def __init__(self, *addresses: int) -> None:
        Desk.__init__(self)
        self.call(*addresses)

    @property
    def planned(self) -> Pass:
        (found,) = cast("dict[Any, Pass]", self.passes._passes).values()
        return found

    def tells(self, *addresses: int, wants_answer: bool = False) -> float:
        (until_s,) = {
            self.passes.reported(address, _SESSION, wants_answer=wants_answer) for address in addresses
        }
        return until_s

    async def ask(self, found: Pass) -> bytes:
        question = await self.passes.question(found, may_name=True)
        return b"" if question is None else question.command

    async def _hold(self, deficits: dict[int, int | None]) -> int:
        found = self.planned
        self.clock.now_s = found.begins_s
        rows = 0
        while await self.passes.frame(found, deficits, 3600.0) is not None:
            rows += 1
        self.asked = [await self.ask(found)]
        self.clock.now_s += 33
        self.asked.append(await self.ask(found))
        return rows


def test_each_question_says_how_long_it_is_to_the_next_pass_from_then() -> None:
    desk = Named(1, 2)
    began_s = desk.planned.begins_s
    desk.hold({1: None, 2: None})
    first, second = map(update.decode_next, desk.asked)
    assert second[0] == first[0] - 330
    assert first[1] == desk.planned.lasts_s
    assert 0 < desk.planned.begins_s - began_s - first[0] / 10 < 1, "less what it is on the air itself"
    assert desk.planned.coming == {1, 2}


def test_who_hears_of_the_next_pass_needs_no_answer_and_who_did_not_is_called() -> None:
    desk = Named(1, 2, 3)
    desk.hold(dict.fromkeys((1, 2, 3), None))
    assert desk.tells(1, 2) == desk.planned.ends_s, "until then there is nothing to say to it"
    assert desk.tells(3, wants_answer=True) == 0.0
    assert desk.planned.coming == {1, 2}
    desk.call(3)
    assert desk.planned.coming == {1, 2, 3}


def test_rows_of_a_named_pass_are_for_those_who_told_what_they_lack() -> None:
    """The word of 3 was lost, or it is whole: what it lacked a pass ago brings no rows."""
    desk = Named(1, 2, 3)
    desk.hold(dict.fromkeys((1, 2, 3), None))
    desk.tells(1, 2)
    assert desk.hold({1: 4, 2: 2, 3: None}) <= 2 * 4 + limits.EXTRA_ROWS
    assert desk.planned.coming == {1, 2, 3}
    assert desk.hold({1: 4, 2: 2, 3: None}) == 0, "nobody told anything: it is asked again"


def test_who_tells_nothing_three_times_is_not_counted_and_then_nobody_is_asked() -> None:
    desk = Named(1, 2)
    desk.hold({1: None, 2: None})
    for _ in range(limits.PASSES_SILENT_MAX):
        assert 2 in desk.planned.coming
        desk.tells(1)
        desk.hold({1: 4, 2: None})
    assert desk.planned.coming == {1}
    assert asyncio.run(desk.passes.frame(desk.planned, {}, 3600.0)) is None  # 1 is whole, too
    assert not desk.passes.is_planned(_SESSION, _SF)


def test_a_question_that_names_nothing_is_asked_twice_as_well() -> None:
    desk = Desk()
    desk.call(1, 2)
    desk.hold({1: None, 2: None})
    (found,) = cast("dict[Any, Pass]", desk.passes._passes).values()
    desk.clock.now_s = found.begins_s
    for _ in range(2):
        question = asyncio.run(desk.passes.question(found))
        assert question is not None
        assert question.command == bytes((ota.STATUS, 1))


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
