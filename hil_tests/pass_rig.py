"""An update for a hundred nodes on the air, by the daemon's own link, while covers are opened around them.

    with PassRig(folder, nodes=100, fragments=94, losses=…, loss=0.3, covers=24, seed=5) as rig:
        rig.settle_in()
        rig.update()                        every pass until all have it
        rig.figures()

The covers run the firmware and alarm to the real daemon, whose store acknowledges them. The nodes of the update are
light ones (world/pass_node.py): what the daemon's link hands up of them goes to a maintainer here, who does with the
sender of wire/ota_host.py what campaigns do. Passes are the daemon's (gateway/broadcast.py), on the daemon's radios.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway import update_limits
from gateway.broadcast import Broadcaster, begins_in_ds
from gateway.campaign_talk import Frame, Pass
from hil_tests.air_rig import AirRig
from hil_tests.cover_rig import Opening
from hil_tests.errors import RigError
from hil_tests.world import pass_node
from hil_tests.world.air import Flight
from hil_tests.world.pass_node import Call, Losses, PassNode
from hil_tests.world.propagation import SNR_MIN_DB, Spot
from hil_tests.world.sim_gateway import quiet_logger
from protocols.wire import ota, ota_host

SESSION, SF, FRAGMENT = 1, 7, 190
_FIRST = 0x4000
_MARGIN_DB = 10.0
# The nodes speak for the first time within so long, and the first pass begins then: some are told too early.
_ROUND_S, _FIRST_PASS_S = 1500.0, 2100.0
# After the last report, until the next pass: what was lost on the way is told again.
_REPORT_MARGIN_S = 240.0
# 2 ** (4 + 4) s for a hundred reports: one in 2.5 s is no crowd.
_DELAY = 4
_LONGEST_S = 6 * 3600.0
_WHO = 0  # what a node without an update has to say
_OPEN_S = 60.0
_ALARM_EVERY_S = 5.0
_NOTICE_S = 10.0


class Maintainer:
    """What a campaign is here: who has what, and when the next pass is. It is `broadcast.Rows`."""

    def __init__(self, sender: ota_host.OtaSender, freq_hz: int, now_s: Callable[[], float]) -> None:
        self.sender = sender
        self.plan: Pass | None = None
        self.passes = 0
        self.begun: Callable[[Pass], None] = lambda found: None
        self._freq_hz = freq_hz
        self._now_s = now_s
        self._piv = 0
        self._is_over = False

    def appoint(self, begins_s: float) -> None:
        self.plan = Pass(SESSION, SF, self._freq_hz, bytes(16), begins_s, 0.0)
        self._is_over = False

    def heard(self, way: Any, frame: bytes) -> None:
        """What a node says, and everything that goes down in answer."""
        address, answer = int.from_bytes(frame[3:5], "big"), pass_node.what_is_in(frame, 7)
        if answer[0] in (ota.SETUP, ota.STATUS, ota.DELETE, ota.MISSING):
            self.sender.hear(address, answer)
        elif answer[0] == pass_node.CALL and self.plan is not None and address in self.plan.told:
            self.plan.coming.add(address)
        asks = answer[0] in (_WHO, ota.STATUS, ota.MISSING)
        commands = list(self._for(address, way, knows=answer[0] != _WHO)) if asks else []
        for command in commands or [b""]:
            way.send(address, pass_node.down_frame(address, command))

    def _for(self, address: int, way: Any, *, knows: bool) -> Iterator[bytes]:
        receiver, plan = self.sender.receivers[address], self.plan
        if receiver.state in (ota_host.COMPLETE, ota_host.REFUSED):
            return
        if not knows:
            yield self.sender.setup.encode()
        elif receiver.is_stuck and (command := self.sender.for_node(address)) and command[0] == ota.MISSING:
            yield command
        if plan is not None and plan.begins_s - self._now_s() > _NOTICE_S:
            plan.told.add(address)
            begins_in_s = begins_in_ds(plan.begins_s, way.ended_s) / 10
            yield Call(begins_in_s, plan.lasts_s, plan.freq_hz, plan.sf).encode()

    # -- broadcast.Rows --------------------------------------------------------------------------------------

    def passes_due(self) -> Sequence[Pass]:
        plan = self.plan
        if plan is None or plan.begins_s > self._now_s() or self._is_over:
            return []
        if plan.left is None:
            plan.left = 0
            if not plan.coming:
                self._appoint_next()
                return []
            self._only(plan.coming)
            self.sender.begin()
            self.sender.collected()
            self.passes += 1
            self.begun(plan)
        return [plan]

    def _only(self, coming: set[int]) -> None:
        """Rows are for those who come: the others count again when they were heard."""
        for address, receiver in self.sender.receivers.items():
            if address not in coming and receiver.state == ota_host.TAKING:
                receiver.state = ota_host.GONE

    async def frame(self, found: Pass) -> Frame | None:
        command = self._row()
        return None if command is None else self._frame(command)

    def _row(self) -> bytes | None:
        """For everybody; or for the last few, whom it costs nothing to be heard by all."""
        if self.sender.phase != ota_host.REPAIRING:
            command = self.sender.broadcast()
            return command if command is not None and command[0] == ota.DATA else None
        for address in self.sender.receivers:
            command = self.sender.for_node(address)
            if command is not None and command[0] == ota.DATA:
                return command
        return None

    async def question(self, found: Pass) -> Frame | None:
        self._is_over = True
        self._appoint_next()
        return self._frame(bytes((ota.STATUS, 1)))

    def _appoint_next(self) -> None:
        """When all have had their time to answer."""
        report_s = 1 << (self.sender.setup.delay + 4)
        self.appoint(self._now_s() + report_s + _REPORT_MARGIN_S)

    def _frame(self, command: bytes) -> Frame:
        self._piv += 1
        return Frame(SESSION, command, bytes(16), self._piv, SF, self._freq_hz)


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
        towers: int = 1,
    ) -> None:
        self.light: dict[int, PassNode] = {}
        self.down_s: defaultdict[str, float] = defaultdict(float)
        self.absent: defaultdict[int, set[int]] = defaultdict(
            set
        )  # rows that went out while a node was not there
        self._count, self._fragments = nodes, fragments
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
        self.maintainer = Maintainer(sender, freqs_hz[0], lambda: self.world.now_s)
        self.maintainer.begun = self._while_it_lasts
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
        """A name, which decides what lies between, and a place where a tower hears it well enough for a pass."""
        needed_db = SNR_MIN_DB[SF] + _MARGIN_DB
        for number in range(1000):
            name = f"light {address} {number}"
            spot, snr_db = self._spot(name, is_cover=False)
            if snr_db >= needed_db:
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
            lambda address: (),
            lambda frame: pass_node.group_frame(frame.session, frame.piv, frame.command),
            quiet_logger(),
            now_s=gateway.clock.monotonic,
        )
        task = gateway.loop.create_task(self.broadcaster.run())
        self.air.taps.append(self._weigh)
        self.maintainer.appoint(self.world.now_s + _FIRST_PASS_S)
        for node in self.light.values():
            self.world.after(self.random(f"first {node.address}").uniform(1, _ROUND_S), node.say_status)
        self.began_s = self.world.now_s
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
                self._note_absent(int.from_bytes(command[1:3], "little"))
        elif payload.startswith(pass_node.DOWN):
            what = "answers"
        self.down_s[what] += flight.end_s - flight.begin_s

    def _note_absent(self, row: int) -> None:
        for address, node in self.light.items():
            if node.pass_began_s is None and not node.is_whole:
                self.absent[address].add(row)

    # -- alarms during passes --------------------------------------------------------------------------------

    def _while_it_lasts(self, found: Pass) -> None:
        """Some of the covers that lie right are opened while rows go out."""
        rng = self.random(f"openings {self.maintainer.passes}")
        left = max(
            1, self.maintainer.sender._left
        )  # of this round; a row and its share of the pauses take 1.7 s
        within_s = min(update_limits.PASS_SENDS_S - 20, max(5.0, 1.7 * left))
        lying = [node for node in self.motions if node not in self._open]
        for node in rng.sample(lying, min(len(lying), max(1, round(within_s / _ALARM_EVERY_S)))):
            opening = Opening(node, rng.uniform(20, 85) if rng.random() < 0.5 else rng.uniform(100, 170), 1.0)
            self.openings.append(opening)
            at_s, azimuth = self.world.now_s + rng.uniform(0, within_s), rng.uniform(0, 360)
            self.world.at(at_s, self._opener(opening, azimuth))
            self.world.at(at_s + _OPEN_S, self._closer(opening, azimuth, 1.0))

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
