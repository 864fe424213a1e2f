"""A pass takes minutes in which nobody looks at a cover: what is about to become an alarm is told before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocols.wire import messages
from tests.firmware.receive_rig import SETTINGS, alone, is_receiving
from tests.firmware.sky import Sky
from tests.firmware.test_receive_air import COMES, Sender, _wake, is_listening

if TYPE_CHECKING:
    from collections.abc import Callable

LEVEL_HIGH = 9
# Of the switch, three seconds; then the event and its answer.
TOLD_S = 20
# It wakes so much before a pass in a minute: its clock, its start, and what it measures before.
EARLY_S = 9


@pytest.fixture(autouse=True)
def keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware.update.begin", lambda hal: False)


def invited() -> tuple[Sky, Sender]:
    """A cover that sleeps, and has taken a session."""
    sky = Sky(settings={0: 86400, 1: 86400, 2: 86400}, node_type="cover", boot_ms=800)
    sky.run(900)
    desk = Sender(sky, 2500)
    _wake(sky)
    desk.invite()
    return sky, desk


def until(sky: Sky, is_so: Callable[[], bool], within_s: int) -> int:
    for waited_s in range(within_s):
        if is_so():
            return waited_s
        sky.run(1)
    raise AssertionError(f"not within {within_s} s: {sky.station.log[-4:]}")


def is_told(sky: Sky) -> bool:
    """And nothing but that alarm has been."""
    return [event.code for event in sky.peer.of(messages.Event)][-1:] == [LEVEL_HIGH]


@pytest.mark.parametrize("before_s", [1, 4])
def test_what_rises_just_before_a_pass_is_told_before_it_goes(before_s: int) -> None:
    sky, desk = invited()
    assert desk.call(60, 200) == COMES
    sky.run(desk.from_s + 60 - before_s - EARLY_S - sky.agenda.now_s())
    assert not is_receiving(sky.station)
    sky.station.set_pin("float", 1)
    until(sky, lambda: is_told(sky), TOLD_S)
    assert not is_receiving(sky.station)
    # What is left of the pass is still worth it.
    until(sky, lambda: is_receiving(sky.station), 10)
    assert is_listening(sky)


def test_what_ended_a_pass_is_told_before_the_next_one_that_was_agreed_in_it() -> None:
    sky, desk = invited()
    desk.ask(lambda piv: alone(piv, 5))
    until(sky, lambda: is_receiving(sky.station), 60)
    desk.ask(lambda piv: alone(piv, 1))
    until(sky, lambda: sky.node.next is not None, 60)
    sky.station.set_pin("float", 1)
    until(sky, lambda: not is_receiving(sky.station), 3)
    until(sky, lambda: is_told(sky), TOLD_S)
    assert not is_receiving(sky.station)
    until(sky, lambda: is_receiving(sky.station), 10)


@pytest.mark.parametrize("fault", [None, "silent"])
def test_a_node_that_does_not_sleep_is_there_before_the_first_row_whatever_its_start_takes(
    fault: str | None,
) -> None:
    """A pass of few rows is over in three seconds."""
    sky = Sky(settings=SETTINGS)
    sky.station.sonde.fault = fault
    sky.run(60)
    desk = Sender(sky, 2500)
    desk.invite()
    assert desk.call(60, 60) == COMES
    sky.run(desk.from_s + 60 - 3 - sky.agenda.now_s())
    assert is_receiving(sky.station)
    assert is_listening(sky)
    sky.run(desk.from_s + 60 + 50 - sky.agenda.now_s())
    assert is_receiving(sky.station), "and it stays"
