"""What a bench makes of what a node says while it brings it an update: a node in a few lines, on no line."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest

from flash_tools.bench import Bench
from flash_tools.release_book import Release
from flash_tools.updating import Told, Updating
from hil_tests.world.ota_world import Memory
from protocols.wire import codes, messages, ota, outcomes, update


def ended(seq: int, *detail: int) -> messages.Event:
    return messages.Event(seq, 0, 0, 0, codes.UPDATE, messages.NOTE, list(detail), 5)


class Node:
    """As a bench sees it. ``waiting``: records that no gateway has taken, told again and again."""

    address = 0x10
    hello = None
    latest_piv = 3

    def __init__(self, waiting: list[messages.Event], outcome: int) -> None:
        self._said: list[Any] = []
        self._waiting = waiting
        self._outcome = outcome
        self._release = 6
        self._receiver = ota.OtaReceiver(Memory(), 1 << 20)

    def say(self, said: update.Update) -> None:
        kind = said.command[0]
        if kind == update.WHO:
            answer: bytes | None = update.I_AM
        elif kind == update.COME:
            answer = b"\x41\0"
        else:
            answer = self._receiver.hear(said.session, said.command)
        self._said += self._waiting
        if answer is not None:
            self._said.append(update.UpdateStatus(self._release, said.session, answer))
        if self._receiver.setup is not None and self._receiver.is_solved:
            self._receiver.forget()
            self._waiting = [*self._waiting, ended(9, 7, self._outcome)]

    def take(self) -> list[Any]:
        said, self._said = self._said, []
        return said

    def skip_ahead(self) -> None:
        pass

    def watch(self, seconds: float) -> None:
        pass


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "full.bin").write_bytes(b"p" * 900)
    (tmp_path / "full.suit").write_bytes(b"e" * 320)
    payload = {"base": None, "name": "full", "size": 900, "sha256": ""}
    return Release(tmp_path, {"node_type": "river", "board": "virtual", "sequence": 7, "payloads": [payload]})


def bring(release: Release, waiting: list[messages.Event], outcome: int) -> Told:
    clock = itertools.count()
    node = cast(Bench, Node(waiting, outcome))
    return Updating(node, lambda: next(clock) / 10, lambda *_: None).bring(release)


@pytest.mark.parametrize(
    "waiting",
    [
        [],
        [ended(1, 6, outcomes.number("base"))],
        [
            ended(1, 7, outcomes.number("unknown-key"))
        ],  # the same release, before it was signed by another key
        [ended(1, 7, outcomes.number("image"), 1)],  # a MicroPython with that number
        [messages.Event(1, 0, 0, 0, codes.UPDATE, messages.NOTE, None, 5)],
    ],
    ids=["nothing", "another release", "the same, earlier", "a MicroPython", "no detail"],
)
def test_what_became_of_an_earlier_update_is_no_news_of_this_one(
    release: Release, waiting: list[messages.Event]
) -> None:
    assert bring(release, waiting, outcomes.INSTALLED) == Told("installed", False)


def test_an_outcome_that_a_newer_node_knows_is_told_by_its_number(release: Release) -> None:
    assert bring(release, [], 99) == Told("outcome 99", False)
