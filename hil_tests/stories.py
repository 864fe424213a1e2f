"""The stories of `tidegate demo --scenario …`: one thing that happens in a city, from the world to the city."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hil_tests import ota_story
from hil_tests.errors import StoryFailed
from hil_tests.places import CoverPlace, LiftPlace, Place, RiverPlace
from hil_tests.stage import Stage, Story, settings

if TYPE_CHECKING:
    from hil_tests.hotline import Hotline


def _cover(seed: int) -> list[Place]:
    place = CoverPlace("lid-1", seed)
    place.settings = settings(interval_s=60, report_s=1)
    return [place]


def _cover_stolen(stage: Stage) -> None:
    cover: CoverPlace = stage.place
    stage.say("world", "a cover is laid into its frame and left alone")
    stage.must("pose_learned", "note", 90)
    stage.say("world", "traffic drives over it")
    stage.run_s(8)
    stage.say("world", "somebody levers it out of the frame: 40 degrees")
    cover.turn(40, over_s=2)
    opened_s = time.time()
    tilted = stage.must("cover_tilted", "raised", 60)
    stage.say("world", "and lays it on a lorry, upside down: 170 degrees")
    cover.turn(170, over_s=2)
    stage.must("cover_upturned", "raised", 60)
    stage.say(
        "city",
        f"{tilted['received_s'] - opened_s:.0f} s after the lever: 5 s of hold time, then 30 s are allowed",
    )
    if stage.hotline is not None:
        _cover_ordered(stage, stage.hotline, cover, opened_s)


def _cover_ordered(stage: Stage, hotline: Hotline, cover: CoverPlace, opened_s: float) -> None:
    order = stage.must_order(lambda order: True, 30, "at the hotline")
    stage.say("hotline", f"that was {order.arrived_s - opened_s:.0f} s after the lever")
    hotline.take(order, "zhang-3")
    stage.say("hotline", "zhang-3 takes it, and drives out")
    if not stage.wait(lambda: stage.acknowledged_by() is not None, 30):
        raise StoryFailed("after 30 s the gateway still does not know that somebody took the order")
    stage.say("gateway", f"acknowledged by {stage.acknowledged_by()}; it goes no further up")
    stage.say("world", "the cover is found, and laid back into its frame")
    cover.turn(0, over_s=2)
    stage.must("cover_upturned", "cleared", 150)
    stage.must_order(lambda order: order.is_done and order.answers > 0, 30, "that is closed")


def _lift(seed: int) -> list[Place]:
    place = LiftPlace("lift-1", seed, is_busy=False)
    place.settings = settings(interval_s=60, report_s=1, trapped_s=60, rated_speed_mm_s=1750)
    return [place]


def _trapped(stage: Stage) -> None:
    lift: LiftPlace = stage.place
    stage.say("world", "a lift of four floors; its monitor has just been switched on")
    stage.run_s(14)
    for floor in (1, 2, 3, 1, 0):
        stage.say("world", f"the car goes to floor {floor}, its door opens and shuts")
        lift.ride(floor)
        stage.wait(lambda: lift.is_idle, 60)
        stage.run_s(1)
    stage.say("world", "somebody gets in for floor 3; the car stops between two floors")
    lift.stop_between(3, 6.0)
    stopped_s = time.time()
    stage.say("world", "nobody answers the bell; after 60 s a node calls that trapped")
    trapped = stage.must("lift_trapped", "raised", 150)
    stage.say("city", f"{trapped['received_s'] - stopped_s:.0f} s after the stop; 60 to 120 s are asked for")
    stage.say("world", "help comes: the door is opened, the car is empty")
    lift.free()
    stage.must("lift_trapped", "cleared", 60)


def _river(seed: int) -> list[Place]:
    place = RiverPlace("bridge-1", seed)
    place.settings = settings(interval_s=5, report_s=5)
    return [place]


def _discharge(stage: Stage) -> None:
    river: RiverPlace = stage.place
    stage.say("world", "a river, a set of readings every five seconds")
    stage.run_s(40)
    stage.say("world", "upstream a vat of brine and mud is let go: conductivity × 3")
    river.spill()
    spilled_s = time.time()
    found = stage.must("discharge_suspected", "raised", 120)
    stage.say("city", f"{found['received_s'] - spilled_s:.0f} s after the spill reached the probe")


STORIES = {
    "cover-stolen": Story("A manhole cover is stolen", _cover, _cover_stolen),
    "trapped": Story("Somebody is trapped in a lift", _lift, _trapped),
    "discharge": Story("Somebody discharges into the river", _river, _discharge),
    "ota": Story("Another release goes out", *ota_story.PARTS),
}
