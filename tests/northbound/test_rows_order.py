"""What goes first behind an outage: alarms among what is owed, and what is fresh before all of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from hil_tests.world.sl_centre import SlCentre
from protocols.northbound import hj212
from tests.northbound.hj_rig import GOOD_SET, START_S, Rig, in_world
from tests.northbound.sl_rig import ADDED, SlRig
from tests.northbound.test_sl651_northbound import HOUR, queued, world


def test_an_added_report_of_an_outage_goes_before_the_timed_ones_of_hours(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await pass_s(1)
        centre.faults.refuses = True
        centre.break_lines()
        for minute in range(0, 300, 5):
            level = 2000 if minute >= 295 else 1000
            rig.give(START_S + minute * 60, (*GOOD_SET[:7], level))
            await pass_s(300)
        centre.faults.refuses = False
        await pass_s(300)
        kinds = [arrival.key[1] for arrival in centre.arrivals]
        assert len(kinds) > 60
        assert kinds.count(ADDED) == 1
        assert kinds.index(ADDED) == 0, "the newest of all that is owed"
        assert queued(rig) == 0

    world(tmp_path, story, above={"level": 150.0})


def test_what_is_fresh_has_room_in_a_window_whose_confirmations_take_long(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, told={"minute_s": 60, "timeout_s": 60}, in_flight=8)
        rig.open()
        await pass_s(1)
        platform.faults.refuses = True
        platform.break_lines()
        await rig.live(4 * HOUR)
        platform.faults.refuses = False
        platform.faults.ack_after_s = 27.0
        loop = asyncio.get_running_loop()
        while not platform.arrivals:
            await pass_s(1)
        began_s = loop.time()
        await rig.live(600)
        fresh = [one for one in platform.arrivals if one.key[1] == hj212.MINUTE and not one.resent]
        assert len(fresh) >= 8
        assert rig.runner.status()["backlog"] > 10, "it is still behind"
        dues_s = [began_s - began_s % 60 + 60 * number for number in range(-2, 14)]
        late_s = [one.at_s - max(due for due in dues_s if due <= one.at_s) for one in fresh]
        print(f"fresh_latest_s={max(late_s):.2f}")
        assert max(late_s) <= 5

    in_world(story())
