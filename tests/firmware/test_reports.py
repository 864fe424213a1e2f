"""What a node says of itself when it is asked: its console's last lines, its supply, its alarms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.hal.lines import KEPT_BYTES, Lines
from protocols.wire import codes
from protocols.wire.limits import MAX_DETAIL_TEXT
from protocols.wire.messages import DONE, RAISED, REFUSED, Command, Event, Ping, Result, Status
from tests.firmware.street import Street

BATTERY_MV = codes.HEALTH_NAMES.index("battery_mv")
ALARMS_RAISED = codes.HEALTH_NAMES.index("alarms_raised")


def ask_line(street: Street, number: int, command_id: int) -> Result:
    street.say(Ping(command_id))
    street.say(Command(street.peer.latest_piv, command_id, 60, codes.CONSOLE, number))
    street.run(2)
    found: Result = street.peer.of(Result)[-1]
    assert found.command_id == command_id
    return found


def test_the_last_lines_of_the_console_can_be_asked_for_one_by_one() -> None:
    street = Street()
    street.run(10)
    street.node.hal.log("the pump hums")
    street.node.hal.log("水位 " * 40)
    newest = ask_line(street, 0, 1)
    assert (newest.outcome, newest.detail) == (DONE, ("水位 " * 9)[:-1] + " ")
    assert ask_line(street, 1, 2).detail == "the pump hums"
    assert str(ask_line(street, 2, 3).detail).startswith("tidegate")
    beyond = ask_line(street, 250, 4)
    assert (beyond.outcome, beyond.detail) == (REFUSED, "line 250: the console has lines 0 to 2")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=120), max_size=40))
def test_the_log_is_bounded_and_gives_back_the_newest_lines_whole(texts: list[str]) -> None:
    lines = Lines()
    for text in texts:
        lines.keep(text)
    said = [line for text in texts for line in text.split("\n") if line]
    size = 0
    for number in range(lines.count):
        line = lines.line(number)
        assert line is not None
        assert len(line.encode()) <= MAX_DETAIL_TEXT
        assert said[-1 - number].startswith(line)
        assert line == said[-1 - number] or len(line.encode()) > MAX_DETAIL_TEXT - 4
        size += len(line.encode()) + 1
    assert size <= KEPT_BYTES
    assert lines.count == len(said) or size > KEPT_BYTES - MAX_DETAIL_TEXT - 1
    assert lines.line(lines.count) is None


def test_a_status_tells_the_supply_and_how_many_alarms_are_raised() -> None:
    street = Street(settings={0: 60, 1: 60, 2: 3600})
    street.run(200)
    street.say(Ping(1))
    health = street.peer.of(Status)[-1].health
    assert (health[BATTERY_MV], health[ALARMS_RAISED]) == (12_600, 0)
    street.water["ph"] = 3.0
    street.water["dissolved_oxygen"] = 1.0
    street.run(300)
    street.say(Ping(2))
    raised = {event.code for event in street.peer.of(Event) if event.state == RAISED}
    assert raised >= {1, 3}
    assert street.peer.of(Status)[-1].health[ALARMS_RAISED] == len(raised)


@pytest.mark.parametrize(
    "error", [OSError(5), ValueError("channel supply"), AttributeError("SUPPLY_ADC_PIN")]
)
def test_a_board_without_a_supply_channel_sends_its_status_without_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    street = Street()
    street.run(10)

    def fails(channel: str) -> int:
        raise error

    monkeypatch.setattr(street.node.hal, "read_mv", fails)
    street.say(Ping(1))
    assert BATTERY_MV not in street.peer.of(Status)[-1].health
