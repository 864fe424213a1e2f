"""What a scenario may do to a whole Tidegate, whichever rig it runs on.

`unix_rig.py` (real processes, real time) and `sim_rig.py` (one process, virtual time, one seed) offer the same
`System`; a scenario is written once against it. "seconds" are those of the system: real ones on unix, virtual ones on
sim.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from hil_tests.consumer import Judge, RecordId

# SPEC.md 2.3. Not imported from the gateway: what is judged does not say how.
GATEWAY_EPOCHS = 1 << 48


@dataclass(frozen=True)
class Books:
    """The accounts of one run, to the record. ``kept`` is what the nodes' outboxes promised to keep; ``erased`` what
    a flash held that somebody wiped: of that, only what had been acknowledged (and so is in ``kept``) must arrive."""

    kept: frozenset[RecordId]
    stored: int
    delivered: frozenset[RecordId]
    listed_lost: int
    copies: int
    problems: tuple[str, ...]
    erased: frozenset[RecordId] = frozenset()

    @property
    def missing(self) -> frozenset[RecordId]:
        """Promised by a node and not seen by the city."""
        return self.kept - self.delivered

    @property
    def invented(self) -> frozenset[RecordId]:
        """Seen by the city, made by no node."""
        return self.delivered - self.kept - self.erased

    def line(self) -> str:
        """The audit in one line, as the demo prints it."""
        return (
            f"produced={len(self.kept)} stored={self.stored} delivered={len(self.delivered)} "
            f"lost={len(self.missing)} duplicate={len(self.invented) + len(self.problems)}"
        )

    def balance(self) -> None:
        """Raises AssertionError, which names the first records, unless the books balance."""
        assert not self.problems, self.problems[:5]
        assert not self.missing, f"{self.line()}: never arrived: {sorted(self.missing)[:5]}"
        assert not self.invented, f"{self.line()}: made by no node: {sorted(self.invented)[:5]}"


def told_by_gateway(reader: sqlite3.Connection, delivered: Iterable[RecordId]) -> frozenset[RecordId]:
    """What no node kept because the gateway itself made it (SPEC.md 2.3): what its store has of it, and what the city
    has of it from before the store was set back."""
    rows = reader.execute(
        "SELECT e.node, e.number, v.seq FROM event v JOIN epoch e ON e.id = v.epoch WHERE e.number >= ?"
        " UNION ALL SELECT e.node, e.number, r.seq FROM reading r JOIN epoch e ON e.id = r.epoch WHERE e.number >= ?",
        (GATEWAY_EPOCHS, GATEWAY_EPOCHS),
    )
    stored = {(f"{node:04x}", number, seq) for node, number, seq in rows}
    return frozenset(stored | {record_id for record_id in delivered if record_id[1] >= GATEWAY_EPOCHS})


class System(Protocol):
    """Stations, a gateway, a broker and the city behind it. Addresses are 4 hex digits, as in the topics."""

    rig: str
    nodes: tuple[str, ...]

    @property
    def judge(self) -> Judge: ...

    def run_s(self, seconds: float) -> None: ...
    def wait_until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None: ...

    # The gateway: kill() is SIGKILL, backup() what an administrator copies, restore() puts it back.
    def kill_gateway(self) -> None: ...
    def start_gateway(self) -> None: ...
    def backup_gateway(self) -> Any: ...
    def restore_gateway(self, backup: Any) -> None: ...
    def metrics(self) -> dict[str, float]: ...

    # The way to the city.
    def stop_broker(self) -> None: ...
    def start_broker(self) -> None: ...
    def silence_network(self) -> None: ...
    def restore_network(self) -> None: ...

    # The nodes and their lines.
    def power_cut(self, node: str) -> None: ...
    def reflash_app(self, node: str) -> None: ...
    def erase_state(self, node: str) -> None: ...
    def line_faults(self, percent: float) -> None: ...
    def unplug(self, node: str) -> None: ...
    def replug(self, node: str) -> None: ...

    def close(self) -> None: ...

    def settle(self, timeout_s: float = 60) -> Books:
        """Stop sampling, wait until everything has reached the city, and count."""
        ...
