"""`--rig=unix`: real MicroPython on virtual boards, the real daemon in its own process, a real Mosquitto.

Only the street is simulated: the sondes and their water (boards/virtual/chips, world/river.py), and the line between
each board and the gateway. Power cuts and kills are SIGKILL.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path

from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.supervisor import LineFaults, VirtualBoard
from flash_tools.images import build_app_image
from flash_tools.mint import mint
from hil_tests.broker import Mosquitto, Proxy, free_port
from hil_tests.consumer import Consumer, Judge, RecordId
from hil_tests.outbox_reader import read_outbox
from hil_tests.system import Books
from hil_tests.world.river import River

ROOT = Path(__file__).resolve().parent.parent
AREA = "330110001001"
# Long enough that no further set is taken while a test counts.
QUIET_INTERVAL_S = 86400
START_TIMEOUT_S = 30.0


class RigError(Exception):
    """The rig itself failed: a process did not start or a command was refused. Not the thing under test."""


@cache
def app_image() -> bytes:
    """The image of the `app` partition; compiling the firmware once is enough for all tests of a process."""
    return build_app_image(ROOT, board="virtual").data


class GatewayProcess:
    """The daemon, run as its user runs it, with its files in ``folder``."""

    def __init__(self, folder: Path, links: dict[str, Path], mqtt_port: int | None) -> None:
        self.folder = folder
        self.config = folder / "gateway.toml"
        self.data = folder / "data"
        self.health_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / "master.key"
        key.write_text(os.urandom(32).hex() + "\n", encoding="ascii")
        key.chmod(0o600)
        self.config.write_text(self._toml(links, mqtt_port), encoding="utf-8")

    def _toml(self, links: dict[str, Path], mqtt_port: int | None) -> str:
        tables = [
            f'[gateway]\nname = "rig"\ndata_dir = "{self.data}"\n',
            f'[keys]\nmaster_key_file = "{self.folder / "master.key"}"\n',
            "[clock]\nassume_synchronised = true\n",
            f"[health]\nport = {self.health_port}\n",
            '[log]\nlevel = "debug"\nformat = "json"\n',
        ]
        tables += [f'[[serial]]\nname = "{name}"\npath = "{path}"\n' for name, path in links.items()]
        if mqtt_port is not None:
            tables.append(f'[[mqtt]]\nname = "city"\nhost = "127.0.0.1"\nport = {mqtt_port}\n')
        return "\n".join(tables)

    def cli(self, *arguments: str) -> str:
        """Run a `tidegate gateway …` command on this gateway; its output."""
        command = [sys.executable, "-m", "tidegate", "gateway", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        if done.returncode:
            raise RigError(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def start(self) -> None:
        with (self.folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "gateway", "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._get("/healthz") is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RigError(f"the gateway does not come up:\n{self.log_tail()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: a normal way to stop this daemon."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=20)
            self._process = None

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=2) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return None

    def metrics(self) -> dict[str, float]:
        """Prometheus samples by their full name with labels."""
        text = self._get("/metrics") or ""
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def log_tail(self, size: int = 4000) -> str:
        """The end of the daemon's log, for the message of a failure."""
        return (self.folder / "gateway.log").read_text(encoding="utf-8", errors="replace")[-size:]


class UnixRig:
    """A `System` of real processes. ``close()`` ends everything it started."""

    rig = "unix"

    def __init__(self, folder: Path, stations: int = 2, interval_s: int = 1, seed: int = 1) -> None:
        self.folder = folder
        self.seed = seed
        self.interval_s = interval_s
        self._acked_and_erased: set[RecordId] = set()
        self.broker = Mosquitto(folder / "broker")
        self.broker.start()
        self.proxy = Proxy(self.broker.port)
        self.city = Consumer(self.broker.port)
        self.boards: dict[str, VirtualBoard] = {}
        for index in range(stations):
            self._add_station(index)
        self.nodes = tuple(self.boards)
        links = {f"river{node}": board.link_path for node, board in self.boards.items()}
        self.gateway = GatewayProcess(folder / "gateway", links, self.proxy.port)
        self.gateway.cli("node", "import", str(folder / "nodes.jsonl"))
        self.gateway.start()
        for board in self.boards.values():
            board.power_on()

    def _add_station(self, index: int) -> None:
        minted = mint(
            out=self.folder,
            address=0x0010 + index,
            node_type="river",
            area=AREA,
            site=f"bridge-{index}",
            board="virtual",
            settings={0: self.interval_s, 1: self.interval_s, 2: 10},
        )
        board = VirtualBoard(
            self.folder / f"board{index}",
            app_image=app_image(),
            state_image=minted.state_image,
            seed=self.seed + index,
        )
        board.attach_uart(1, ModbusSonde(YOSEMITECH, River(self.seed + index).quantities))
        self.boards[f"{minted.address:04x}"] = board

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
        shutil.copytree(self.gateway.data, copy)
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
        contents = read_outbox(node, board.read_partition("state"))
        self._acked_and_erased |= contents.kept - contents.waiting
        board.flash("state", (self.folder / f"{node}.state.img").read_bytes())
        board.power_on()

    def line_faults(self, percent: float) -> None:
        share = percent / 100 / 4
        for index, board in enumerate(self.boards.values()):
            board.faults = percent and LineFaults(  # type: ignore[assignment]
                self.seed + index, corrupt=share, drop=share, duplicate=share, reorder=share
            ) or None

    def unplug(self, node: str) -> None:
        self.boards[node].unplug()

    def replug(self, node: str) -> None:
        self.boards[node].replug()

    def settle(self, timeout_s: float = 60) -> Books:
        for node in self.nodes:
            self.gateway.cli(
                "command", "send", node, "set-interval", str(QUIET_INTERVAL_S), "--why", "end of the test"
            )
        deadline = time.monotonic() + timeout_s
        while True:
            self._wait_quiet(deadline)
            waiting = {node: read_outbox(node, board.read_partition("state", live=True)).waiting
                       for node, board in self.boards.items()}
            if not any(waiting.values()) or time.monotonic() > deadline:
                break
        return self._count()

    def _wait_quiet(self, deadline: float) -> None:
        seen, since = -1, time.monotonic()
        while time.monotonic() < deadline:
            if len(self.judge.records) != seen:
                seen, since = len(self.judge.records), time.monotonic()
            elif time.monotonic() - since > 1.5 * max(1, self.interval_s):
                return
            time.sleep(0.05)

    def _count(self) -> Books:
        kept = set(self._acked_and_erased)
        for node, board in self.boards.items():
            board.power_cut()
            kept |= read_outbox(node, board.read_partition("state")).kept
        audit = json.loads(self.gateway.cli("audit", "--json"))
        return Books(
            kept=frozenset(kept),
            stored=int(audit["stored"]),
            delivered=frozenset(self.judge.records),
            listed_lost=int(audit["lost"]),
            copies=self.judge.copies,
            problems=tuple(self.judge.problems),
        )

    def describe(self) -> str:
        """Where everything stands, for the message of a failure."""
        lines = [f"seed {self.seed}; {len(self.judge.records)} records, {self.judge.copies} copies"]
        lines += [f"{node}: {board.state} {dict(board.counts)} …{board.console[-600:]!r}"
                  for node, board in self.boards.items()]
        return "\n".join([*lines, self.gateway.log_tail()])

    def close(self) -> None:
        for board in self.boards.values():
            board.close()
        self.gateway.kill()
        self.city.close()
        self.proxy.close()
        self.broker.stop()
