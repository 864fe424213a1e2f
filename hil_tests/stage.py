"""Where a story of `tidegate demo --scenario …` plays: who looks at everything, and tells it as it happens.

A story is a function that acts on the world and waits for what must follow. What it tells comes from four places that
know nothing of each other: the story itself (the world), the stamp in the record (when the node noticed), the
gateway's database (when it was committed), and the city's own client (when it arrived).
"""

from __future__ import annotations

import json
import sqlite3
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hil_tests.errors import StoryFailed
from protocols.wire.codes import EVENT_NAMES, SETTING_NAMES
from protocols.wire.messages import UNSYNCHRONISED
from protocols.wire.outcomes import OUTCOMES

if TYPE_CHECKING:
    from rich.console import Console

    from hil_tests.consumer import Consumer
    from hil_tests.hotline import Hotline
    from hil_tests.places import Place
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
    "you": "bold",
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
    """A street with few nodes, somebody who looks at everything, and a console to tell it on."""

    street: Street
    city: Consumer | None
    console: Console
    hotline: Hotline | None = None
    began_s: float = field(default_factory=time.time)
    seen: list[dict[str, Any]] = field(default_factory=list)
    untold: frozenset[str] = frozenset()  # events that are of no interest here
    watchers: list[Callable[[], None]] = field(
        default_factory=list
    )  # asked again and again while time passes
    _last_event: int = 0
    _at_city: set[tuple[str, int, int]] = field(default_factory=set)
    _told: int = 0  # lines of the hotline

    @property
    def place(self) -> Any:
        """The world around the (first) node; each story knows which it has."""
        return next(iter(self.street.places.values()))

    def say(self, who: str, text: str, at_s: float | None = None) -> None:
        """One line: when (seconds since the beginning), where, what."""
        since_s = max(0.0, (time.time() if at_s is None else at_s) - self.began_s)
        head = Text.assemble(f"{since_s:6.1f} s  ", (f"{who:<7}", STYLES[who]), "  ")
        lines = textwrap.wrap(text, max(20, self.console.width - len(head)), break_on_hyphens=False)
        self.console.print(head + Text(("\n" + " " * len(head)).join(lines)))

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
            for place in self.street.places.values():
                place.live()
            self._look()
            for watch in self.watchers:
                watch()
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
            if event["name"] in self.untold:
                continue
            self.seen.append(event)
            told = f"{self._whose(event)}{event['name']} {event['state']}"
            detail = "" if event["detail"] == "null" else f": {_detail(event)}"
            unit = UNITS.get(event["name"], "") if event["state"] == "raised" else ""
            # The node stamps whole seconds, and only once it was told the time.
            at_s = event["time"] if event["tq"] < UNSYNCHRONISED else None
            self.say("node", f"kept {told}{detail}{unit}", at_s)
            self.say("gateway", f"committed {told}", event["received_s"])
        if self.city is not None:
            for event in self.seen:
                if event["id"] in self.city.judge.records and event["id"] not in self._at_city:
                    self._at_city.add(event["id"])
                    self.say("city", f"received {self._whose(event)}{event['name']} {event['state']}")
        self._look_at_orders()

    def _whose(self, event: dict[str, Any]) -> str:
        """Where there are several nodes, the site of this one."""
        return f"{self.street.places[event['id'][0]].site}: " if len(self.street.places) > 1 else ""

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


def _detail(event: dict[str, Any]) -> str:
    """Of an update [release, outcome] as words; of others as they are."""
    if event["name"] != "update_ended":
        return str(event["detail"])
    sequence, outcome = json.loads(event["detail"])[:2]
    return f"release {sequence}, {OUTCOMES[outcome][0]}"


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


@dataclass(frozen=True)
class Story:
    """``image``: the program of a node type, where it is not that of this source tree; made in the run's folder."""

    title: str
    places: Callable[[int], list[Place]]
    act: Callable[[Stage], None]
    image: Callable[[Path, str], bytes] | None = None
    end: str = "The alarm arrived."


def settings(**named: int) -> dict[int, int]:
    return {SETTING_NAMES.index(name): value for name, value in named.items()}
