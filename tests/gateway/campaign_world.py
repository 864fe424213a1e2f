"""Nodes that talk to the engine in messages, with losses and without a radio: what the tests of campaigns run on.

A node here keeps a session as a real one does (protocols/wire/ota.py), installs what is whole, tries it, and says how
that ended; its flash outlives everything.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from gateway import campaign_making as making
from gateway import campaign_rows as rows
from gateway.campaign_files import Files, Part
from gateway.campaign_plan import Plan
from gateway.campaign_talk import Frame, Update, Way
from gateway.campaigns import Campaigns
from hil_tests.world.ota_world import Memory
from protocols.wire import ota, outcomes, update
from tests.gateway.desk import BY, Desk

T = TypeVar("T")
CABLE = Way(listens=True, room=512)
AIR = Way(listens=False, room=222, sf=7, freq_hz=486_300_000)
PLAN = Plan((), (), "", 0.25, 0.1, 3, 7 * 86_400, 0)
SIZE = 3000
EVERYBODY = making.Choice()


def release(sequence: int = 2, node_type: str = "river", board: str = "virtual", size: int = SIZE) -> Files:
    """Bytes that nobody checks: what is checked is tested with real ones."""
    body = random.Random(sequence).randbytes(size)
    whole, small = Part("full", None, b"e" * 320, body), Part("from-0001", 1, b"e" * 320, body[: size // 5])
    return Files(f"releases/{node_type}-{board}/{sequence:04d}", node_type, board, sequence, (whole, small))


class KilledError(Exception):
    """kill -9."""


@dataclass
class SimNode:
    address: int
    health: int = outcomes.INSTALLED  # how its trial will end
    release: int = 1
    has_radio: bool = True
    is_there: bool = True
    is_busy: bool = False  # with an alarm, say
    flash: Memory = field(default_factory=Memory)
    ending: tuple[int, int] | None = None  # a record that nobody acknowledged yet
    in_pass: bool = False
    coming: update.Pass | None = None  # to a broadcast
    listens_s: float = 0.0  # for so long it waits for it at most

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        self.receiver = ota.OtaReceiver(self.flash, 1 << 20, lambda target: target > self.release)

    def hear(self, said: Update) -> bytes | None:
        """What it answers, as the answer of its update status."""
        command = said.command
        if command[0] == 0x00:
            return b"\x00\x03\x01"
        if command[0] == 0x41:
            if self.receiver.setup is None or self.receiver.session != said.session:
                return b"\x41\x03"
            called = update.decode_pass(command)
            if self.is_busy:
                return b"\x41\x02"
            if called.freq_hz and not self.has_radio:
                return b"\x41\x01"
            self.in_pass, self.coming = True, called if called.freq_hz else None
            self.listens_s = called.begins_in / 10 + called.lasts_s
            return b"\x41\x00"
        return self.receiver.hear(said.session, command)

    def wait(self, seconds: float) -> None:
        """For a pass that may have been called off."""
        self.listens_s -= seconds
        if self.coming is not None and self.listens_s < 0:
            self.coming, self.in_pass = None, False

    def whole(self) -> bytes:
        return b"".join(self.receiver.read(at + 1) for at in range(self.receiver.setup.fragments))  # type: ignore[union-attr]

    def install(self) -> bool:
        """Whether there was something to install; then its trial has ended as it will."""
        if self.receiver.setup is None or not self.receiver.is_solved:
            return False
        while not self.receiver.work():
            pass
        target = self.receiver.setup.descriptor
        self.ending = (target, self.health)
        if self.health == outcomes.INSTALLED:
            self.release = target
        self.receiver.forget()
        self.in_pass = False
        return True


class World:
    """A desk with an engine that can be killed, and nodes."""

    def __init__(self, office: Desk, seed: int, nodes: int, loss: float = 0.0) -> None:
        self.desk = office
        self.random = random.Random(seed)
        self.loss = loss
        self.nodes = {0x100 + at: SimNode(0x100 + at) for at in range(nodes)}
        self.said: list[tuple[int, Update]] = []
        self.cast: list[Frame] = []
        self.kills = 0
        self.kill_in = -1  # writes until the gateway is killed, before one or after it
        self._write = office.store.write
        office.store.write = self.write  # type: ignore[method-assign]
        self.start()

    def start(self) -> None:
        """A gateway begins, or begins again."""
        desk, random = self.desk, self.random.randbytes
        self.engine = Campaigns(desk.store, desk.registry, desk.clock, random, may_broadcast=True)

    async def begin(self, choice: making.Choice = EVERYBODY, plan: Plan = PLAN, *files: Files) -> making.Made:
        await self.desk.enrol(*self.nodes)
        made = await making.make(
            self.desk.store,
            self.desk.registry,
            self.desk.clock,
            list(files) or [release()],
            choice,
            plan,
            "fix",
            BY,
        )
        self.engine.reload()
        return made

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The store's; a kill may come before it or after it, for a transaction has no middle."""
        self.kill_in -= 1
        if self.kill_in == 0 and self.random.random() < 0.5:
            raise KilledError
        done = await self._write(work)
        if self.kill_in == 0:
            raise KilledError
        return done

    def is_lost(self) -> bool:
        return self.random.random() < self.loss

    async def uplink(self, node: SimNode, answer: bytes | None = None, way: Way = CABLE) -> None:
        """An uplink of any kind, or a status with this answer; and what follows from it until nobody answers."""
        while True:
            if not node.is_there or self.is_lost():
                return
            if answer is not None:
                await self.engine.heard(node.address, node.release, node.receiver.session, answer)
            answer = None
            for one in await self.engine.for_node(node.address, way):
                self.said.append((node.address, one))
                if not self.is_lost() and (got := node.hear(one)) is not None:
                    answer = got
            if answer is None:
                return

    async def turn(self, seconds: float = 30, way: Way = CABLE) -> None:
        """So much time; every node that is there is heard once, and those in a pass are spoken to."""
        self.desk.clock.pass_s(seconds)
        await self.engine.tick()
        for node in self.there():
            node.wait(seconds)
            if node.ending is not None:
                await self.engine.ended(node.address, *node.ending)
                node.ending = None
            if not node.in_pass:
                await self.uplink(node, way=way)
        if way.listens:
            await self._cables()
        else:
            await self._alone_on_air(way)
            await self._passes(way)
        for node in self.there():
            if node.install():
                await self.engine.hello(node.address, "virtual", f"0.1.0+r{node.release}")
            if node.coming is None:
                node.in_pass = False

    def there(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.is_there]

    async def _cables(self) -> None:
        for _ in range(40):
            self.desk.clock.pass_s(5)
            asked = self.engine.impatient()
            if not asked:
                return
            for address in asked:
                await self.uplink(self.nodes[address])

    async def _alone_on_air(self, way: Way) -> None:
        """A node in a pass of its own says what it has, and takes what comes in the windows after that."""
        self.desk.clock.pass_s(2)
        for _ in range(20):
            alone = [node for node in self.there() if node.in_pass and node.coming is None]
            for node in alone:
                if not node.receiver.deficit():
                    node.in_pass = False
                await self.uplink(node, node.receiver.status(), way)

    async def _passes(self, way: Way) -> None:
        for found in self.engine.passes_due():
            while (frame := await self.engine.frame(found)) is not None:
                self._hears(frame)
            question = await self.engine.question(found)
            if question is None:
                continue
            heard = self._hears(question)
            is_named = question.command[0] == update.NEXT
            # Reports are in before a pass that is named begins.
            self.desk.clock.pass_s(
                update.decode_next(question.command)[0] / 20 if is_named else found.lasts_s
            )
            for node in self.there():
                if node.coming is None or node.coming.secret != found.key:
                    continue
                if is_named and node in heard and node.receiver.deficit():
                    await self._names(node, question.command)
                else:
                    node.coming, node.in_pass = None, False
                    await self.uplink(node, node.receiver.status(), way)

    async def _names(self, node: SimNode, command: bytes) -> None:
        """It comes again, and tells what it has, to which nobody answers."""
        begins_in, lasts_s = update.decode_next(command)
        node.listens_s = begins_in / 20 + lasts_s
        if not self.is_lost():
            status = node.receiver.status()
            await self.engine.heard(
                node.address, node.release, node.receiver.session, status, wants_answer=False
            )

    def _hears(self, frame: Frame) -> list[SimNode]:
        self.cast.append(frame)
        heard = [
            node
            for node in self.there()
            if node.coming is not None and node.coming.secret == frame.key and not self.is_lost()
        ]
        for node in heard:
            if frame.command[0] != update.NEXT:
                node.receiver.hear(frame.session, frame.command)
        return heard

    async def live(self, turns: int, way: Way = CABLE, kill_each: int = 0) -> None:
        """Until the campaign is over, with a kill about each so many writes."""
        for _ in range(turns):
            if kill_each and self.kill_in < 0:
                self.kill_in = self.random.randint(1, 2 * kill_each)
            try:
                await self.turn(way=way)
            except KilledError:
                self.kills += 1
                self.kill_in = -1
                self.start()
                for node in self.nodes.values():
                    node.in_pass, node.coming = False, None
            if self.campaign() == rows.ENDED:
                return

    def states(self) -> dict[int, str]:
        return {one.node: one.state for one in self.desk.store.read(lambda reader: rows.members(reader, 1))}

    def campaign(self) -> str:
        return self.desk.store.read(rows.campaigns)[0].state
