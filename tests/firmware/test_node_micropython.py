"""The node as it is on a board: compiled, on the real MicroPython, in the heap it is allowed."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from firmware.telling import BATCH_SETS
from protocols.wire.codes import TRACEBACK
from protocols.wire.messages import Event, Ping, Readings, Status
from tests.firmware.lockstep import HEAP, Lockstep, compiled_tree
from tests.firmware.street import CALM, IDENTITY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DAY_S = 86400
WEEK_S = 7 * DAY_S
# Of the heap's bytes, what a node that sleeps may hold: the rest is for coding a batch and joining.
USED_MAX = 150_000


def river(t_s: float) -> Mapping[str, float]:
    """Daily swing and noise: the values of a batch differ, and none stands still."""
    noise = random.Random(int(t_s) // 60)
    swing = 1 + 0.03 * math.sin(t_s * 2 * math.pi / DAY_S)
    return {name: value * swing + noise.uniform(-0.005, 0.005) * abs(value) for name, value in CALM.items()}


def assert_nothing_went_wrong(node: Lockstep) -> None:
    """It never ran out of memory, and what it kept came."""
    assert not [line for line in node.log if "failed" in line], node.log
    node.run(2)
    node.send(node.peer.send(Ping(1)))
    node.run(5)
    health = node.peer.of(Status)[-1].health
    assert TRACEBACK not in health
    assert health[5] <= 4, "records that wait for the next report"


def test_a_simulated_week_in_160_kb_leaves_the_heap_as_it_was(tmp_path: Path) -> None:
    with Lockstep(tmp_path, river) as node:
        node.run(DAY_S)
        after_a_day = max(node.heap_used[-200:])
        node.run(WEEK_S - DAY_S)
        after_a_week = max(node.heap_used[-200:])
        peak = max(node.heap_used)
        _, mpy_bytes = compiled_tree(IDENTITY.node_type)
        print(
            f"\nnode: {mpy_bytes} bytes of .mpy; heap {HEAP}: {after_a_day} bytes in use after a day, "
            f"{after_a_week} after a week, {peak} at most between steps; {node.steps} steps"
        )
        assert after_a_week <= after_a_day
        assert peak < USED_MAX
        assert len(node.peer.seqs()) >= WEEK_S // 900 - 4, "less what waits for the next report"
        assert_nothing_went_wrong(node)


@pytest.mark.soak
def test_from_the_day_the_outbox_is_full_the_heap_stays_as_it_is(tmp_path: Path) -> None:
    """Until then it grows by ten bytes for each segment that is kept: acknowledged records stay while there is room."""
    with Lockstep(tmp_path, river) as node:
        node.run(DAY_S)
        after_a_day = max(node.heap_used[-200:])
        node.run(49 * DAY_S)
        after_fifty = max(node.heap_used[-200:])
        node.run(45 * DAY_S)
        assert max(node.heap_used[-200:]) <= after_fifty <= after_a_day + 1024
        assert_nothing_went_wrong(node)


def test_days_without_a_gateway_are_coded_and_sent_in_160_kb(tmp_path: Path) -> None:
    with Lockstep(tmp_path, river) as node:
        node.run(3600)
        node.peer.deaf = True
        node.run(3 * DAY_S)
        kept = 3 * DAY_S // 900
        node.peer.deaf = False
        node.run(300)
        sizes = [len(message.body) for message in node.peer.of(Readings)]
        assert len(node.peer.seqs()) >= kept
        assert max(sizes) > 60, f"batches of {BATCH_SETS} sets"
        assert_nothing_went_wrong(node)


def test_a_sonde_with_all_its_faults_in_160_kb(tmp_path: Path) -> None:
    with Lockstep(tmp_path, river) as node:
        node.run(1800)
        for fault in ("silent", "crc", "garbage", "slow", "exception", "out_of_range", "stuck"):
            node.sonde.fault = fault
            node.run(4 * 900)
        node.sonde.fault = None
        node.run(3600)
        assert {event.code for event in node.peer.of(Event)} >= {4}
        assert_nothing_went_wrong(node)


def test_a_power_cut_in_every_hour_of_a_day_loses_no_record_and_repeats_no_piv(tmp_path: Path) -> None:
    with Lockstep(tmp_path, river) as node:
        rng = random.Random(7)
        for _ in range(24):
            node.run(rng.uniform(3000, 3600))
            node.power_cut()
            node.power_on()
        node.run(4000)
        seqs = node.peer.seqs()
        assert seqs == set(range(1, max(seqs) + 1))
        assert node.peer.joins == 1
        assert_nothing_went_wrong(node)
