"""How much can still come while nothing goes out: true in bytes and hours, and told before it is too late."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from structlog.testing import capture_logs

from gateway.buffer import RECORD_BYTES, Buffer
from gateway.config_store import StoreSection
from gateway.held import Held
from gateway.intervals import Intervals
from gateway.log import get
from gateway.retention import Retention
from gateway.status import _buffer, show
from hil_tests.southbound import South, TestNode, tell

MIB = 1 << 20


class Tank:
    """A buffer over a real store, whose disk holds what a test says."""

    def __init__(self, south: South, **settings: Any) -> None:
        self.south = south
        self.free = 1 << 40
        self.holders: dict[str, Held] = {}
        section = StoreSection(**{"max_mib": 16, **settings})
        retention = Retention(south.store, south.clock, section, lambda: self.holders)
        self.retention = retention
        self.buffer = Buffer(
            south.store,
            retention,
            section,
            south.clock,
            get(),
            lambda: self.holders,
            lambda folder: self.free,
        )

    async def comes(self, node: TestNode, count: int) -> None:
        for _ in range(count // 20):
            node.give(*(node.reading() for _ in range(20)))
        await self.south.commit()

    async def hour(self, node: TestNode, count: int) -> None:
        """So many readings within one."""
        await self.comes(node, count)
        self.south.clock.now_ms += 3_600_000
        self.buffer.look()


def test_what_everybody_has_had_is_room_and_what_somebody_owes_is_none(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        tank = Tank(south)
        await tank.comes(node, 2000)
        full = tank.buffer.bytes_left()
        assert full == 16 * MIB - tank.retention.used_bytes()
        tank.holders = {"city": Held(0, 2001, Intervals()), "lake": Held(0, 1001, Intervals())}
        assert tank.buffer.bytes_left() == full + 1000 * RECORD_BYTES
        owed = Intervals()
        owed.add(500, 500)
        tank.holders["city"] = Held(0, 2001, owed)
        assert tank.buffer.bytes_left() == full + 499 * RECORD_BYTES
        tank.free = MIB
        room = MIB + tank.retention.free_bytes_inside() + 499 * RECORD_BYTES
        assert tank.buffer.bytes_left() == room, "the disk is the smaller bound"

    tell(tmp_path, story)


def test_hours_are_told_at_their_levels_once_each_way(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        tank = Tank(south, warn_hours=24)
        assert tank.buffer.hours_left() == -1
        await tank.hour(node, 600)
        assert tank.buffer.level == ""
        assert tank.buffer.hours_left() > 100
        levels = []
        with capture_logs() as logs:
            for hours in (40, 23, 25, 20, 5, 5, 6.5, 40, 40):
                tank.free = round(hours * 600 * RECORD_BYTES) - tank.retention.free_bytes_inside()
                tank.buffer.look()
                levels.append(tank.buffer.level)
        assert levels == ["", "warning", "warning", "warning", "error", "error", "error", "", ""]
        assert [entry["log_level"] for entry in logs] == ["warning", "error", "info"]
        tank.free = round(5 * 600 * RECORD_BYTES) - tank.retention.free_bytes_inside()
        tank.buffer.look()
        assert "given up in 5 hours" in str(tank.buffer.reason())

    tell(tmp_path, story)


def test_a_bound_of_no_hours_tells_nothing(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        tank = Tank(south, warn_hours=0)
        await tank.hour(node, 600)
        tank.free = 0
        tank.buffer.look()
        assert (tank.buffer.level, tank.buffer.reason()) == ("", None)

    tell(tmp_path, story)


def test_a_person_sees_it_in_the_status() -> None:
    store = {"used_bytes": 3 * MIB, "buffer_left_bytes": 4093 * MIB, "buffer_left_hours": 71.6}
    assert (
        _buffer(store)
        == "buffer: 3 MiB in use, room for 4,093 MiB more: 72 hours at the rate of the last day"
    )
    assert "its rate is not known yet" in _buffer({**store, "buffer_left_hours": -1.0})
    out = StringIO()
    status = {
        "name": "gw", "running_s": 1, "reasons": [], "rows": [], "links": {}, "northbounds": {}, "refused": {},
        "store": {**store, "buffer_left_hours": 2400.0},
    }  # fmt: skip
    show(status, Console(file=out, width=80))
    assert "100 days at the rate" in out.getvalue().replace("\n", " ")
