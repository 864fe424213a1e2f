"""Power cuts of a node on the air in Europe: the hour of duty, and everything else that is durable, outlast them.

The supply collapses between two steps and within any flash operation, torn in every way (hil_tests/world/cutflash.py);
somebody listens to all that leaves the antenna.
"""

from __future__ import annotations

import functools
import random

import pytest

from firmware.settings import INTERVAL_S, RADIO_DBM, RADIO_SF, REPORT_S, STATUS_S
from hil_tests.world.air import Flight, air_s
from hil_tests.world.cutflash import VARIANTS
from hil_tests.world.sim_node import TornFlash
from protocols.wire.law import EU868
from tests.firmware.sky import Sky

# Every ten seconds a report, so that the law is what holds it back.
GREEDY = {INTERVAL_S: 10, REPORT_S: 10, STATUS_S: 86400, RADIO_SF: 10, RADIO_DBM: 9}
ONE_CHANNEL = (EU868, 0, 1, 0)
HOUR_S = 3600
ALLOWED_S = 36.0


@functools.cache
def image() -> bytes:
    """The state of a node that was minted and never ran."""
    sky = Sky(settings=GREEDY, radio=ONE_CHANNEL, powered=False)
    return bytes(sky.station.flash.image)  # type: ignore[attr-defined]


def busiest_hour_s(flights: list[Flight]) -> float:
    """The most that was on the air in any hour; one at its edge counts as a whole."""
    spans = [(flight.begin_s, air_s(flight.signal)) for flight in flights]
    return max(sum(air for at_s, air in spans if begin_s <= at_s < begin_s + HOUR_S) for begin_s, _ in spans)


class Cut:
    """A node whose supply fails again and again."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.flash = TornFlash(image(), seed=seed)
        self.sky = Sky(settings=None, powered=False, flash=self.flash, radio=ONE_CHANNEL, seed=seed)
        self.cuts = self.torn = 0

    def live(self, seconds: float) -> None:
        """A life that ends within that time, in a flash operation if one comes late enough."""
        self.flash.power()
        end_s = self.sky.agenda.now_s() + seconds
        self.sky.station.power_on()
        self.sky.run(seconds * self.rng.random())
        self.flash.cut_after(self.rng.randrange(4), self.rng.randrange(len(VARIANTS)))
        self.sky.run(max(0.0, end_s - self.sky.agenda.now_s()))
        self.torn += self.flash.is_cut
        self.cuts += 1
        self.sky.station.power_cut()
        self.sky.run(self.rng.choice((0.05, 1.0, 60.0)))


@pytest.mark.parametrize("seed", range(4))
def test_no_hour_holds_more_than_its_duty_however_often_the_power_fails(seed: int) -> None:
    node = Cut(seed)
    while node.sky.agenda.now_s() < 3 * HOUR_S:
        node.live(node.rng.choice((5.0, 120.0, 1200.0)))
    flights = node.sky.uplinks()
    most_s = busiest_hour_s(flights)
    print(
        f"\nseed={seed} cuts={node.cuts} torn={node.torn} uplinks={len(flights)} busiest_hour_s={most_s:.2f}"
    )
    assert node.torn > 10, f"seed {seed}"
    assert most_s <= ALLOWED_S, f"seed {seed}"
    node.flash.power()
    node.sky.station.power_on()
    settings = node.sky.node.settings
    assert (settings[RADIO_SF], settings[RADIO_DBM]) == (10, 9)
    node.sky.run(3 * HOUR_S)
    assert node.sky.uplinks()[len(flights) :], "and it is heard again when the law allows it"
    assert node.sky.node.health.traceback == ""
    assert busiest_hour_s(node.sky.uplinks()) <= ALLOWED_S, f"seed {seed}"
