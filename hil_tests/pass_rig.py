"""An update for a hundred nodes on the air, by the daemon's own link, while covers are opened around them.

    with PassRig(folder, nodes=100, fragments=94, losses=…, loss=0.3, covers=24, seed=5) as rig:
        rig.settle_in()
        rig.update()                        every pass until all have it
        rig.figures()

The covers run the firmware and alarm to the real daemon, whose store acknowledges them. The nodes of the update are
light ones (world/pass_node.py): what the daemon's link hands up of them goes to a maintainer here. When passes are, and
how many rows they bring, is said by the campaigns' own (gateway/campaign_passes.py); they go out by the daemon's
broadcaster (gateway/broadcast.py) over its radios. The first tower reaches every node of the update, so it is the one
that sends; another one hears meanwhile what the first is deaf for.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from gateway import campaign_talk as talk
from gateway.broadcast import Broadcaster, reach_of
from gateway.campaign_passes import Passes
from gateway.campaign_sessions import Sessions
from gateway.campaign_talk import Frame, Pass
from gateway.clock import Clock
from gateway.links.routes import Routes
from hil_tests.air_rig import AirRig
from hil_tests.cover_rig import Opening
from hil_tests.errors import RigError
from hil_tests.world import pass_node
from hil_tests.world.air import Flight
from hil_tests.world.pass_node import Losses, PassNode
from hil_tests.world.propagation import SNR_MIN_DB, Spot, link_loss_db
from hil_tests.world.sim_gateway import quiet_logger
from protocols.wire import ota, ota_host

SESSION, SF, FRAGMENT = 1, 7, 190
_FIRST = 0x4000
_MARGIN_DB, _BW_HZ = 10.0, 125_000
# The nodes speak for the first time within so long.
_ROUND_S = 1500.0
# 2 ** (4 + 4) s for a hundred reports, as campaigns have it.
_DELAY = 4
_LONGEST_S = 12 * 3600.0
_AIR_S = 3600.0  # more than any pass takes
_WHO = 0  # what a node without an update has to say
_OPEN_S = 60.0
# Of the covers around one gateway one is opened so often while rows go out, and so often between passes: at twice that,
# what the gateway answers to covers is what makes their alarms late, update or not.
_ALARM_EVERY_S, _ALARM_BETWEEN_S = 16.0, 32.0


class Maintainer:
    """What a campaign is here: who has what. It is `broadcast.Rows`; when a pass is, and with how many rows, is for the
    campaigns' own passes to say (gateway/campaign_passes.py), whose sessions it stands in for."""

    def __init__(self, sender: ota_host.OtaSender, channel_hz: int, clock: Clock) -> None:
        self.sender = sender
        self.begun: list[Pass] = []
        self.over: dict[int, float] = {}  # which of them → when
        self._clock = clock
        self._row = self._piv = 0
        self.routes = Routes()
        self._latest: dict[int, bytes] = {}
        self._checks_in: dict[int, bool] = {}  # whether that one asked, or answered
        self.passes = Passes(cast("Sessions", self), clock, lambda address: _ROUND_S)
        self.passes.channel_of = lambda sf, freq_hz: channel_hz

    # -- what campaign_sessions.py knows ---------------------------------------------------------------------

    def fragments(self, number: int) -> int:
        return self.sender.setup.fragments

    def broadcast(self, number: int) -> int:
        return self._row

    def row(self, number: int, row: int) -> bytes:
        return ota.data_fragment(row, self.sender.row(row))

    def key(self, number: int) -> bytes:
        return bytes(16)

    def report_s(self, number: int) -> int:
        return 1 << (self.sender.setup.delay + 4)

    async def take_row(self, number: int) -> int:
        self._row += 1
        return self._row

    async def take_piv(self, number: int) -> int:
        self._piv += 1
        return self._piv

    # -- what campaigns.py does ------------------------------------------------------------------------------

    def heard(self, way: Any, frame: bytes) -> None:
        """What a node says, and everything that goes down in answer."""
        address, answer = int.from_bytes(frame[3:5], "big"), pass_node.what_is_in(frame, 7)
        asks = answer[0] in (_WHO, ota.STATUS)
        self.routes.heard(address, way)
        self.passes.reported(address, SESSION, wants_answer=way.wants_answer)
        if answer[0] in (ota.SETUP, ota.STATUS):
            self.sender.hear(address, answer)
        elif answer[0] == pass_node.CALL:
            if self._latest.get(address) != frame:  # it comes again when it was not answered
                self._latest[address] = frame
                self._checks_in[address] = self.passes.answered(address, SESSION, answer[1]) is None
            asks = self._checks_in[address]
        if not way.wants_answer:
            return
        commands = list(self._for(address, way, knows=answer[0] != _WHO)) if asks else []
        for command in commands or [b""]:
            way.send(address, pass_node.down_frame(address, command))

    def _for(self, address: int, way: Any, *, knows: bool) -> Iterator[bytes]:
        if not self.is_taking(address):
            return
        if not knows:
            yield self.sender.setup.encode()
        best, now_s = way.best, self._clock.monotonic()
        heard = talk.Way(False, way.room, 0, best.sf, best.freq_hz, way.ended_s)
        mates = [one for one in self.sender.receivers if self.is_taking(one)]
        if (call := self.passes.call(address, SESSION, heard, mates, now_s)) is not None:
            yield call

    def is_taking(self, address: int) -> bool:
        return self.sender.receivers[address].state in (ota_host.INVITED, ota_host.TAKING)

    # -- broadcast.Rows --------------------------------------------------------------------------------------

    def passes_due(self) -> Sequence[Pass]:
        return self.passes.due()

    async def frame(self, found: Pass) -> Frame | None:
        if found not in self.begun:
            self.begun.append(found)
        nodes = [one for one in (*found.coming, *self.passes.waited_for(found)) if self.is_taking(one)]
        deficits = {one: self.sender.receivers[one].deficit for one in nodes}
        return await self.passes.frame(found, deficits, _AIR_S)

    async def question(self, found: Pass) -> Frame | None:
        self.over.setdefault(self.begun.index(found), self._clock.monotonic())
        return await self.passes.question(found, may_name=True)


class PassRig(AirRig):
    """`losses(address)` says which rows do not reach a node; `loss`: of everything else on its way there or back."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int,
        fragments: int,
        losses: Callable[[int], Losses],
        loss: float,
        store: Callable[[], ota.Store],
        covers: int,
        seed: int,
        towers: int,
    ) -> None:
        self.light: dict[int, PassNode] = {}
        self.down_s: defaultdict[str, float] = defaultdict(float)
        self.flown: set[int] = set()  # rows: one for which a pass has no time left is never sent
        self._count, self._fragments = nodes, fragments
        self._openings_rng = random.Random(f"{seed} openings")
        self._losses, self._light_loss, self._store = losses, loss, store
        super().__init__(folder, covers, seed, towers=towers, loss=0.10, across_m=2000.0, trucks_a_day=4)

    # -- building it -----------------------------------------------------------------------------------------

    def _place_nodes(self) -> None:
        # The first channel is theirs in a pass; they speak on all.
        freqs_hz = list(self.towers[0].concentrator.freqs_hz)
        data = self.random("update").randbytes(self._fragments * FRAGMENT - 3)
        addresses = list(range(_FIRST, _FIRST + self._count))
        sender = ota_host.OtaSender(data, FRAGMENT, SESSION, 7, addresses, _DELAY)
        self.payload = data
        self.maintainer = Maintainer(sender, freqs_hz[0], self.alive.clock)
        for address in addresses:
            self.light[address] = PassNode(
                address,
                self.air,
                *self._near(address),
                freqs_hz,
                SF,
                self._losses(address),
                self._light_loss,
                len(data) + FRAGMENT,
                self._store(),
                self.random(f"light {address}"),
            )

    def _near(self, address: int) -> tuple[str, Spot]:
        """A name, which decides what lies between, and a place where the first tower reaches it well enough."""
        needed_dbm = self.physics.noise_dbm(_BW_HZ) + SNR_MIN_DB[SF] + _MARGIN_DB
        for number in range(1000):
            name = f"light {address} {number}"
            spot, _ = self._spot(name, is_cover=False)
            places = (spot, self._tower_spots[0])
            loss_db = link_loss_db(self.physics, self.seed, (name, "tower 0"), places)
            if pass_node.DBM - loss_db >= needed_dbm:
                return name, spot
        raise RigError(f"node {address}: no place where a tower hears it at SF{SF}; make the town smaller")

    def update(self) -> None:
        """From the first word of it until nobody lacks anything, or nobody gets on."""
        self._place_nodes()
        gateway = self.alive
        assert gateway.air is not None
        link = gateway.air.link
        to_ingest, uplinks = link._on_frame, self.random("uplinks")

        def sort(way: Any, frame: bytes) -> None:
            if not frame.startswith(pass_node.UP):
                to_ingest(way, frame)
            elif uplinks.random() >= self._light_loss:
                self.maintainer.heard(way, frame)

        link._on_frame = sort
        self.broadcaster = Broadcaster(
            self.maintainer,
            link.broadcasts,
            [radio.name for radio in link.radios],
            reach_of(self.maintainer.routes),
            lambda frame: pass_node.group_frame(frame.session, frame.piv, frame.command),
            quiet_logger(),
            now_s=gateway.clock.monotonic,
        )
        task = gateway.loop.create_task(self.broadcaster.run())
        self.air.taps.append(self._weigh)
        for node in self.light.values():
            self.world.after(self.random(f"first {node.address}").uniform(1, _ROUND_S), node.say_status)
        self.began_s = self.world.now_s
        self._open_covers()
        while not self.is_done and self.world.now_s < self.began_s + _LONGEST_S:
            self.run_s(60)
        self.ended_s = self.world.now_s
        self.run_s(600)  # the last alarms, and whoever would still listen
        task.cancel()

    @property
    def is_done(self) -> bool:
        return all(one.state == ota_host.COMPLETE for one in self.maintainer.sender.receivers.values())

    def _weigh(self, flight: Flight) -> None:
        payload = flight.signal.payload
        if not flight.signal.is_inverted:
            return
        what = "covers"
        if payload.startswith(pass_node.GROUP):
            command = pass_node.what_is_in(payload, 8)
            what = "rows" if command[0] == ota.DATA else "questions"
            if what == "rows":
                self.flown.add(int.from_bytes(command[1:3], "little"))
        elif payload.startswith(pass_node.DOWN):
            what = "answers"
        self.down_s[what] += flight.end_s - flight.begin_s

    # -- alarms during passes --------------------------------------------------------------------------------

    def _open_covers(self) -> None:
        """Again and again, from the first pass on: one of those that lie right, and are known to."""
        rng, passes = self._openings_rng, self.maintainer
        every_s = (_ALARM_EVERY_S if self.is_sending else _ALARM_BETWEEN_S) / len(self.towers)
        raised = {opening.node for opening in self.openings if opening.cleared_ms is None}
        lying = [node for node in self.motions if node not in self._open and node not in raised]
        if passes.begun and lying and not self.is_done and rng.random() < 1 / every_s:
            angle = rng.uniform(20, 85) if rng.random() < 0.5 else rng.uniform(100, 170)
            opening, azimuth = Opening(rng.choice(lying), angle, 1.0), rng.uniform(0, 360)
            self.openings.append(opening)
            self._opener(opening, azimuth)()
            self.world.after(_OPEN_S, self._closer(opening, azimuth, 1.0))
        if not self.is_done:
            self.world.after(1.0, self._open_covers)

    @property
    def is_sending(self) -> bool:
        return len(self.maintainer.begun) > len(self.maintainer.over)

    def fell_into_a_pass(self, opening: Opening) -> bool:
        """Whether its alarm was due while rows went out."""
        over, begun = self.maintainer.over, self.maintainer.begun
        due_s = self.alive.clock.monotonic() - self.world.unix_ms() / 1000 + opening.due_s
        return any(one.begins_s <= due_s <= over.get(at, math.inf) for at, one in enumerate(begun))

    # -- figures ---------------------------------------------------------------------------------------------

    @property
    def complete(self) -> int:
        return sum(self._has_it(node) for node in self.light.values())

    def _has_it(self, node: PassNode) -> bool:
        if not node.is_whole:
            return False
        while not node.ota.work():
            pass
        return b"".join(node.ota.read(number) for number in range(1, self._fragments + 1)) == self.payload

    def listening(self) -> int:
        """Nodes whose radio is on."""
        return sum(node.is_listening for node in self.light.values())
