"""Events that the gateway makes itself: ids without gaps, nothing told that is not kept."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway import limits
from gateway.absences import Absences
from gateway.notices import Notices
from gateway.own_epochs import OwnEpochs
from gateway.presence import Presence
from gateway.records import OWN_EPOCHS
from gateway.silence import Promise, Silence
from protocols.wire import codes
from protocols.wire.messages import CLEARED, RAISED
from tests.gateway.desk import Desk, desk

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = 0x12


def notices(office: Desk) -> Notices:
    return Notices(office.store, office.clock, OwnEpochs(office.store, lambda size: bytes([7] * size)))


async def committed(office: Desk) -> None:
    await office.store.write(lambda writer: None)


def told(office: Desk) -> list[tuple[int, int, int, object]]:
    return [
        (event.ledger.number, event.seq, event.state, event.detail) for event in office.store.events(0, 99)
    ]


def test_ids_go_on_without_a_gap_over_restarts_and_commits_that_failed(tmp_path: Path) -> None:
    number = OWN_EPOCHS + int.from_bytes(bytes([7] * 6), "big")

    async def scenario() -> None:
        with desk(tmp_path) as office:
            made = notices(office)
            made.keep(NODE, codes.NODE_SILENT, RAISED, 700)
            await committed(office)
            execute = office.store._execute
            office.store._execute = lambda batch: _full()  # type: ignore[method-assign]
            made.keep(NODE, codes.NODE_SILENT, CLEARED, None)
            with pytest.raises(Exception, match="disk is full"):
                await committed(office)
            office.store._execute = execute  # type: ignore[method-assign]
            made.keep(NODE, codes.NODE_SILENT, CLEARED, None)
            await committed(office)
            assert told(office) == [(number, 1, RAISED, 700), (number, 2, CLEARED, None)]
        with desk(tmp_path) as office:
            notices(office).keep(NODE, codes.NODE_SILENT, RAISED, 5)
            await committed(office)
            assert [row[:2] for row in told(office)] == [(number, 1), (number, 2), (number, 3)]

    asyncio.run(scenario())


def _full() -> None:
    raise sqlite3.OperationalError("disk is full")


def test_the_first_event_of_a_node_whose_commit_failed_leaves_no_epoch_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            made = notices(office)
            execute = office.store._execute
            office.store._execute = lambda batch: _full()  # type: ignore[method-assign]
            made.keep(NODE, codes.NODE_SILENT, RAISED, 700)
            with pytest.raises(Exception, match="disk is full"):
                await committed(office)
            assert office.store.epochs == {}
            office.store._execute = execute  # type: ignore[method-assign]
            made.keep(NODE, codes.NODE_SILENT, RAISED, 705)
            await committed(office)
            assert [row[1:] for row in told(office)] == [(1, RAISED, 705)]

    asyncio.run(scenario())


def test_a_silence_that_could_not_be_kept_is_told_when_the_disk_takes_it_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            presence = Presence(office.clock)
            waiting = Silence(office.store, office.registry, presence, office.clock, notices(office))
            presence.heard(NODE, "a", None, office.clock.monotonic(), office.clock.unix_ms())
            waiting.look()
            await committed(office)
            execute = office.store._execute
            office.store._execute = lambda batch: _full()  # type: ignore[method-assign]

            async def pass_s(seconds: float) -> None:
                for _ in range(int(seconds / 10)):
                    office.clock.pass_s(10)
                    waiting.look()
                    await asyncio.sleep(0)

            await pass_s(3 * limits.HEARTBEAT_UNKNOWN_S)
            with pytest.raises(Exception, match="disk is full"):
                await committed(office)
            assert not waiting.is_silent(NODE)
            office.store._execute = execute  # type: ignore[method-assign]
            await pass_s(20)
            await committed(office)
            assert waiting.is_silent(NODE)
            assert [row[1:3] for row in told(office)] == [(1, RAISED)]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("promise", "has_alarm", "heartbeat_s"),
    [
        (Promise(), False, 86_400),
        (Promise(900, 3600), False, 3600),
        (Promise(86_400, 1, 600), False, 86_400),
        (Promise(86_400, 1, 600), True, 600),
        (Promise(86_400, 1), True, 86_400),
        (Promise(5, 5), False, 60),
    ],
)
def test_the_heartbeat_is_what_the_settings_promise(
    promise: Promise, has_alarm: bool, heartbeat_s: int
) -> None:
    assert promise.heartbeat_s(has_alarm) == heartbeat_s


def within(since: float, until: float, *spans: tuple[float, float]) -> float:
    return Absences(spans).within(since, until)


def test_absences_are_taken_off_where_they_overlap() -> None:
    spans = (10.0, 20.0), (50.0, 80.0)
    assert within(0, 100, *spans) == 40
    assert within(15, 60, *spans) == 15
    assert within(20, 50, *spans) == 0
    assert within(55, 60, *spans) == 5


def test_absences_beyond_the_bound_are_joined_to_the_nodes_favour() -> None:
    absences = Absences()
    add: Callable[[float, float], None] = absences.add
    for index in range(limits.ABSENCES_MAX + 10):
        add(index * 100.0 + index, index * 100.0 + index + 10)
    assert len(absences.spans) == limits.ABSENCES_MAX
    assert absences.within(0, 1e9) >= (limits.ABSENCES_MAX + 10) * 10
    assert absences.spans == sorted(absences.spans)


def test_a_clock_that_was_set_back_forgets_what_it_said_beyond() -> None:
    absences = Absences([(10.0, 20.0), (30.0, 60.0), (70.0, 80.0)])
    absences.forget_after(40)
    assert absences.spans == [(10.0, 20.0), (30.0, 40.0)]
