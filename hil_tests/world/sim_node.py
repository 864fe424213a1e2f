"""A station in the simulated world: the real firmware, its flash that can lose power in the middle, and its promises.

`Promises` is the node's side of the books: every record whose keep() returned, with its content, under the id that it
was promised. It is filled by watching keep() itself, so it does not depend on anything the node remembers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from firmware.node import Node
from firmware.outbox import EVENTS, READINGS
from firmware.steady import steady
from hil_tests.consumer import RecordId
from hil_tests.outbox_reader import read_outbox
from hil_tests.world.cutflash import VARIANTS, CutFlash, PowerCut
from hil_tests.world.sim_hal import PowerLost, SimStation
from hil_tests.world.sim_line import SimLine
from hil_tests.world.sim_world import Event, World
from protocols.wire.identity import Identity

# A cut that waits for a flash operation happens at the latest after this, between two operations.
_CUT_AT_LATEST_S = 1.0
_CUT_OPS_MAX = 40
_OFF_MIN_S = 0.05
_OFF_MAX_S = 0.5
# Crystals are this far off, in millionths.
_PPM_MAX = 20.0


class TornFlash:
    """A `CutFlash` whose cut is the end of everything that runs, not an exception that firmware could catch."""

    def __init__(self, image: bytes, seed: int) -> None:
        self.chip = CutFlash(bytearray(image), seed=seed)

    def readblocks(self, block: int, buf: Any, offset: int = 0, /) -> None:
        try:
            self.chip.readblocks(block, buf, offset)
        except PowerCut as cut:
            raise PowerLost from cut

    def writeblocks(self, block: int, buf: Any, offset: int = 0, /) -> None:
        try:
            self.chip.writeblocks(block, buf, offset)
        except PowerCut as cut:
            raise PowerLost from cut

    def ioctl(self, op: int, arg: int, /) -> int | None:
        try:
            return self.chip.ioctl(op, arg)
        except PowerCut as cut:
            raise PowerLost from cut

    def cut_after(self, operations: int, variant: int) -> None:
        """Let the supply collapse in that operation from now on, torn as `variant` says (cutflash.py)."""
        self.chip.cut_at = self.chip.ops + operations
        self.chip.variant = variant

    @property
    def is_cut(self) -> bool:
        return self.chip.dead

    def power(self) -> None:
        """The supply is back."""
        self.chip.dead = False
        self.chip.cut_at = -1

    @property
    def image(self) -> bytes:
        """What is on the chip."""
        return bytes(self.chip.image)

    def steadied_image(self) -> bytes:
        """What a start would find: on a copy."""
        copy = TornFlash(self.image, seed=0)
        copy.chip.unstable = {block: bytearray(mask) for block, mask in self.chip.unstable.items()}
        steady(copy)
        return copy.image


class Promises:
    """What one life of a state partition has promised: seq -> (kind, payload), and the epoch of each seq."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[int, bytes]] = {}
        self.epochs: dict[int, int] = {}
        self._unnamed: list[int] = []

    def watch(self, node: Node) -> None:
        """A node has started: take in what it found, and everything it keeps from now on."""
        self._found(node)
        keep = node.outbox.keep

        def keep_and_note(kind: int, payload: bytes) -> int:
            seq: int = keep(kind, payload)
            self._note(seq, kind, bytes(payload))
            return seq

        setattr(node.outbox, "keep", keep_and_note)  # noqa: B010  (a method is not assigned to, says the type checker)
        self.name(node)

    def name(self, node: Node) -> None:
        """Records kept before the first epoch belong to it: note which one that is once it is known."""
        if node.session.epoch is None:
            return
        for seq in self._unnamed:
            epoch = node.outbox.epoch_of(seq)
            if epoch is not None:
                self.epochs[seq] = epoch
        self._unnamed = [seq for seq in self._unnamed if seq not in self.epochs]

    def _found(self, node: Node) -> None:
        """Records of which the caller of keep() never heard, because the power went: they count all the same."""
        for lane in (READINGS, EVENTS):
            after = max(self.kept, default=0)
            while (record := node.outbox.next_unacked(lane, after)) is not None:
                after = record.seq
                self._note(record.seq, record.kind, bytes(record.payload))

    def _note(self, seq: int, kind: int, payload: bytes) -> None:
        known = self.kept.setdefault(seq, (kind, payload))
        assert known == (kind, payload), f"seq {seq} was given to two records"
        self._unnamed.append(seq)


class SimNode:
    """One station on one line, stepped by the world."""

    def __init__(
        self,
        identity: Identity,
        state_image: bytes,
        world: World,
        line: SimLine | None,
        water: Callable[[float], Mapping[str, float]],
        seed: str,
        make_station: Callable[..., SimStation] = SimStation,
    ) -> None:
        self.name = f"{identity.address:04x}"
        self.identity = identity
        self.world = world
        self.line = line
        self.rng = random.Random(f"{seed} node")
        self.flash = TornFlash(state_image, self.rng.getrandbits(31))
        self.promises = Promises()
        # Promises of flash that was erased: those the gateway had acknowledged hold, the others may have arrived.
        self.past_held: dict[RecordId, tuple[int, bytes]] = {}
        self.past_open: dict[RecordId, tuple[int, bytes]] = {}
        self.station = make_station(
            identity,
            now_ms=world.unix_ms,
            water=water,
            seed=self.rng.getrandbits(31),
            ppm=self.rng.uniform(-_PPM_MAX, _PPM_MAX),
            flash=self.flash,
        )
        self.station.on_start = self._started
        self.station.to_gateway = self._write
        if line is not None:
            line.to_node = self._hear
        self._minted = state_image
        self._waiting = 0  # when it was last awake
        self._next: Event | None = None
        self._cut: Event | None = None
        self.cuts = dict.fromkeys((*VARIANTS, "between"), 0)

    # -- power -----------------------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        return self.station.node is not None or self.is_asleep

    @property
    def is_asleep(self) -> bool:
        return self.station.sleep is not None

    @property
    def node(self) -> Node:
        if self.station.node is None:
            raise RuntimeError(f"node {self.name} {'sleeps' if self.is_asleep else 'has no power'}")
        return self.station.node

    def power_on(self) -> None:
        self.flash.power()
        self.world.note(f"{self.name} power on")
        self.station.power_on()
        if not self.is_on:
            self._lost_power()
        else:
            self._wake(0.0)

    def power_off(self) -> None:
        """The supply goes, between two flash operations."""
        self._forget_cut()
        self.flash.chip.cut_at = -1
        self.station.power_cut()
        self.world.note(f"{self.name} power off")

    def power_cut(self) -> None:
        """The supply goes within the next flash operations, or now, and comes back after a moment."""
        if not self.is_on or self._cut is not None:
            return
        if self.rng.random() < 0.25:
            self._cut_between()
            return
        variant = self.rng.randrange(len(VARIANTS))
        self.flash.cut_after(self.rng.randrange(_CUT_OPS_MAX), variant)
        self._cut = self.world.after(_CUT_AT_LATEST_S, self._cut_between)

    def _cut_between(self) -> None:
        self.cuts["between"] += 1
        self.power_off()
        self._come_back()

    def _lost_power(self) -> None:
        """A flash operation was cut."""
        self.cuts[VARIANTS[self.flash.chip.variant]] += 1
        self.world.note(f"{self.name} cut", bytes((self.flash.chip.variant,)))
        self._forget_cut()
        self._come_back()

    def _come_back(self) -> None:
        self.world.after(self.rng.uniform(_OFF_MIN_S, _OFF_MAX_S), self._come_on)

    def _come_on(self) -> None:
        if not self.is_on:
            self.power_on()

    def _forget_cut(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def erase_state(self) -> None:
        """The partition is lost and written again as minted: the same keys, no counters."""
        self.power_off()
        waiting = read_outbox(self.name, self.flash.steadied_image()).waiting
        for seq, content in self.promises.kept.items():
            epoch = self.promises.epochs.get(seq)
            if epoch is not None:
                record_id = (self.name, epoch, seq)
                (self.past_open if record_id in waiting else self.past_held)[record_id] = content
        self.promises = Promises()
        self.flash.chip = TornFlash(self._minted, self.rng.getrandbits(31)).chip
        self.world.note(f"{self.name} erased")

    # -- running ---------------------------------------------------------------------------------------------

    def _started(self, node: Node) -> None:
        self.promises.watch(node)

    def _write(self, data: bytes) -> None:
        if self.line is not None:
            self.line.write("up", data, self.station.clock.ahead_ms / 1000)

    def _hear(self, data: bytes) -> None:
        if self.station.node is not None:  # asleep it hears nothing
            self.station.from_gateway(data)
            self._wake(self.station.clock.ahead_ms / 1000)

    def look(self) -> None:
        """Something around the station changed: what it is connected to may have an earlier appointment now."""
        self._wake(0.0)

    def _wake(self, after_s: float) -> None:
        due_s = self.world.now_s + after_s
        if self._next is not None:
            if self._next.due_s <= due_s:
                return
            self._next.cancel()
        self._next = self.world.at(due_s, self._step)

    def _step(self) -> None:
        self._next = None
        if not self.is_on:
            return
        node = self.station.node
        wait_ms = self.station.step()
        if self.station.node is None and not self.is_asleep:
            self._lost_power()
            return
        if isinstance(node, Node):  # else it receives an update, and its records wait
            self.promises.name(node)
            self._waiting = _waiting(node)
        self._wake(wait_ms / 1000)

    # -- for the books ---------------------------------------------------------------------------------------

    def held(self) -> dict[RecordId, tuple[int, bytes]]:
        """Every record that this node has promised to keep until it is delivered."""
        promises = self.promises
        mine = {(self.name, epoch, seq): promises.kept[seq] for seq, epoch in promises.epochs.items()}
        return mine | self.past_held

    def waiting(self) -> int:
        """Records that the gateway has not acknowledged."""
        if not self.is_on:
            return -1
        return _waiting(self.node) if isinstance(self.station.node, Node) else self._waiting


def _waiting(node: Node) -> int:
    return int(node.outbox.count(READINGS) + node.outbox.count(EVENTS))
