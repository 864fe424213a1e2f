"""A committed record as the gateway hands it on, fresh from memory or read back from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.ledger import Ledger

READINGS = "readings"
EVENTS = "events"
RESULTS = "results"

# In the place of a row's PIV, when another epoch's channel carried the record.
NO_PIV = -1

# Numbers of epochs from here on are the gateway's own (notices.py): an epoch of a node has 48 bits.
OWN_EPOCHS = 1 << 48

# The node's kinds, as the `event` table keeps them.
KIND_EVENT = 2
KIND_RESULT = 3


class Reading(NamedTuple):
    """One set. `values` are scaled integers in the order of the schema, None where missing; `flags` None: all GOOD.

    `ledger` names node and epoch. `time` is unix seconds; with tq 3 it is the gateway's estimate, -1 for none.
    """

    id: int
    ledger: Ledger
    seq: int
    backlog: int
    received_ms: int
    time: int
    tq: int
    schema: int
    values: tuple[int | None, ...]
    flags: tuple[int, ...] | None


class Event(NamedTuple):
    """An event, or the result of a command (kind 3: `code` is the command id and `state` the outcome)."""

    id: int
    ledger: Ledger
    seq: int
    kind: int
    received_ms: int
    time: int
    tq: int
    code: int
    state: int
    detail: int | str | list[int] | None
