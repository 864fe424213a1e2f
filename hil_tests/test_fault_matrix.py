"""Each fault that a gateway meets in its years: nothing acknowledged is lost unless it is listed, the gateway goes on
without a person, and says what happened (simulated).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gateway import audit
from hil_tests.sim_rig import SimRig
from hil_tests.world.sim_faults import Faults
from hil_tests.world.sim_gateway import NORTHBOUND

KINDS = (
    "kill", "torn_log", "disk_full", "read_only", "clock_ahead", "clock_back", "broker_flap", "dns_gone",
    "certificate", "corrupt_page",
)  # fmt: skip
SOAK_SEEDS = 50


class Rig(SimRig):
    def tables(self) -> list[str]:
        return ["[store]\nreserve_mib = 1\n"]


def once(folder: Path, kind: str, seed: int) -> Counter[str]:
    """One gateway, one fault; asserts the contract. Figures of it."""
    with Rig(folder, stations=3, interval_s=1, seed=seed) as rig:
        faults = Faults(rig)
        rig.run_s(60)
        try:
            faults.kinds[kind]()
            rig.run_s(10)
            books = rig.settle(200)
            assert not books.problems, books.problems[:5]
            assert not books.invented, sorted(books.invented)[:5]
            lost = books.missing
            assert faults.may_lose or not lost, f"never arrived: {sorted(lost)[:5]}"
            for node, epoch, seq in sorted(lost):
                assert is_listed(rig, node, epoch, seq), f"{node} {epoch} {seq} is gone and nobody says so"
            for row in rig.alive.store.read(lambda db: audit.balance(db, [NORTHBOUND])):
                assert row.holds, row.line()
            assert rig.is_settled()
            assert faults.told
            assert len(books.kept) > 60, "three stations that measure each second"
        except BaseException as error:
            error.add_note(f"{kind}, seed {seed}: {rig.describe()}")
            raise
        return Counter(
            produced=len(books.kept), delivered=len(books.delivered), lost_and_listed=len(lost), runs=1
        )


def is_listed(rig: SimRig, node: str, epoch: int, seq: int) -> bool:
    return bool(
        rig.alive.store.read(
            lambda db: db.execute(
                "SELECT 1 FROM lost l JOIN epoch e ON e.id = l.epoch"
                " WHERE e.node = ? AND e.number = ? AND l.first <= ? AND l.last >= ?",
                (int(node, 16), epoch, seq, seq),
            ).fetchone()
        )
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_holds_through_every_fault(tmp_path: Path, base_seed: int, kind: str) -> None:
    """A stated sample of the matrix below: one seed each."""
    figures = once(tmp_path, kind, base_seed)
    print(kind, *(f"{name}={value}" for name, value in figures.items()))


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_the_fault_matrix(tmp_path: Path, base_seed: int, kind: str) -> None:
    """Fifty seeds of each fault."""
    total: Counter[str] = Counter()
    for seed in range(base_seed, base_seed + SOAK_SEEDS):
        total += once(tmp_path / str(seed), kind, seed)
    print(kind, *(f"{name}={value}" for name, value in total.items()))
