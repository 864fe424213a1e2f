"""The Bluetooth poller on a street where everything goes wrong, above a real Bluetooth stack on a simulated air."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hil_tests.world.ble_chaos import PERIPHERALS, Chaos

if TYPE_CHECKING:
    from hil_tests.world.ble_chaos import Checkpoint

# Objects come and go with what happens to be under way; a leak of one per event would be a thousand.
OBJECTS_GROWN_MAX = 600
RSS_GROWN_KB_MAX = 4096
RSS_SLOPE_KB_MAX = 200


def look(chaos: Chaos) -> dict[str, int]:
    """The figures of a run, worst checkpoint each."""
    first, last = chaos.checkpoints[0], chaos.checkpoints[-1]

    def worst(name: str) -> int:
        return max(getattr(one, name) for one in chaos.checkpoints)

    return {
        "disconnects": chaos.done["disconnect"] + chaos.done["vanish"] + chaos.done["rotate"],
        "address_changes": chaos.done["rotate"],
        "adapter_losses": chaos.done["unplug"],
        "reorders": chaos.done["reorder"],
        "slots_leaked": max(abs(one.slots - PERIPHERALS) for one in chaos.checkpoints),
        "connections_leaked": max(abs(one.connections - PERIPHERALS) for one in chaos.checkpoints),
        "notifications_lost": worst("lost"),
        "notifications_doubled": worst("doubled"),
        "sensors_unheard": worst("sensors_unheard"),
        "writes_ordered": chaos.writes["ordered"],
        "writes_done": chaos.writes["done"],
        "writes_expired": chaos.writes["expired"],
        "writes_unknown": chaos.writes["unknown"],
        "writes_open": worst("writes_open"),
        "writes_untrue": len(chaos.untrue),
        "tasks_max": worst("tasks"),
        "tasks_grown": last.tasks - first.tasks,
        "tasks_left": chaos.tasks_left,
        "objects_grown": last.objects - first.objects,
        "rss_grown_kb": last.rss_kb - _warm(chaos).rss_kb,
        "rss_slope_kb_per_100_events": round(slope([one.rss_kb for one in chaos.checkpoints[1:]])),
    }


def slope(values: list[int]) -> float:
    """How much each is more than the one before, by least squares: one late page does not make it."""
    if len(values) < 2:
        return 0.0
    middle = (len(values) - 1) / 2
    weights = [at - middle for at in range(len(values))]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(
        w * w for w in weights
    )


def _warm(chaos: Chaos) -> Checkpoint:
    """After the first round: by then every path was taken once and everything is imported."""
    return chaos.checkpoints[min(1, len(chaos.checkpoints) - 1)]


def judge(chaos: Chaos) -> None:
    found = look(chaos)
    print("ble_chaos", f"seed={chaos.seed}", *(f"{name}={value}" for name, value in found.items()))
    again = f"seed {chaos.seed}, {chaos.events} events: {found}, {chaos.loop_errors[:3]}, {chaos.untrue[:3]}"
    clean = (
        "slots_leaked",
        "connections_leaked",
        "notifications_lost",
        "notifications_doubled",
        "sensors_unheard",
        "writes_open",
        "writes_untrue",
        "tasks_left",
    )
    assert all(found[name] == 0 for name in clean), again
    assert found["tasks_grown"] <= 1, again  # bumble may just be answering
    assert found["objects_grown"] <= OBJECTS_GROWN_MAX, again
    assert found["rss_grown_kb"] <= RSS_GROWN_KB_MAX, again
    assert found["rss_slope_kb_per_100_events"] <= RSS_SLOPE_KB_MAX, again
    assert found["writes_done"] >= found["writes_ordered"] // 3, again
    assert not chaos.loop_errors, again


def test_lost_connections_and_adapters_cost_no_slot_no_subscription_and_no_memory() -> None:
    judge(Chaos(7, events=50).run())


@pytest.mark.soak
def test_a_thousand_losses_and_reorders_cost_no_slot_no_subscription_and_no_memory() -> None:
    chaos = Chaos(20, events=1000).run()
    judge(chaos)
    assert sum(chaos.done.values()) == 1000
    assert chaos.done["unplug"] >= 30
