"""Passes of an update on the air: what a campaign has for everybody goes out while its nodes listen (OTA.md section 6).

    a pass that is due → the radios that reach those who come → its rows, one after the other → the question

Each row has its own PIV under the key of its session, durable before it is asked for here. When it goes is the link's
affair (links/broadcasts.py): answers first, in turns, as the plan allows. So a pass brings as many rows as the air has
room for, and no promise is made of how many; its nodes tell what they lack, and come again.

A pass ends with a question to all who listen, so that nobody listens longer than it takes. It is asked twice, for who
misses it listens to the end of the time that it was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from gateway import update_limits
from gateway.campaign_talk import Frame, Pass
from gateway.links.broadcasts import Broadcasts
from gateway.links.routes import Routes
from gateway.log import Logger
from gateway.parts import guard


class Rows(Protocol):
    """Where passes and their rows come from: campaigns.py."""

    def passes_due(self) -> Sequence[Pass]:
        """Those that have begun and are not over."""
        ...

    async def frame(self, found: Pass) -> Frame | None:
        """The next row; None: there is no more in this pass."""
        ...

    async def question(self, found: Pass) -> Frame | None:
        """What is asked at the end of a pass, which is over with it, now; None: nothing."""
        ...


class Broadcaster:
    """Sees passes through. `seal` makes the packet of a frame; `reach` tells which radios hear a node."""

    def __init__(
        self,
        rows: Rows,
        broadcasts: Broadcasts,
        radios: Sequence[str],
        reach: Callable[[int], Collection[str]],
        seal: Callable[[Frame], bytes],
        log: Logger,
        *,
        now_s: Callable[[], float],
    ) -> None:
        self.on_progress: Callable[[], None] = lambda: None
        self.counters = dict.fromkeys(("passes", "rows", "questions", "out_of_time", "errors"), 0)
        self._rows = rows
        self._broadcasts = broadcasts
        self._radios = radios
        self._reach = reach
        self._seal = seal
        self._log = log
        self._now_s = now_s
        self._under_way: dict[tuple[int, int, float], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look for passes that begin. What is under way ends with this."""
        try:
            while True:
                self.on_progress()
                self.look()
                await asyncio.sleep(update_limits.BROADCAST_LOOK_S)
        finally:
            for task in self._under_way.values():
                task.cancel()

    def look(self) -> None:
        """One turn of `run`."""
        for found in self._rows.passes_due():
            which = (found.session, found.sf, found.begins_s)
            if which not in self._under_way:
                task = self._under_way[which] = asyncio.ensure_future(self._attempt(found))
                task.add_done_callback(lambda _, which=which: self._under_way.pop(which, None))  # type: ignore[misc]

    async def _attempt(self, found: Pass) -> None:
        self.counters["passes"] += 1
        if not await guard(self.see_through(found), self._log, "broadcast_failed"):
            self.counters["errors"] += 1

    async def see_through(self, found: Pass) -> None:
        """All of one pass."""
        rows_until_s = min(found.begins_s + update_limits.PASS_SENDS_S, found.ends_s)
        feed = _Feed(self._rows, found)
        names = covering({node: self._reach(node) for node in found.coming}, self._radios)
        turns = [
            self._send_all(name, index * update_limits.BROADCAST_TURN_S, found, feed, rows_until_s)
            for index, name in enumerate(names)
        ]
        await asyncio.gather(*turns)
        await asyncio.gather(*[self._ask(name, found) for name in names])

    async def _send_all(self, name: str, after_s: float, found: Pass, feed: _Feed, until_s: float) -> None:
        """The rows of a pass over one radio; several take their turns one after the other."""
        await asyncio.sleep(after_s)
        number = 0
        while self._now_s() < until_s and (frame := await feed.get(number)) is not None:
            if not await self._broadcasts.send(name, found.freq_hz, found.sf, self._seal(frame), until_s):
                self.counters["out_of_time"] += 1
                return
            self.counters["rows"] += 1
            number += 1

    async def _ask(self, name: str, found: Pass) -> None:
        """Some times, with the listening of a turn between, so that one burst of noise does not take all.

        Each says how long it is from then, so none is like another, and each has a PIV of its own.
        """

        async def make() -> bytes | None:
            question = await self._rows.question(found)
            return None if question is None else self._seal(question)

        size = update_limits.QUESTION_BYTES
        asked = 0
        while asked < found.questions:
            if asked:
                await asyncio.sleep(update_limits.BROADCAST_LISTEN_S)
            if not await self._broadcasts.send_made(name, found.freq_hz, found.sf, size, make, found.ends_s):
                return
            asked += 1
            self.counters["questions"] += 1

    def picture(self) -> dict[str, float]:
        """Counters for /metrics and status."""
        return {**self.counters, "under_way": len(self._under_way)}


class _Feed:
    """The rows of one pass, for radios that are not equally far: a few hundred at most (update_limits.PASS_SENDS_S)."""

    def __init__(self, rows: Rows, found: Pass) -> None:
        self._rows = rows
        self._found = found
        self._frames: list[Frame] = []
        self._is_over = False
        self._lock = asyncio.Lock()

    async def get(self, number: int) -> Frame | None:
        async with self._lock:
            while len(self._frames) <= number and not self._is_over:
                frame = await self._rows.frame(self._found)
                if frame is None:
                    self._is_over = True
                else:
                    self._frames.append(frame)
        return self._frames[number] if number < len(self._frames) else None


def covering(reach: dict[int, Collection[str]], radios: Iterable[str]) -> list[str]:
    """The fewest of `radios`, about, that reach every node; all of them while it is not known who is heard where."""
    names = list(radios)
    known = {node: set(names) & set(heard) for node, heard in reach.items()}
    missing = {node for node, heard in known.items() if heard}
    if len(missing) < len(reach) or not reach:
        return names
    chosen: list[str] = []
    while missing:
        best = max(names, key=lambda name: sum(name in known[node] for node in missing))
        chosen.append(best)
        missing = {node for node in missing if best not in known[node]}
    return chosen


def reach_of(routes: Routes) -> Callable[[int], Collection[str]]:
    """Which radios heard the latest uplinks of a node."""
    return routes.radios_near
