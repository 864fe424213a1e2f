"""A cover is stolen: the hotline has one order within 30 seconds, it goes up the tree, and is closed on restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_tests.order_rig import OrderRig, Theft, order_figures

_LATENCY_MAX_S = 30


def _stolen(folder: Path, plans: list[tuple[int, int, int, bool, float]]) -> None:
    """Each plan: seed, openings, kills, trouble at the desk, percent of spoiled bytes."""
    rigs = []
    for seed, openings, kills, trouble, loss in plans:
        rig = OrderRig(
            folder / str(seed), covers=5, seed=seed, kills=kills, trouble=trouble, loss_percent=loss
        )
        with rig:
            rig.settle_in()
            rig.play(openings)
            rig.line_faults(0)
            rig.run_s(300)
        _judge(rig)
        rigs.append(rig)
    said = " ".join(order_figures(rigs))
    print(said)
    thefts: list[Theft] = [theft for rig in rigs for theft in rig.thefts]
    assert len(thefts) == sum(plan[1] for plan in plans), said
    late = [theft for theft in thefts if theft.latency_s > _LATENCY_MAX_S]
    assert len(late) <= len(thefts) // 100, f"{said}: {late}"


def _judge(rig: OrderRig) -> None:
    said = f"seed {rig.seed}: {' '.join(order_figures([rig]))}"
    wrong = [theft for theft in rig.thefts if len(theft.orders) != 1]
    assert not wrong, f"{said}: {wrong[:3]}"
    assert len(rig.desk.orders) == len(rig.openings), said
    assert all(order.is_done and order.answers >= 1 for order in rig.desk.orders.values()), said
    assert rig.desk.counters["malformed"] == rig.desk.counters["backwards"] == 0, said
    for theft in rig.thefts:
        (order,) = theft.orders
        assert order.closed_s is not None
        open_s = order.closed_s - order.arrived_s
        # Told to the grid at once, and further up every two minutes that nobody acknowledged.
        told = len({area for _, _, area in order.history})
        assert abs(told - (1 + min(3, int(open_s // 120)))) <= 1, f"{said}: {order}"


def test_a_stolen_cover_is_one_order_within_thirty_seconds_and_closed_on_restore(tmp_path: Path) -> None:
    """A sample of 30 of the thousand below."""
    _stolen(tmp_path, [(71, 15, 1, True, 0.2), (72, 15, 0, False, 0.0)])


@pytest.mark.soak
def test_a_thousand_stolen_covers_are_a_thousand_orders(tmp_path: Path) -> None:
    plans = [(seed, 50, seed % 2, seed % 3 == 0, (seed % 4) * 0.1) for seed in range(700, 720)]
    _stolen(tmp_path, plans)
