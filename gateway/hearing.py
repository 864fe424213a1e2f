"""How well each node is heard on the air, and what follows from it: a line in the status, and ADR.

Only frames that were opened and are new count. Which copy of a packet was the best is known a moment after the first
came in, so an uplink is taken into the account when it is looked at, or when the next one comes.

ADR (adr.py has the arithmetic) is a command like any other, in the audit log as given by "adr", and goes out in the
very exchange that led to it: a cover may speak once a day.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from gateway import adr, limits
from gateway.clock import Clock
from gateway.commands import Commands, OpenCommand
from gateway.errors import GatewayError
from gateway.ingest import Heard
from gateway.links.lora import Way
from gateway.log import Logger
from gateway.presence import Presence
from gateway.registry import By
from protocols.wire import codes
from protocols.wire.law import Law
from protocols.wire.messages import Hello


@dataclass(slots=True)
class NodeAir:
    """One node on the air. `latest` is not in the account yet."""

    latest: Way
    packets: int = 0
    lost: int = 0
    radio: str = ""
    rssi_dbm: float = 0.0
    snr_db: float = 0.0
    sf: int = 0
    heard_by: int = 0
    epoch: int = -1
    piv: int = -1
    snrs_db: deque[float] = field(default_factory=lambda: deque(maxlen=adr.HISTORY))
    """Of the latest uplinks at `sf` and `dbm`."""
    dbm: int | None = None
    asked_s: float = float("-inf")

    def fold(self) -> None:
        """Take the latest uplink, with its copies, into the account."""
        best = self.latest.best
        if best.sf != self.sf:
            self.snrs_db.clear()
        self.radio, self.rssi_dbm, self.snr_db, self.sf = best.radio, best.rssi_dbm, best.snr_db, best.sf
        self.heard_by = self.latest.heard_by
        self.snrs_db.append(best.snr_db)

    def row(self) -> dict[str, Any]:
        """What the status shows."""
        best = self.latest.best
        return {
            "radio": best.radio,
            "heard_by": self.latest.heard_by,
            "rssi_dbm": best.rssi_dbm,
            "snr_db": best.snr_db,
            "sf": best.sf,
            "margin_db": best.snr_db - adr.floor_db(best.sf),
            "dbm": self.dbm,
            "packets": self.packets,
            "lost": self.lost,
        }


class Hearing:
    """address → how it is heard. Holds authentic senders only, so at most the registered nodes."""

    def __init__(
        self,
        law: Law,
        presence: Presence,
        commands: Commands,
        clock: Clock,
        log: Logger,
        *,
        adapts: bool,
        sf_is_fixed: bool,
    ) -> None:
        self._law = law
        self._presence = presence
        self._commands = commands
        self._clock = clock
        self._log = log
        self._adapts = adapts
        self._sf_is_fixed = sf_is_fixed
        self._nodes: dict[int, NodeAir] = {}
        self.working: set[asyncio.Task[None]] = set()
        self.counters = dict.fromkeys(("adr_sent", "adr_refused"), 0)

    def of(self, address: int) -> dict[str, Any] | None:
        """How a node is heard; None when it was not, on the air."""
        node = self._nodes.get(address)
        return None if node is None else node.row()

    def forget(self, address: int) -> None:
        """The node was removed, or is another one now."""
        self._nodes.pop(address, None)

    def on_heard(self, heard: Iterable[Heard]) -> None:
        """Frames that were committed."""
        for entry in heard:
            if isinstance(entry.link, Way) and (entry.new or not isinstance(entry.message, Hello)):
                self._count(entry, entry.link)

    def _count(self, entry: Heard, way: Way) -> None:
        address = entry.node.address
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = NodeAir(way)
        else:
            node.fold()
            node.latest = way
        node.packets += 1
        gap = entry.piv - node.piv - 1
        # A start of the node begins a new block of PIVs: such a step is no loss.
        if node.epoch == entry.channel.number and 0 < gap < limits.PIV_GAP_MAX:
            node.lost += gap
        if node.epoch != entry.channel.number or entry.piv > node.piv:
            node.epoch, node.piv = entry.channel.number, entry.piv
        self._note_power(address, node)
        if self._adapts:
            self._adapt(address, node)

    def _note_power(self, address: int, node: NodeAir) -> None:
        """What it sends with is only known from its own word."""
        seen = self._presence.of(address)
        dbm = None if seen is None else seen.health.get("radio_dbm")
        if dbm is not None and dbm != node.dbm:
            node.dbm = dbm
            node.snrs_db.clear()

    # --- ADR -------------------------------------------------------------------------------------

    def _adapt(self, address: int, node: NodeAir) -> None:
        now_s = self._clock.monotonic()
        if node.dbm is None or not node.sf or now_s - node.asked_s < limits.ADR_PERIOD_S:
            return
        if node.latest.best.sf != node.sf:
            return  # it helped itself just now
        advice = adr.advise(list(node.snrs_db), node.sf, node.dbm, self._law, self._sf_is_fixed)
        if advice is None:
            return
        node.asked_s = now_s
        why = f"median SNR {median(node.snrs_db):.1f} dB at SF{node.sf}, {node.dbm} dBm"
        task = asyncio.ensure_future(self._ask(address, advice, why))
        self.working.add(task)
        task.add_done_callback(self.working.discard)

    async def _ask(self, address: int, advice: tuple[int, int], why: str) -> None:
        try:
            await self._commands.add(address, codes.SET_RADIO, list(advice), limits.ADR_TTL_S, By("adr", why))
        except GatewayError as exc:  # too many open commands, or a disk that refuses: it is asked again later
            self.counters["adr_refused"] += 1
            self._log.warning("adr_failed", node=f"{address:04x}", error=str(exc))
            return
        self.counters["adr_sent"] += 1

    def command_done(self, address: int, command: OpenCommand) -> None:
        """A node has done what it was told; what was heard before tells nothing of it now."""
        node = self._nodes.get(address)
        if node is None or command.op != codes.SET_RADIO or not isinstance(command.args, (list, tuple)):
            return
        node.dbm = command.args[1]
        node.snrs_db.clear()
