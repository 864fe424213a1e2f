"""`tidegate street orders` in a process of its own, as its user runs it."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

from hil_tests.hotline import area_tables
from hil_tests.processes import spawn
from hil_tests.street import AREA, ROOT
from hil_tests.waiting import wait


class DeskProcess:
    """``close()`` ends it."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "desk.log"
        with self._log.open("wb") as log:
            command = [sys.executable, "-u", "-m", "tidegate", "street", "orders", "--port", "0"]
            self._process = spawn(command, output=log, cwd=ROOT)
        wait(lambda: "url = " in self.said(), 30, "desk")
        self.url = re.findall(r"http://127\.0\.0\.1:[0-9]+", self.said())[0]

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def tables(self) -> list[str]:
        """What it told its user to put into gateway.toml."""
        told = self.said().partition("[[work_orders]]")[2].partition("\n\n")[0]
        return [*area_tables(AREA, 30), f"[[work_orders]]{told}\nstatus_every_s = 5\n"]

    def orders(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/orders", timeout=5) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
