"""A node's whole way through an update on the real MicroPython, with a heap of its own for each kind of life.

A life is what lies between two starts. Which kind it is stands in the flash: what the start will find there.
``offer`` is an ordinary life that is offered an update and called to it, ``rollback`` the trial of a release that its
sensors do not answer, up to and with its last look. Not measured here: what the starter leaves on a board's heap (its
few names), nodes on the air.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.chips.ultrasonic import Ultrasonic
from firmware import appointment, pending, slots
from firmware.durable import Document
from flash_tools.images import SLOT, compile_tree
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.lift_profile import LiftDrive
from hil_tests.world.lift_shaft import Shaft
from hil_tests.world.sim_slots import write_file
from hil_tests.world.street_cover import CoverMotion
from protocols.wire import codes, messages, ota, outcomes, release
from protocols.wire.messages import Event, Hello, UpdateStatus
from tests.firmware.install_cases import update
from tests.firmware.lockstep import ROOT, Lockstep, NodeEnded
from tests.firmware.receive_rig import NODE, SESSION, alone, answers, sender_of
from tests.firmware.street import START_MS
from tests.firmware.test_lift_micropython import HEIGHTS_M
from tests.wire.release_cases import CLASS, KEY, VENDOR, public

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

ORDINARY, OFFER, RECEIVE, INSTALL, TRIAL, ROLLBACK = LIVES = (
    "ordinary",
    "offer",
    "receive",
    "install",
    "trial",
    "rollback",
)
PLENTY_K = 400
APP_BLOCKS = 512
SIZE = 48
# 4.8 mA: five percent of the lower explosive limit. And the way from the sensor down to the water.
GAS_MV, LEVEL_MM = 480, 2200.0
OLD, NEW = 1, 12


@cache
def bundles(node_type: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A real program of that type as a release, and the next one: some modules changed."""
    tree = compile_tree(ROOT, node_type=node_type)
    old = {path.removeprefix(f"{SLOT}/"): data for path, data in tree.items() if path.startswith(f"{SLOT}/")}
    old.setdefault("main.py", b"from firmware import main\n")
    new = dict(old)
    for name in ("firmware/node.mpy", "firmware/uplink.mpy", "protocols/wire/messages.mpy"):
        data = bytearray(new[name])
        for at in range(len(data) // 2, len(data) // 2 + 400):
            data[at] = hashlib.sha256(b"%d" % at).digest()[0]
        new[name] = bytes(data)
    for sequence, files in ((OLD, old), (NEW, new)):
        files[release.FILE] = release.encode(
            sequence, VENDOR.bytes, CLASS.bytes, [(KEY.algorithm, public())], []
        )
    return old, new


class Lives(Lockstep):
    """``heaps``: kB of a kind of life; those that it does not name have plenty. ``life``: what the story is about."""

    def __init__(self, folder: Path, node_type: str, life: str, heaps: Mapping[str, int]) -> None:
        super().__init__(folder, node_type=node_type, powered=False)
        self.life, self._heaps = life, heaps
        self.used: dict[str, int] = {}
        self._kind = ORDINARY
        self._is_installed = False
        self.is_silent = False  # its chips
        self.level: Ultrasonic | None = None
        if node_type.startswith("cover"):
            motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=500)
            chip = Lis3dh(motion.acceleration, steady_until=motion.steady_until, noise=20.0)
            self.attach(chip, motion=chip.int1)
        if node_type == "cover_gas":
            self.millivolts["loop"] = GAS_MV
        if node_type == "cover_level":
            self.level = Ultrasonic(lambda _: LEVEL_MM, seed=5)
            self.level.connect(self._line)
        if node_type == "lift":
            self.shaft = Shaft(HEIGHTS_M, LiftDrive(1.6, 0.9, 1.2))
            self.attach(Lis3dh(self.shaft.acceleration, seed=5))
            self.attach(Bmp390(self.shaft.air, seed=5))
            self.pins["door"] = 1

    def fall_silent(self) -> None:
        """All that it measures with."""
        self.is_silent = True
        self.sonde.fault = "silent"
        self.millivolts["loop"] = 0  # a broken wire
        if self.level is not None:
            self.level.fault = "silent"

    def put_app(self, files: dict[str, bytes]) -> None:
        app = Flash(APP_BLOCKS)
        LittleFs.mkfs(app)
        fs = LittleFs(app)
        for path, data in files.items():
            write_file(fs, f"/a/{path}", data)
        self._app.write_bytes(bytes(app.image))

    @property
    def _app(self) -> Path:
        return self.state.with_suffix(".bin.app")

    def phase(self) -> int:
        return int(pending.Pending(LittleFs(Flash(image=self.state.read_bytes()))).f[pending.PHASE])

    def _start(self, *cause: int) -> subprocess.Popen[bytes]:
        self.take()
        fs = LittleFs(Flash(image=self.state.read_bytes()))
        phase = pending.Pending(fs).f[pending.PHASE]
        self._kind = ORDINARY if self.life == ORDINARY or self._is_installed else OFFER
        if phase in (pending.RECEIVED, pending.VERIFIED):
            self._kind = INSTALL
            self._is_installed = True
        elif phase == pending.ON_TRIAL:
            self._kind = ROLLBACK if self.life == ROLLBACK else TRIAL
        elif Document(fs, appointment.DOCUMENT).load():
            self._kind = RECEIVE
        self._choose()
        self._heap = f"{self._heaps.get(self._kind, PLENTY_K)}k"
        return super()._start(*cause)

    def _choose(self) -> None:
        """The slot, as firmware/starter.py does it."""
        app = Flash(image=self._app.read_bytes())
        self.slot = slots.counted(slots.Slots(LittleFs(app)))
        self._app.write_bytes(bytes(app.image))

    def _bus(self, verb: str, address: str, register: str, rest: str = "") -> None:
        super()._bus(verb, "127" if self.is_silent else address, register, rest)

    def take(self) -> None:
        """What the life that ended held at most between two steps."""
        if self.heap_used:
            self.used[self._kind] = max(self.used.get(self._kind, 0), *self.heap_used)
            self.heap_used.clear()

    def until(self, is_so: Any, seconds: int, step_s: float = 1) -> bool:
        for _ in range(round(seconds / step_s)):
            if is_so():
                return True
            self.run(step_s)
        return bool(is_so())

    def ask(self, message: Any, wait_s: float = 0.3) -> bytes:
        count = len(self.peer.of(UpdateStatus))
        self.say(message)
        self.run(wait_s)
        found = answers(self.peer)
        return found[-1] if len(found) > count else b""


def _offered(node: Lives, data: bytes) -> Any:
    """The sender, once the node has agreed to come."""
    sender = sender_of(data, SIZE)
    invitation = sender.for_node(NODE)
    assert invitation is not None
    said = node.ask(messages.Update(SESSION, invitation))
    if not said:
        return None
    sender.hear(NODE, said)
    sender.begin()
    node.ask(messages.Ping(1))
    said = node.ask(alone(node.peer.latest_piv, 2))
    return sender if said else None


def _received(node: Lives, sender: Any) -> bool:
    if not node.until(lambda: any("receiving update" in line for line in node.log), 30):
        return False
    if node.life == ROLLBACK:
        node.fall_silent()  # in a life that measures nothing: the next one is on trial
    rows = 0
    while not any("is whole" in line for line in node.log) and rows < 2000:
        rows += 1
        command = sender.broadcast() or sender.for_node(NODE)
        if command is None:
            sender.collected()
        elif command[0] != ota.DATA:
            answer = node.ask(messages.Update(SESSION, command), 1)
            if answer:
                sender.hear(NODE, answer)
        elif rows % 5 != 3:  # each fifth is lost: the parity has something to do
            node.say(messages.Update(SESSION, command))
            node.run(0.05)
        if rows > 50 and node.phase() != pending.NOTHING:
            break
    return node.until(lambda: any("is whole" in line for line in node.log), 5)


def _rides(node: Lives) -> None:
    if node.node_type != "lift":
        return
    for floor in (1, 2, 3, 0):
        node.run(node.shaft.ride(node.now_ms / 1000 + 0.5, floor) - node.now_ms / 1000 + 2)
        node.pins["door"] = 0
        node.run(4)
        node.pins["door"] = 1
        node.run(2)


def story(node: Lives, old: dict[str, bytes], data: bytes) -> str:
    """ "" when it came through, else what did not go."""
    node.put_app(old)
    node.power_on()
    if not node.until(lambda: node.peer.of(Hello), 60, 0.5):
        return "no hello"
    if node.life == ORDINARY:
        _rides(node)
        node.run(3 * 3600)
        return "" if not _failed(node) and node.peer.seqs() else "ordinary: " + _last(node)
    if node.life == ROLLBACK and node.node_type == "lift":
        node.run(900)  # the first set of a lift lacks what its barometer says: so might one on trial
    sender = _offered(node, data)
    if sender is None:
        return "offer: " + _last(node)
    if not _received(node, sender):
        return "receive: " + _last(node)
    if not node.until(lambda: node.phase() not in (pending.RECEIVED, pending.VERIFIED), 60):
        return "install: " + _last(node)
    node.until(lambda: _told(node), 7200, 10)
    wanted = outcomes.UNHEALTHY if node.life == ROLLBACK else outcomes.INSTALLED
    if _told(node)[:1] != [[NEW, wanted]]:
        return f"trial: {_told(node)} {_last(node)}"
    if node.life == ROLLBACK:
        return ""
    return "" if not _failed(node) else "failed: " + _last(node)


def _told(node: Lives) -> list[Any]:
    return [event.detail for event in node.peer.of(Event) if event.code == codes.UPDATE]


def _failed(node: Lives) -> list[str]:
    return [line for line in node.log if "failed" in line]


def _last(node: Lives) -> str:
    return " | ".join((_failed(node) or node.log)[-2:])


def lived(folder: Path, node_type: str, life: str, heaps: Mapping[str, int]) -> tuple[str, dict[str, int]]:
    """What did not go, or "", and the most that was held between two steps in each kind of life."""
    old, new = bundles(node_type)
    node = Lives(folder, node_type, life, heaps)
    with node:
        try:
            wrong = story(node, old, update(old, new, NEW))
        except (NodeEnded, OSError) as exc:
            wrong = "ended: " + str(exc).strip()[-120:].replace("\n", " ")
        node.take()
        return wrong, node.used
