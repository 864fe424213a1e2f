"""`tidegate demo --scenario …`: one thing that happens in a city, from the world to the city, told as it happens.

A story is a function that acts on the world and waits for what must follow. What it tells comes from four places that
know nothing of each other: the story itself (the world), the stamp in the record (when the node noticed), the
gateway's database (when it was committed), and the city's own client (when it arrived).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hil_tests.errors import StoryFailed
from hil_tests.places import CoverPlace, LiftPlace, Place, RiverPlace
from protocols.wire.codes import EVENT_NAMES, SETTING_NAMES
from protocols.wire.messages import UNSYNCHRONISED

if TYPE_CHECKING:
    from rich.console import Console

    from hil_tests.consumer import Consumer
    from hil_tests.hotline import Hotline
    from hil_tests.street import Street
    from hil_tests.world.order_desk import DeskOrder

_LOOK_S = 0.1
STATES = ("cleared", "raised", "note")
STYLES = {
    "world": "bold cyan",
    "node": "yellow",
    "gateway": "magenta",
    "city": "green",
    "hotline": "bold red",
}
UNITS = {
    "cover_tilted": "° from how it lay",
    "cover_upturned": "° from how it lay",
    "lift_trapped": ", the floor it is nearest to",
    "lift_stopped_out_of_zone": " (floor, mm from it)",
    "discharge_suspected": " % more conductivity",
}


@dataclass
class Stage:
    """A street with one node, somebody who looks at everything, and a console to tell it on."""

    street: Street
    city: Consumer | None
    console: Console
    hotline: Hotline | None = None
    began_s: float = field(default_factory=time.time)
    seen: list[dict[str, Any]] = field(default_factory=list)
    _last_event: int = 0
    _at_city: set[tuple[str, int, int]] = field(default_factory=set)
    _told: int = 0  # lines of the hotline

    @property
    def place(self) -> Any:
        """The world around the node; each story knows which it has."""
        return next(iter(self.street.places.values()))

    def say(self, who: str, text: str, at_s: float | None = None) -> None:
        """One line: when (seconds since the beginning), where, what."""
        since_s = max(0.0, (time.time() if at_s is None else at_s) - self.began_s)
        self.console.print(Text.assemble(f"{since_s:6.1f} s  ", (f"{who:<7}", STYLES[who]), f"  {text}"))

    def explain(self) -> None:
        """What the words at the left mean."""
        text = "node: on its flash, by its own clock. gateway: on its disk. city: received and confirmed."
        if self.hotline is not None:
            text += f" hotline: takes work orders, and shows them at {self.hotline.url}/"
        self.console.print(Text(text, style="dim"))

    def run_s(self, seconds: float) -> None:
        """Let the world go on for that long, and tell what comes of it."""
        self.wait(lambda: False, seconds)

    def wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Until it holds; whether it did in time."""
        until_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > until_s:
                return False
            self.place.live()
            self._look()
            time.sleep(_LOOK_S)
        return True

    def must(self, name: str, state: str, timeout_s: float) -> dict[str, Any]:
        """Wait for that event, as far as it has to come: the city, or the gateway where there is none."""
        if not self.wait(lambda: self._arrived(name, state), timeout_s):
            raise StoryFailed(f"after {timeout_s:.0f} s still no {name} ({state}) where it should be")
        return next(event for event in self.seen if (event["name"], event["state"]) == (name, state))

    def _arrived(self, name: str, state: str) -> bool:
        return any(
            (event["name"], event["state"]) == (name, state)
            and (self.city is None or event["id"] in self._at_city)
            for event in self.seen
        )

    # ---- looking ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        for event in self._new_events():
            self.seen.append(event)
            told = f"{event['name']} {event['state']}"
            detail = "" if event["detail"] == "null" else f": {event['detail']}"
            unit = UNITS.get(event["name"], "") if event["state"] == "raised" else ""
            # The node stamps whole seconds, and only once it was told the time.
            at_s = event["time"] if event["tq"] < UNSYNCHRONISED else None
            self.say("node", f"kept {told}{detail}{unit}", at_s)
            self.say("gateway", f"committed {told}", event["received_s"])
        if self.city is not None:
            for event in self.seen:
                if event["id"] in self.city.judge.records and event["id"] not in self._at_city:
                    self._at_city.add(event["id"])
                    self.say("city", f"received {event['name']} {event['state']}")
        self._look_at_orders()

    def _look_at_orders(self) -> None:
        if self.hotline is None:
            return
        lines = [
            (at_s, f"order {order.code}: {told}")
            for order in self.hotline.orders()
            for at_s, told in _history(order, self.hotline)
        ]
        for at_s, line in lines[self._told :]:
            self.say("hotline", line, at_s)
        self._told = len(lines)

    def must_order(self, holds: Callable[[DeskOrder], bool], timeout_s: float, what: str) -> DeskOrder:
        """Wait for an order of which that holds."""
        assert self.hotline is not None
        hotline = self.hotline
        if not self.wait(lambda: any(map(holds, hotline.orders())), timeout_s):
            raise StoryFailed(f"after {timeout_s:.0f} s still no order {what}")
        self._look()
        return next(filter(holds, hotline.orders()))

    def acknowledged_by(self) -> str | None:
        """Who acknowledged the latest alarm, as the gateway has it."""
        with closing(sqlite3.connect(f"file:{self.street.gateway.database}?mode=ro", uri=True)) as reader:
            row = reader.execute("SELECT acknowledged_by FROM alarm ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None else row[0]

    def _new_events(self) -> list[dict[str, Any]]:
        database = self.street.gateway.database
        if not database.exists():
            return []
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            rows = reader.execute(
                "SELECT id, node, epoch, seq, received_ms, time, tq, code, state, detail FROM event_view"
                " WHERE id > ? AND kind = 2 ORDER BY id",
                (self._last_event,),
            ).fetchall()
        found = []
        for row_id, node, epoch, seq, received_ms, time_s, tq, code, state, detail in rows:
            self._last_event = row_id
            found.append(
                {
                    "id": (f"{node:04x}", epoch, seq),
                    "name": EVENT_NAMES.get(code, f"code_{code}"),
                    "state": STATES[state],
                    "detail": detail,
                    "time": time_s,
                    "tq": tq,
                    "received_s": received_ms / 1000,
                }
            )
        return found


def _history(order: DeskOrder, hotline: Hotline) -> list[tuple[float, str]]:
    lines, state_before = [], -1
    for at_s, state, area in order.history:
        told = f"{order.fields['scene']} at {order.fields['place']}, told {hotline.handler(area)}"
        if state == 2:
            told = "closed"
        elif state_before >= 0:
            told = f"now told {hotline.handler(area)}"
        lines.append((at_s, told))
        state_before = state
    return lines


# ---- the stories -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    title: str
    place: Callable[[int], Place]
    act: Callable[[Stage], None]


def _settings(**named: int) -> dict[int, int]:
    return {SETTING_NAMES.index(name): value for name, value in named.items()}


def _cover(seed: int) -> Place:
    place = CoverPlace("lid-1", seed)
    place.settings = _settings(interval_s=60, report_s=1)
    return place


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


def _lift(seed: int) -> Place:
    place = LiftPlace("lift-1", seed, is_busy=False)
    place.settings = _settings(interval_s=60, report_s=1, trapped_s=60, rated_speed_mm_s=1750)
    return place


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


def _river(seed: int) -> Place:
    place = RiverPlace("bridge-1", seed)
    place.settings = _settings(interval_s=5, report_s=5)
    return place


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
}
