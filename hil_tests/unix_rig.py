"""`--rig=unix`: real MicroPython on virtual boards, the real daemon in its own process, a real Mosquitto.

Power cuts and kills are SIGKILL; the network to the broker can go silent without a reset (broker.Proxy).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from boards.virtual.supervisor import LineFaults
from hil_tests.broker import Mosquitto, Proxy
from hil_tests.consumer import Consumer, Judge, RecordId
from hil_tests.places import RiverPlace
from hil_tests.street import Street, app_image
from hil_tests.system import Books


class UnixRig:
    """A `System` of real processes. ``close()`` ends everything it started."""

    rig = "unix"

    def __init__(self, folder: Path, stations: int = 2, interval_s: int = 3, seed: int = 1) -> None:
        self.folder = folder
        self.seed = seed
        self.interval_s = interval_s
        self._promised: frozenset[RecordId] = frozenset()
        self._erased: frozenset[RecordId] = frozenset()
        self.broker = Mosquitto(folder / "broker")
        self.broker.start()
        self.proxy = Proxy(self.broker.port)
        self.city = Consumer(self.broker.port)
        places = [RiverPlace(f"bridge-{index + 1}", seed + index) for index in range(stations)]
        mqtt = ("127.0.0.1", self.proxy.port)
        self.street = Street(folder, places, interval_s=interval_s, seed=seed, mqtt=mqtt)
        self.boards = self.street.boards
        self.gateway = self.street.gateway
        self.nodes = tuple(self.boards)
        self.street.start()

    # --- System -------------------------------------------------------------------------------------------

    @property
    def judge(self) -> Judge:
        return self.city.judge

    def run_s(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait_until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout_s} s still no {what}\n{self.describe()}")
            time.sleep(0.05)

    def kill_gateway(self) -> None:
        self.gateway.kill()

    def start_gateway(self) -> None:
        self.gateway.start()

    def backup_gateway(self) -> Path:
        copy = self.folder / "yesterday"
        copy.mkdir()
        for file in self.gateway.data.glob("*.db*"):
            shutil.copy2(file, copy)
        return copy

    def restore_gateway(self, backup: Path) -> None:
        """What an administrator does: the database files come back, nothing else is touched."""
        for file in self.gateway.data.glob("*.db*"):
            file.unlink()
        for file in backup.glob("*.db*"):
            shutil.copy2(file, self.gateway.data / file.name)

    def metrics(self) -> dict[str, float]:
        return self.gateway.metrics()

    def stop_broker(self) -> None:
        self.broker.stop()

    def start_broker(self) -> None:
        self.broker.start()

    def silence_network(self) -> None:
        self.proxy.silence()

    def restore_network(self) -> None:
        self.proxy.restore()

    def power_cut(self, node: str) -> None:
        board = self.boards[node]
        board.power_cut()
        board.power_on()

    def reflash_app(self, node: str) -> None:
        board = self.boards[node]
        board.power_cut()
        board.flash("app", app_image())
        board.power_on()

    def erase_state(self, node: str) -> None:
        """The state partition is lost and minted again with the same keys: its counters are gone."""
        board = self.boards[node]
        board.power_cut()
        contents = self.street.outbox(node)
        self._promised |= contents.kept - contents.waiting
        self._erased |= contents.kept
        board.flash("state", self.street.state_images[node].read_bytes())
        board.power_on()

    def line_faults(self, percent: float) -> None:
        """That share of the bytes is spoiled in both directions, a quarter in each of four ways."""
        share = percent / 100 / 4
        for index, board in enumerate(self.boards.values()):
            faults = LineFaults(self.seed + index, corrupt=share, drop=share, duplicate=share, reorder=share)
            board.faults = faults if percent else None

    def unplug(self, node: str) -> None:
        self.boards[node].unplug()

    def replug(self, node: str) -> None:
        self.boards[node].replug()

    def settle(self, timeout_s: float = 60) -> Books:
        self.street.quiet()
        deadline = time.monotonic() + timeout_s
        while True:
            self._wait_quiet(deadline)
            if self.street.kept() <= self.judge.records.keys():
                break
            if time.monotonic() > deadline:
                print(self.describe())  # the books will not balance: pytest shows this beside them
                break
        return self.street.books(self.judge, self._promised, self._erased)

    def _wait_quiet(self, deadline: float) -> None:
        seen, since = -1, time.monotonic()
        while time.monotonic() < deadline:
            if len(self.judge.records) != seen:
                seen, since = len(self.judge.records), time.monotonic()
            elif time.monotonic() - since > 1.5 * max(1, self.interval_s):
                return
            time.sleep(0.05)

    def describe(self) -> str:
        """Where everything stands, for the message of a failure."""
        lines = [f"seed {self.seed}; {len(self.judge.records)} records, {self.judge.copies} copies"]
        lines += [
            f"{node}: {board.state} {dict(board.counts)} …{board.console[-1500:]!r}"
            for node, board in self.boards.items()
        ]
        return "\n".join([*lines, self.gateway.log_tail()])

    def close(self) -> None:
        self.street.close()
        self.city.close()
        self.proxy.close()
        self.broker.stop()
