"""The downlink on a desk, with one wire to one node and nothing sealed, so that a test can read what goes
down.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from gateway.downlink import Downlink
from gateway.links.routes import Routes
from gateway.presence import Presence
from protocols.wire import codes, messages
from tests.gateway.desk import BY, Desk

NODE = 0x12
IDENTIFY = codes.IDENTIFY


@dataclass
class Wire:
    """A link that keeps what was sent, and a channel that seals nothing, so that a test can read it."""

    name: str = "river-1"
    listens: bool = True
    wants_answer: bool = True
    room: int = 512
    is_up: bool = True
    sent: list[messages.Down] = field(default_factory=list)

    @property
    def can_answer(self) -> bool:
        return self.listens

    def send(self, address: int, frame: bytes) -> bool:
        if self.is_up:
            self.sent.append(messages.decode_down(frame))
        return self.is_up

    def got(self, kind: type) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]


@dataclass
class OpenChannel:
    has_piv: bool = True
    ledger: Any = None

    def seal(self, plain: bytes) -> bytes | None:
        return plain if self.has_piv else None


@dataclass
class HeardNode:
    address: int


@dataclass
class Heard:
    """`gateway.ingest.Heard`, as far as the downlink looks into it."""

    link: Wire
    message: messages.Up
    piv: int
    channel: OpenChannel = field(default_factory=OpenChannel)
    node: HeardNode = field(default_factory=lambda: HeardNode(NODE))
    new: bool = True
    ledger: Any = None

    def _replace(self, **changes: Any) -> Heard:
        return replace(self, **changes)


def status(piv: int = 1, *, time: int = 0, tq: int = messages.GNSS, link: Wire) -> Any:
    return Heard(link, messages.Status(0, time, tq, {}), piv)


def result(command_id: int, outcome: int = messages.DONE, *, link: Wire, detail: Any = None) -> Any:
    return Heard(link, messages.Result(1, 0, 0, 0, command_id, outcome, detail, None), 2)


class Rig:
    """The downlink on a desk, with one wire to one node."""

    def __init__(self, office: Desk) -> None:
        self.desk = office
        self.wire = Wire()
        self.channel = OpenChannel()
        self.downlink = Downlink(
            office.commands,
            office.wishes,
            Routes(),
            Presence(office.clock),
            office.clock,
            lambda address: self.channel,
            bytes,
            structlog.get_logger(),
        )

    async def hear(self, *heard: Any) -> None:
        """Have ingest tell of `heard`, and wait for what is done in the background."""
        self.downlink.on_heard(list(heard))
        await self.settle()

    async def settle(self) -> None:
        while self.downlink.working:
            await asyncio.gather(*self.downlink.working)

    async def add(self, op: int = IDENTIFY, args: int | None = 5, ttl_s: int = 60) -> int:
        return await self.desk.commands.add(NODE, op, args, ttl_s, BY)

    def state(self, number: int) -> str:
        return self.desk.commands.reports(number)[0].state


def having(version: int, *, link: Wire) -> Any:
    """A status that says which settings the node has."""
    return Heard(link, messages.Status(0, 0, messages.GNSS, {12: version}), 3)


def reporting(version: int, *, link: Wire) -> Any:
    return Heard(link, messages.SettingsReport(version, {0: 900}), 4)


async def turn(rig: Rig) -> None:
    """One turn of the downlink's own loop."""
    await rig.downlink.look()
    await rig.settle()


async def no_time(rig: Rig) -> None:
    rig.desk.clock.is_synchronised = False
