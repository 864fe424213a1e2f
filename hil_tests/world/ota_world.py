"""A sender and its receivers in memory, with losses: what the tests of a transfer run on."""

from __future__ import annotations

import random
from typing import NamedTuple

from protocols.wire import ota, ota_host

# Rows that a burst of losses lasts on average; and how many rows would fit between one question and the next.
BURST_ROWS, PAUSE_ROWS = 8, 20


class Memory:
    """A store that forgets nothing, or everything from the put on that `dies_at` counts down to."""

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}
        self.dies_at = -1

    def put(self, number: int, data: bytes) -> None:
        if self.dies_at == 0:
            raise PowerCutError
        self.dies_at -= 1
        self.pieces[number] = bytes(data)

    def get(self, number: int) -> bytes:
        return self.pieces[number]

    def numbers(self) -> list[int]:
        return list(self.pieces)

    def clear(self) -> None:
        self.pieces.clear()


class PowerCutError(Exception):
    """The receiver ends here."""


class Losses:
    """Of what is sent to one receiver: each by itself, or in bursts of BURST_ROWS on average."""

    def __init__(self, seed: str, share: float, in_bursts: bool) -> None:
        self._random = random.Random(seed)
        self._share = share
        self._in_bursts = in_bursts
        self._is_lost = self._random.random() < share
        self._rows: list[bool] = []

    def _next(self) -> bool:
        if not self._in_bursts:
            self._is_lost = self._random.random() < self._share
        elif self._is_lost:
            self._is_lost = self._random.random() >= 1 / BURST_ROWS
        else:
            self._is_lost = self._random.random() < self._share / (1 - self._share) / BURST_ROWS
        return self._is_lost

    def of_row(self, number: int) -> bool:
        """The same for a row whoever asks: two senders of the same rows meet the same losses."""
        while len(self._rows) < number:
            self._rows.append(self._next())
        return self._rows[number - 1]


class Sent(NamedTuple):
    """What went down, and what became of it."""

    rows: int
    rows_alone: int  # to one receiver each
    questions: int
    rounds: int
    complete: int  # receivers that have the update, byte for byte


class World:
    """`nodes` receivers of `count` fragments."""

    def __init__(
        self, count: int, nodes: int, share: float, in_bursts: bool, seed: int, size: int = 190
    ) -> None:
        self.data = random.Random(f"{seed} data").randbytes(count * size - 3)
        self.sender = ota_host.OtaSender(self.data, size, 1, 7, list(range(1, nodes + 1)))
        self.stores = {address: Memory() for address in self.sender.receivers}
        self.nodes = {
            address: ota.OtaReceiver(store, len(self.data) + size) for address, store in self.stores.items()
        }
        self._rows = {a: Losses(f"{seed} rows {a}", share, in_bursts) for a in self.nodes}
        self._others = {a: Losses(f"{seed} others {a}", share, in_bursts) for a in self.nodes}
        self._up = random.Random(f"{seed} up")
        self._share = share
        self._questions = 0

    def is_lost(self, address: int, command: bytes) -> bool:
        if command[0] == ota.DATA and self.sender.phase != ota_host.REPAIRING:
            return self._rows[address].of_row(int.from_bytes(command[1:3], "little"))
        self._questions += 1
        return self._others[address].of_row(self._questions * PAUSE_ROWS)

    def tell(self, address: int, command: bytes) -> None:
        """One downlink to one receiver, and its answer, if both arrive."""
        if not self.is_lost(address, command):
            answer = self.nodes[address].hear(1, command)
            if answer is not None and self._up.random() >= self._share:
                self.sender.hear(address, answer)

    def run(self) -> Sent:
        """A whole session; invitations are not lost here."""
        sender, rows, rows_alone, questions = self.sender, 0, 0, 0
        for address, node in self.nodes.items():
            answer = node.hear(1, sender.for_node(address) or b"")
            assert answer is not None
            sender.hear(address, answer)
        sender.begin()
        while not sender.is_ended:
            while (command := sender.broadcast()) is not None:
                rows += command[0] == ota.DATA
                questions += command[0] != ota.DATA
                for address in self.nodes:
                    self.tell(address, command)
            if sender.phase == ota_host.REPAIRING:
                for address in self.nodes:
                    alone, asked = self._repair(address)
                    rows_alone, questions = rows_alone + alone, questions + asked
            sender.collected()
        return Sent(rows, rows_alone, questions, sender.rounds, sum(map(self.has_it, self.nodes)))

    def _repair(self, address: int) -> tuple[int, int]:
        """What one receiver is owed, until it was asked how much is missing."""
        rows = questions = 0
        while (command := self.sender.for_node(address)) is not None:
            rows += command[0] == ota.DATA
            questions += command[0] != ota.DATA
            self.tell(address, command)
            if command[0] == ota.STATUS:
                break
        return rows, questions

    def has_it(self, address: int) -> bool:
        return finished(self.nodes[address]) == self.data

    def oracle_rows(self) -> int:
        """How many of the same rows somebody sends who knows at each moment what everybody has."""
        setup = self.sender.setup
        nodes = {address: ota.OtaReceiver(Memory(), setup.length) for address in self.nodes}
        for node in nodes.values():
            node.hear(1, setup.encode())
        number = 0
        while nodes:
            number += 1
            fragment = ota.data_fragment(number, self.sender.row(number))
            for address in [a for a in nodes if not self._rows[a].of_row(number)]:
                nodes[address].hear(1, fragment)
                if not nodes[address].deficit():
                    del nodes[address]
        return number


def finished(node: ota.OtaReceiver) -> bytes | None:
    """The update, when enough of it came."""
    if node.setup is None or node.deficit():
        return None
    while not node.work():
        pass
    return b"".join(node.read(number) for number in range(1, node.setup.fragments + 1))
