"""Somebody works at the station: alarms wait, sets are taken on, and it ends by itself, also over resets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firmware import records
from firmware.alarms import Change
from firmware.errors import StorageError
from firmware.outbox import EVENTS
from firmware.watch import NOTE_BIT
from hil_tests.world.cutflash import VARIANTS, CutFlash
from protocols.wire import cbor, codes, messages
from protocols.wire.messages import CLEARED, NOTE, RAISED, Command, Event, Ping, Result, Status
from tests.firmware.street import Street

if TYPE_CHECKING:
    from collections.abc import Sequence

LOW_OXYGEN, IN_MAINTENANCE = 1, codes.IN_MAINTENANCE


def station() -> Street:
    street = Street(settings={0: 60, 1: 60, 2: 86400, 13: 5})  # class V will do: oxygen alone is what is told
    street.run(300)
    return street


def maintain(street: Street, seconds: int, number: int = 1) -> None:
    street.run(1.1)
    street.say(Ping(number))
    street.say(Command(street.peer.latest_piv, number, 60, codes.MAINTENANCE, seconds))
    street.run(2)
    assert street.peer.of(Result)[-1][4:7] == (number, messages.DONE, seconds)


def told(street: Street) -> list[tuple[int, int]]:
    return [(event.code, event.state) for event in street.peer.of(Event)]


def test_a_technicians_bucket_calls_nobody_out() -> None:
    street = station()
    maintain(street, 1800)
    street.water["dissolved_oxygen"] = 0.1
    street.run(1500)
    before = len(street.peer.seqs())
    street.water["dissolved_oxygen"] = 9.0
    street.run(120)
    assert len(street.peer.seqs()) > before, "sets go on"
    street.run(3600)
    assert told(street) == [(IN_MAINTENANCE, RAISED), (IN_MAINTENANCE, CLEARED)]
    first, last = street.peer.of(Event)
    assert first.detail == 1800
    assert last.time - first.time == pytest.approx(1800, abs=1), "it ends by itself"


def test_an_alarm_that_is_still_true_is_raised_with_the_first_set_after_it() -> None:
    street = station()
    maintain(street, 600)
    street.water["dissolved_oxygen"] = 2.1
    street.run(500)
    assert told(street) == [(IN_MAINTENANCE, RAISED)]
    street.run(170)
    assert told(street)[1:] == [(IN_MAINTENANCE, CLEARED), (LOW_OXYGEN, RAISED)]


def test_an_alarm_from_before_is_not_cleared_by_a_standard_solution() -> None:
    street = station()
    street.water["dissolved_oxygen"] = 2.1
    street.run(200)
    maintain(street, 600)
    street.water["dissolved_oxygen"] = 9.0
    street.run(500)
    street.water["dissolved_oxygen"] = 2.1
    street.run(600)
    assert told(street) == [(LOW_OXYGEN, RAISED), (IN_MAINTENANCE, RAISED), (IN_MAINTENANCE, CLEARED)]


def test_it_is_ended_early_and_made_longer_by_another_command() -> None:
    street = station()
    maintain(street, 600, 1)
    street.run(500)
    maintain(street, 600, 2)
    street.run(300)
    assert told(street) == [(IN_MAINTENANCE, RAISED)] * 2
    maintain(street, 0, 3)
    assert told(street)[2:] == [(IN_MAINTENANCE, CLEARED)]
    maintain(street, 0, 4)
    assert len(told(street)) == 3, "nothing was going on"


def test_a_reset_neither_ends_it_nor_makes_it_longer() -> None:
    street = station()
    maintain(street, 1800)
    street.run(600)
    street.station.power_cut()
    street.station.power_on()
    street.run(60)
    street.run(1.1)
    street.say(Ping(7))
    assert street.peer.of(Status)[-1].health[20] == pytest.approx(1800 - 665, abs=3)
    street.run(1300)
    assert told(street) == [(IN_MAINTENANCE, RAISED), (IN_MAINTENANCE, CLEARED)]
    first, last = street.peer.of(Event)
    assert last.time - first.time == pytest.approx(1800, abs=62), "to the minute of the reset"
    street.run(1.1)
    street.say(Ping(8))
    assert 20 not in street.peer.of(Status)[-1].health


# -- alarms of a watch -------------------------------------------------------------------------------------------------


class Lid:
    """A watch as `firmware/watch.py` has it, moved by hand."""

    bits = 2
    errors = 0

    def __init__(self) -> None:
        self.waiting: list[Change] = []
        self.restored = 0

    def restore(self, raised: int) -> None:
        self.restored = raised

    def poll(self) -> int:
        return 1000

    def changes(self) -> Sequence[Change]:
        return self.waiting

    def applied(self, change: Change) -> None:
        self.waiting.remove(change)

    def learn(self) -> str:
        return ""


def watched() -> tuple[Street, Lid]:
    street, lid = station(), Lid()
    street.node.watch = lid
    street.node.alarms._counts = bytearray(32)
    return street, lid


def test_what_a_watch_sees_meanwhile_is_told_afterwards_if_it_is_still_true() -> None:
    street, lid = watched()
    maintain(street, 600)
    for bit, states in ((0, (RAISED, CLEARED)), (1, (RAISED, CLEARED, RAISED))):
        lid.waiting += [Change(bit, 6 + bit, state, 90 + bit) for state in states]
    lid.waiting.append(Change(NOTE_BIT, codes.POSE_LEARNED, NOTE, [0, 0, 1000]))
    street.run(300)
    assert lid.waiting == []
    assert told(street) == [(IN_MAINTENANCE, RAISED), (codes.POSE_LEARNED, NOTE)]
    street.run(400)
    assert told(street)[2:] == [(IN_MAINTENANCE, CLEARED), (7, RAISED)]
    assert street.node.alarms.raised >> street.node.alarms.watch_bit == 2


@pytest.mark.parametrize("ends", [RAISED, CLEARED])
def test_what_the_flash_does_not_take_when_it_ends_is_told_later(ends: int) -> None:
    street, lid = watched()
    maintain(street, 600)
    lid.waiting += [Change(0, 6, RAISED, 90), Change(1, 7, RAISED, 91)]
    street.run(300)
    fails_to_keep(street, code=7)
    while not street.node.health.flash_errors:
        street.run(1)
    lid.waiting.append(Change(1, 7, ends, 91))  # after it, and before the flash takes anything again
    street.run(5)
    works_again(street)
    street.run(60)
    raised = [(IN_MAINTENANCE, CLEARED), (6, RAISED)] + [(7, RAISED)] * (ends == RAISED)
    assert told(street)[1:] == raised


def test_an_event_that_the_flash_did_not_take_is_not_lost_with_the_power() -> None:
    """The state is written before its event: if that fails, another record gets the seq that the state names."""
    street = station()
    street.water["dissolved_oxygen"] = 2.1
    fails_to_keep(street, code=LOW_OXYGEN)
    while not street.node.health.flash_errors:
        street.run(1)
    street.node._keep_event(codes.ALARM_TEST, NOTE, None)
    street.station.power_cut()
    street.station.power_on()
    street.run(300)
    assert told(street) == [(codes.ALARM_TEST, NOTE), (LOW_OXYGEN, RAISED)]


def fails_to_keep(street: Street, code: int) -> None:
    keep = street.node.outbox.keep

    def picky(kind: int, payload: bytes) -> Any:
        if kind == records.EVENT and cbor.loads(payload)[2] == code:
            raise StorageError("worn out")
        return keep(kind, payload)

    street.node.outbox.keep = picky


def works_again(street: Street) -> None:
    del street.node.outbox.keep


# -- power cuts --------------------------------------------------------------------------------------------------------


def test_a_power_cut_anywhere_keeps_the_state_and_its_event_together() -> None:
    """At every flash operation of a raise and its end, in every variant: told what holds, and it still ends."""
    street = station()
    flash = CutFlash(bytearray(street.station.flash.image), record=True)  # type: ignore[attr-defined]
    street.station.power_cut()
    street.station.flash = flash
    street.station.power_on()
    street.run(30)
    start = bytes(flash.image)
    flash.log = []
    street.peer.deaf = True
    street.node.maintain(60)
    street.node.maintain(0)
    log: list[Any] = list(flash.log)
    street.station.power_cut()
    before = CutFlash(bytearray(start))
    cuts = 0
    for op, operation in enumerate(log):
        for variant in range(len(VARIANTS)):
            torn = CutFlash(bytearray(before.image), seed=op)
            torn.tear(*operation, variant)
            judge(torn)
            cuts += 1
        before.apply(*operation)
    print(f"\nmaintenance cuts={cuts}")
    assert cuts > 80


def judge(flash: CutFlash) -> None:
    street = Street(powered=False)
    street.station.flash = flash
    street.station.power_on()
    node = street.node
    states, seq = [], 0
    while (record := node.outbox.next_unacked(EVENTS, seq)) is not None:
        seq = record.seq
        if record.kind == records.EVENT and cbor.loads(record.payload)[2] == IN_MAINTENANCE:
            states.append(cbor.loads(record.payload)[3])
    assert states in ([], [RAISED], [RAISED, CLEARED]), states
    assert (node.maintenance.seconds > 0) == (states == [RAISED])
    street.station.power_cut()
