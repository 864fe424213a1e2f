"""A street of virtual nodes and the real daemon behind them: what the unix rig and the demo share.

Real MicroPython on virtual boards (boards/virtual), the daemon in a process of its own, run as its user runs it. Only
the chips, what they feel (places.py) and the lines are simulated.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

from boards.virtual.supervisor import VirtualBoard
from flash_tools.images import build_app_image
from flash_tools.mint import MINT_FILE, mint
from gateway.control import ask
from gateway.daemon import DATABASE_NAME
from hil_tests.broker import free_port
from hil_tests.consumer import Judge, RecordId
from hil_tests.demo_devices import DeviceStreet
from hil_tests.errors import RigError
from hil_tests.outbox_reader import OutboxContents, read_outbox
from hil_tests.places import Place
from hil_tests.processes import spawn
from hil_tests.sky import RADIO, Sky
from hil_tests.system import Books, told_by_gateway

ROOT = Path(__file__).resolve().parent.parent
AREA = "330110001001"
FIRST_ADDRESS = 0x0010
STATUS_S = 10
# Long enough that no further set is taken while a test counts.
QUIET_INTERVAL_S = 86400
START_TIMEOUT_S = 30.0


@cache
def app_image(node_type: str = "river") -> bytes:
    """The image of the `app` partition; compiling the firmware once is enough for all tests of a process."""
    return build_app_image(ROOT, "virtual", node_type).data


class GatewayProcess:
    """The daemon, run as its user runs it, with its files in ``folder``."""

    def __init__(
        self,
        folder: Path,
        links: dict[str, Path],
        mqtt: tuple[str, int] | None,
        more_tables: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.config = folder / "gateway.toml"
        self.data = folder / "data"
        self.database = self.data / DATABASE_NAME
        self.health_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / "master.key"
        key.write_text(os.urandom(32).hex() + "\n", encoding="ascii")
        key.chmod(0o600)
        self.config.write_text("\n".join([self._toml(links, mqtt), *more_tables]), encoding="utf-8")

    def _toml(self, links: dict[str, Path], mqtt: tuple[str, int] | None) -> str:
        tables = [
            f'[gateway]\nname = "rig"\ndata_dir = "{self.data}"\n',
            f'[keys]\nmaster_key_file = "{self.folder / "master.key"}"\n',
            "[clock]\nassume_synchronised = true\n",
            f"[health]\nport = {self.health_port}\n",
            '[log]\nlevel = "debug"\nformat = "json"\n',
        ]
        tables += [f'[[serial]]\nname = "{name}"\npath = "{path}"\n' for name, path in links.items()]
        if mqtt is not None:
            tables.append(f'[[mqtt]]\nname = "city"\nhost = "{mqtt[0]}"\nport = {mqtt[1]}\n')
        return "\n".join(tables)

    def disable_devices(self) -> None:
        """No [[device]] of the configuration is read any more, once the daemon starts anew."""
        text = self.config.read_text(encoding="utf-8")
        self.config.write_text(
            text.replace("[[device]]\n", "[[device]]\nenabled = false\n"), encoding="utf-8"
        )

    def cli(self, *arguments: str) -> str:
        """Run a `tidegate gateway …` command on this gateway; its output."""
        command = [sys.executable, "-m", "tidegate", "gateway", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        if done.returncode:
            raise RigError(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def start(self) -> None:
        with (self.folder / "gateway.log").open("ab") as log:
            command = [sys.executable, "-m", "tidegate", "gateway", "run", "--config", str(self.config)]
            self._process = spawn(command, output=log, cwd=ROOT)
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


class Street:
    """One virtual board for each place, minted, imported into a gateway and switched on by ``start()``."""

    def __init__(
        self,
        folder: Path,
        places: Sequence[Place],
        *,
        interval_s: int = 1,
        seed: int = 1,
        mqtt: tuple[str, int] | None = None,
        area: str = AREA,
        devices: DeviceStreet | None = None,
        more_tables: Sequence[str] = (),
        image: Callable[[str], bytes] = app_image,
    ) -> None:
        self.devices = devices
        self._image = image
        self.folder = folder
        self.seed = seed
        self.interval_s = interval_s
        self.area = area
        self.boards: dict[str, VirtualBoard] = {}
        # As minted: what a technician would write again to a node whose state was lost.
        self.state_images: dict[str, Path] = {}
        self.places: dict[str, Place] = {}
        self.sky = Sky(seed) if any(place.spot is not None for place in places) else None
        for index, place in enumerate(places):
            self._add_board(index, place)
        links = {
            f"{self.places[node].node_type}-{node}": board.link_path
            for node, board in self.boards.items()
            if self.places[node].spot is None
        }
        tables = self.sky.tables() if self.sky is not None else []
        tables += devices.tables(area) if devices is not None else []
        self.gateway = GatewayProcess(folder / "gateway", links, mqtt, [*tables, *more_tables])

    def _add_board(self, index: int, place: Place) -> None:
        minted = mint(
            out=self.folder,
            address=FIRST_ADDRESS + index,
            node_type=place.node_type,
            area=self.area,
            site=place.site,
            settings={0: self.interval_s, 1: self.interval_s, 2: STATUS_S, **place.settings},
            radio=RADIO if place.spot is not None else None,
        )
        board = VirtualBoard(
            self.folder / f"board{index}",
            app_image=self._image(place.node_type),
            state_image=minted.state_image.read_bytes(),
            seed=self.seed + index,
            heap_size=place.heap_size,
        )
        place.attach(board)
        if self.sky is not None and place.spot is not None:
            self.sky.join(board, f"{minted.address:04x}", place.spot)
        self.places[f"{minted.address:04x}"] = place
        self.boards[f"{minted.address:04x}"] = board
        self.state_images[f"{minted.address:04x}"] = minted.state_image

    def start(self) -> None:
        self.gateway.cli("node", "import", str(self.folder / MINT_FILE))
        self.gateway.start()
        if self.sky is not None:
            self.sky.start()
        for board in self.boards.values():
            board.power_on()

    def quiet(self, *nodes: str) -> None:
        """Tell nodes (all, when none is named), by the command path, to take no further set.

        What they hold is still delivered.
        """
        for node in nodes or self.boards:
            self.gateway.cli(
                "command", "send", node, "set-interval", str(QUIET_INTERVAL_S), "--why", "end of the run"
            )

    @property
    def is_quiet(self) -> bool:
        """Whether every node has carried out what quiet() asked of it."""
        reply = ask(self.gateway.data, {"operation": "command.list"})
        return reply is not None and all(command["state"] == "done" for command in reply["commands"])

    def leave_devices(self) -> None:
        """Start the gateway again without the devices on its buses: it delivers what it has of them."""
        if self.devices is not None:
            self.gateway.stop()
            self.gateway.disable_devices()
            self.gateway.start()

    def outbox(self, node: str) -> OutboxContents:
        """What the node's flash holds at this moment."""
        return read_outbox(node, self.boards[node].read_partition("state", live=True))

    def kept(self) -> frozenset[RecordId]:
        """Every record that the nodes have promised so far."""
        return frozenset().union(*(self.outbox(node).kept for node in self.boards))

    def owed(self) -> frozenset[RecordId]:
        """Every record that the city is to have: of the nodes, and what the gateway made itself."""
        with closing(sqlite3.connect(f"file:{self.gateway.database}?mode=ro", uri=True)) as reader:
            return self.kept() | told_by_gateway(reader, ())

    def stored(self) -> frozenset[RecordId]:
        """Every record that the gateway has committed."""
        with closing(sqlite3.connect(f"file:{self.gateway.database}?mode=ro", uri=True)) as reader:
            rows = reader.execute(
                "SELECT node, epoch, seq FROM reading_view UNION ALL SELECT node, epoch, seq FROM event_view"
            )
            return frozenset((f"{node:04x}", epoch, seq) for node, epoch, seq in rows)

    def books(
        self,
        judge: Judge | None,
        promised: frozenset[RecordId] = frozenset(),
        erased: frozenset[RecordId] = frozenset(),
    ) -> Books:
        """Switch the boards off and count: flash, store and city. ``promised``: acknowledged, on flash that is gone."""
        kept = set(promised)
        for node, board in self.boards.items():
            board.power_cut()
            kept |= self.outbox(node).kept
        audit = json.loads(self.gateway.cli("audit", "--json"))
        delivered = frozenset(judge.records if judge else ())
        with closing(sqlite3.connect(f"file:{self.gateway.database}?mode=ro", uri=True)) as reader:
            kept |= told_by_gateway(reader, delivered)
        return Books(
            kept=frozenset(kept),
            stored=int(audit["stored"]),
            delivered=delivered,
            listed_lost=int(audit["lost"]),
            copies=judge.copies if judge else 0,
            problems=tuple(judge.problems if judge else ()),
            erased=erased,
        )

    def close(self) -> None:
        for board in self.boards.values():
            board.close()
        if self.sky is not None:
            self.sky.close()
        self.gateway.kill()
