"""Starts that come to nothing, and the node that starts without its sensors so that somebody can ask what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firmware.main import FAILURES_MAX
from firmware.nodes import river_station
from firmware.trials import FAILED_MAX, SAFE_S
from protocols.wire import cbor, codes
from protocols.wire.document import encode as encode_document
from protocols.wire.messages import (
    CLEARED,
    DONE,
    RAISED,
    REFUSED,
    Command,
    Event,
    Hello,
    Ping,
    Readings,
    Result,
    Status,
)
from tests.firmware.street import Street

if TYPE_CHECKING:
    from collections.abc import Callable

WATCHDOG_S = 60


class Hang(BaseException):
    """The node does not come round: nothing in the firmware catches this either."""


class FaultyWatch:
    bits = 1
    errors = 0

    def __init__(self, fault: BaseException) -> None:
        self._fault = fault

    def restore(self, raised: int) -> None: ...
    def poll(self) -> int:
        raise self._fault

    def changes(self) -> tuple[()]:
        return ()


def fault_of(kind: str) -> Any:
    """The river station with that fault, as a node type."""
    river = river_station.NODE_TYPE

    def raises(*_: object) -> Any:
        raise OSError(19, "no such sensor")

    if kind == "sensor":
        return river._replace(sensors=raises)
    if kind == "watch":
        return river._replace(watch=raises)
    error: BaseException = Hang() if kind == "hang" else ValueError("what a watch never thought of")
    return river._replace(watch=lambda hal, settings, keep: FaultyWatch(error))


def run(street: Street, seconds: float) -> None:
    """Let time pass; a node that hangs meets its watchdog."""
    end_ms = street.now_ms + round(seconds * 1000)
    while street.now_ms < end_ms:
        try:
            street.run((end_ms - street.now_ms) / 1000)
        except Hang:
            street.now_ms += WATCHDOG_S * 1000
            street.station.watchdog_reset()


def safe_events(street: Street) -> list[tuple[int, Any]]:
    return [(event.state, event.detail) for event in street.peer.of(Event) if event.code == codes.SAFE_MODE]


def ask(street: Street, op: int, args: int | None, command_id: int) -> Result:
    street.say(Ping(command_id))
    street.say(Command(street.peer.latest_piv, command_id, 60, op, args))
    run(street, 1)
    found: Result = street.peer.of(Result)[-1]
    assert found.command_id == command_id
    return found


@pytest.fixture(params=["sensor", "watch", "poll", "hang"])
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A river station of that fault; call it to mend the fault."""
    monkeypatch.setattr(river_station, "NODE_TYPE", fault_of(request.param))
    return monkeypatch.undo


def in_safe_mode() -> Street:
    street = Street()
    run(street, FAILED_MAX * (WATCHDOG_S + FAILURES_MAX + 10) + 30)
    assert street.node.safe is not None, street.station.log
    return street


def test_after_three_failed_starts_a_node_says_so_and_can_be_asked(faulty: Callable[[], None]) -> None:
    street = in_safe_mode()
    assert safe_events(street) == [(RAISED, FAILED_MAX)]
    hello = street.peer.of(Hello)[-1]
    assert (hello.node_type, hello.board) == ("river", "virtual")
    street.say(Ping(1))
    status = street.peer.of(Status)[-1]
    assert status.health[codes.HEALTH_NAMES.index("boots")] == FAILED_MAX + 1
    assert ask(street, codes.IDENTIFY, 5, 1).outcome == DONE
    assert ask(street, codes.REPORT_SETTINGS, None, 2).outcome == DONE
    refused = ask(street, codes.READ_NOW, None, 3)
    assert (refused.outcome, "safe mode" in refused.detail) == (REFUSED, True)
    assert not street.peer.of(Readings)


@pytest.mark.parametrize("kind", ["sensor", "watch", "poll"])
def test_the_traceback_of_what_keeps_it_from_starting_goes_up(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(river_station, "NODE_TYPE", fault_of(kind))
    street = in_safe_mode()
    street.say(Ping(1))
    told = street.peer.of(Status)[-1].health[codes.TRACEBACK]
    assert ("no such sensor" if kind != "poll" else "never thought of") in told


def test_it_stays_in_safe_mode_and_tells_it_once_over_resets(faulty: Callable[[], None]) -> None:
    street = in_safe_mode()
    for _ in range(3):
        street.station.press_reset()
        run(street, 120)
        assert street.node.safe is not None
    assert safe_events(street) == [(RAISED, FAILED_MAX)]
    assert (
        street.station.fed_ms == street.station.clock.now_ms()
        or street.now_ms - street.station.fed_ms < 90_000
    )


def test_a_reboot_tries_the_ordinary_start_and_a_good_one_ends_it(faulty: Callable[[], None]) -> None:
    street = in_safe_mode()
    assert ask(street, codes.REBOOT, None, 1).outcome == DONE
    run(street, 300)
    assert street.node.safe is not None, "it failed again: one try is enough"
    faulty()
    assert ask(street, codes.REBOOT, None, 2).outcome == DONE
    run(street, 60)
    assert street.node.safe is None
    assert safe_events(street) == [(RAISED, FAILED_MAX), (CLEARED, 0)]
    assert street.peer.of(Readings)


def test_after_an_hour_it_tries_by_itself(faulty: Callable[[], None]) -> None:
    street = in_safe_mode()
    faulty()
    run(street, SAFE_S - 600)
    assert street.node.safe is not None
    run(street, 1200)
    assert street.node.safe is None
    assert safe_events(street)[-1] == (CLEARED, 0)


def test_switching_it_off_and_on_is_a_try(faulty: Callable[[], None]) -> None:
    street = in_safe_mode()
    faulty()
    street.station.power_cut()
    run(street, 5)
    street.station.power_on()
    run(street, 60)
    assert street.node.safe is None


def test_good_starts_write_nothing_and_take_the_count_back(monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[str] = []
    from firmware import durable

    save = durable.Document.save

    def counted(document: Any, data: bytes) -> None:
        saves.append(document._name)
        save(document, data)

    monkeypatch.setattr(durable.Document, "save", counted)
    street = Street()
    for end in (street.station.press_reset, street.station.power_on, street.station.press_reset):
        street.run(30)
        end()
    assert "trials" not in saves
    for _ in range(3 * FAILED_MAX):  # hangs, each after a start that came to something
        street.station.watchdog_reset()
        street.run(30)
        assert street.node.safe is None
    assert saves.count("trials") == 2 * 3 * FAILED_MAX
    assert not safe_events(street)


def test_failures_in_a_row_are_counted_however_they_end_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(river_station, "NODE_TYPE", fault_of("sensor"))
    street = Street()
    monkeypatch.setattr(river_station, "NODE_TYPE", fault_of("poll"))
    run(street, 15)
    monkeypatch.setattr(river_station, "NODE_TYPE", fault_of("hang"))
    run(street, WATCHDOG_S + FAILURES_MAX + 15)
    assert street.node.safe is not None


@pytest.mark.parametrize(
    "document",
    [
        [3, {0: "x"}],
        [3, {"x": 900}],
        [3, {0: None}],
        [3, {0: 10**9}],
        ["x", {}],
        [3, [900]],
        [3],
        {3: 900},
        None,
    ],
    ids=str,
)
def test_no_settings_document_keeps_a_node_from_starting(document: Any) -> None:
    street = Street(powered=False)
    from hil_tests.world.flash import LittleFs

    fs = LittleFs(street.station.flash)
    for folder in ("/a", "/b"):
        fs.mkdir(folder)
        with fs.open(folder + "/settings", "wb") as file:
            file.write(encode_document("settings", 1, cbor.dumps(document)))
    street.station.power_on()
    street.run(10)
    assert street.node.safe is None
    assert (street.node.settings.version, street.node.interval_s()) == (0, 900)
    assert street.node.has_measured


def test_an_alarm_that_is_raised_stays_so_through_safe_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    street = Street(settings={0: 60, 1: 60, 2: 3600})
    street.water["ph"] = 3.0
    street.run(300)
    raised = street.node.alarms.raised
    assert raised
    monkeypatch.setattr(river_station, "NODE_TYPE", fault_of("sensor"))
    street.station.press_reset()
    run(street, 120)
    assert street.node.safe is not None
    monkeypatch.undo()
    ask(street, codes.REBOOT, None, 1)
    run(street, 300)
    assert street.node.alarms.raised == raised
    events = [(event.code, event.state) for event in street.peer.of(Event) if event.code == 3]
    assert events == [(3, RAISED)]


def test_a_status_says_that_it_is_safe_mode_and_ends_saying_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(river_station, "NODE_TYPE", fault_of("sensor"))
    street = in_safe_mode()
    street.say(Ping(1))
    key = codes.HEALTH_NAMES.index("safe_mode")
    assert street.peer.of(Status)[-1].health[key] == FAILED_MAX
    monkeypatch.undo()
    ask(street, codes.REBOOT, None, 2)
    run(street, 30)
    street.say(Ping(3))
    assert key not in street.peer.of(Status)[-1].health
