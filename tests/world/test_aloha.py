"""The air against theory: without capture pure ALOHA, exp(-2 N T / period), with it more."""

from __future__ import annotations

import math
import random

import pytest

from boards.virtual.ether import Reception, Signal
from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air, air_s
from hil_tests.world.concentrator import Concentrator
from hil_tests.world.propagation import Physics, Spot, urban

PERIOD_S = 1_000.0
FREQ_HZ = 470_300_000
PACKET = Signal(FREQ_HZ, 125_000, 12, 8, 8, False, True, True, 0x12, False, 14.0, bytes(20))
RADIUS_M = 1_000.0


class Sender:
    """Sends whether or not it has just begun to: the theory's stations have no memory."""

    def __init__(self, air: Air, name: str, spot: Spot) -> None:
        air.place(self, name, spot)


def delivery(nodes: int, packets: int, capture_db: float | None, seed: int) -> float:
    """Part of the packets that a gateway in the middle of so many senders hears whole."""
    clock = Agenda()
    rng = random.Random(f"aloha {seed}")
    # Flat ground: who is heard is a matter of distance and of the others alone.
    physics: Physics = urban(FREQ_HZ).with_(capture_db=capture_db, shadowing_sd_db=0.0)
    air = Air(clock, physics, seed)
    # Without a bound on its demodulators, which the theory does not know.
    gateway = Concentrator(air, "gateway", Spot(0, 0, is_high=True), [FREQ_HZ], [12], demodulators=10**6)
    heard = 0

    def take(reception: Reception) -> None:
        nonlocal heard
        heard += reception.is_intact

    gateway.on_packet = take
    senders = []
    for number in range(nodes):
        angle, radius_m = rng.uniform(0, math.tau), RADIUS_M * math.sqrt(rng.random())
        spot = Spot(radius_m * math.cos(angle), radius_m * math.sin(angle))
        senders.append(Sender(air, f"node {number}", spot))
    # Superposed exponential processes are one: its next packet comes from any sender that is not sending.
    sent = 0

    def send() -> None:
        nonlocal sent
        sent += 1
        free = rng.choice(senders)
        while clock.now_s() < busy_until_s.get(free, 0.0):
            free = rng.choice(senders)
        busy_until_s[free] = clock.now_s() + air.transmit(free, PACKET)
        if sent < packets:
            clock.call_later(rng.expovariate(nodes / PERIOD_S), send)

    busy_until_s: dict[Sender, float] = {}
    clock.call_later(0.0, send)
    clock.run_until(packets * PERIOD_S / nodes * 2 + 1_000)
    assert sent == packets
    return heard / sent


def check(packets: int, seed: int) -> None:
    seconds = air_s(PACKET)
    with_capture = []
    for nodes in (100, 500, 1_000):
        theory = math.exp(-2 * nodes * seconds / PERIOD_S)
        off = delivery(nodes, packets, None, seed)
        on = delivery(nodes, packets, 6.0, seed)
        more = delivery(nodes, packets, 1.0, seed)
        print(
            f"nodes={nodes} air_s={seconds:.6f} theory={theory:.4f} capture_off={off:.4f} "
            f"capture_6db={on:.4f} capture_1db={more:.4f}"
        )
        assert off == pytest.approx(theory, abs=0.02), f"seed {seed}"
        assert off < on < more, f"seed {seed}"
        with_capture.append(on)
    assert with_capture == sorted(with_capture, reverse=True), f"seed {seed}"


def test_a_sample_of_the_air_is_aloha_and_capture_makes_it_better() -> None:
    check(packets=12_000, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_air_is_aloha_and_capture_makes_it_better(seed: int) -> None:
    check(packets=150_000, seed=seed)
