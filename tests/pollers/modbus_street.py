"""A seeded line of Modbus devices, and the least bus time that can read it, worked out by other means."""

from __future__ import annotations

import random
from functools import cache
from itertools import pairwise

from gateway.pollers.modbus_types import Device, Point, Span
from hil_tests.world.modbus_slave import Slave, block

BAUD, BITS = 9600, 11  # 8E1, as the standard has it
TURNAROUND_S = 0.02


def clusters(rng: random.Random, points: int = 16) -> list[Span]:
    """`points` values of one or two registers in 3 to 6 clusters, with holes of all sizes."""
    cuts = sorted(rng.sample(range(1, points), rng.randint(2, 5)))
    sizes = [b - a for a, b in pairwise([0, *cuts, points])]
    address, spans = rng.randrange(0, 200), []
    for size in sizes:
        for _ in range(size):
            spans.append(Span(address, rng.choice((1, 2))))
            address = spans[-1].end + (rng.choice((0, 0, 0, 1, 2)))
        address += rng.choice((3, 8, 15, 20, 30, 60, 100, 250))
    return spans


def street(
    seed: int, count: int = 30, period_s: float = 1.0, illegal_holes: bool = True, timeout_s: float = 0.5
) -> tuple[list[Device], list[Slave]]:
    """Devices and the slaves that they are; some holes are illegal addresses."""
    rng = random.Random(seed)
    devices, slaves = [], []
    for unit in range(1, count + 1):
        spans = clusters(rng)
        readable = {address for span in spans for address in range(span.address, span.end)}
        for left, right in pairwise(spans):
            if not illegal_holes or rng.random() < 0.7:
                readable |= set(range(left.end, right.address))
        points = tuple(
            Point(f"p{i}", 3, span.address, span.quantity, period_s, period_s) for i, span in enumerate(spans)
        )
        devices.append(
            Device(f"d{unit}", unit, points, timeout_s=timeout_s, turnaround_s=TURNAROUND_S, registers_max=64)
        )
        slaves.append(Slave(unit, holding=block(unit, readable), turnaround_s=TURNAROUND_S))
    return devices, slaves


def request_s(registers: int) -> float:
    """Request, silence, turnaround, answer, silence; counted by hand."""
    return (8 + 3.5 + 5 + 2 * registers + 3.5) * BITS / BAUD + TURNAROUND_S


def optimum_s(device: Device, slave: Slave) -> float:
    """The least time to read every point once, with only legal addresses: from the left, place by place."""
    points = sorted(device.points, key=lambda point: point.address)

    @cache
    def rest(first: int) -> float:
        if first == len(points):
            return 0.0
        best, begin, end = float("inf"), points[first].address, 0
        for last in range(first, len(points)):
            end = max(end, points[last].address + points[last].quantity)
            legal = all(address in slave.maps[3] for address in range(begin, end))
            if legal and end - begin <= device.registers_max:
                best = min(best, request_s(end - begin) + rest(last + 1))
        return best

    return rest(0)
