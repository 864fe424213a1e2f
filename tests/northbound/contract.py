"""One contract for every kind of northbound, on a virtual clock: three days of outage take as long as their events do.

    nothing that was committed is lost, whatever the far side and the power do;
    nothing comes twice without a failure; alarms go first; what is fresh is never more than FRESH_S late for a backlog;
    what the far side refuses holds nobody up; memory does not grow with what is owed.

How a kind joins: write a Subject (below) and put it into SUBJECTS of test_contract.py; every story then runs for it.

* **Records** (MQTT): inherit RecordsSubject and override `sender` and `format`; the far side is a
  SimBroker, or one of your own that hands each record it takes to `taken`.
* **Rows** (HJ 212): a row is what must arrive, and `missing` compares the far side's rows with what all readings make.
  Your rig opens store, report and sender (hj_rig.py); copy RowsSubject, or contract_sl651.py where there are alarms.
* **Alarms** alone (work orders): contract_orders.py, with the alarm engine before it.

The stories with a real broker and a real clock are in hil_tests/northbound_contract.py: this one is about time and
amounts, that one about connections.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any, Protocol

from gateway import civil
from gateway.fingerprints import of_event
from gateway.limits import BACKLOG_CHUNK, EVENTS_HELD_MAX, LIVE_QUEUE_MAX
from gateway.northbound import mqtt
from gateway.northbound.runner import Runner, Sender
from gateway.records import KIND_EVENT, NO_PIV, Event
from gateway.registry import Place
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from hil_tests.world.loop_time import LoopTime
from hil_tests.world.sim_broker import WINDOW, SimBroker, SimSender
from protocols.northbound import hj212
from tests.northbound.hj_rig import ZONE, KillingExecutor, Rig

FRESH_S = 5.0
NODES = tuple(range(0x12, 0x12 + 8))
HOUR_S = 3600
GRACE_S = 60


class Subject(Protocol):
    """A gateway with one northbound of the kind, its far side, and what must hold between them."""

    alarms_overtake: bool  # whether it carries alarms
    alarm_each_s: float  # what each takes where the protocol sends one after the other
    shuffling_costs_copies: bool  # whether what is confirmed out of order comes twice
    refusal_holds_up: bool  # whether it is told by silence only, which a time-out is waited for
    refused: int  # of two hours, what is missing while some of it is refused
    others: int  # and what came at least

    def open(self, executor: KillingExecutor | None = None) -> None: ...
    async def close(self, *, kill: bool = False) -> None: ...
    def failure(self) -> BaseException | None: ...

    def measure(self) -> None:
        """One set of each node, now."""

    def alarm(self) -> None:
        """One, now; nothing where alarms are not carried."""

    def settle_s(self) -> float:
        """What the kind waits at most before it sends what is complete."""

    def missing(self) -> set[Any]:
        """What must have arrived by now and did not."""

    def arrivals(self) -> list[Any]:
        """What arrived, in order, by what names it."""

    def is_alarm(self, name: Any) -> bool:
        """Whether one of `arrivals` is an alarm."""

    def owed(self) -> int: ...

    def lateness_s(self, since_s: float) -> float:
        """How late the latest was of what became ready after that moment of the loop."""

    def alarms_came_s(self, until_s: float) -> list[float]:
        """When alarms that were raised before then arrived."""

    def in_memory(self) -> int:
        """Records and rows held in memory for the delivery."""

    def memory_max(self) -> int: ...

    def away(self) -> None: ...
    def back(self) -> None: ...
    def slow(self, seconds: float) -> None: ...
    def twice(self) -> None: ...
    def shuffled(self) -> None: ...
    def deaf(self, on: bool) -> None: ...
    def refuse_some(self, on: bool) -> None:
        """Some records or rows are refused, for ever while it is on."""


class RecordsSubject(Rig):
    """A northbound of records: the real runner and store; a broker that does what the story wants."""

    alarms_overtake = True
    alarm_each_s = 0.0
    shuffling_costs_copies = False
    refusal_holds_up = False
    # One node of eight, a set a minute; an alarm every ten minutes.
    refused = 122
    others = 122 * (len(NODES) - 1) + 12

    def __init__(self, folder: Path, seed: int = 1) -> None:
        super().__init__(folder, HjPlatform(), sites=dict.fromkeys(NODES, "lishui-3"), seed=seed)
        self.broker = SimBroker(LoopTime(), random.Random(seed), self.taken)
        self.came: list[tuple[str, str, int]] = []
        self.came_s: dict[tuple[str, str, int], float] = {}
        self.given_s: dict[tuple[str, str, int], float] = {}
        self.alarms: list[int] = []
        self._refusing = False
        self.broker.refuses = lambda record: self._refusing and record["node"] == f"{NODES[3]:04x}"

    # ---- what a kind may override --------------------------------------------------------------------------------

    def sender(self) -> Sender:
        """Connects to the far side."""
        return SimSender(self.broker)

    def format(self, record: Any, site: str, resent: bool) -> Any:
        return mqtt.format(record, site, resent)

    def taken(self, record: dict[str, Any]) -> None:
        """The far side took one."""
        lane = "event" if "event" in record else "reading"
        name = (record["node"], lane, int(record["seq"]))
        self.came.append(name)
        self.came_s.setdefault(name, asyncio.get_running_loop().time())

    # ---- the gateway ---------------------------------------------------------------------------------------------

    def open(self, executor: KillingExecutor | None = None) -> None:
        self.open_store(executor)
        self._epochs = {epoch.node: epoch for epoch in self.store.epochs.values()}
        self.delivery = Runner(
            "city", self.store, self.format, self.sender(), lambda node, at_ms: Place("lishui-3", "330106"),
            self.clock, self._rng,
        )  # fmt: skip
        self._task = asyncio.get_running_loop().create_task(self.delivery.run())
        self._give_again()
        known = {row[0] for row in self.store.read(lambda c: c.execute("SELECT seq FROM event").fetchall())}
        for seq in self.alarms:
            if seq not in known:
                self._put_alarm(seq)

    def measure(self) -> None:
        now_s = self.clock.unix_ms() // 1000
        for node in NODES:
            self.give(now_s, self.set_of(now_s), node=node)
            self.given_s[f"{node:04x}", "reading", len(self.given)] = asyncio.get_running_loop().time()

    def alarm(self) -> None:
        seq = 1_000_000 + len(self.alarms)
        self.alarms.append(seq)
        self.given_s[f"{NODES[0]:04x}", "event", seq] = asyncio.get_running_loop().time()
        self._put_alarm(seq)

    def _put_alarm(self, seq: int) -> None:
        store, node = self.store, NODES[0]
        if node not in self._epochs:
            self._epochs[node] = store.add_epoch(node, 1 << 48 | node, None, None, 1)
        ledger, now_ms = self._epochs[node].ledger, self.clock.unix_ms()
        time_s, text = now_ms // 1000, json.dumps(None)
        mark = of_event(ledger.row_id, seq, KIND_EVENT, time_s, 1, 1, 1, text)
        ledger.offer(seq, mark)
        row_id = store.next_event
        store.next_event += 1
        store.batch.event_rows.append(
            (row_id, KIND_EVENT, ledger.row_id, seq, NO_PIV, mark, now_ms, time_s, None, 1, 1, 1, text)
        )
        store.batch.events.append(Event(row_id, ledger, seq, KIND_EVENT, now_ms, time_s, 1, 1, 1, None))
        store.schedule()

    # ---- what must hold ------------------------------------------------------------------------------------------

    def settle_s(self) -> float:
        return 15.0

    def missing(self) -> set[Any]:
        return set(self.given_s) - set(self.came)

    def arrivals(self) -> list[Any]:
        return self.came

    def is_alarm(self, name: Any) -> bool:
        return bool(name[1] == "event")

    def owed(self) -> int:
        return int(self.delivery.status()["backlog"])

    def lateness_s(self, since_s: float) -> float:
        fresh = [name for name in self.came_s if self.given_s[name] >= since_s]
        return max(self.came_s[name] - self.given_s[name] for name in fresh)

    def alarms_came_s(self, until_s: float) -> list[float]:
        alarms = [name for name, given_s in self.given_s.items() if name[1] == "event" and given_s < until_s]
        return [self.came_s[name] for name in alarms]

    def in_memory(self) -> int:
        delivery = self.delivery
        held = (
            len(delivery._live) + len(delivery._chunk) + len(delivery._in_flight) + len(delivery._events_held)
        )
        return held + len(delivery._confirmed) + len(delivery._backlog_keys)

    def memory_max(self) -> int:
        return LIVE_QUEUE_MAX + BACKLOG_CHUNK + 3 * WINDOW + EVENTS_HELD_MAX

    # ---- what the far side does ----------------------------------------------------------------------------------

    def away(self) -> None:
        self.broker.stop()

    def back(self) -> None:
        self.broker.start()

    def slow(self, seconds: float) -> None:
        self.broker.delays_s = (seconds / 2, seconds)

    def twice(self) -> None:
        self.broker.confirms_twice = True

    def shuffled(self) -> None:
        self.broker.hold()
        asyncio.get_running_loop().call_later(2.0, self._release)

    def _release(self) -> None:
        self.broker.release(reverse=True)

    def deaf(self, on: bool) -> None:
        if on:
            self.broker.silence()
        else:
            self.broker.heal()

    def refuse_some(self, on: bool) -> None:
        self._refusing = on


class RowsSubject(Rig):
    """A northbound of rows: HJ 212, one station, minute and hour rows."""

    alarms_overtake = False
    alarm_each_s = 0.0
    # A platform that swaps two confirmations keeps the first one until the next row goes, which is a time-out.
    shuffling_costs_copies = True
    refusal_holds_up = True
    refused = 0  # rows were told, and not confirmed
    others = 2 + 12

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.far = HjPlatform()
        super().__init__(folder, self.far, seed=seed, told={"timeout_s": 2, "resends": 2})

    def measure(self) -> None:
        now_s = self.clock.unix_ms() // 1000
        self.give(now_s, self.set_of(now_s))

    def alarm(self) -> None:
        """HJ 212 carries none."""

    def settle_s(self) -> float:
        return 700.0

    def missing(self) -> set[Any]:
        until_s = self.clock.unix_ms() // 1000 - GRACE_S - 30
        gone: set[Any] = set()
        for cn, period_s in ((hj212.MINUTE, 600), (hj212.HOUR, HOUR_S)):
            got = self.got(cn)
            wanted = self.expected(cn, period_s, until_s)
            gone |= {key for key, row in wanted.items() if got.get(key) != row}
        return gone

    def arrivals(self) -> list[Any]:
        return [arrival.key for arrival in self.far.arrivals]

    def is_alarm(self, name: Any) -> bool:
        return False

    def owed(self) -> int:
        return int(self.runner.status()["backlog"])

    def lateness_s(self, since_s: float) -> float:
        """Of rows whose grace ended after that moment of the loop."""
        first_s = self.clock.unix_ms() / 1000 - asyncio.get_running_loop().time()
        late = 0.0
        for (_, cn, start), arrival in self.far.rows.items():
            period_s = 600 if cn == hj212.MINUTE else HOUR_S
            ready_s = civil.unix_ms(start, ZONE) / 1000 + period_s + GRACE_S - first_s
            if ready_s >= since_s and not arrival.resent:
                late = max(late, arrival.at_s - ready_s)
        return late

    def alarms_came_s(self, until_s: float) -> list[float]:
        return []

    def in_memory(self) -> int:
        return int(self.runner.status()["in_flight"])

    def memory_max(self) -> int:
        return 512

    def away(self) -> None:
        self.far.faults.refuses = True
        self.far.break_lines()

    def back(self) -> None:
        self.far.faults.refuses = False

    def slow(self, seconds: float) -> None:
        self.far.faults.ack_after_s = seconds / 2

    def twice(self) -> None:
        self.far.faults.acks = 2

    def shuffled(self) -> None:
        self.far.faults.shuffles = True

    def deaf(self, on: bool) -> None:
        self.far.faults.deaf = on

    def refuse_some(self, on: bool) -> None:
        if on:
            self.far.faults.mute_for = lambda arrival: arrival.key[2].endswith("010000")
        else:
            self.far.faults.mute_for = lambda arrival: False


async def live(subject: Subject, seconds: float, every_s: float = 60.0, alarm_every: int = 10) -> None:
    """Nodes that measure, and an alarm now and then."""
    loop = asyncio.get_running_loop()
    end_s, number = loop.time() + seconds, 0
    while loop.time() < end_s:
        subject.measure()
        number += 1
        if number % alarm_every == 0:
            subject.alarm()
        await pass_s(every_s)
        assert subject.failure() is None
        assert subject.in_memory() <= subject.memory_max()


async def settled(subject: Subject) -> None:
    """Everything arrived and is confirmed."""
    for _ in range(60):
        await pass_s(subject.settle_s())
        assert subject.failure() is None
        if not subject.owed() and not subject.missing():
            return
    names = sorted(map(str, subject.missing()))[:3]
    raise AssertionError(f"{len(subject.missing())} are missing, such as {names}, and {subject.owed()} owed")
