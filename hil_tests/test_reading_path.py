"""The way of one reading, and what breaks on it: each scenario runs on whichever rig `--rig` names."""

from __future__ import annotations

import random

import pytest

from hil_tests.system import System

# What the river of the tests can be; a value outside is a unit or scale gone wrong on the way.
PLAUSIBLE = {
    "water_temperature": ("Cel", -1, 40),
    "ph": ("[pH]", 5, 10),
    "dissolved_oxygen": ("mg/L", 0, 20),
    "conductivity": ("uS/cm", 20, 3000),
    "turbidity": ("{NTU}", 0, 1000),
    "orp": ("mV", -500, 600),
    "ammonia_nitrogen": ("mg/L", 0, 30),
    "level": ("cm", 0, 1000),
}


def delivered_of(system: System, node: str) -> int:
    return sum(1 for node_seen, _, _ in system.judge.records if node_seen == node)


def wait_for_records(system: System, per_node: int, timeout_s: float = 60) -> None:
    system.wait_until(
        lambda: all(delivered_of(system, node) >= per_node for node in system.nodes),
        timeout_s,
        f"{per_node} records of each node at the city",
    )


def test_readings_reach_the_city_in_their_units(system: System) -> None:
    """Every measurand of the sonde arrives with its unit, a good flag and a value of a river."""
    wait_for_records(system, 3)
    books = system.settle()
    books.balance()
    sets = [record for record in system.judge.records.values() if "readings" in record]
    assert len(sets) >= 3 * len(system.nodes)
    for name, (unit, low, high) in PLAUSIBLE.items():
        readings = [record["readings"][name] for record in sets]
        assert {reading["u"] for reading in readings} == {unit}, name
        good = [reading["v"] for reading in readings if reading["q"] in (1, 2)]
        assert good, f"no good reading of {name}"
        assert all(low <= value <= high for value in good), (name, good[:5])


def test_nothing_is_lost_while_the_broker_is_away(system: System) -> None:
    """The broker stops and comes back: live data first, everything in the end, order kept in each lane."""
    wait_for_records(system, 2)
    system.stop_broker()
    system.run_s(5)
    system.start_broker()
    before = len(system.judge.records)
    system.wait_until(lambda: len(system.judge.records) > before, 15, "delivery after the broker's return")
    system.settle().balance()


def test_nothing_is_lost_in_a_half_open_network(system: System) -> None:
    """Packets are swallowed without a reset: the gateway notices, reconnects and takes no time-out for success."""
    wait_for_records(system, 2)
    system.silence_network()
    system.run_s(12)
    system.restore_network()
    system.settle().balance()


def test_nothing_is_lost_when_the_gateway_is_killed_at_any_moment(system: System) -> None:
    """SIGKILL at seeded random moments: what was acknowledged is delivered, once after dropping copies."""
    wait_for_records(system, 1)
    moments = random.Random(71)
    for _ in range(5):
        system.run_s(moments.uniform(0.05, 1.5))
        system.kill_gateway()
        system.start_gateway()
    system.settle().balance()


def test_nothing_is_lost_when_nodes_lose_power_at_any_moment(system: System) -> None:
    """What keep() promised survives the cut, keeps its id, and reaches the city."""
    wait_for_records(system, 1)
    moments = random.Random(72)
    for _ in range(4):
        system.run_s(moments.uniform(0.2, 1.5))
        system.power_cut(moments.choice(system.nodes))
    wait_for_records(system, 4)
    system.settle().balance()


def test_a_line_that_spoils_five_percent_of_its_bytes_only_costs_time(system: System) -> None:
    """Corrupted, dropped, doubled and swapped bytes in both directions are refused by CRC and sent again."""
    wait_for_records(system, 1)
    system.line_faults(5)
    system.run_s(15)
    system.line_faults(0)
    system.settle().balance()
    assert sum(value for name, value in system.metrics().items() if "refused" in name or "crc" in name) > 0


def test_a_reflashed_node_goes_on_where_it_was(system: System) -> None:
    """Writing the app partition touches neither the outbox nor a counter: the same epoch, no id twice."""
    wait_for_records(system, 2)
    epochs = {epoch for _, epoch, _ in system.judge.records}
    for node in system.nodes:
        system.reflash_app(node)
    wait_for_records(system, 5)
    system.settle().balance()
    assert {epoch for _, epoch, _ in system.judge.records} == epochs


def test_a_node_whose_state_was_erased_agrees_a_new_epoch_by_itself(system: System) -> None:
    """Counters lost means new keys before the first record: no PIV and no id repeats, and nobody is called."""
    wait_for_records(system, 2)
    node = system.nodes[0]
    old = {epoch for address, epoch, _ in system.judge.records if address == node}
    system.erase_state(node)
    system.wait_until(
        lambda: any(a == node and epoch not in old for a, epoch, _ in system.judge.records),
        60,
        f"a record of {node} in a new epoch",
    )
    system.settle().balance()


def test_a_gateway_restored_from_yesterday_agrees_with_its_nodes_again(system: System) -> None:
    """The database of yesterday comes back: downlinks repeat no PIV, and nothing acknowledged is lost."""
    wait_for_records(system, 2)
    system.kill_gateway()
    backup = system.backup_gateway()
    system.start_gateway()
    wait_for_records(system, 5)
    system.kill_gateway()
    system.restore_gateway(backup)
    system.start_gateway()
    wait_for_records(system, 8, timeout_s=120)
    system.settle().balance()


def test_an_unplugged_port_comes_back_by_itself(system: System) -> None:
    """The cable is pulled and put back: the node's readings of the meantime arrive, nobody restarts anything."""
    wait_for_records(system, 2)
    node = system.nodes[0]
    system.unplug(node)
    system.run_s(3)
    system.replug(node)
    before = delivered_of(system, node)
    system.wait_until(lambda: delivered_of(system, node) > before, 60, f"records of {node} after the replug")
    system.settle().balance()


@pytest.mark.soak
def test_a_hundred_kills_under_load(system: System) -> None:
    """The whole of what the short test samples: 100 SIGKILLs of the gateway at random moments."""
    wait_for_records(system, 1)
    moments = random.Random(73)
    for _ in range(100):
        system.run_s(moments.uniform(0.05, 2.0))
        system.kill_gateway()
        system.start_gateway()
    system.settle(120).balance()


@pytest.mark.soak
def test_a_minute_without_a_broker_and_a_minute_half_open(system: System) -> None:
    """Long outages of both kinds, one after the other."""
    wait_for_records(system, 1)
    system.stop_broker()
    system.run_s(60)
    system.start_broker()
    system.run_s(5)
    system.silence_network()
    system.run_s(60)
    system.restore_network()
    system.settle(120).balance()
