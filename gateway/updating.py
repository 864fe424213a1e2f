"""Campaigns on the links: what nodes said goes to the engine, what it wants said goes down, after everything else.

The engine is asked when a node was heard and nothing more urgent waits for it: time, settings and commands go first. On
a cable a node in a pass is also spoken to when it should have answered by now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from gateway import campaign_limits as limits
from gateway.campaign_talk import Update, Way
from gateway.campaigns import Campaigns
from gateway.downlink import Channel
from gateway.ingest import Heard
from gateway.links import lora
from gateway.links.routes import Link, Routes
from gateway.log import Logger
from gateway.parts import guard
from protocols.wire import codes, messages, update


class Updating:
    """Between the downlink and `engine`."""

    def __init__(
        self,
        engine: Campaigns,
        routes: Routes,
        current_channel: Callable[[int], Channel | None],
        log: Logger,
    ) -> None:
        self._engine = engine
        self._routes = routes
        self._current_channel = current_channel
        self._log = log
        self.most: Callable[[int], int] | None = None
        self.on_progress: Callable[[], None] = lambda: None
        self.counters = dict.fromkeys(("sent", "not_sent", "errors"), 0)

    async def heard(self, entry: Heard) -> None:
        """Something that matters here, committed."""
        address, message = entry.node.address, entry.message
        if isinstance(message, update.UpdateStatus):
            wants = cast(Link, entry.link).wants_answer
            await self._engine.heard(
                address, message.release, message.session, message.answer, wants_answer=wants
            )
        elif isinstance(message, messages.Hello):
            await self._engine.hello(address, message.board, message.firmware)
        elif isinstance(message, messages.Event):
            await self._engine.look()

    def concerns(self, entry: Heard) -> bool:
        """Whether `heard` wants it."""
        message = entry.message
        if isinstance(message, messages.Event):
            return message.code == codes.UPDATE
        return isinstance(message, (update.UpdateStatus, messages.Hello)) and entry.new

    def has_news(self, address: int) -> bool:
        return self._engine.has_news(address)

    async def tell(self, entry: Heard) -> None:
        """Say to a node that was heard just now what there is, as far as its windows go."""
        if not isinstance(entry.message, update.UpdateStatus):
            self._engine.at_work(entry.node.address)
        link = cast(Link, entry.link)  # all links of a gateway are such
        if not link.can_answer:
            return
        said = await self._engine.for_node(entry.node.address, way_of(link, entry.piv, self.most))
        self._send(entry.node.address, entry.channel, said)

    def _send(self, address: int, channel: Channel, said: list[Update]) -> None:
        for one in said:
            frame = channel.seal(messages.encode(update.Update(one.session, one.command)))
            if frame is None or not self._routes.send(address, frame):
                self.counters["not_sent"] += 1
                return  # what is missing will be asked for
            self.counters["sent"] += 1

    async def run(self) -> None:
        """What time brings."""
        turn = 0
        while True:
            self.on_progress()
            if turn % round(limits.TICK_S / limits.LOOK_S) == 0 and not await guard(
                self._engine.tick(), self._log, "campaigns_failed"
            ):
                self.counters["errors"] += 1
            await self.look()
            turn += 1
            await asyncio.sleep(limits.LOOK_S)

    async def look(self) -> None:
        """Speak to those on a cable who should have answered by now."""
        for address in self._engine.impatient():
            link, channel = self._routes.link_to(address), self._current_channel(address)
            if link is None or channel is None or not link.listens:
                continue
            if not await guard(self._speak(address, link, channel), self._log, "campaigns_failed"):
                self.counters["errors"] += 1

    async def _speak(self, address: int, link: Link, channel: Channel) -> None:
        self._send(address, channel, await self._engine.for_node(address, way_of(link, 0, self.most)))


def way_of(link: Link, piv: int, most: Callable[[int], int] | None) -> Way:
    """How a node can be answered. `most`: bytes that a broadcast may have at a spreading factor."""
    if isinstance(link, lora.Way):
        best = link.best
        room = link.room if most is None else most(best.sf)
        return Way(False, link.room, piv, best.sf, best.freq_hz, link.ended_s, room)
    return Way(link.listens, link.room, piv)
