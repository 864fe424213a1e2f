"""The simulated world itself: it can be replayed, its broker keeps the contract, and in it nothing is ever lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hil_tests.northbound_contract import WINDOW, Arrival, Contract, FarSide
from hil_tests.sim_rig import SimRig
from hil_tests.world.loop_time import LoopTime
from hil_tests.world.sim_broker import SimBroker, SimSender
from hil_tests.world.sim_chaos import Chaos
from protocols.wire import envelope, framing

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_RUNS = 8
SOAK_RUNS = 100
# Everything must have arrived so long after the last fault; a node that gave up asks every minute, with jitter.
SETTLE_S = 3600


@contextmanager
def bad_day(folder: Path, seed: int, hours: float) -> Iterator[SimRig]:
    """A rig after virtual hours of every fault at once, and then peace."""
    interval_s = random.Random(f"{seed} interval").choice((1, 5, 15))
    with SimRig(folder, stations=3, interval_s=interval_s, seed=seed) as rig:
        Chaos(rig).run_s(hours * 3600, pause_s=20)
        rig.settle(SETTLE_S)
        yield rig


# -- replaying -----------------------------------------------------------------------------------------------


def diary(folder: Path, seed: int) -> str:
    """The digest of everything that happened on a short bad day."""
    with bad_day(folder, seed, hours=0.1) as rig:
        return rig.world.digest


def test_one_seed_gives_one_history_and_another_seed_another(tmp_path: Path) -> None:
    """Every byte on every line and at the broker, and when it arrived, twice the same; nothing else decides."""
    first, again, other = (diary(tmp_path / name, seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert first == again
    assert first != other


def test_a_history_is_the_same_in_another_process(tmp_path: Path) -> None:
    """Neither the hash seed of an interpreter nor the folder has a say: a failure can be replayed by anybody."""
    code = "import pathlib, sys; from hil_tests.test_sim_world import diary; print(diary(pathlib.Path(sys.argv[1]), 5))"
    environ = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == diary(tmp_path / "here", 5)


# -- restored databases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_restored_database_is_recognised_and_repeats_no_downlink_piv(
    tmp_path: Path, base_seed: int, whole_folder: bool
) -> None:
    """The database alone is put back, or all its files: no frame is ever sealed under a PIV that was used before."""
    with SimRig(tmp_path, seed=base_seed) as rig:
        heads: list[bytes] = []
        for line in rig.lines.values():
            decoder = framing.Decoder()
            line.tap = (
                lambda way, data, decoder=decoder: heads.extend(  # type: ignore[misc]
                    frame[: envelope.parse(frame, envelope.KID_DOWN).start]
                    for _, frame in (decoder.feed(data) if way == "down" else ())
                )
            )
        rig.run_s(20)
        rig.kill_gateway()
        backup = rig.backup_gateway()
        rig.start_gateway()
        rig.run_s(20)
        rig.kill_gateway()
        if whole_folder:
            rig.restore_gateway(backup)
        else:
            for name in ("tidegate.db", "tidegate.db-wal"):
                (rig.data / name).write_bytes((backup / name).read_bytes())
            (rig.data / "tidegate.db-shm").unlink()
        rig.start_gateway()
        assert rig.alive.store.restored
        before = len(heads)
        rig.run_s(20)
        assert len(heads) > before + 5
        assert len(set(heads)) == len(heads), "a header came twice: the same key and PIV"
        rig.settle().balance()


def test_a_backup_from_before_a_node_joined_costs_nothing(tmp_path: Path, base_seed: int) -> None:
    """The restored gateway knows no epoch of the node, which rebooted and holds nothing unacknowledged."""
    with SimRig(tmp_path, seed=base_seed) as rig:
        for node in rig.nodes:
            rig.unplug(node)
        rig.run_s(1)
        rig.kill_gateway()
        backup = rig.backup_gateway()
        rig.start_gateway()
        rig.stop_broker()
        for node in rig.nodes:
            rig.replug(node)
        rig.run_s(60)
        rig.settle()
        assert [station.waiting() for station in rig.stations.values()] == [0, 0]
        rig.kill_gateway()
        rig.restore_gateway(backup)
        rig.start_gateway()
        rig.start_broker()
        for node in rig.nodes:
            rig.reflash_app(node)
        rig.run_s(120)
        books = rig.settle()
        assert len(books.delivered) > 20
        books.balance()


# -- the sweep -----------------------------------------------------------------------------------------------


def sweep(folder: Path, seed: int, hours: float) -> None:
    with bad_day(folder, seed, hours) as rig:
        books = rig.books()
        assert len(books.kept) > 100, "nothing was at stake"
        assert rig.is_settled(), rig.describe()
        books.balance()


@pytest.mark.parametrize("nth", range(SAMPLE_RUNS))
def test_the_books_balance_after_any_mixture_of_faults(tmp_path: Path, base_seed: int, nth: int) -> None:
    """A stated sample of the sweep below: what nodes promised is what the city has, record for record."""
    sweep(tmp_path, base_seed + nth, hours=0.3)


@pytest.mark.soak
@pytest.mark.parametrize("nth", range(SOAK_RUNS))
def test_the_books_balance_over_hours_of_faults(tmp_path: Path, base_seed: int, nth: int) -> None:
    """A hundred seeds, an hour each, a fault every twenty seconds."""
    sweep(tmp_path, base_seed + nth, hours=1)


# -- the broker keeps the contract ---------------------------------------------------------------------------


class SimFarSide:
    """`FarSide` of the contract, by a `SimBroker`."""

    def __init__(self) -> None:
        self._taken: list[Arrival] = []
        self.broker = SimBroker(
            LoopTime(), random.Random(1), self._take, delays_s=(0.0, 0.002), connect_timeout_s=0.02
        )
        self.broker.running = False

    def _take(self, record: dict[str, Any]) -> None:
        self._taken.append(
            Arrival(record["node"], record["epoch"], record["seq"], record["lane"], record["resent"])
        )

    def sender(self) -> SimSender:
        return SimSender(self.broker, WINDOW)

    def arrivals(self) -> list[Arrival]:
        return self._taken

    async def start(self) -> None:
        self.broker.start()

    async def stop(self) -> None:
        self.broker.stop()

    async def close(self) -> None:
        self.broker.stop()

    def hold(self) -> None:
        self.broker.hold()

    def release(self, *, reverse: bool = False, twice: bool = False) -> None:
        self.broker.release(reverse=reverse, twice=twice)

    def swallow(self) -> None:
        self.broker.silence()

    def heal(self) -> None:
        self.broker.heal()

    def refuse_next(self, count: int) -> None:
        self.broker.refuse_next = count

    def repeat(self) -> None:
        self.broker.confirms_twice = True


class TestSimBroker(Contract):
    """The same contract as the real broker's client, so what the simulated world proves is about the same thing."""

    def far_side(self) -> FarSide:
        return SimFarSide()
