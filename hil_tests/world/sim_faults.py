"""What befalls a gateway in its years, one at a time: begun, ended, and what the gateway must say of it afterwards."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway import damage
from gateway.limits import UPKEEP_PERIOD_S
from gateway.sqlite_pages import Pages

if TYPE_CHECKING:
    from hil_tests.sim_rig import SimRig

PAGE = 4096
DAY_S = 86_400


class Faults:
    """The faults by name. Each lasts as long as it wants, and is over when its function returns."""

    def __init__(self, rig: SimRig) -> None:
        self.rig = rig
        self.rng: random.Random = rig.random("faults")
        self.told = ""  # what the gateway said of it
        self.may_lose = False  # whether records may be gone, if they are listed
        self.kinds: dict[str, Callable[[], None]] = {
            "kill": self.kill,
            "torn_log": self.torn_log,
            "disk_full": self.disk_full,
            "read_only": self.read_only,
            "clock_ahead": lambda: self.clock(DAY_S),
            "clock_back": lambda: self.clock(-DAY_S),
            "broker_flap": self.broker_flap,
            "dns_gone": lambda: self.no_way("Temporary failure in name resolution"),
            "certificate": lambda: self.no_way("certificate verify failed: certificate has expired"),
            "corrupt_page": self.corrupt_page,
        }

    def kill(self) -> None:
        for _ in range(4):
            self.rig.run_s(self.rng.uniform(0.02, 4))
            self.rig.kill_gateway()
            self.rig.run_s(self.rng.choice((0.0, 3.0)))
            self.rig.start_gateway()
        self.told = "started again"

    def torn_log(self) -> None:
        """Power goes while the log is written: what was not synced is there in part, or is something else."""
        for _ in range(4):
            self.rig.run_s(self.rng.uniform(0.02, 4))
            torn = self.rig.alive.unsynced
            self.rig.kill_gateway()
            log = self.rig.data / "tidegate.db-wal"
            data = bytearray(log.read_bytes())
            if torn is None:  # the next commit had begun
                data += self.rng.randbytes(self.rng.randrange(3 * PAGE))
            else:
                at = self.rng.randrange(*torn)
                data[at:] = self.rng.randbytes(self.rng.randrange(len(data) - at + 1))
            log.write_bytes(data)
            self.rig.start_gateway()
        self.told = "started again"

    def disk_full(self) -> None:
        rig, gateway = self.rig, self.rig.alive
        writer = gateway.store._connection
        rig.room.free_bytes = 0
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        give = gateway.upkeep.space.give_reserve

        def given() -> None:
            if gateway.upkeep.space.has_reserve:
                writer.execute(f"PRAGMA max_page_count = {pages + rig.config.store.reserve_mib * 256}")
            give()

        gateway.upkeep.space.give_reserve = given  # type: ignore[method-assign]
        rig.wait_until(lambda: gateway.upkeep.space.full_since_ms is not None, 300, "full disk")
        rig.run_s(40)
        readings = gateway.store.counters["readings"]
        rig.run_s(self.rng.uniform(10, 60))
        assert gateway.store.counters["readings"] == readings, "a reading was taken though the disk is full"
        assert gateway.store.failing is None, "events and bookkeeping go on in the reserve"
        (self.told,) = gateway.upkeep.reasons()
        writer.execute("PRAGMA max_page_count = 1000000")
        rig.room.free_bytes = 1 << 40
        rig.run_s(2 * UPKEEP_PERIOD_S)
        assert gateway.upkeep.reasons() == []

    def read_only(self) -> None:
        """The file system is mounted read-only after an error, and again as it was."""
        gateway = self.rig.alive
        gateway.store._connection.execute("PRAGMA query_only = ON")
        self.rig.run_s(self.rng.uniform(10, 50))
        self.told = next(reason for reason in gateway.reasons() if "readonly" in reason)
        gateway.store._connection.execute("PRAGMA query_only = OFF")
        self.rig.run_s(2 * UPKEEP_PERIOD_S)
        assert gateway.store.failing is None

    def clock(self, by_s: float) -> None:
        """Set wrong, and right again."""
        rig = self.rig
        rig.clock_offset_s += by_s
        rig.run_s(self.rng.uniform(20, 90))
        if self.rng.random() < 0.5:
            rig.kill_gateway()
            rig.start_gateway()
            rig.run_s(10)
        rig.clock_offset_s = 0.0
        rig.run_s(40)
        jumps = rig.alive.upkeep.clock_watch.jumps
        assert jumps >= 1
        silent = rig.alive.store.read(
            lambda db: db.execute("SELECT count(*) FROM event WHERE code = 1").fetchone()
        )
        self.told = f"{jumps} jumps, {silent[0]} events of that code"

    def broker_flap(self) -> None:
        for _ in range(10):
            self.rig.stop_broker()
            self.rig.run_s(self.rng.uniform(0.05, 3))
            self.rig.start_broker()
            self.rig.run_s(self.rng.uniform(0.05, 3))
        self.told = "sessions"

    def no_way(self, why: str) -> None:
        """No connection can be made, though the broker is well."""
        rig = self.rig
        rig.broker.fails_with = why
        rig.stop_broker()
        rig.start_broker()
        rig.run_s(self.rng.uniform(20, 90))
        self.told = next(reason for reason in rig.alive.reasons() if "not connected" in reason)
        rig.broker.fails_with = ""

    def corrupt_page(self) -> None:
        """One page of the database turns into noise; the process may be killed before it meets it."""
        rig = self.rig
        if self.rng.random() < 0.7:  # then there is something that only this database has
            rig.stop_broker()
            rig.run_s(40)
        writer = rig.alive.store._connection
        rig.wait_until(lambda: not writer.in_transaction, 10, "pause between two commits")
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database = rig.data / "tidegate.db"
        pages = Pages(database)
        number = self.rng.randrange(1, pages.count)  # the page after it, for pages count from 1
        if self.rng.random() < 0.5:
            number = self.rng.choice(pages.walk(pages.roots()["reading"])[0]) - 1
        with database.open("r+b") as file:
            file.seek(number * PAGE)
            file.write(self.rng.randbytes(PAGE))
        if self.rng.random() < 0.7:
            rig.kill_gateway()
            rig.start_gateway()
        rig.run_s(30)
        rig.start_broker()
        rig.run_s(30)
        self.may_lose = True
        # Whatever nobody has met yet is met now, as an audit would.
        try:
            rig.alive.store.read(lambda db: db.execute("PRAGMA integrity_check").fetchall())
            for table in ("reading", "event", "epoch", "seen"):
                rig.alive.store.read(lambda db, table=table: db.execute(f"SELECT * FROM {table}").fetchall())  # type: ignore[misc]
        except sqlite3.DatabaseError:
            rig.run_s(5)  # another life has begun
        self.told = "; ".join(one.report for one in rig.alive.store.read(damage.all_of)) or "nobody met it"
