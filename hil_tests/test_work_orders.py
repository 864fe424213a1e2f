"""A cover is stolen: the hotline has one order within 30 seconds, it goes up the tree, and is closed on restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_tests.order_rig import ESCALATE_MIN, OrderRig, Plan, Theft, order_figures
from hil_tests.world.order_desk import DeskOrder

_LATENCY_MAX_S = 30
# The clerk takes it, it is asked after every ten seconds, and the desk may be away for one or two of these.
_KNOWN_AFTER_S = 40


def _stolen(folder: Path, plans: list[Plan]) -> None:
    rigs = []
    for plan in plans:
        rig = OrderRig(folder / str(plan.seed), covers=5, plan=plan)
        with rig:
            rig.settle_in()
            rig.play(plan.openings)
            rig.run_s(300)
            rig.count_acknowledged()
        _judge(rig)
        rigs.append(rig)
    said = " ".join(order_figures(rigs))
    print(said)
    thefts: list[Theft] = [theft for rig in rigs for theft in rig.thefts]
    assert len(thefts) == sum(plan.openings for plan in plans), said
    late = [theft for theft in thefts if theft.latency_s > _LATENCY_MAX_S]
    assert len(late) <= len(thefts) // 100, f"{said}: {late}"


def _judge(rig: OrderRig) -> None:
    said = f"seed {rig.seed}: {' '.join(order_figures([rig]))}"
    wrong = [theft for theft in rig.thefts if len(theft.orders) != 1]
    assert not wrong, f"{said}: {wrong[:3]}"
    assert len(rig.desk.orders) == len(rig.openings), said
    assert all(order.is_done and order.answers >= 1 for order in rig.desk.orders.values()), said
    assert rig.desk.counters["malformed"] == rig.desk.counters["backwards"] == 0, said
    for order in rig.desk.orders.values():
        low, high = _tiers(order)
        told = len({area for _, _, area in order.history})
        assert low <= told <= high, f"{said}: {told} areas were told, not {low} to {high}: {order}"
    taken = [order for order in rig.desk.orders.values() if order.taken_s is not None]
    sure = sum((order.closed_s or 0) - (order.taken_s or 0) > _KNOWN_AFTER_S for order in taken)
    assert sure <= rig.acknowledged <= len(taken), said


def _tiers(order: DeskOrder) -> tuple[int, int]:
    """How many areas must have been told, and may have been: one more every two minutes in which nobody took it."""
    assert order.closed_s is not None
    last_s = order.closed_s - order.arrived_s
    taken_s = last_s if order.taken_s is None else order.taken_s - order.arrived_s
    tier_s = 60 * ESCALATE_MIN
    # An alarm begins before its order arrives, and it is over before the desk hears of it.
    low = 1 + min(3, int(max(0, min(last_s - 30, taken_s)) // tier_s))
    high = 1 + min(3, int((min(last_s, taken_s + _KNOWN_AFTER_S) + 30) // tier_s))
    return low, high


def test_a_stolen_cover_is_one_order_within_thirty_seconds_and_closed_on_restore(tmp_path: Path) -> None:
    """A sample of those below."""
    bad_line = Plan(73, 15, lost_percent=5, burst_s=8, clerk=True)
    _stolen(tmp_path, [Plan(71, 15, kills=1, trouble=True, spoiled_percent=0.2), bad_line])


@pytest.mark.soak
def test_a_thousand_stolen_covers_are_a_thousand_orders(tmp_path: Path) -> None:
    plans = [
        Plan(
            seed,
            50,
            kills=seed % 2,
            trouble=seed % 3 == 0,
            spoiled_percent=(seed % 4) * 0.1,
            clerk=seed % 5 == 0,
        )
        for seed in range(700, 720)
    ]
    _stolen(tmp_path, plans)


@pytest.mark.soak
@pytest.mark.parametrize(("lost", "streets"), [(5.0, 10), (10.0, 3)])
def test_a_thousand_stolen_covers_on_bad_lines_are_a_thousand_orders(
    tmp_path: Path, lost: float, streets: int
) -> None:
    """Of the worst lines a sample: with ten streets it costs as much again."""
    plans = [
        Plan(seed, 100, kills=1, trouble=True, lost_percent=lost, burst_s=10, clerk=True)
        for seed in range(800, 800 + streets)
    ]
    _stolen(tmp_path, plans)
