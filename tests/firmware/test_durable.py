"""The small documents: old or new, never a counter twice, and None when they are gone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from firmware.boots import counted
from firmware.durable import MAX_SENDERS, Channel, Commands, Document
from firmware.errors import StorageError
from hil_tests.world.flash import Flash, LittleFs, formatted
from protocols.wire.document import MAX_DOCUMENT
from protocols.wire.limits import MAX_PIV, PIV_BLOCK

CONTEXT = bytes(range(16))
OTHER = bytes(range(16, 32))


@pytest.fixture
def flash() -> Flash:
    return formatted(24)[0]


def mount(flash: Flash) -> LittleFs:
    return LittleFs(flash)


def spoil(flash: Flash, folder: str, name: str) -> None:
    """Flip a bit of one copy."""
    fs = mount(flash)
    with fs.open(f"/{folder}/{name}", "rb") as file:
        data = bytearray(file.read())
    data[-1] ^= 1
    with fs.open(f"/{folder}/{name}", "wb") as file:
        file.write(data)


def test_a_document_never_written_is_none_and_one_written_comes_back(flash: Flash) -> None:
    assert Document(mount(flash), "settings").load() is None
    Document(mount(flash), "settings").save(b"v1")
    Document(mount(flash), "settings").save(b"v2")
    assert Document(mount(flash), "settings").load() == b"v2"


@pytest.mark.parametrize("folder", ["a", "b"])
def test_either_copy_is_enough_and_damage_is_counted(flash: Flash, folder: str) -> None:
    Document(mount(flash), "settings").save(b"v1")
    spoil(flash, folder, "settings")
    document = Document(mount(flash), "settings")
    assert document.load() == b"v1"
    assert document.damaged == 1


def test_with_both_copies_damaged_a_document_is_lost_and_can_be_written_again(flash: Flash) -> None:
    Document(mount(flash), "settings").save(b"v1")
    spoil(flash, "a", "settings")
    spoil(flash, "b", "settings")
    document = Document(mount(flash), "settings")
    assert document.load() is None
    document.save(b"v2")
    assert Document(mount(flash), "settings").load() == b"v2"


def test_a_copy_under_another_name_is_no_document(flash: Flash) -> None:
    fs = mount(flash)
    Document(fs, "settings").save(b"v1")
    for folder in "ab":
        fs.rename(f"/{folder}/settings", f"/{folder}/channel")
    assert Document(fs, "channel").load() is None


def test_a_document_too_large_is_refused_and_the_old_one_stays(flash: Flash) -> None:
    document = Document(mount(flash), "settings")
    document.save(b"old")
    with pytest.raises(StorageError, match="at most 512"):
        document.save(bytes(MAX_DOCUMENT + 1))
    assert document.load() == b"old"
    document.save(bytes(MAX_DOCUMENT))
    assert document.load() == bytes(MAX_DOCUMENT)


def test_no_piv_is_given_twice_however_often_the_node_starts(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, 1, {1: 0})
    used: list[int] = []
    for run in range(20):
        channel = Channel(mount(flash))
        assert channel.id_context == CONTEXT
        used += [channel.next_piv() for _ in range(1 + run * 13 % 150)]
    assert all(a < b for a, b in pairwise(used))
    assert used[0] > 0


def test_one_block_of_pivs_costs_one_save(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, 1, {})
    writes = []
    for _ in range(10 * PIV_BLOCK):
        channel.next_piv()
        writes.append(flash.progs)
    assert len(set(writes)) == 10


def test_a_new_epoch_begins_with_counters_of_its_own(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, 1, {1: 0})
    for _ in range(200):
        channel.next_piv()
    channel.accept(1, 900)
    channel.begin(OTHER, 1, {1: 0})
    assert channel.next_piv() == 1
    assert channel.accept(1, 1)
    assert Channel(mount(flash)).id_context == OTHER


def test_a_downlink_is_accepted_once_and_never_again_after_a_restart(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, 1, {1: 0})
    assert not channel.accept(1, 0)
    assert channel.accept(1, 7)
    assert not channel.accept(1, 7)
    assert not channel.accept(1, 3)
    assert channel.highest(1) == 7
    channel = Channel(mount(flash))
    bound = channel.highest(1)
    assert 7 <= bound <= 7 + PIV_BLOCK
    assert not channel.accept(1, bound)
    assert channel.accept(1, bound + 1)
    assert channel.highest(2) == -1


def test_the_downlink_bound_is_written_once_per_block(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, 1, {1: 0})
    before = flash.progs
    for piv in range(1, 1 + PIV_BLOCK):
        assert channel.accept(1, piv)
    first = flash.progs
    assert first > before
    channel.accept(1, 1 + PIV_BLOCK)
    assert flash.progs > first


def test_each_sender_has_a_bound_of_its_own_and_there_is_a_limit_to_them(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, 1, {1: 0})
    for g in range(2, 1 + MAX_SENDERS):
        assert channel.accept(g, 5)
    assert not channel.accept(99, 5)
    again = Channel(mount(flash))
    assert all(not again.accept(g, 5) for g in range(2, 1 + MAX_SENDERS))


def test_a_lost_channel_is_no_epoch_and_gives_no_piv(flash: Flash) -> None:
    Channel(mount(flash)).begin(CONTEXT, 1, {1: 0})
    spoil(flash, "a", "channel")
    spoil(flash, "b", "channel")
    channel = Channel(mount(flash))
    assert channel.id_context is None
    with pytest.raises(StorageError, match="join first"):
        channel.next_piv()
    assert not channel.accept(1, 5)


def test_an_epoch_given_up_stays_given_up(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, 1, {1: 0})
    channel.forget()
    assert Channel(mount(flash)).id_context is None


def test_the_last_piv_is_the_end_of_an_epoch(flash: Flash) -> None:
    channel = Channel(mount(flash))
    channel.begin(CONTEXT, MAX_PIV, {})
    assert channel.next_piv() == MAX_PIV
    with pytest.raises(StorageError, match="used up"):
        channel.next_piv()


def test_starts_are_counted_and_a_wake_from_deep_sleep_is_none(flash: Flash) -> None:
    assert counted(mount(flash), True) == 1
    assert counted(mount(flash), False) == 1
    assert counted(mount(flash), True) == 2


def test_a_command_begun_is_known_after_a_restart_and_so_is_how_it_ended(flash: Flash) -> None:
    Commands(mount(flash)).begin(41)
    commands = Commands(mount(flash))
    assert (commands.latest, commands.result) == (41, b"")
    commands.end(b"done")
    assert Commands(mount(flash)).result == b"done"


def test_a_full_partition_is_told_and_the_old_document_stays() -> None:
    flash, fs = formatted(8)
    document = Document(fs, "settings")
    document.save(b"old")
    with fs.open("/filler", "wb") as file:
        for _ in range(int(fs.statvfs("/")[3])):
            file.write(bytes(4000))
    with pytest.raises(StorageError, match="neither copy"):
        document.save(bytes(500))
    assert Document(mount(flash), "settings").load() == b"old"
