"""A whole update of one node, told by a gateway that only goes by what it hears: offer, pass, a next pass, the end.

The station has slots, and the release is a real one in small: it is received, installed and judged by the firmware.
The power may fail in one operation of the flash of `state`; it comes back, and the gateway goes on.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from firmware import slots
from firmware.durable import Document
from hil_tests.world.flash import LittleFs
from hil_tests.world.sim_node import Promises, TornFlash
from hil_tests.world.sim_slots import SlotStation
from protocols.wire import codes, group, messages, ota, outcomes, update
from protocols.wire.ota_host import OtaSender
from tests.firmware.install_cases import files
from tests.firmware.install_cases import update as update_of
from tests.firmware.receive_rig import NODE, SESSION, alone, answers, is_receiving
from tests.firmware.sky import Sky
from tests.firmware.street import Street

if TYPE_CHECKING:
    from collections.abc import Callable

OLD, NEW = 1, 2
# A reading each minute, and reports so seldom that some are always waiting to be sent.
SETTINGS = {0: 60, 1: 900, 2: 3600}
FRAGMENT = 20  # 18 rows
SECRET = bytes(range(40, 56))
FREQ_HZ, SF = 471_900_000, 7
BEGINS_S, LASTS_S = 20, 120
# Rows of the first pass, which names the next.
FIRST_ROWS = 9
COMES = bytes((update.COME, update.COMES))
# Offers and passes until it must have come to its end.
TURNS_MAX = 25


class Dark(Exception):
    """The power has failed."""


class Story:
    """``world``: a Street or a Sky whose node has not been started yet."""

    def __init__(self, world: Any, flash: TornFlash) -> None:
        self.world = world
        self.flash = flash
        self.station: Any = world.station
        self.sender = OtaSender(update_of(files(OLD), files(NEW), NEW), FRAGMENT, SESSION, NEW, [NODE])
        self.marks: list[tuple[int, str]] = []  # operation from which on a stage lasts
        self.cuts = self.turns = 0
        self.promises = Promises()
        self.station.on_start = self._started
        self._row = 0
        self._has_named = False
        self._settings = self._document("settings")
        self.station.power_on()
        self.run(250)

    def _started(self, node: Any) -> None:
        self.promises.watch(node)

    def _document(self, name: str) -> bytes | None:
        return Document(LittleFs(self.flash), name).load()

    def run(self, seconds: float) -> None:
        self.world.run(seconds)
        if self.flash.is_cut:
            raise Dark

    def until(self, is_so: Callable[[], bool], within_s: int) -> bool:
        """Whether it became so."""
        for _ in range(within_s):
            if is_so():
                return True
            self.run(1)
        return is_so()

    def mark(self, stage: str) -> None:
        self.marks.append((self.flash.chip.ops, stage))

    # -- the gateway --------------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """All of it, to its end or until that can not be waited for."""
        for self.turns in range(TURNS_MAX):
            try:
                if self.has_ended():
                    self.run(90)  # it is told of that, and forgets what it received
                    return
                self._turn()
            except Dark:
                self._power_again()

    def _power_again(self) -> None:
        self.cuts += 1
        self.world.run(5)
        self.flash.power()
        self.station.power_on()
        self.world.run(20)

    def has_ended(self) -> bool:
        return self._ends() != []

    def _ends(self) -> list[Any]:
        """What it told, each record once."""
        found = {
            event.seq: event.detail
            for event in self.world.peer.of(messages.Event)
            if event.code == codes.UPDATE
        }
        return list(found.values())

    def _turn(self) -> None:
        """One offer, and the passes that follow from it."""
        if not is_receiving(self.station):
            self.mark("offer")
            answer = self.ask(lambda piv: messages.Update(SESSION, self.sender.setup.encode()), ota.SETUP)
            if answer != bytes((ota.SETUP, 0)):
                self.until(self.has_ended, 120)  # it is installing it, or has it
                return
            self.mark("agree")
            if self.ask(self._call, update.COME) != COMES:
                self.run(30)
                return
            if not self.until(lambda: is_receiving(self.station), BEGINS_S + 30):
                return
        self.mark("receive")
        if not self._has_named:
            self._has_named = True
            self.rows(FIRST_ROWS)
            self.mark("next")
            self.name_next()
            self.until(lambda: not is_receiving(self.station), 90)
            if not self.until(lambda: is_receiving(self.station), 90):
                return
            self.mark("receive")
        self.rows(self.sender.setup.fragments + 4)
        self.until(self.has_ended, 240)

    def rows(self, count: int) -> None:
        for _ in range(count):
            if not is_receiving(self.station):
                return
            self._row += 1
            self.send(ota.data_fragment(self._row, self.sender.row(self._row)))

    # -- what kind of link it is ----------------------------------------------------------------------------------

    def ask(self, makes: Callable[[int], Any], kind: int) -> bytes:
        """Say something; what the node answers, nothing when it does not."""
        raise NotImplementedError

    def send(self, command: bytes) -> None:
        raise NotImplementedError

    def name_next(self) -> None:
        raise NotImplementedError

    def _call(self, piv: int) -> messages.Update:
        raise NotImplementedError

    def _said(self, kind: int, since: int) -> bytes:
        return next((said for said in answers(self.world.peer)[since:] if said[0] == kind), b"")

    # -- its end --------------------------------------------------------------------------------------------------

    def wrong(self) -> list[str]:
        """What does not hold at the end."""
        kept = set(self.promises.kept)
        for _ in range(60):
            if kept <= self.world.peer.seqs():
                break
            self.world.run(30)
        node = self.station.node
        if node is None or is_receiving(self.station):
            return ["it is not at work"]
        found = {
            f"it told of its end {self._ends()}": self._ends() == [[NEW, outcomes.INSTALLED]],
            f"it ran {self.station.sequences}": self.station.sequences[-1] == NEW
            and set(self.station.sequences) == {OLD, NEW},
            "what it runs is not the release": self._runs() == files(NEW),
            f"records are gone: {kept - self.world.peer.seqs()}": kept <= self.world.peer.seqs(),
            "its settings are others": self._document("settings") == self._settings,
            f"it joined {self.world.peer.joins} times": self.world.peer.joins == 1,
            f"it crashed: {node.health.traceback}": not node.health.traceback,
            "its call is still there": not self._document("call"),
        }
        return [what for what, holds in found.items() if not holds]

    def _runs(self) -> dict[str, bytes]:
        fs, slot = self.station.program()
        made = {}
        for path in files(NEW):
            with fs.open(f"{slots.FOLDERS[slot]}/{path}", "rb") as file:
                made[path] = file.read()
        return made


class OnTheAir(Story):
    """Called by name, and in a broadcast that names the next one (43)."""

    def __init__(self, seed: int) -> None:
        self._piv = 0
        super().__init__(*_made(Sky, seed))

    def ask(self, makes: Callable[[int], Any], kind: int) -> bytes:
        since = len(answers(self.world.peer))
        self.world.gateway.says = [makes]
        self.station.node.status_at_s = self.station.hal.clock.uptime_s()  # an uplink that wants an answer
        self.until(lambda: self._said(kind, since) != b"", 120)
        self.world.gateway.says = []
        return self._said(kind, since)

    def _call(self, piv: int) -> messages.Update:
        one = update.Pass(piv, BEGINS_S * 10, LASTS_S, FREQ_HZ, SF, SECRET)
        return messages.Update(SESSION, update.encode_pass(one))

    def send(self, command: bytes) -> None:
        packet = group.seal(group.key_of(SECRET, SESSION), self._piv, command)
        self._piv += 1
        gateway = self.world.gateway
        gateway.concentrator.send(
            gateway.packets[-1]._replace(
                freq_hz=FREQ_HZ, sf=SF, has_ldro=False, is_inverted=True, payload=packet, dbm=17.0
            )
        )
        self.run(0.5)

    def name_next(self) -> None:
        self.send(update.encode_next(40 * 10, LASTS_S))


class OnALine(Story):
    """Alone; the pass after this one is agreed in this one, and the line falls silent."""

    def __init__(self, seed: int) -> None:
        super().__init__(*_made(Street, seed))

    def ask(self, makes: Callable[[int], Any], kind: int) -> bytes:
        self.world.say(messages.Ping(1))
        since = len(answers(self.world.peer))
        self.run(1)
        self.world.say(makes(self.world.peer.latest_piv))
        self.until(lambda: self._said(kind, since) != b"", 20)
        return self._said(kind, since)

    def _call(self, piv: int) -> messages.Update:
        return alone(piv, BEGINS_S, LASTS_S)

    def send(self, command: bytes) -> None:
        self.world.say(messages.Update(SESSION, command))
        self.run(0)

    def name_next(self) -> None:
        self.send(bytes((ota.STATUS, 1)))
        self.world.say(alone(self.world.peer.latest_piv, 50, LASTS_S))
        self.run(0)


@functools.cache
def _minted(kind: Any) -> bytes:
    """The state of a node that was never started."""
    return bytes(kind(settings=SETTINGS, powered=False).station.flash.image)


def _made(kind: Any, seed: int) -> tuple[Any, TornFlash]:
    flash = TornFlash(_minted(kind), seed=seed)
    world = kind(powered=False, make_station=functools.partial(SlotStation, files=files(OLD)))
    world.station.flash = flash
    return world, flash
