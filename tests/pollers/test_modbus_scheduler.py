"""The rules of the Modbus scheduler, each on a virtual line and clock; and all of them at once in a seeded chaos."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from gateway import limits
from gateway.pollers.modbus_device import DOWN, SUSPECT, UP
from gateway.pollers.modbus_scheduler import Scheduler
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import (
    ANSWERED,
    MASK_WRITE,
    REFUSED,
    Device,
    Job,
    Outcome,
    Point,
    Request,
    Wait,
    Write,
)
from hil_tests.world.modbus_line import VirtualLine, run
from hil_tests.world.modbus_slave import Manner, Slave, block, truth
from tests.pollers.modbus_street import street

LINE = Line(9600, "E", 1)


def point(address: int, quantity: int = 1, period_s: float = 10.0, deadline_s: float | None = None) -> Point:
    return Point(
        f"r{address}", 3, address, quantity, period_s, period_s if deadline_s is None else deadline_s
    )


class Desk:
    """A scheduler on a virtual line, and everything that happened."""

    def __init__(self, devices: list[Device], slaves: list[Slave]) -> None:
        self.now_s = 0.0
        self.line = VirtualLine(slaves)
        self.values: dict[str, list[tuple[float, int, tuple[int, ...]]]] = defaultdict(list)
        self.faults: list[tuple[str, tuple[int, ...], str]] = []
        self.states: list[tuple[float, str, str]] = []
        self.jobs: list[tuple[float, Job, Outcome]] = []
        self.rounds: list[float] = []
        self.results: dict[int, tuple[str, str, float]] = {}
        self.scheduler = Scheduler(
            LINE,
            devices,
            0.0,
            on_values=self._value,
            on_fault=lambda device, points, reason: self.faults.append((device.name, points, reason)),
            on_round=lambda device: self.rounds.append(self.now_s),
            on_state=lambda device, old, new: self.states.append((self.now_s, old, new)),
        )

    def _value(self, device: Device, index: int, values: tuple[int, ...]) -> None:
        self.values[device.name].append((self.now_s, index, values))

    def run(self, until_s: float, events: Any = ()) -> None:
        def each(now_s: float, job: Job, outcome: Outcome) -> None:
            self.jobs.append((now_s, job, outcome))
            self.now_s = now_s

        self.now_s = run(self.scheduler, self.line, until_s, self.now_s, each, events)

    def requests(self, kind: str = "read") -> list[Request]:
        return [job.request for _at_s, job, _outcome in self.jobs if job.kind == kind]

    def write(
        self,
        number: int,
        device: str,
        address: int,
        values: tuple[int, ...],
        now_s: float,
        ttl_s: float,
        mask: tuple[int, ...] = (),
    ) -> str:
        order = Write(device, 16, address, values, now_s + ttl_s, self.told(number), mask=mask)
        return self.scheduler.write(order, now_s)

    def order(self, number: int, write: Write) -> None:
        assert not self.scheduler.write(write, self.now_s), number

    def told(self, number: int) -> Callable[[str, str], None]:
        def done(result: str, detail: str) -> None:
            assert number not in self.results, "told twice"
            self.results[number] = (result, detail, self.now_s)

        return done


def one(points: tuple[Point, ...], slave: Slave | None = None, **options: Any) -> Desk:
    slave = slave or Slave(1, holding=block(1, range(500)))
    return Desk([Device("d1", 1, points, **options)], [slave])


# --- reads ---------------------------------------------------------------------------------------


def test_an_illegal_hole_is_found_and_never_asked_for_again() -> None:
    readable = {*range(10), *range(12, 20), *range(25, 30)}
    desk = one((point(0), point(8), point(13), point(26)), Slave(1, holding=block(1, readable)))
    desk.run(100.0)
    refused = [at_s for at_s, _job, outcome in desk.jobs if outcome.kind == REFUSED]
    assert 1 <= len(refused) <= 6
    assert max(refused) < 10.0, "learned in the first round"
    last = [(job.request.address, job.request.quantity) for at_s, job, _ in desk.jobs if at_s > 90.0]
    assert last == [(0, 9), (13, 1), (26, 1)]
    assert not desk.faults
    assert {index for _at_s, index, _values in desk.values["d1"]} == {0, 1, 2, 3}


def test_no_read_spans_more_unwanted_registers_than_the_profile_allows() -> None:
    """Some devices answer registers that nobody has written about with nonsense, or fall over."""
    points = tuple(point(address) for address in (0, 1, 3, 7, 8))
    for hole_max, wanted in ((0, [(0, 2), (3, 1), (7, 2)]), (1, [(0, 4), (7, 2)]), (9, [(0, 9)])):
        desk = one(points, hole_max=hole_max)
        desk.run(5.0)
        assert [(r.address, r.quantity) for r in desk.requests()] == wanted


def test_a_device_without_room_for_holes_is_never_asked_for_a_register_more() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    desk = one((point(0, period_s=1), point(1, period_s=1)), slave, hole_max=0)
    desk.run(4.5)
    slave.misbehave(Manner("silence"))
    desk.run(40.0)
    assert {request.quantity for request in desk.requests()} == {2}
    assert len(desk.values["d1"]) > 40


def test_a_point_that_is_refused_by_itself_is_told_left_alone_and_tried_again() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    desk = one((point(0), point(1), point(20)), slave)
    desk.run(limits.MODBUS_REFUSED_RETRY_S - 50)
    assert desk.faults == [("d1", (2,), "exception 2")]
    slave.maps[3].update(block(1, [20]))
    desk.run(limits.MODBUS_REFUSED_RETRY_S + 100)
    assert [values for _at_s, index, values in desk.values["d1"] if index == 2]
    assert len(desk.faults) == 1


def test_a_busy_device_is_alive_and_asked_again() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    slave.misbehave(Manner("exception", code=6), 2)
    desk = one((point(0),), slave)
    desk.run(9.0)
    assert [kind for kind, _points, kind_code in desk.faults] == ["d1", "d1"]
    assert len(desk.values["d1"]) == 1
    assert desk.scheduler.states[0].state == UP


def test_periods_meet_on_a_grid_and_are_read_together() -> None:
    desk = one((point(0, period_s=1), point(2, period_s=10), point(4, period_s=60)))
    desk.run(59.5)
    assert len(desk.jobs) == 60
    sizes = [request.quantity for request in desk.requests()]
    assert sizes[0] == 5
    assert [i for i, size in enumerate(sizes) if size == 3] == [10, 20, 30, 40, 50]
    assert desk.scheduler.states[0].counters["periods_skipped"] == 0


def test_the_earliest_deadline_is_read_first() -> None:
    slow, fast = point(0, period_s=10, deadline_s=9), point(0, period_s=10, deadline_s=0.5)
    devices = [Device("d1", 1, (slow,)), Device("d2", 2, (slow,)), Device("d3", 3, (fast,))]
    desk = Desk(devices, [Slave(unit, holding=block(unit, [0])) for unit in (1, 2, 3)])
    desk.run(5.0)
    assert [request.unit for request in desk.requests()] == [3, 1, 2]


def test_what_cannot_be_had_in_time_is_counted_and_never_queued() -> None:
    desk = one((point(0, quantity=100, period_s=0.1), point(200, quantity=100, period_s=0.1)))
    desk.run(60.0)
    state = desk.scheduler.states[0]
    assert state.counters["deadlines_missed"] > 50
    assert state.counters["periods_skipped"] > 300
    per_point = [sum(index == i for _at_s, index, _v in desk.values["d1"]) for i in (0, 1)]
    assert abs(per_point[0] - per_point[1]) <= 1, "one point starves the other"


def test_the_end_of_a_round_is_told_when_nothing_more_is_due() -> None:
    desk = one((point(0), point(300)))
    desk.run(25.0)
    assert len(desk.rounds) == 3
    assert len(desk.jobs) == 6


# --- quirks --------------------------------------------------------------------------------------


def test_a_probe_is_started_warmed_up_read_and_stopped() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    slave.switches = {(3, 0x2500, 0): True, (3, 0x2E00, 0): False}
    slave.is_measuring = False
    desk = one(
        (point(0, period_s=100),),
        slave,
        warm_up_s=20.0,
        start=(Request(1, 3, 0x2500, 0),),
        stop=(Request(1, 3, 0x2E00, 0),),
    )
    desk.run(350.0)
    kinds = [(job.kind, round(at_s)) for at_s, job, _outcome in desk.jobs]
    assert kinds[:6] == [
        ("start", 0),
        ("read", 20),
        ("stop", 20),
        ("start", 80),
        ("read", 100),
        ("stop", 100),
    ]
    assert all(values == (truth(1, 0),) for _at_s, _index, values in desk.values["d1"]), (
        "read before it was warm"
    )
    assert not slave.is_measuring


def test_a_device_that_wants_to_be_left_alone_is_and_others_use_the_time() -> None:
    points = (point(0, period_s=0.1),)
    devices = [Device("d1", 1, points, gap_s=0.5), Device("d2", 2, points)]
    desk = Desk(devices, [Slave(unit, holding=block(unit, [0])) for unit in (1, 2)])
    desk.run(20.0)
    ends = [at_s for at_s, job, _outcome in desk.jobs if job.device == 0]
    assert min(b - a for a, b in pairwise(ends)) >= 0.5
    assert len(desk.values["d2"]) > 4 * len(desk.values["d1"])


# --- silence -------------------------------------------------------------------------------------


def test_a_device_is_down_only_after_a_time_and_a_count() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    desk = one((point(0, period_s=1),), slave)
    desk.run(5.0)
    slave.is_dead = True
    desk.run(200.0)
    (suspect_s, _, suspect), (down_s, _, down) = desk.states
    assert (suspect, down) == (SUSPECT, DOWN)
    assert down_s - suspect_s >= limits.MODBUS_DOWN_AFTER_S - 1
    silent = [at_s for at_s, _job, outcome in desk.jobs if outcome.kind == "silent"]
    pauses = [round(b - a) for a, b in pairwise(silent)]
    assert pauses[:6] == [2, 3, 5, 9, 17, 33]
    assert sum(at_s <= down_s for at_s in silent) >= limits.MODBUS_DOWN_AFTER_COUNT
    slave.is_dead = False
    desk.run(300.0)
    assert desk.states[2][1:] == (DOWN, UP)


def test_one_lost_answer_is_no_outage() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    desk = one((point(0, period_s=1),), slave)
    desk.run(5.0)
    slave.misbehave(Manner("silence"))
    desk.run(30.0)
    assert [state for _at_s, _old, state in desk.states] == [SUSPECT, UP]


def test_a_spoilt_answer_is_asked_for_again_at_once() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    desk = one((point(0, period_s=10),), slave)
    desk.run(5.0)
    slave.misbehave(Manner("crc"))
    desk.run(12.0)
    assert not desk.states
    assert len(desk.values["d1"]) == 2


@pytest.mark.parametrize("delay_s", [0.6, 0.9, 1.4, 2.0, 2.1, 2.6, 5.0, 9.0])
@pytest.mark.parametrize("holes_are_legal", [True, False])
def test_a_late_answer_is_never_taken_for_another(delay_s: float, holes_are_legal: bool) -> None:
    slave = Slave(1, holding=block(1, range(100) if holes_are_legal else [0, 50]))
    desk = one((point(0, period_s=1), point(50, period_s=1)), slave)
    desk.run(4.5)
    slave.misbehave(Manner("late", delay_s=delay_s))
    desk.run(30.0)
    assert [state for _at_s, _old, state in desk.states] == [SUSPECT, UP]
    assert len(desk.values["d1"]) >= (46 if holes_are_legal else 30)
    for _at_s, index, values in desk.values["d1"]:
        assert values == (truth(1, (0, 50)[index]),)


# --- writes --------------------------------------------------------------------------------------


def test_a_write_slips_in_between_reads_and_is_read_back() -> None:
    devices, slaves = street(3, count=10, period_s=0.5)
    desk = Desk(devices, slaves)
    address = devices[4].points[0].address
    desk.run(20.0)
    asked_s = desk.now_s
    assert not desk.write(1, "d5", address, (4242,), asked_s, 1.0)
    desk.run(asked_s + 2.0)
    result, _detail, ended_s = desk.results[1]
    assert result == "done"
    assert ended_s - asked_s < 1.0, "it waited behind the polling"
    assert slaves[4].maps[3][address] == 4242
    kinds = [job.kind for at_s, job, _outcome in desk.jobs if at_s > asked_s]
    assert kinds[:3] == ["write", "read", "read_back"], "reads go on between the steps of a write"


def test_writes_never_starve_reads() -> None:
    devices, slaves = street(4, count=3, period_s=0.5)
    desk = Desk(devices, slaves)
    address = devices[0].points[0].address
    for number in range(limits.MODBUS_WRITES_PER_DEVICE_MAX):
        assert not desk.write(number, "d1", address, (number,), 0.0, 60.0)
    assert "too many" in desk.write(99, "d1", address, (1,), 0.0, 60.0)
    desk.run(20.0)
    assert [result for result, _d, _t in desk.results.values()] == [
        "done"
    ] * limits.MODBUS_WRITES_PER_DEVICE_MAX
    kinds = "".join(job.kind[0] if job.kind != "read_back" else "b" for _t, job, _o in desk.jobs)
    assert not any(pair in kinds[:60] for pair in ("ww", "wb", "bw", "bb"))


def test_a_write_to_a_silent_device_expires_and_is_never_sent() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    desk = one((point(0, period_s=1),), slave)
    desk.run(3.0)
    slave.is_dead = True
    desk.run(30.0)
    desk.write(1, "d1", 5, (9,), desk.now_s, 2.0)
    slave.is_dead = False
    desk.run(200.0)
    assert desk.results[1][0] == "expired"
    assert slave.writes == []


def test_what_reads_back_differently_is_told() -> None:
    slave = Slave(1, holding=block(1, range(10)))
    desk = one((point(0),), slave)
    desk.run(1.0)
    desk.write(1, "d1", 5, (9,), 1.0, 5.0)

    def meddle(now_s: float) -> None:
        slave.maps[3][5] = 8

    desk.run(1.02, ())
    while not slave.writes:
        desk.run(desk.now_s + 0.01)
    meddle(desk.now_s)
    desk.run(10.0)
    assert desk.results[1][:2] == ("differs", "reads back 8")


def test_a_refused_write_is_told_with_the_words_of_the_standard() -> None:
    desk = one((point(0),))
    desk.write(1, "d1", 40_000, (9,), 0.0, 5.0)
    desk.run(5.0)
    assert desk.results[1][:2] == ("refused", "exception 2 (illegal data address)")


def test_a_bit_field_is_written_and_the_rest_of_its_register_stays() -> None:
    slave = Slave(1, holding={**block(1, range(10)), 5: 0xA5C3, 6: 0x0F0F})
    desk = one((point(0),), slave)
    desk.write(1, "d1", 5, (0x0070, 0x1000), 0.0, 5.0, mask=(0x00F0, 0xF000))
    desk.run(5.0)
    assert desk.results[1][:2] == ("done", "")
    assert (slave.maps[3][5], slave.maps[3][6]) == (0xA573, 0x1F0F)
    kinds = [job.kind for _at_s, job, _outcome in desk.jobs if job.kind != "read"]
    assert kinds == ["look", "write", "read_back"]


def test_a_device_with_mask_write_leaves_the_rest_alone_by_itself() -> None:
    """Whatever it does to its own bits meanwhile: nothing is read before, and nothing of it is written back."""
    slave = Slave(1, holding={**block(1, range(10)), 5: 0xA5C3})
    desk = one((point(0),), slave)
    desk.order(1, Write("d1", MASK_WRITE, 5, (0x0070,), 5.0, desk.told(1), mask=(0x00F0,)))
    desk.run(5.0)
    assert desk.results[1][:2] == ("done", "")
    assert slave.maps[3][5] == 0xA573
    kinds = [job.kind for _at_s, job, _outcome in desk.jobs if job.kind != "read"]
    assert kinds == ["write", "read_back"]
    slave.has_mask_write = False
    desk.order(2, Write("d1", MASK_WRITE, 5, (0x0010,), desk.now_s + 5.0, desk.told(2), mask=(0x00F0,)))
    desk.run(desk.now_s + 5.0)
    assert desk.results[2][:2] == ("refused", "exception 1 (illegal function)")


def test_between_the_look_at_a_register_and_its_write_nothing_else_is_asked() -> None:
    devices, slaves = street(3, count=10, period_s=0.5)  # reads wait all the time
    desk = Desk(devices, slaves)
    address = devices[4].points[0].address
    desk.run(20.0)
    assert not desk.write(1, "d5", address, (0x0001,), desk.now_s, 1.0, mask=(0x0001,))
    desk.run(22.0)
    kinds = [job.kind for _at_s, job, _outcome in desk.jobs]
    first = kinds.index("look")
    assert kinds[first : first + 4] == ["look", "write", "read", "read_back"]


def test_a_rest_that_was_looked_at_long_ago_is_looked_at_again() -> None:
    """The write after the look is not taken, its device goes silent, and meanwhile the device changes its own bits."""
    slave = Slave(1, holding={**block(1, range(10)), 5: 0xA000})
    desk = one((point(0, period_s=1),), slave)
    desk.run(0.5)
    desk.write(1, "d1", 5, (0x0007,), desk.now_s, 60.0, mask=(0x000F,))
    while not [job for _at_s, job, _outcome in desk.jobs if job.kind == "look"]:
        desk.run(desk.now_s + 0.01)
    slave.is_dead = True
    desk.run(desk.now_s + 5.0)
    slave.maps[3][5], slave.is_dead = 0x5000, False
    desk.run(60.0)
    assert desk.results[1][0] == "done"
    assert slave.maps[3][5] == 0x5007


def test_a_register_that_cannot_be_read_is_not_written_in_part() -> None:
    desk = one((point(0),))
    desk.write(1, "d1", 40_000, (9,), 0.0, 5.0, mask=(0x000F,))
    desk.run(5.0)
    result, detail, _at_s = desk.results[1]
    assert result == "refused"
    assert "cannot be read: exception 2" in detail
    assert not desk.requests("write")


# --- everything at once --------------------------------------------------------------------------


# A register of which other bits than those written are somebody else's.
FIELD, REST = 0x0FFF, 0xA000


def chaos(seed: int, seconds: float) -> Desk:
    """A street in which everything goes wrong, and hundreds of writes."""
    rng = random.Random(seed)
    devices, slaves = street(seed, count=8, period_s=2.0, timeout_s=0.3)
    desk = Desk(devices, slaves)
    for slave in slaves:
        for manner in (
            Manner("silence"),
            Manner("late", delay_s=rng.uniform(0.3, 3.0)),
            Manner("late", delay_s=rng.uniform(0.3, 0.9)),
            Manner("wrong_unit"),
            Manner("crc"),
            Manner("exception", code=rng.choice((4, 5, 6))),
            Manner("reset", delay_s=rng.uniform(1, 10)),
            Manner("mute"),
        ):
            slave.habit(0.006, manner)
        # Its own registers for writes, so that reads can be held to the truth.
        slave.maps[3].update(dict.fromkeys(range(60_000, 60_010), 0))
        # And those of which only some bits are written.
        slave.maps[3].update(dict.fromkeys(range(60_010, 60_020), REST))
    slaves[-1].answers_at_most = 6
    events = []
    for number in range(int(seconds / 2)):
        at_s, unit = rng.uniform(0, seconds - 60), rng.randint(1, 8)
        register, ttl_s = 60_000 + rng.randrange(20), rng.choice((0.3, 1.0, 5.0))

        def order(now_s: float, n: int = number, u: int = unit, r: int = register, t: float = ttl_s) -> None:
            desk.expires[n] = now_s + t
            if desk.write(n, f"d{u}", r, (n,), now_s, t, mask=(FIELD,) if r >= 60_010 else ()):
                desk.results[n] = ("not taken", "", now_s)

        events.append((at_s, order))
    for slave in slaves[:3]:
        for _ in range(3):
            at_s = rng.uniform(0, seconds)
            events.append((at_s, lambda now_s, s=slave: setattr(s, "is_dead", True)))
            events.append((at_s + rng.uniform(1, 60), lambda now_s, s=slave: setattr(s, "is_dead", False)))
    desk.expires = {}  # type: ignore[attr-defined]
    desk.run(seconds, events)
    return desk


@pytest.mark.parametrize("seed", [11, 12])
def test_in_a_chaos_no_value_is_anothers_and_no_write_is_late_or_told_wrong(seed: int) -> None:
    judge(chaos(seed, 400.0), seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 108))
def test_in_many_chaoses_no_value_is_anothers_and_no_write_is_late_or_told_wrong(seed: int) -> None:
    judge(chaos(seed, 3000.0), seed)


def judge(desk: Desk, seed: int) -> None:
    devices = [state.device for state in desk.scheduler.states]
    by_name = {device.name: device for device in devices}
    count = 0
    for name, values in desk.values.items():
        for _at_s, index, found in values:
            wanted = by_name[name].points[index]
            expected = tuple(truth(by_name[name].unit, wanted.address + i) for i in range(wanted.quantity))
            assert found == expected, f"seed={seed}: {name} point {index}"
            count += 1
    for slave in desk.line.slaves.values():
        assert {slave.maps[3][register] & ~FIELD for register in range(60_010, 60_020)} == {REST}, (
            f"seed={seed}"
        )
    landed = {
        values[0] & FIELD: at_s for slave in desk.line.slaves.values() for at_s, _r, values in slave.writes
    }
    expires: dict[int, float] = desk.expires  # type: ignore[attr-defined]
    assert set(desk.results) == set(expires), f"seed={seed}: a write was not told"
    for number, (result, detail, _at_s) in desk.results.items():
        if number in landed:
            assert landed[number] <= expires[number], f"seed={seed}: write {number} was late"
        if result == "done":
            assert number in landed, f"seed={seed}: write {number} was told done"
        if result in ("expired", "not taken"):
            assert number not in landed, f"seed={seed}: write {number} was told {result}: {detail}"
    results = [result for result, _detail, _at_s in desk.results.values()]
    told = " ".join(f"{name}={results.count(name)}" for name in sorted(set(results)))
    kinds = desk.scheduler.counters
    print(f"seed={seed} values={count} silent={kinds['silent']} spoilt={kinds['spoilt']} {told}")
    assert results.count("done") > len(results) / 2
    assert kinds["silent"] > 20
    assert kinds["spoilt"] > 10


def test_a_wait_is_never_a_busy_loop() -> None:
    desk = one((point(0, period_s=10),))
    desk.run(1.0)
    step = desk.scheduler.next(desk.now_s)
    assert isinstance(step, Wait)
    assert step.until_s == pytest.approx(10.0)


def test_values_of_a_whole_street_are_right() -> None:
    devices, slaves = street(9, count=30, period_s=30.0)
    desk = Desk(devices, slaves)
    desk.run(60.0)
    assert len(desk.values) == 30
    assert all(len(values) >= 16 for values in desk.values.values())
    assert all(outcome.kind in (ANSWERED, REFUSED) for _at_s, _job, outcome in desk.jobs)
