"""The transfer of an update: what is sent gets there, whatever is lost on the way, and nothing else does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.world.ota_world import Memory, PowerCutError, World, finished
from protocols.wire import airtime, ota, ota_host, parity
from protocols.wire.errors import DecodeError, EncodeError
from tests.wire import interpreters

DATA = random.Random(4).randbytes(40 * 50 - 9)


def row_by_the_book(number: int, count: int) -> set[int]:
    """The parity matrix as TS004-1.0.0 has it, with arithmetic instead of bits."""
    x, modulus = 1 + 1001 * number, count + (1 if bin(count).count("1") == 1 else 0)
    found = []
    while len(found) < count // 2:
        at = 2**16
        while at >= count:
            low, fifth = x % 2, (x // 32) % 2
            x = x // 2 + (2**22 if low != fifth else 0)
            at = x % modulus
        found.append(at)
    return set(found)


def transfer(count: int, size: int, lost: set[int]) -> tuple[ota_host.OtaSender, ota.OtaReceiver]:
    data = random.Random(count).randbytes(count * size - size // 2)
    sender = ota_host.OtaSender(data, size, 1, 0, [1])
    node = ota.OtaReceiver(Memory(), len(data))
    node.hear(1, sender.setup.encode())
    number = 0
    while node.deficit():
        number += 1
        if number not in lost:
            node.hear(1, ota.data_fragment(number, sender.row(number)))
    return sender, node


def test_a_row_of_parity_is_the_one_that_others_draw() -> None:
    # A worked row that an independent implementation of the standard documents.
    assert list(parity.members(parity.row(16 + 3, 16))) == [0, 1, 2, 8, 10, 12, 13]
    for count in (1, 2, 3, 16, 20, 94, 427, 512):
        for number in (1, 2, 7, 100, 2000):
            assert set(parity.members(parity.row(count + number, count))) == row_by_the_book(number, count)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_what_is_sent_arrives_whatever_is_lost(count: int, size: int, data: st.DataObject) -> None:
    lost = data.draw(st.sets(st.integers(1, count + 20)))
    sender, node = transfer(count, size, lost)
    got = finished(node)
    assert got is not None
    assert got == b"".join(sender.row(n) for n in range(1, count + 1))[: len(got)]
    assert len(got) == sender.setup.length


@given(st.integers(0, 200), st.integers(0, 2**32))
def test_a_receiver_goes_on_after_a_power_cut_at_any_piece(puts: int, seed: int) -> None:
    rng = random.Random(seed)
    sender = ota_host.OtaSender(DATA, 50, 1, 0, [1])
    store = Memory()
    node = ota.OtaReceiver(store, len(DATA))
    store.dies_at = puts
    number, got = 0, None
    while got is None:
        try:
            node.hear(1, sender.setup.encode())
            while node.deficit():
                number += 1
                if rng.random() < 0.7:
                    node.hear(1, ota.data_fragment(number, sender.row(number)))
            got = finished(node)
        except PowerCutError:
            store.dies_at = -1
            node = ota.OtaReceiver(store, len(DATA))
    assert got == DATA


def test_only_a_session_that_is_newer_begins_and_one_that_comes_again_costs_nothing() -> None:
    store = Memory()
    node = ota.OtaReceiver(store, 10_000)
    setup = ota_host.OtaSender(DATA, 50, 5, 0, [1]).setup
    assert node.hear(5, setup.encode()) == bytes((ota.SETUP, 0))
    node.hear(5, ota.data_fragment(1, DATA[:50]))
    assert node.hear(5, setup.encode()) == bytes((ota.SETUP, 0))
    assert node.status() == ota.status(1, setup.fragments - 1)
    for session in (4, 5):  # an old one, and the same one with other contents
        other = ota.Setup(setup.fragments, setup.size, 0, 9, 0)
        assert node.hear(session, other.encode()) == bytes((ota.SETUP, ota.NOT_WANTED))
    assert node.hear(4, ota.data_fragment(2, DATA[50:100])) is None
    assert node.status() == ota.status(1, setup.fragments - 1)
    assert node.hear(5, bytes((ota.DELETE, 0))) == bytes((ota.DELETE, 0))
    node = ota.OtaReceiver(store, 10_000)
    assert node.hear(5, setup.encode()) == bytes((ota.SETUP, ota.NOT_WANTED)), (
        "a recorded setup of an ended session"
    )
    assert node.hear(6, setup.encode()) == bytes((ota.SETUP, 0))


def test_an_update_that_is_too_large_or_not_wanted_is_refused_before_anything_is_kept() -> None:
    store = Memory()
    node = ota.OtaReceiver(store, len(DATA) - 1, lambda descriptor: descriptor == 3)
    too_large = ota_host.OtaSender(DATA, 50, 1, 3, [1]).setup
    other = ota_host.OtaSender(DATA[:100], 50, 1, 4, [1]).setup
    assert node.hear(1, too_large.encode()) == bytes((ota.SETUP, ota.NO_ROOM))
    assert node.hear(1, other.encode()) == bytes((ota.SETUP, ota.NOT_WANTED))
    assert not store.pieces
    sender = ota_host.OtaSender(DATA, 50, 1, 3, [1])
    sender.hear(1, bytes((ota.SETUP, ota.NO_ROOM)))
    sender.begin()
    assert sender.receivers[1].state == ota_host.REFUSED
    assert sender.receivers[1].refusal == ota.NO_ROOM


@given(st.binary(max_size=64), st.integers(0, 65535))
def test_no_bytes_make_a_receiver_or_a_sender_do_more_than_refuse(command: bytes, session: int) -> None:
    store = Memory()
    node = ota.OtaReceiver(store, len(DATA))
    sender = ota_host.OtaSender(DATA, 50, 3, 0, [1])
    node.hear(3, sender.setup.encode())
    for number in range(1, 11):
        node.hear(3, ota.data_fragment(number, sender.row(number)))
    for each in (command, bytes((ota.SETUP,)) + command, bytes((ota.DATA,)) + command):
        try:
            node.hear(session, each)
        except DecodeError:
            pass
        try:
            sender.hear(1, each)
        except DecodeError:
            pass
    assert all(len(piece) <= 255 for piece in store.pieces.values())


def test_an_update_that_no_numbers_are_left_for_is_refused_at_the_desk() -> None:
    with pytest.raises(EncodeError, match="fragments of 10"):
        ota_host.OtaSender(bytes(100_000), 10, 1, 0, [1])
    with pytest.raises(EncodeError):
        ota_host.OtaSender(b"", 10, 1, 0, [1])


def test_a_sender_that_is_killed_at_any_moment_goes_on_and_repeats_no_row() -> None:
    rng = random.Random(8)
    world = World(20, 12, 0.2, False, seed=8)
    seen: set[int] = set()
    broadcast, told = world.sender.broadcast, 0

    def killed() -> bytes | None:
        nonlocal told
        command = world.sender.broadcast() if world.sender is not original else broadcast()
        if command is not None and command[0] == ota.DATA:
            number = int.from_bytes(command[1:3], "little")
            assert number not in seen
            seen.add(number)
        if rng.random() < 0.3:
            told += 1
            world.sender = ota_host.OtaSender.resume(world.data, world.sender.to_document())
        return command

    original = world.sender
    for address, node in world.nodes.items():
        original.hear(address, node.hear(1, original.setup.encode()) or b"")
    original.begin()
    while not world.sender.is_ended:
        while (command := killed()) is not None:
            for address in world.nodes:
                world.tell(address, command)
        if world.sender.phase == ota_host.REPAIRING:
            for address in world.nodes:
                while (command := world.sender.for_node(address)) is not None:
                    world.tell(address, command)
                    if command[0] == ota.STATUS:
                        break
        world.sender.collected()
    assert told > 3
    assert all(world.has_it(address) for address in world.nodes)


def test_whoever_never_answers_holds_nobody_up_and_is_told_as_gone() -> None:
    world = World(20, 6, 0.0, False, seed=1)
    silent = world.nodes[3]
    world.nodes[3] = Deaf(silent)  # type: ignore[assignment]
    sent = world.run()
    assert [one.state for one in world.sender.receivers.values()] == [
        ota_host.GONE if address == 3 else ota_host.COMPLETE for address in world.nodes
    ]
    assert sent.complete == 5


class Deaf:
    """Says yes, and is never heard again."""

    def __init__(self, node: ota.OtaReceiver) -> None:
        self._node = node
        self.setup = None

    def hear(self, session: int, command: bytes) -> bytes | None:
        return self._node.hear(session, command) if command[0] == ota.SETUP else None


def test_who_misses_more_than_can_be_worked_out_gets_the_fragments_themselves() -> None:
    world = World(600, 3, 0.6, False, seed=2, size=8)
    sent = world.run()
    print(f"rows={sent.rows} rows_alone={sent.rows_alone} rounds={sent.rounds}")
    assert sent.complete == 3


def ratios(count: int, share: float, in_bursts: bool, seed: int) -> None:
    """One session of a hundred receivers; the airtime of everything that goes down, beside the oracle's."""
    world = World(count, 100, share, in_bursts, seed)
    sent = world.run()
    oracle = world.oracle_rows()
    # What a command becomes on the air: message, envelope and the command's own head.
    row_us = airtime.time_on_air_us(airtime.lora(7), 190 + 26)
    question_us = airtime.time_on_air_us(airtime.lora(7), 2 + 24)
    down_us = (sent.rows + sent.rows_alone) * row_us + sent.questions * question_us
    ratio, ideal = down_us / (oracle * row_us), (sent.rows + sent.rows_alone) / (count / (1 - share))
    print(
        f"fragments={count} loss={share} bursts={in_bursts} seed={seed} rows={sent.rows} alone={sent.rows_alone} "
        f"questions={sent.questions} rounds={sent.rounds} oracle={oracle} ratio={ratio:.3f} to_ideal={ideal:.2f}"
    )
    assert sent.complete == 100
    assert ratio <= 1.2


CASES = [(share, in_bursts) for share in (0.1, 0.3) for in_bursts in (False, True)]


@pytest.mark.parametrize(("share", "in_bursts"), CASES)
@pytest.mark.parametrize("count", [20, 94])
def test_a_broadcast_costs_hardly_more_than_knowing_everything(
    count: int, share: float, in_bursts: bool
) -> None:
    ratios(count, share, in_bursts, seed=5)


@pytest.mark.soak
@pytest.mark.parametrize(("share", "in_bursts"), CASES)
def test_a_broadcast_of_a_whole_firmware_costs_hardly_more_than_knowing_everything(
    share: float, in_bursts: bool
) -> None:
    for count, seeds in ((20, 40), (94, 10), (427, 1)):
        for seed in range(seeds):
            ratios(count, share, in_bursts, seed)


def test_a_node_takes_an_update_on_micropython_as_it_does_here() -> None:
    said = interpreters.micropython("tests/wire/mpy_ota.py", "-X", "heapsize=160k")
    print(said)
    assert "whole" in said
