"""A gateway that was away: what was kept meanwhile gets up, in order, whatever is short."""

from __future__ import annotations

import pytest

from firmware.outbox import EVENTS, READINGS
from protocols.wire import codes
from protocols.wire.messages import Event, Readings
from tests.firmware.street import Street

MINUTE = {0: 60, 1: 60, 2: 86400}


def test_a_heap_too_full_to_code_a_batch_sends_the_backlog_set_by_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node whose backlog leaves no room to code it in batches must not starve on it."""
    street = Street(settings={0: 60, 1: 60})
    street.run(30)
    street.peer.deaf = True
    street.run(1800)
    tried = []

    def no_room(*args: object) -> None:
        tried.append(args)
        raise MemoryError

    monkeypatch.setattr("firmware.telling._add_followers", no_room)
    street.peer.deaf = False
    street.run(300)
    assert tried, "no batch was attempted"
    assert street.node.outbox.count(READINGS) <= 1, "the newest set waits for its report"
    assert not [line for line in street.station.log if "failed" in line], street.station.log


def test_everything_kept_while_the_gateway_was_away_arrives_newest_first_then_in_order() -> None:
    street = Street(settings=MINUTE)
    street.run(600)
    known = max(street.peer.seqs())
    street.peer.deaf = True
    street.run(4 * 3600)
    kept = street.node.outbox.next_seq - 1
    heard = len(street.peer.messages)
    street.peer.deaf = False
    street.run(180)
    assert street.peer.seqs() >= set(range(1, kept + 1))
    after = [message for message in street.peer.messages[heard:] if isinstance(message, Readings)]
    assert after[0].seq >= kept - 1, "the present state goes first"
    backlog = [message.seq for message in after if message.seq <= kept - 1]
    assert backlog == sorted(backlog)
    assert backlog[0] == known + 1


def test_a_gateway_that_is_away_for_days_costs_the_flash_nothing_beyond_the_records() -> None:
    street = Street(settings={0: 3600, 1: 60, 2: 86400})
    street.run(600)
    street.peer.deaf = True
    street.run(2 * 86400)
    flash = street.station.flash
    before, sent = (flash.progs, flash.erases), street.node.health.frames_sent  # type: ignore[attr-defined]
    seq = street.node.outbox.next_seq
    street.run(1800)
    assert street.node.outbox.next_seq == seq, "no set was due in this time"
    assert street.node.health.frames_sent - sent > 20
    assert (flash.progs, flash.erases) == before  # type: ignore[attr-defined]


def test_what_an_outbox_had_to_evict_is_told_and_stalls_nothing() -> None:
    street = Street(settings={0: 1, 1: 1, 2: 86400})
    street.run(30)
    street.peer.deaf = True
    street.run(9000)
    assert street.node.outbox.evicted > 0
    street.peer.deaf = False
    street.run(120)
    lost = [event for event in street.peer.of(Event) if event.code == codes.RECORDS_LOST]
    assert lost
    assert street.node.outbox.count(EVENTS) == 0
    assert street.node.outbox.count(READINGS) < 5
