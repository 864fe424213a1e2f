"""Concentrators by way of the Semtech packet-forwarder protocol over UDP: one socket, several forwarders.

The protocol has no authentication: an EUI is a name that anybody can write. So a forwarder is served only when the
config names its EUI, and only at the address it was first heard at; another address is believed once the first has
been silent for a while (a restart, a new lease). Frames are sealed, so a forger reads and changes nothing; but whoever
speaks first after such a silence, or after a start of the gateway, is served for as long as he goes on, and the real
one's packets and downlinks are lost meanwhile. It is logged and counted (other_address); keep the port where only
forwarders reach it.

A forwarder has two sockets: PUSH_DATA comes from one, PULL_DATA and TX_ACK from the other, where PULL_RESP goes to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from gateway import limits
from gateway.errors import LinkError
from gateway.links import semtech_wire
from gateway.links.radio import Transmission, Uplink
from gateway.links.semtech_wire import PULL_ACK, PULL_DATA, PUSH_ACK, PUSH_DATA, Datagram, Refused
from gateway.log import Logger

Address = tuple[Any, ...]
_DBM_MIN = -9


class Forwarder:
    """One concentrator: a Radio behind the server's socket."""

    lead_s = limits.FORWARDER_LEAD_S

    def __init__(self, name: str, eui: bytes, server: SemtechServer) -> None:
        self.name = name
        self.eui = eui
        self.on_uplink: Callable[[Uplink], None] = lambda uplink: None
        self.on_result: Callable[[str, int, int], None] = lambda name, number, code: None
        self.counters = dict.fromkeys(("packets_in", "packets_out", "pulls", "tx_acks", "other_address"), 0)
        self.push: Address | None = None
        self.pull: Address | None = None
        # Its own: who floods in the name of one leaves the others alone.
        self.budget = Budget(limits.FORWARDER_PER_S_MAX, server.now_s)
        self._server = server
        self._heard_s = float("-inf")
        self._contested_s = float("-inf")
        self._pulled_s = float("-inf")
        self._version = 2
        self._dbm_refused: set[int] = set()
        # Tokens of what was handed over and not answered yet.
        self._out: OrderedDict[bytes, Transmission] = OrderedDict()

    @property
    def is_ready(self) -> bool:
        """Whether it asked for downlinks lately; nothing else tells that it is there."""
        return self._server.now_s() - self._pulled_s <= limits.FORWARDER_GONE_S

    @property
    def problem(self) -> str:
        """Why it is not ready, for a person."""
        if self.is_ready:
            return ""
        if self.pull is None:
            return "was not heard yet: do its EUI and server address stand in the forwarder's own config?"
        return f"no PULL_DATA for more than {limits.FORWARDER_GONE_S:.0f} s"

    def admits(self, kind: int, source: Address) -> bool:
        """Whether a datagram of this forwarder's EUI is its own; if so it was heard."""
        now_s = self._server.now_s()
        known = self.push if kind == PUSH_DATA else self.pull
        if known != source and not self._may_move(known, source, now_s):
            self.counters["other_address"] += 1
            if now_s - self._contested_s > limits.FORWARDER_CONTESTED_S:
                self._contested_s = now_s
                self._server.contested(self, source)
            return False
        self._heard_s = now_s
        if kind == PUSH_DATA:
            self.push = source
        else:
            self.pull = source
        return True

    def _may_move(self, known: Address | None, source: Address, now_s: float) -> bool:
        """A socket that was not heard yet is at the machine of the other one; after silence all may be new."""
        if now_s - self._heard_s > limits.FORWARDER_SILENT_S:
            self.push = self.pull = None
            self._out.clear()
            return True
        other = self.push or self.pull
        return known is None and (other is None or other[0] == source[0])

    def pulled(self, version: int) -> None:
        """It asked for downlinks, in this version of the protocol."""
        self.counters["pulls"] += 1
        self._pulled_s = self._server.now_s()
        self._version = version

    def send(self, transmission: Transmission) -> bool:
        """Hand `transmission` over; False when the forwarder is not there."""
        if self.pull is None or not self.is_ready:
            return False
        token = self._server.token()
        while token in self._out:
            token = self._server.token()
        dbm = transmission.dbm
        while dbm in self._dbm_refused and dbm > _DBM_MIN:
            dbm -= 1
        transmission = transmission._replace(dbm=dbm)
        if not self._server.sendto(semtech_wire.pull_resp(self._version, token, transmission), self.pull):
            return False
        self._out[token] = transmission
        while len(self._out) > limits.FORWARDER_UNANSWERED_MAX:
            self._out.popitem(last=False)
        self.counters["packets_out"] += 1
        return True

    def acked(self, token: bytes, error: str) -> None:
        """The forwarder has taken a transmission, or said why not."""
        transmission = self._out.pop(token, None)
        if transmission is None:
            self._server.count("stray_tx_ack")
            return
        self.counters["tx_acks"] += 1
        if error == semtech_wire.TX_POWER:
            # Not in its table, which it never shows: the next try is a step weaker.
            self._dbm_refused.add(transmission.dbm)
        self.on_result(self.name, transmission.id, semtech_wire.code_of(error))

    def picture(self) -> dict[str, float]:
        """Counters for /metrics and status; what the server refuses is of no forwarder in particular."""
        refused = {f"refused_{reason}": count for reason, count in self._server.refused.items()}
        return {**self.counters, **refused, "open": float(self.is_ready)}

    def heard(self, uplink: Uplink) -> None:
        self.counters["packets_in"] += 1
        self.on_uplink(uplink)


class SemtechServer(asyncio.DatagramProtocol):
    """One UDP port. `run()` keeps it bound; nothing that arrives there raises."""

    def __init__(
        self,
        name: str,
        bind: tuple[str, int],
        euis: tuple[str, ...],
        log: Logger,
        *,
        now_s: Callable[[], float],
        on_progress: Callable[[], None] = lambda: None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.name = name
        self.now_s = now_s
        self.last_error = ""
        self.on_listening: Callable[[], None] = lambda: None
        self.refused: dict[str, int] = {}
        self.radios = [Forwarder(_radio_name(name, eui, euis), bytes.fromhex(eui), self) for eui in euis]
        self.port = 0
        self._bind = bind
        self._by_eui = {forwarder.eui: forwarder for forwarder in self.radios}
        self._log = log.bind(link=name)
        self._on_progress = on_progress
        self._random_bytes = random_bytes
        self._transport: asyncio.DatagramTransport | None = None
        self._lost: asyncio.Future[None] | None = None
        self._is_full = False

    # --- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Raises LinkError when the port cannot be had; the supervisor tries again."""
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self._bind)
        except OSError as exc:
            host, port = self._bind
            self.last_error = (
                f"{host}:{port}: cannot listen: {exc.strerror or exc}. Is another program (a second gateway, "
                "a LoRaWAN server) using this UDP port?"
            )
            raise LinkError(self.last_error) from exc
        self._transport = transport
        self._is_full = False
        self.port = transport.get_extra_info("sockname")[1]
        self.last_error = ""
        self._log.info("semtech_listens", address=self._bind[0], port=self.port)
        self.on_listening()
        try:
            while not self._lost.done():
                self._on_progress()
                await asyncio.wait((self._lost,), timeout=limits.LORA_TURN_S)
        finally:
            self._transport = None
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        """The kernel takes no more, and 64 kB wait."""
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False

    def error_received(self, exc: Exception) -> None:
        """A forwarder's port is closed (ICMP): it is told by its silence."""
        self.count("socket_errors")

    # --- in --------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        try:
            self._take(data, addr)
        except Refused as refusal:
            self.count(refusal.reason)

    def _take(self, data: bytes, source: Address) -> None:
        datagram = semtech_wire.split(data)
        forwarder = self._by_eui.get(datagram.eui)
        if forwarder is None:
            raise Refused("unknown_eui")
        if not forwarder.admits(datagram.kind, source):
            raise Refused("other_address")
        if not forwarder.budget.take():
            raise Refused("flood")
        if datagram.kind == PUSH_DATA:
            self._push(forwarder, datagram, source)
        elif datagram.kind == PULL_DATA:
            forwarder.pulled(datagram.version)
            self.sendto(semtech_wire.answer(datagram, PULL_ACK), source)
        else:
            forwarder.acked(datagram.token, semtech_wire.result(datagram.body))

    def _push(self, forwarder: Forwarder, datagram: Datagram, source: Address) -> None:
        """Answered whatever is in it: the answer only says that it arrived."""
        self.sendto(semtech_wire.answer(datagram, PUSH_ACK), source)
        for uplink in semtech_wire.packets(datagram.body, forwarder.name, self.count):
            if not forwarder.budget.take():
                raise Refused("flood")
            forwarder.heard(uplink)

    def contested(self, forwarder: Forwarder, source: Address) -> None:
        """Two speak in one forwarder's name: one of them is not who it says."""
        served = forwarder.push or forwarder.pull
        self._log.warning(
            "forwarder_contested",
            radio=forwarder.name,
            served=served,
            refused=source,
            reason="two addresses send with this EUI; if neither was restarted just now, one is an impostor",
        )

    def count(self, reason: str) -> None:
        """Count something that was refused."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    # --- out -------------------------------------------------------------------------------------

    def token(self) -> bytes:
        """Two bytes that only who saw the PULL_RESP can answer with."""
        return self._random_bytes(2)

    def sendto(self, data: bytes, destination: Address) -> bool:
        """Send a datagram; False when the port is closed or the kernel takes no more."""
        if self._transport is None or self._is_full:
            return False
        with contextlib.suppress(OSError):  # an address that cannot be reached, as its silence will show
            self._transport.sendto(data, destination)
            return True
        return False


def _radio_name(name: str, eui: str, euis: tuple[str, ...]) -> str:
    """The table's name, and its forwarder's EUI where it has several."""
    return name if len(euis) == 1 else f"{name}/{eui}"


class Budget:
    """So many in each second."""

    def __init__(self, per_s: int, now_s: Callable[[], float]) -> None:
        self._per_s = per_s
        self._now_s = now_s
        self._left = per_s
        self._until_s = float("-inf")

    def take(self) -> bool:
        now_s = self._now_s()
        if now_s >= self._until_s:
            self._until_s = now_s + 1
            self._left = self._per_s
        self._left -= 1
        return self._left >= 0
