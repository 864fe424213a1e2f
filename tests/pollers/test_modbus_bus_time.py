"""The bus time of a plan: near the exact minimum, and hardly more with dead devices on the line."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise, product

import pytest

from gateway import limits
from gateway.pollers.modbus_device import DOWN, UP
from gateway.pollers.modbus_plan import cut
from gateway.pollers.modbus_scheduler import Scheduler
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import ANSWERED, REFUSED, Device, Job, Outcome, Request, Span
from hil_tests.world.modbus_line import VirtualLine, run
from hil_tests.world.modbus_slave import truth
from tests.pollers.modbus_street import BAUD, clusters, optimum_s, request_s, street

LINE = Line(BAUD, "E", 1)
SEED = 5


def test_a_hole_and_a_request_cost_what_the_standard_says() -> None:
    read = Request(1, 3, 0, 1)
    hole_s = LINE.exchange_s(read._replace(quantity=101), 0.02) - LINE.exchange_s(read, 0.02)
    assert hole_s == pytest.approx(0.229, abs=0.0005)
    assert LINE.exchange_s(read._replace(quantity=0), 0.02) == pytest.approx(0.043, abs=0.0005)
    assert Line(115200, "N", 1).gap_s == 0.00175


@pytest.mark.parametrize("seed", range(20))
def test_the_plan_is_the_cheapest_of_all_plans(seed: int) -> None:
    rng = random.Random(seed)
    spans = clusters(rng, points=9)
    refused = [Span(spans[i].address, spans[i + 1].end - spans[i].address) for i in rng.sample(range(8), 2)]
    found = sum(request_s(span.quantity) for span, _members in cut(spans, request_s, 64, refused))
    best = float("inf")
    for cuts in product((False, True), repeat=8):
        edges = [0, *(i + 1 for i, is_cut in enumerate(cuts) if is_cut), 9]
        blocks = [Span(spans[a].address, spans[b - 1].end - spans[a].address) for a, b in pairwise(edges)]
        if all(block.quantity <= 64 and not any(block.holds(bad) for bad in refused) for block in blocks):
            best = min(best, sum(request_s(block.quantity) for block in blocks))
    assert found == pytest.approx(best)


def cycle_s(seed: int, rounds: int = 12) -> tuple[float, float]:
    """Bus time of a cycle in which every device is read once, and the least it could be."""
    devices, slaves = street(seed, period_s=30.0)
    line = VirtualLine(slaves)
    scheduler = Scheduler(LINE, devices, 0.0)
    run(scheduler, line, 30.0 * rounds)
    learned_s = line.busy_s
    run(scheduler, line, 30.0 * (rounds + 10), 30.0 * rounds)
    read = scheduler.counters["points_read"]
    assert read == (rounds + 10) * sum(len(device.points) for device in devices), "a cycle left something out"
    least_s = sum(optimum_s(device, slave) for device, slave in zip(devices, slaves, strict=True))
    return (line.busy_s - learned_s) / 10, least_s


def naive_cycle_s(seed: int) -> float:
    """The same points on the same line, asked for one by one."""
    devices, slaves = street(seed)
    line, now_s = VirtualLine(slaves), 0.0
    for index, device in enumerate(devices):
        for point in device.points:
            request = Request(device.unit, point.function, point.address, point.quantity)
            now_s, outcome = line.carry(Job("read", index, request, 1.0), now_s)
            assert outcome.kind == ANSWERED
            now_s += line.gap_s
    return line.busy_s


def test_the_bus_time_of_a_cycle_is_within_a_twentieth_of_the_minimum() -> None:
    worst = 0.0
    for seed in range(SEED, SEED + 3):
        ours_s, least_s = cycle_s(seed)
        naive_s = naive_cycle_s(seed)
        worst = max(worst, ours_s / least_s)
        print(
            f"seed={seed} cycle_s={ours_s:.3f} minimum_s={least_s:.3f} ratio={ours_s / least_s:.4f} "
            f"naive_s={naive_s:.3f} naive_ratio={naive_s / least_s:.2f}"
        )
    assert worst <= 1.05, worst


class Cycles:
    """When each device was last read in whole, and how long the cycles between were."""

    def __init__(self, devices: list[Device]) -> None:
        self.devices = devices
        self.at_s: dict[str, list[float]] = defaultdict(list)
        self.now_s = 0.0

    def values(self, device: Device, index: int, values: tuple[int, ...]) -> None:
        point = device.points[index]
        assert values == tuple(truth(device.unit, point.address + i) for i in range(point.quantity))
        if index == 0:
            self.at_s[device.name].append(self.now_s)

    def lengths(self, names: list[str], from_s: float) -> list[float]:
        return [b - a for name in names for a, b in pairwise(self.at_s[name]) if a >= from_s]


def saturated(
    seed: int, dead: int, seconds: float, left_out: int = 0
) -> tuple[Cycles, Scheduler, list[tuple[float, Job]]]:
    """A line that is asked for more than it can carry, so that a cycle is as short as the bus allows.

    The first `dead` devices die at 100 s; the first `left_out` are not there at all.
    """
    devices, slaves = street(seed, period_s=1.0)
    devices, slaves = devices[left_out:], slaves[left_out:]
    cycles = Cycles(devices)
    scheduler = Scheduler(LINE, devices, 0.0, on_values=cycles.values)
    silent: list[tuple[float, Job]] = []

    def each(now_s: float, job: Job, outcome: Outcome) -> None:
        cycles.now_s = now_s
        if outcome.kind != ANSWERED and outcome.kind != REFUSED:
            silent.append((now_s, job))

    def die(now_s: float) -> None:
        for slave in slaves[:dead]:
            slave.is_dead = True

    run(scheduler, VirtualLine(slaves), seconds, each=each, events=[(100.0, die)])
    return cycles, scheduler, silent


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(("dead", "allowed"), [(1, 1.1), (10, 1.3)])
def test_dead_devices_hardly_slow_the_others(dead: int, allowed: float) -> None:
    cycles, scheduler, silent = saturated(SEED, dead, 900.0)
    names = [device.name for device in cycles.devices[dead:]]
    without, _, _ = saturated(SEED, 0, 400.0, left_out=dead)
    base = without.lengths(names, 100.0)
    lengths = cycles.lengths(names, 400.0)
    at_once = cycles.lengths(names, 90.0)
    ratio = mean(lengths) / mean(base)
    timeout_s = max(job.timeout_s for _at_s, job in silent)
    print(
        f"dead={dead} cycle_without_them_s={mean(base):.3f} cycle_s={mean(lengths):.3f} ratio={ratio:.3f} "
        f"worst_cycle_s={max(at_once):.3f} timeout_s={timeout_s:.3f} timeouts={len(silent)}"
    )
    assert [state.state for state in scheduler.states] == [DOWN] * dead + [UP] * (30 - dead)
    assert ratio <= allowed
    assert max(lengths) <= max(base) * allowed + timeout_s
    if dead == 1:
        for name in names:
            for begin_s, end_s in pairwise(at_s for at_s in cycles.at_s[name] if at_s > 90):
                inside = sum(begin_s < at_s <= end_s for at_s, _job in silent)
                assert end_s - begin_s <= max(base) + (inside + 1) * timeout_s
        pauses = [b - a for (a, _), (b, _) in pairwise(silent)]
        assert all(pause >= limits.MODBUS_PROBE_MIN_S for pause in pauses), "two time-outs in one probe pause"
        assert pauses == sorted(pauses) or max(pauses) >= limits.MODBUS_PROBE_MAX_S


@pytest.mark.parametrize(
    ("dead", "returns_s"), [(1, 103.0), (1, 111.0), (1, 150.0), (1, 333.0), (10, 111.0), (10, 260.0)]
)
def test_a_device_that_returns_is_up_within_its_probe_pause(dead: int, returns_s: float) -> None:
    devices, slaves = street(SEED, period_s=1.0)
    scheduler = Scheduler(LINE, devices, 0.0)
    up_s: list[float] = []
    pause: list[float] = []

    def die(now_s: float) -> None:
        for slave in slaves[:dead]:
            slave.is_dead = True

    def back(now_s: float) -> None:
        slaves[0].is_dead = False
        pause.append(scheduler.probe_pause_s(0))

    def each(now_s: float, job: Job, outcome: Outcome) -> None:
        if pause and not up_s and scheduler.states[0].state == UP:
            up_s.append(now_s)

    run(scheduler, VirtualLine(slaves), returns_s + 70, each=each, events=[(100.0, die), (returns_s, back)])
    exchange_s = 1.0  # the one under way, and the probe itself
    print(f"dead={dead} probe_pause_s={pause[0]:.2f} up_after_s={up_s[0] - returns_s:.2f}")
    assert up_s[0] - returns_s <= pause[0] + exchange_s
