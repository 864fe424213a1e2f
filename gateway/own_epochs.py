"""Epochs of the gateway's own: ids for what it says itself, of a node that is silent or of a device that it polls.

Their numbers are 2^48 or more, where no epoch of a node can be (SPEC.md 2.3), and random: a database that was restored
begins new ones, for it can not know which ids it gave away since, and one that was lost does so by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.batch import Batch
from gateway.epoch import Epoch
from gateway.records import OWN_EPOCHS
from gateway.store import Store


class OwnEpochs:
    """The open epoch of each node and device of which the gateway tells something; one per gateway."""

    def __init__(self, store: Store, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._random_bytes = random_bytes
        # Those of a restored database are on hold, for good: nobody ever tells what the far side has seen in them.
        self._epochs = {
            epoch.node: epoch
            for epoch in store.epochs.values()
            if epoch.number >= OWN_EPOCHS and not epoch.dn_hold
        }
        store.on_undo.append(self._undo)

    def of(self, node: int) -> Epoch:
        """The epoch in which the gateway tells of that node; made with the next commit when there is none."""
        epoch = self._epochs.get(node)
        if epoch is None:
            number = OWN_EPOCHS + int.from_bytes(self._random_bytes(6), "big")
            epoch = self._epochs[node] = self._store.add_epoch(node, number, None, None, 1)
        return epoch

    def _undo(self, batch: Batch) -> None:
        for epoch in batch.new_epochs:
            if self._epochs.get(epoch.node) is epoch:
                del self._epochs[epoch.node]
