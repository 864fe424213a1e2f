"""Events that the gateway itself makes about a node: kept, delivered and counted like any other.

A node that says nothing cannot say so. The gateway does, with an event of that node whose id is in an epoch of the
gateway's own: its number is 2^48 or more, where no epoch of a node can be (SPEC.md 2.3), so the two never share an id.
A database that was restored begins a new such epoch: it can not know which ids it gave away since.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from zlib import crc32

from gateway.clock import TrustedClock
from gateway.epoch import Epoch
from gateway.records import KIND_EVENT, NO_PIV, OWN_EPOCHS, Event
from gateway.store import Batch, Store
from protocols.wire.messages import SYNCHRONISED, UNSYNCHRONISED


class Notices:
    """Puts such events into the store's next transaction."""

    def __init__(self, store: Store, clock: TrustedClock, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        # Those of a restored database are on hold, for good: nobody ever tells what the far side has seen in them.
        self._epochs = {
            epoch.node: epoch
            for epoch in store.epochs.values()
            if epoch.number >= OWN_EPOCHS and not epoch.dn_hold
        }
        store.on_undo.append(self._undo)

    def keep(self, node: int, code: int, state: int, detail: int | None) -> None:
        """Commit the event soon; who must know when it is there, or that it failed, listens to the store."""
        store = self._store
        ledger = self._epoch_of(node).ledger
        seq = ledger.cum + 1
        while seq in ledger.pending:
            seq += 1
        text = json.dumps(detail)
        now_ms = self._clock.unix_ms()
        time, tq = now_ms // 1000, SYNCHRONISED if self._clock.synchronised() else UNSYNCHRONISED
        fingerprint = crc32(f"{KIND_EVENT} {time} {tq} {code} {state} {text}".encode()) & 0x7FFFFFFF or 1
        ledger.offer(seq, fingerprint)
        row_id = store.next_event
        store.next_event = row_id + 1
        batch = store.batch
        batch.event_rows.append(
            (row_id, KIND_EVENT, ledger.row_id, seq, NO_PIV, fingerprint, now_ms, time, None, tq, code, state, text)
        )  # fmt: skip
        batch.events.append(Event(row_id, ledger, seq, KIND_EVENT, now_ms, time, tq, code, state, detail))
        store.schedule()

    def _epoch_of(self, node: int) -> Epoch:
        epoch = self._epochs.get(node)
        if epoch is None:
            number = OWN_EPOCHS + int.from_bytes(self._random_bytes(6), "big")
            epoch = self._epochs[node] = self._store.add_epoch(node, number, None, None, 1)
        return epoch

    def _undo(self, batch: Batch) -> None:
        for epoch in batch.new_epochs:
            if self._epochs.get(epoch.node) is epoch:
                del self._epochs[epoch.node]
