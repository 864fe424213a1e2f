"""Events that the gateway itself makes about a node or a device: kept, delivered and counted like any other.

A node that says nothing cannot say so. The gateway does, with an event of that node whose id is in an epoch of the
gateway's own (own_epochs.py), so the two never share an id.
"""

from __future__ import annotations

import json

from gateway.clock import TrustedClock
from gateway.fingerprints import of_event
from gateway.own_epochs import OwnEpochs
from gateway.records import KIND_EVENT, NO_PIV, Event
from gateway.restamp import since_boot
from gateway.store import Store
from protocols.wire.messages import SYNCHRONISED, UNSYNCHRONISED


class Notices:
    """Puts such events into the store's next transaction."""

    def __init__(self, store: Store, clock: TrustedClock, epochs: OwnEpochs) -> None:
        self._store = store
        self._clock = clock
        self._epochs = epochs

    def keep(self, node: int, code: int, state: int, detail: int | None) -> None:
        """Commit the event soon; who must know when it is there, or that it failed, listens to the store."""
        store = self._store
        ledger = self._epochs.of(node).ledger
        seq = ledger.cum + 1
        while seq in ledger.pending:
            seq += 1
        text = json.dumps(detail)
        now_ms = self._clock.unix_ms()
        time, tq, boot_time = now_ms // 1000, SYNCHRONISED, None
        if not self._clock.synchronised():  # restamp.py places it when the clock is
            tq, boot_time = UNSYNCHRONISED, since_boot(self._clock, now_ms, now_ms)
        said = time if boot_time is None else boot_time
        fingerprint = of_event(ledger.row_id, seq, KIND_EVENT, said, tq, code, state, text)
        ledger.offer(seq, fingerprint)
        row_id = store.next_event
        store.next_event = row_id + 1
        batch = store.batch
        batch.event_rows.append(
            (row_id, KIND_EVENT, ledger.row_id, seq, NO_PIV, fingerprint, now_ms, time, boot_time, tq, code, state,
             text)
        )  # fmt: skip
        batch.events.append(Event(row_id, ledger, seq, KIND_EVENT, now_ms, time, tq, code, state, detail))
        store.schedule()
