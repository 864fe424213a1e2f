"""Which calibration a set was measured under, and whether somebody was at the station, in the JSON that leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.commands import OPERATIONS
from gateway.marks import Mark, Marks
from gateway.records import Reading
from gateway.registry import By
from gateway.store import Store
from hil_tests.sim_rig import SimRig
from hil_tests.southbound import FakeClock
from protocols.wire import codes
from protocols.wire.messages import CLEARED, NOTE, RAISED

PH, OXYGEN = 1, 2


class Books:
    """A store with epochs and events as they come in, and what its marks say of sets."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "marks.db"
        self.rows = 0
        self.open()

    def open(self) -> None:
        from gateway import marks

        self.store = Store.open(self.path, clock=FakeClock(), random_bytes=bytes, extra_schema=marks.SCHEMA)
        self.marks = Marks(self.store)

    def epoch(self, node: int = 0x12, previous: int | None = None) -> int:
        made = self.store.add_epoch(node, self.store._next_epoch * 1000, bytes(16), previous, 1)
        return made.row_id

    def event(self, epoch: int, seq: int, code: int, state: int, detail: Any) -> None:
        """As a commit tells of it, and as it stands in the table."""
        self.rows += 1
        self.store._connection.execute(
            "INSERT INTO event VALUES (?, 2, ?, ?, 0, 0, 0, 0, NULL, 1, ?, ?, ?)",
            (self.rows, epoch, seq, code, state, json.dumps(detail)),
        )
        self.marks._take(epoch, seq, code, state, detail)

    def calibrated(self, epoch: int, seq: int, series: int, number: int) -> None:
        self.event(epoch, seq, codes.CALIBRATED, NOTE, [series, number, 10000, 0])

    def of(self, epoch: int, seq: int) -> tuple[dict[int, int], bool]:
        ledger = self.store.epochs[epoch].ledger
        found: Mark = self.marks.of(Reading(0, ledger, seq, 0, 0, 0, 1, 1, (), None))
        return dict(found.calibrations), found.maintenance


def test_a_calibration_holds_from_its_seq_until_the_next_one_of_its_series(tmp_path: Path) -> None:
    books = Books(tmp_path)
    epoch = books.epoch()
    books.calibrated(epoch, 10, PH, 1)
    books.calibrated(epoch, 30, PH, 3)
    books.calibrated(epoch, 20, OXYGEN, 2)  # a lost frame that came later
    assert [books.of(epoch, seq)[0] for seq in (9, 11, 21, 29, 31)] == [
        {}, {PH: 1}, {PH: 1, OXYGEN: 2}, {PH: 1, OXYGEN: 2}, {PH: 3, OXYGEN: 2},
    ]  # fmt: skip


def test_sets_between_raised_and_cleared_are_of_a_maintenance(tmp_path: Path) -> None:
    books = Books(tmp_path)
    epoch = books.epoch()
    books.event(epoch, 5, codes.IN_MAINTENANCE, RAISED, 1800)
    books.event(epoch, 9, codes.IN_MAINTENANCE, CLEARED, 0)
    assert [books.of(epoch, seq)[1] for seq in (4, 6, 8, 10)] == [False, True, True, False]


def test_what_holds_goes_along_into_the_next_epoch_and_not_into_another_life(tmp_path: Path) -> None:
    books = Books(tmp_path)
    first = books.epoch()
    second = books.epoch(previous=first)
    erased = books.epoch()
    neighbour = books.epoch(node=0x13)
    assert books.of(second, 50) == ({}, False)
    books.calibrated(first, 10, PH, 1)
    assert books.of(second, 50) == ({PH: 1}, False)
    assert books.of(erased, 50) == ({}, False)
    assert books.of(neighbour, 50) == ({}, False)


def test_a_gateway_that_starts_again_knows_what_it_knew(tmp_path: Path) -> None:
    books = Books(tmp_path)
    epoch = books.epoch()
    books.calibrated(epoch, 10, PH, 1)
    books.store.close()
    books.open()
    assert books.of(epoch, 11) == ({PH: 1}, False)
    plan = books.store.read(
        lambda db: db.execute("EXPLAIN QUERY PLAN SELECT id FROM event INDEXED BY event_marks"
                              " WHERE kind = 2 AND code IN (18, 21)").fetchall()
    )  # fmt: skip
    assert "event_marks" in str(plan), "and it read no other event for it"
    books.store.close()


# -- the whole way: a technician at the command line, a node, a broker ---


def send(rig: SimRig, node: str, name: str, args: Any) -> str:
    """Give a command and wait for its end."""
    address = int(node, 16)
    number = rig.ask(
        lambda gateway: gateway.commands.add(address, OPERATIONS[name], args, 600, By("wang", "test"))
    )

    def state() -> str:
        return rig.alive.commands.reports(number)[0].state

    rig.wait_until(lambda: state() != "open", 120, f"end of {name}")
    return state()


def test_a_station_is_calibrated_from_the_command_line_to_the_city(tmp_path: Path) -> None:
    """A probe that shows 90 %: refused with one bottle, taken with two, and named with every set after it."""
    with SimRig(tmp_path, stations=2, interval_s=5, seed=3) as rig:
        node, neighbour = rig.nodes
        sonde = rig.stations[node].station.sonde
        bottle = [8.0]
        sonde._quantities = lambda t_s: {"dissolved_oxygen": 0.9 * bottle[0] + t_s % 3 * 1e-4}
        rig.run_s(60)
        assert send(rig, node, "maintenance", 3600) == "done"
        assert send(rig, node, "calibrate", [OXYGEN, 0, 800]) == "done"
        assert send(rig, node, "calibrate", [OXYGEN, 1, 1000]) == "done"
        assert send(rig, node, "calibrate", [OXYGEN, 2, 9]) == "refused"
        assert (
            rig.alive.commands.reports()[0].detail
            == "slope 0, allowed 8000 to 12000 (1/10000): clean, repeat"
        )
        bottle[0] = 10.0
        assert send(rig, node, "calibrate", [OXYGEN, 1, 1000]) == "done"
        assert send(rig, node, "calibrate", [OXYGEN, 2, 9]) == "done"
        assert rig.alive.commands.reports()[0].detail == "[9, 9000, 0]"
        assert send(rig, node, "maintenance", 0) == "done"
        bottle[0] = 7.0
        rig.run_s(60)
        rig.kill_gateway()
        rig.start_gateway()
        rig.run_s(60)
        rig.settle(600)
        mine = [record for (name, _, _), record in sorted(rig.judge.records.items()) if name == node]
        events = [record for record in mine if "event" in record]
        (raised, cleared), (calibrated,) = (
            [record["seq"] for record in events if record["event"]["name"] == name]
            for name in ("maintenance", "calibrated")
        )
        sets = [record for record in mine if "readings" in record]
        for record in sets:
            assert ("maintenance" in record) == (raised < record["seq"] < cleared), record["seq"]
            assert record.get("cal") == ({"dissolved_oxygen": 9} if record["seq"] > calibrated else None)
        assert any("maintenance" in record for record in sets)
        assert [record["readings"]["dissolved_oxygen"]["v"] for record in sets[-5:]] == [7.0] * 5
        assert not any(
            "maintenance" in r for (name, _, _), r in rig.judge.records.items() if name == neighbour
        )
        assert rig.judge.problems == []
