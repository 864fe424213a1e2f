"""The registry of a gateway, as a bench reaches it: by the gateway's own command, whether the daemon runs or not.

The bench does not import the gateway. `tidegate gateway node …` finds the daemon by its control socket, or does the
work itself when none runs, so a process of it is the one door that is always there. Keys go through its standard
input: no file with a key is left behind, and no command line shows one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flash_tools.errors import RegistryError

# The gateway answers within seconds; an offline one may have to look through its database first.
_TIMEOUT_S = 120.0
_STDIN = "/dev/stdin"


class GatewayRegistry:
    """The registry of the gateway whose configuration is ``config``."""

    def __init__(self, config: Path) -> None:
        if not config.exists():
            raise RegistryError(
                f"{config}: no such file. Name the gateway.toml of the gateway on this machine with --config, or "
                "leave it out and hand the units over later: tidegate provision export"
            )
        # However it was named: a unit that is known there is not handed over again.
        self.name = self._config = str(config.resolve())

    def known(self) -> set[int]:
        """The addresses that have keys there."""
        said = self._run(["list", "--json"])
        try:
            return {int(row["address"]) for row in json.loads(said)}
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"gateway {self.name} answered with no list of nodes: {said[:200]!r}"
            ) from error

    def add(self, lines: Sequence[str]) -> None:
        """Register the nodes of these lines; one that is there with the same key stays as it is.

        RegistryError with the gateway's words when it refuses: then none was registered. `list` is asked by `known`.
        """
        self._run(["import", _STDIN], "".join(f"{line}\n" for line in lines))

    def remove(self, address: int, why: str) -> None:
        """Have the gateway forget the keys of a node that is over."""
        self._run(["remove", f"{address:04x}", "--why", why])

    def _run(self, words: Sequence[str], text: str = "") -> str:
        command = [sys.executable, "-m", "tidegate", "gateway", "node", *words, "--config", self._config]
        try:
            done = subprocess.run(
                command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise RegistryError(
                f"gateway {self.name} did not answer within {_TIMEOUT_S:.0f} s: tidegate gateway status"
            ) from error
        if done.returncode:
            told = done.stderr.strip().splitlines() or ["it said nothing"]
            raise RegistryError(f"gateway {self.name} refuses: {told[-1].removeprefix('tidegate: ')}")
        return done.stdout
