"""The gateway is killed at each commit of a command's life, before it and after: what is promised of commands holds.

accepted    it is kept, with who, why and deadline, from the moment that its id is told
executed    at most once, and never after its deadline
its end     what the node says, else `expired` (it never left) or `unanswered`, each with a line in the audit trail
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.registry import By
from hil_tests.sim_rig import SimRig
from hil_tests.world.sim_gateway import AFTER, BEFORE
from protocols.wire import codes

TTL_S = 20
WHY = "kill sweep"
ENDS = ("done", "refused", "failed", "expired_on_node", "unknown_operation", "expired", "unanswered")
COMMANDS = ((codes.READ_NOW, None), (codes.SET_INTERVAL, 17), (codes.IDENTIFY, 3))
# How long the gateway is away: not at all, for a while, until the deadline is over.
AWAY_S = (0.0, 6.0, TTL_S + 5.0)


class Case(NamedTuple):
    op: int
    args: int | None
    commit: int  # the how many-th one from the order on
    phase: str
    away_s: float
    has_time: bool  # whether the clock of the restarted gateway is synchronised
    seed: int


class Row(NamedTuple):
    id: int
    command_id: int
    who: str
    why: str
    created_ms: int
    expires_ms: int
    sent_ms: int | None
    state: str


def cut(rig: SimRig, case: Case) -> tuple[bool, int | None]:
    """Give the order, and kill at that commit; whether it came to that, and the id that was told."""
    count = 0
    happened: list[float] = []

    def at() -> str:
        nonlocal count
        count += 1
        if count != case.commit:
            return ""
        happened.append(rig.world.now_s)
        return case.phase

    gateway = rig.alive
    gateway.cut_at(at)
    order: asyncio.Task[int] = gateway.loop.create_task(
        gateway.commands.add(int(rig.nodes[0], 16), case.op, case.args, TTL_S, By("wang", WHY))
    )
    until_s = rig.world.now_s + 2 * TTL_S
    while not happened and rig.world.now_s < until_s:
        rig.run_s(0.01)
        if order.done() and gateway.commands.reports(order.result())[0].state != "open":
            break
    told = order.result() if order.done() and not order.cancelled() else None
    return bool(happened), told


def once(folder: Path, case: Case) -> str | None:
    """The end of the command; None when its life was over before that commit."""
    with SimRig(folder, stations=1, interval_s=30, seed=case.seed) as rig:
        try:
            rig.run_s(20)
            came_to_that, told = cut(rig, case)
            if not came_to_that:
                return None
            rig.kill_gateway()
            rig.run_s(case.away_s)
            rig.clock_is_synchronised = case.has_time
            rig.start_gateway()
            rig.run_s(2 * TTL_S)
            rig.clock_is_synchronised = True
            rig.settle(60)
            return checked(rig, told)
        except BaseException as error:
            error.add_note(f"{case}: {rig.describe()}")
            raise


def checked(rig: SimRig, told: int | None) -> str:
    """The promises; how it ended, "none" when it was never accepted."""
    rows = [Row(*row) for row in ask(
        rig, "SELECT id, command_id, who, why, created_ms, expires_ms, sent_ms, state FROM command WHERE why = ?", WHY
    )]  # fmt: skip
    assert len(rows) <= 1
    if told is not None:
        assert [row.id for row in rows] == [told], "its id was told, so it is kept"
    orders = ask(rig, "SELECT who, why FROM audit WHERE action = 'command.send' AND why = ?", WHY)
    assert orders == [("wang", WHY)] * len(rows), "the books and the queue agree"
    if not rows:
        return "none"
    (row,) = rows
    assert row.who == "wang"
    assert row.expires_ms - row.created_ms == TTL_S * 1000
    results = [record for record in rig.judge.records.values() if was_of(record, row.command_id)]
    assert len(results) <= 1, "executed twice"
    assert row.state in ENDS
    if results:
        assert results[0]["time"] * 1000 <= row.expires_ms, "begun after its deadline"
        assert row.state == results[0]["result"]["outcome"].replace("expired", "expired_on_node")
        assert row.sent_ms is not None
    else:
        assert row.state in ("expired", "unanswered")
        assert (row.state == "expired") == (row.sent_ms is None), "expired: it never left"
    ends = ask(rig, "SELECT action FROM audit WHERE who = 'gateway' AND action LIKE 'command.%' AND"
               " (detail LIKE ? OR detail LIKE ?)", f"id {row.id} %", f"wire id {row.command_id}:%")  # fmt: skip
    ends += ask(rig, "SELECT action FROM audit WHERE who = 'gateway' AND detail = ?", f"id {row.id}")
    assert (f"command.{row.state}",) in ends, "its end is in the audit trail"
    return row.state


def was_of(record: dict[str, Any], command_id: int) -> bool:
    return "result" in record and record["result"]["command_id"] == command_id


def ask(rig: SimRig, query: str, *values: object) -> list[tuple[Any, ...]]:
    return rig.alive.store.read(lambda db: db.execute(query, values).fetchall())


def sweep(folder: Path, op: int, args: int | None, seed: int, step: int, every: bool) -> Counter[str]:
    """Each `step`-th commit until the command is over, before and after; `every` way to come back, or one of them."""
    ends: Counter[str] = Counter()
    ways = [(away_s, has_time) for away_s in AWAY_S for has_time in (True, False)]
    commit = 1
    while True:
        for phase in (BEFORE, AFTER):
            turn = ends.total()
            for index, way in enumerate(ways):
                if not every and index != turn % len(ways):
                    continue
                case = Case(op, args, commit, phase, *way, seed)
                end = once(folder / f"{commit}-{phase}-{index}", case)
                if end is None:
                    assert commit > 3, "a command's life has commits: kept, sent, ended"
                    return ends
                ends[end] += 1
        commit += step


@pytest.mark.parametrize(("op", "args"), COMMANDS[:1])
def test_a_command_survives_a_kill_at_a_sample_of_its_commits(
    tmp_path: Path, base_seed: int, op: int, args: int | None
) -> None:
    print(*(f"{end}={count}" for end, count in sweep(tmp_path, op, args, base_seed, 2, every=False).items()))


@pytest.mark.soak
@pytest.mark.parametrize(("op", "args"), COMMANDS)
def test_a_command_survives_a_kill_at_every_commit(
    tmp_path: Path, base_seed: int, op: int, args: int | None
) -> None:
    ends: Counter[str] = Counter()
    for seed in range(base_seed, base_seed + 3):
        ends += sweep(tmp_path / str(seed), op, args, seed, 1, every=True)
    print(f"kills={ends.total()}", *(f"{end}={count}" for end, count in sorted(ends.items())))
