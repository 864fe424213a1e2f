"""Nodes that talk to the engine in messages, with losses and without a radio: what the tests of campaigns run on.

A node here keeps a session as a real one does (protocols/wire/ota.py), installs what is whole, tries it, and says how
that ended; its flash outlives everything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from gateway import campaign_making as making
from gateway import campaign_rows as rows
from gateway.campaign_files import Files, Part
from gateway.campaign_plan import Plan
from gateway.campaign_talk import Update, Way
from gateway.campaigns import Campaigns
from protocols.wire import ota, outcomes
from tests.gateway.desk import BY, Desk
from tests.wire.ota_world import Memory

CABLE = Way(listens=True, room=512)
PLAN = Plan((), (), "", 0.25, 0.1, 3, 7 * 86_400, 0)
SIZE = 3000
EVERYBODY = making.Choice()


def release(sequence: int = 2, node_type: str = "river", board: str = "virtual", size: int = SIZE) -> Files:
    """Bytes that nobody checks: what is checked is tested with real ones."""
    body = random.Random(sequence).randbytes(size)
    whole, small = Part("full", None, b"e" * 320, body), Part("from-0001", 1, b"e" * 320, body[: size // 5])
    return Files(f"releases/{node_type}-{board}/{sequence:04d}", node_type, board, sequence, (whole, small))


@dataclass
class SimNode:
    address: int
    health: int = outcomes.INSTALLED  # how its trial will end
    release: int = 1
    hears_broadcasts: bool = True
    is_there: bool = True
    flash: Memory = field(default_factory=Memory)
    ending: tuple[int, int] | None = None  # a record that nobody acknowledged yet
    in_pass: bool = False
    last_session: int = 0

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        self.receiver = ota.OtaReceiver(self.flash, 1 << 20, lambda target: target > self.release)

    def hear(self, update: Update) -> bytes | None:
        """What it answers, as the answer of its update status."""
        command = update.command
        if command[0] == 0x00:
            return b"\x00\x03\x01"
        if command[0] == 0x41:
            if self.receiver.setup is None or self.receiver.session != update.session:
                return b"\x41\x03"
            self.in_pass = True
            return b"\x41\x00"
        return self.receiver.hear(update.session, command)

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
        self.start()

    def start(self) -> None:
        """A gateway begins, or begins again."""
        self.engine = Campaigns(self.desk.store, self.desk.registry, self.desk.clock, self.random.randbytes)

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
            for update in await self.engine.for_node(node.address, way):
                self.said.append((node.address, update))
                if not self.is_lost() and (got := node.hear(update)) is not None:
                    answer = got
            if answer is None:
                return

    async def turn(self, seconds: float = 30, way: Way = CABLE) -> None:
        """So much time; every node that is there is heard once, and those in a pass are spoken to."""
        self.desk.clock.pass_s(seconds)
        await self.engine.tick()
        for node in list(self.nodes.values()):
            if not node.is_there:
                continue
            if node.ending is not None:
                release, outcome = node.ending
                await self.engine.ended(node.address, release, outcome)
                node.ending = None
            if not node.in_pass:
                await self.uplink(node, way=way)
        for _ in range(40):
            self.desk.clock.pass_s(5)
            asked = self.engine.impatient()
            if not asked:
                break
            for address in asked:
                await self.uplink(self.nodes[address], way=way)
        for node in self.nodes.values():
            if node.is_there and node.install():
                await self.engine.hello(node.address, "virtual")
            node.in_pass = False

    def states(self) -> dict[int, str]:
        return {one.node: one.state for one in self.desk.store.read(lambda reader: rows.members(reader, 1))}

    def campaign(self) -> str:
        return self.desk.store.read(rows.campaigns)[0].state


async def run(world: World, turns: int) -> None:
    for _ in range(turns):
        await world.turn()
        if world.campaign() == "ended":
            return
