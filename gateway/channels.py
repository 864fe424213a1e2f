"""The key contexts of every node: which epochs are open, what may be accepted in them, and which PIVs may be sent.

A channel is one epoch with its keys. Its replay window and its bound of used downlink PIVs live in the epoch's row; no
PIV is used before a block that holds it is on the disk, and after a restore none at all until the node told what it
heard.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.batch import Batch
from gateway.epoch import Epoch
from gateway.limits import DN_PIV_BLOCK, DN_PIV_RESTORED_MARGIN, NAMED_EPOCHS_MAX, OPEN_EPOCHS
from gateway.records import OWN_EPOCHS
from gateway.store import Store
from protocols.wire import envelope, messages
from protocols.wire.join import GatewayJoin, epoch_number
from protocols.wire.limits import MAX_PIV

_OVERHEAD = 1 + envelope.KID_DOWN + 8
KeysOf = Callable[[int], tuple[bytes, bytes] | None]


class Channel:
    """One open epoch of one node."""

    __slots__ = (
        "_asked", "_down_key", "_limit", "_next", "address", "epoch", "ledger", "node", "number", "pivs_left", "up_key",
        "window",
    )  # fmt: skip

    def __init__(self, node: Node, epoch: Epoch, id_context: bytes, gateway_id: int) -> None:
        self.node = node
        self.address = node.address
        self.epoch = epoch
        self.number = epoch.number
        self.ledger = epoch.ledger
        self.window = epoch.window
        secret, salt = node.keys
        self.up_key = envelope.sender_key(secret, salt, id_context, envelope.node_kid(node.address))
        self._down_key = envelope.sender_key(
            secret, salt, id_context, envelope.gateway_kid(node.address, gateway_id)
        )
        # PIVs from _next to below _limit are durable and unused.
        self._next = epoch.dn_reserved
        self._limit = epoch.dn_reserved
        self._asked = False
        self.pivs_left = 0

    def seal(self, plain: bytes) -> bytes | None:
        """The next downlink frame; None when no PIV is to be had yet: one is asked for with the next frame."""
        if not self.pivs_left:
            return None
        self.pivs_left -= 1
        piv = self._next
        self._next = piv + 1
        return envelope.seal(self._down_key, piv, plain)

    @property
    def overhead(self) -> int:
        """Bytes of the next downlink frame beside its message: flag, PIV, kid and tag."""
        return _OVERHEAD + len(envelope.piv_bytes_of(self._next))

    def hear_dn_piv(self, dn_piv: int) -> None:
        """The node accepts nothing at or below dn_piv, and cannot have heard more than that."""
        bound = max(self._next, dn_piv + 1)
        if self.epoch.dn_hold:
            bound += DN_PIV_RESTORED_MARGIN
            self.epoch.dn_hold = False
            self._limit = bound
        self._next = bound
        self._limit = max(self._limit, bound)
        self._recount()

    def reserve(self, batch: Batch) -> None:
        """Ask for the next block; it may be used once the batch is committed."""
        bound = min(self._limit + DN_PIV_BLOCK, MAX_PIV + 1)
        if bound > self._limit and not self._asked and not self.epoch.dn_hold:
            self._asked = True
            batch.reserve[self] = bound

    def reserved(self, bound: int) -> None:
        """The block up to `bound` is on the disk."""
        self._asked = False
        self._limit = max(self._limit, bound)
        self.epoch.dn_reserved = bound
        self._recount()

    def not_reserved(self) -> None:
        """The commit failed."""
        self._asked = False

    def _recount(self) -> None:
        self.pivs_left = 0 if self.epoch.dn_hold else self._limit - self._next


class Node:
    """A node that is enrolled here. `open` holds its channels, the one last heard first."""

    __slots__ = ("address", "by_number", "join", "keys", "kid", "open", "unproven_s")

    def __init__(self, address: int, keys: tuple[bytes, bytes]) -> None:
        self.address = address
        self.kid = envelope.node_kid(address)
        self.keys = keys
        self.join = GatewayJoin(keys[0], keys[1], address)
        self.open: list[Channel] = []
        self.by_number: dict[int, Epoch] = {}
        # When a hello that may be a recording drew an ack last (monotonic).
        self.unproven_s = float("-inf")

    @property
    def current(self) -> Channel | None:
        """Where the node was heard last."""
        return self.open[0] if self.open else None

    def channel(self, number: int) -> Channel | None:
        """The open channel of that epoch."""
        for channel in self.open:
            if channel.number == number:
                return channel
        return None

    def heard_in(self, channel: Channel) -> None:
        """Frames are tried in the order in which the epochs were heard."""
        if self.open[0] is not channel:
            self.open.remove(channel)
            self.open.insert(0, channel)


class Channels:
    """Nodes by kid; made when first heard, from the registry's keys and the store's epochs."""

    def __init__(self, store: Store, keys_of: KeysOf, *, gateway_id: int = envelope.OWNER) -> None:
        self.store = store
        self.by_kid: dict[bytes, Node] = {}
        self._keys_of = keys_of
        self._gateway_id = gateway_id
        self._epochs: dict[int, list[Epoch]] = {}
        for epoch in store.epochs.values():
            if epoch.number >= OWN_EPOCHS:
                continue  # no channel of a node: ids of what the gateway itself tells of it
            self._epochs.setdefault(epoch.node, []).append(epoch)
        store.on_undo.append(self._undo)

    def node(self, address: int) -> Node | None:
        """The node at this address, None when it is not enrolled."""
        return self.find(envelope.node_kid(address))

    def find(self, kid: bytes) -> Node | None:
        """The node with this kid, None when it is not enrolled."""
        node = self.by_kid.get(kid)
        if node is not None:
            return node
        address = int.from_bytes(kid, "big")
        keys = self._keys_of(address)
        if keys is None:
            return None
        node = Node(address, keys)
        epochs = sorted(self._epochs.get(address, ()), key=lambda epoch: epoch.row_id)
        node.by_number = {epoch.number: epoch for epoch in epochs}
        for epoch in [epoch for epoch in epochs if epoch.id_context is not None][-OPEN_EPOCHS:]:
            self._open(node, epoch)
        self.by_kid[kid] = node
        return node

    def forget(self, address: int) -> None:
        """The node was removed or has new keys: what is heard next begins from the registry again."""
        self.by_kid.pop(envelope.node_kid(address), None)

    def agree(self, node: Node, id_context: bytes, hello: messages.Hello) -> Channel:
        """Step 3 of a join was proven: a new epoch, usable once it is committed. PIV 0 up is used."""
        # The epoch it comes from may be one that we never knew: its records will come by that name.
        previous = None if hello.epoch is None else self.named(node, hello.epoch, hello.oldest)
        first_seq = hello.oldest if hello.epoch is None else hello.next_seq
        number = epoch_number(id_context)
        epoch = self.store.add_epoch(
            node.address, number, id_context, None if previous is None else previous.row_id, first_seq
        )
        epoch.window.accept(0)
        self._keep(node, epoch)
        channel = self._open(node, epoch)
        del node.open[OPEN_EPOCHS:]
        return channel

    def named(self, node: Node, number: int, first_seq: int) -> Epoch | None:
        """The epoch of a record that came through a later one; made by name when it is not known here.

        A gateway that replaced another has never seen it, and must not strand the records on the node.
        """
        epoch = node.by_number.get(number)
        by_name_only = (
            sum(known.id_context is None for known in node.by_number.values()) if epoch is None else 0
        )
        if epoch is None and by_name_only < NAMED_EPOCHS_MAX:
            epoch = self.store.add_epoch(node.address, number, None, None, first_seq)
            self._keep(node, epoch)
        return epoch

    def _keep(self, node: Node, epoch: Epoch) -> None:
        node.by_number[epoch.number] = epoch
        self._epochs.setdefault(node.address, []).append(epoch)

    def _open(self, node: Node, epoch: Epoch) -> Channel:
        if epoch.id_context is None:
            raise ValueError(f"epoch {epoch.number} of node {node.address:04x} is known by name only")
        channel = Channel(node, epoch, epoch.id_context, self._gateway_id)
        node.open.insert(0, channel)
        return channel

    def _undo(self, batch: Batch) -> None:
        """The epochs of a commit that failed do not exist; the node joins again."""
        for epoch in batch.new_epochs:
            if epoch.number >= OWN_EPOCHS:
                continue
            self._epochs[epoch.node].remove(epoch)
            node = self.by_kid.get(envelope.node_kid(epoch.node))
            if node is not None:
                node.by_number.pop(epoch.number, None)
                node.open = [channel for channel in node.open if channel.epoch is not epoch]
