"""The city's broker in the simulated world, and the gateway's way to it: a `Sender` with a lossy network behind it.

The network can be refused (the broker is away), or silent: then bytes vanish in both directions and nobody is told,
until it comes back and resets what was open. What a broker has taken it has taken: it hands each payload to the city's
judge once it arrives, whether or not the confirmation finds its way back. It may also confirm late, in another order,
twice, or say no: it passes the same contract as the real one (hil_tests/northbound_contract.py).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any, Protocol

from gateway.errors import NorthboundError
from gateway.northbound.runner import Destination, OnConfirm

_DELAY_MIN_S = 0.002
_DELAY_MAX_S = 0.080
_CONNECT_TIMEOUT_S = 2.0
WINDOW = 64


class Time(Protocol):
    """What is needed of the world, so that the contract test can run on a real event loop."""

    @property
    def now_s(self) -> float: ...

    def at(self, due_s: float, action: Callable[[], None]) -> Any: ...

    def note(self, what: str, data: bytes = b"") -> None: ...


class SimBroker:
    """`taken` gets every record that arrives. ``running`` False: connections are refused."""

    def __init__(
        self,
        world: Time,
        rng: random.Random,
        taken: Callable[[dict[str, Any]], None],
        *,
        delays_s: tuple[float, float] = (_DELAY_MIN_S, _DELAY_MAX_S),
        connect_timeout_s: float = _CONNECT_TIMEOUT_S,
    ) -> None:
        self.world = world
        self.rng = rng
        self.connect_timeout_s = connect_timeout_s
        self.confirms_twice = False
        self.refuse_next = 0
        self.fails_with = ""  # why no connection can be made, on the way or before it
        self.refuses: Callable[[dict[str, Any]], bool] = lambda record: False
        self.delays_s = delays_s
        self._held: list[tuple[SimSession, int]] | None = None
        self.running = True
        self.silent = False
        self.received = 0
        self._taken = taken
        self._sessions: list[SimSession] = []

    def stop(self) -> None:
        """The broker ends; whoever is connected is told, unless the network is silent."""
        self.running = False
        self._reset("the broker closed it")

    def start(self) -> None:
        self.running = True

    def silence(self) -> None:
        """From now on every byte vanishes."""
        self.silent = True
        for session in self._sessions:
            session.deaf = True

    def heal(self) -> None:
        """New connections work again; those from before stay deaf, and nobody tells them."""
        self.silent = False

    def restore(self) -> None:
        """The network is back; what was open before is reset."""
        self.heal()
        self._reset("reset by peer")

    def hold(self) -> None:
        """Take publishes, and keep the confirmations back until `release`."""
        self._held = []

    def release(self, *, reverse: bool = False, twice: bool = False) -> None:
        """Send what was held back."""
        held, self._held = self._held or [], None
        for session, token in reversed(held) if reverse else held:
            for _ in range(2 if twice else 1):
                session.answer(token, True)

    def _reset(self, why: str) -> None:
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.end(why)

    def accept(self, session: SimSession) -> None:
        self._sessions.append(session)

    def forget(self, session: SimSession) -> None:
        if session in self._sessions:
            self._sessions.remove(session)

    def delay_s(self) -> float:
        """How long a packet is under way this time."""
        return self.rng.uniform(*self.delays_s)

    def receive(self, session: SimSession, token: int, payload: bytes) -> None:
        """A publish arrived."""
        self.world.note("broker", payload)
        if self.refuse_next:
            self.refuse_next -= 1
            session.answer(token, False)
            return
        record = json.loads(payload)
        if self.refuses(record):
            session.answer(token, False)
            return
        self.received += 1
        self._taken(record)
        if self._held is not None:
            self._held.append((session, token))
            return
        for _ in range(2 if self.confirms_twice else 1):
            session.answer(token, True)


class SimSender:
    """`Sender` of gateway/northbound/runner.py. One per life of a gateway: `kill` cuts it off."""

    def __init__(self, broker: SimBroker, window: int = WINDOW) -> None:
        self.broker = broker
        self.sessions: list[SimSession] = []
        self._window = window
        self._killed = False

    async def connect(self, on_confirm: OnConfirm) -> SimSession:
        broker = self.broker
        await asyncio.sleep(2 * broker.delay_s())
        if broker.silent:
            await asyncio.sleep(broker.connect_timeout_s)
            raise NorthboundError("the broker cannot be reached: no answer in time")
        if broker.fails_with:
            raise NorthboundError(f"the broker cannot be reached: {broker.fails_with}")
        if not broker.running or self._killed:
            raise NorthboundError("the broker cannot be reached: connection refused")
        session = SimSession(broker, on_confirm, self._window)
        broker.accept(session)
        self.sessions = [one for one in self.sessions if one.is_open] + [session]
        return session

    def kill(self) -> None:
        """The process is gone: what it wrote may still arrive, what comes back finds nobody."""
        self._killed = True
        for session in self.sessions:
            session.abort()


class SimSession:
    """One connection. Bytes keep their order in each direction."""

    def __init__(self, broker: SimBroker, on_confirm: OnConfirm, window: int) -> None:
        self.window = window
        self.is_open = True
        self.deaf = False
        self._broker = broker
        self._on_confirm = on_confirm
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[str] = self._loop.create_future()
        self._last_token = 0
        self._there_s = 0.0
        self._back_s = 0.0

    def publish(self, destination: Destination, payload: bytes) -> int:
        if not self.is_open:
            raise NorthboundError("the connection is gone")
        broker = self._broker
        self._last_token += 1
        token = self._last_token
        self._there_s = max(self._there_s, broker.world.now_s + broker.delay_s())
        broker.world.at(self._there_s, lambda: self._arrive(token, payload))
        return token

    async def lost(self) -> str:
        return await asyncio.shield(self._gone)

    def abort(self) -> None:
        self.end("closed by us")

    def end(self, why: str) -> None:
        """The connection is gone, and this side knows it."""
        self.is_open = False
        self._broker.forget(self)
        if not self._gone.done() and not self._loop.is_closed():
            self._gone.set_result(why)

    def _arrive(self, token: int, payload: bytes) -> None:
        if not self.deaf and self._broker.running:
            self._broker.receive(self, token, payload)

    def answer(self, token: int, taken: bool) -> None:
        """The broker's word on a publish, on its way back."""
        self._back_s = max(self._back_s, self._broker.world.now_s + self._broker.delay_s())
        self._broker.world.at(self._back_s, lambda: self._confirm(token, taken))

    def _confirm(self, token: int, taken: bool) -> None:
        if self.is_open and not self.deaf and not self._loop.is_closed():
            self._loop.call_soon(self._on_confirm, token, taken)
