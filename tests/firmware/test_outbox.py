"""The outbox on littlefs-python: what callers are promised, and what a recovery finds."""

from __future__ import annotations

import pytest

from firmware.errors import StorageError
from firmware.outbox import EVENTS, READINGS, Outbox, Record
from firmware.segment import SEGMENT_BYTES
from hil_tests.world.cutflash import CutFlash, PowerCut
from hil_tests.world.flash import Flash, LittleFs, formatted

EVENT = 2
RESULT = 3
EPOCH = 0xFACE_0000_0001
LATER = 0x0000_0000_0002


class Rig:
    """One state partition and the outbox on it; `restart` is what a reset leaves."""

    def __init__(self, segments: int = 6, blocks: int = 40) -> None:
        self.flash, self.fs = formatted(blocks)
        self.max_bytes = segments * SEGMENT_BYTES
        self.box = Outbox(self.fs, "/outbox", self.max_bytes)

    def restart(self) -> Outbox:
        self.fs = LittleFs(self.flash)
        self.box = Outbox(self.fs, "/outbox", self.max_bytes)
        return self.box

    def fill(self, count: int, size: int = 40) -> list[int]:
        return [self.box.keep(1, bytes([k % 251]) * size) for k in range(count)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def offered(box: Outbox, lane: int) -> list[Record]:
    out: list[Record] = []
    while (record := box.next_unacked(lane, out[-1].seq if out else 0)) is not None:
        out.append(record)
    return out


def seqs(box: Outbox, lane: int = READINGS) -> list[int]:
    return [record.seq for record in offered(box, lane)]


def test_seq_begins_at_one_so_that_an_ack_of_zero_acknowledges_nothing(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    assert rig.box.keep(1, b"a") == 1
    rig.box.acknowledge(EPOCH, 0, [])
    assert seqs(rig.box) == [1]


def test_what_was_kept_comes_back_after_a_restart_in_order_with_kind_and_payload(rig: Rig) -> None:
    for k in range(150):
        rig.box.keep(EVENT if k % 10 == 3 else RESULT if k % 10 == 7 else 1, b"%d" % k * 9)
    box = rig.restart()
    found = sorted(offered(box, READINGS) + offered(box, EVENTS))
    assert [record.payload for record in found] == [b"%d" % k * 9 for k in range(150)]
    assert [record.seq for record in found] == list(range(1, 151))
    assert {record.kind for record in offered(box, EVENTS)} == {EVENT, RESULT}
    assert box.next_seq == 151


def test_records_before_the_first_epoch_belong_to_it_for_ever(rig: Rig) -> None:
    rig.fill(3)
    assert rig.box.epoch_of(1) is None
    assert rig.box.oldest_in(None) == 1
    rig.box.begin_epoch(EPOCH)
    assert [record.epoch for record in offered(rig.box, READINGS)] == [EPOCH] * 3
    box = rig.restart()
    box.begin_epoch(LATER)
    box.keep(1, b"new")
    assert [record.epoch for record in offered(box, READINGS)] == [EPOCH] * 3 + [LATER]


def test_an_adoption_outlives_a_lost_mark_when_a_later_segment_names_the_epoch() -> None:
    rig = Rig(segments=8)
    rig.fill(80)
    rig.box.begin_epoch(EPOCH)
    rig.fill(80)
    for folder in "ab":
        rig.fs.remove(f"/{folder}/outbox")
    assert rig.restart().epoch_of(1) == EPOCH


def test_begin_epoch_is_repeated_at_every_start_and_changes_nothing(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(5)
    before = bytes(rig.flash.image)
    rig.restart().begin_epoch(EPOCH)
    assert bytes(rig.flash.image) == before
    assert rig.box.oldest_in(EPOCH) == 1


def test_a_later_epoch_starts_at_the_next_seq_and_acks_stay_within_theirs(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(5)
    rig.box.begin_epoch(LATER)
    rig.fill(5)
    assert rig.box.oldest_in(LATER) == 6
    rig.box.acknowledge(LATER, 8, [])
    assert seqs(rig.box) == [1, 2, 3, 4, 5, 9, 10]
    rig.box.acknowledge(EPOCH, 400, [])
    assert seqs(rig.box) == [9, 10]
    assert rig.box.held(10) == 4
    assert rig.restart().oldest_in(LATER) == 6


def test_a_record_keeps_its_epoch_when_a_restart_and_evictions_came_between() -> None:
    """The newest segment of a lane may be of an earlier epoch than that of the other lane."""
    rig = Rig(segments=4)
    rig.box.begin_epoch(EPOCH)
    rig.box.keep(EVENT, b"early")
    rig.box.begin_epoch(LATER)
    rig.fill(1)
    rig.restart().begin_epoch(LATER)
    rig.box.keep(EVENT, b"late")
    rig.fill(500)
    assert [(record.seq, record.epoch) for record in offered(rig.restart(), EVENTS)] == [
        (1, EPOCH),
        (3, LATER),
    ]


def test_an_epoch_joined_twice_without_a_record_between_leaves_no_trace(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(2)
    rig.box.begin_epoch(LATER)
    rig.box.begin_epoch(LATER + 1)
    rig.fill(1)
    assert rig.box.oldest_in(LATER) == rig.box.next_seq
    assert rig.box.epoch_of(3) == LATER + 1


def test_an_ack_covers_cum_and_runs_and_the_rest_is_offered(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(20)
    rig.box.acknowledge(EPOCH, 4, [(15, 3), (8, 2)])
    assert seqs(rig.box) == [5, 6, 7, 10, 11, 12, 13, 14, 18, 19, 20]
    assert rig.box.count(READINGS) == 11


def test_an_ack_can_not_cover_records_that_are_not_made_yet(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(3)
    rig.box.acknowledge(EPOCH, 1000, [(2000, 50)])
    assert rig.box.keep(1, b"next") == 4
    assert seqs(rig.box) == [4]


def test_an_ack_that_falls_back_offers_again_what_is_still_held(rig: Rig) -> None:
    """A gateway restored from a backup, also when only a run of it is gone."""
    rig.box.begin_epoch(EPOCH)
    rig.fill(20)
    rig.box.acknowledge(EPOCH, 15, [(18, 1)])
    rig.box.acknowledge(EPOCH, 15, [])
    assert seqs(rig.box) == [16, 17, 18, 19, 20]
    rig.box.acknowledge(EPOCH, 3, [(10, 2)])
    assert seqs(rig.box) == [4, 5, 6, 7, 8, 9, *range(12, 21)]
    assert seqs(rig.restart())[:2] == [4, 5]


def test_with_all_runs_used_what_lies_below_them_stays_acknowledged(rig: Rig) -> None:
    """Thirty alarms overtake a backlog: eight runs can not name them all, and none is sent twice."""
    rig.box.begin_epoch(EPOCH)
    alarms = []
    for k in range(90):
        rig.box.keep(1, b"reading")
        if k % 3 == 0:
            alarms.append(rig.box.keep(EVENT, b"alarm"))
    stored: list[int] = []
    for seq in alarms:
        assert rig.box.next_unacked(EVENTS, 0) is not None
        stored.append(seq)
        rig.box.acknowledge(EPOCH, 0, [(a, 1) for a in reversed(stored[-8:])])
    assert rig.box.next_unacked(EVENTS, 0) is None
    assert rig.box.count(READINGS) == 90


def test_readings_are_given_up_before_alarms_and_the_loss_is_counted_and_told() -> None:
    rig = Rig(segments=5)
    rig.box.begin_epoch(EPOCH)
    alarms = [rig.box.keep(EVENT, b"alarm 1")]
    rig.fill(600)
    alarms.append(rig.box.keep(EVENT, b"alarm 2"))
    rig.fill(600)
    box = rig.restart()
    assert seqs(box, EVENTS) == alarms
    kept = seqs(box)
    assert kept == list(range(kept[0], 1203))
    assert box.evicted == 1200 - len(kept)
    assert box.lost() == (2, box.evicted)
    box.keep(EVENT, b"records lost")
    box.lost_told()
    assert rig.restart().lost() is None
    assert rig.box.evicted == 1200 - len(kept)


def test_ten_thousand_evicted_records_stall_nothing_and_the_alarm_behind_them_is_first() -> None:
    rig = Rig(segments=5)
    rig.box.begin_epoch(EPOCH)
    old = rig.box.keep(EVENT, b"old alarm")
    for k in range(11_500):
        rig.box.keep(1, b"%d" % k)
    alarm = rig.box.keep(EVENT, b"alarm")
    assert rig.box.evicted > 10_000
    assert seqs(rig.box, EVENTS) == [old, alarm]
    # The old alarm counts as held until it is acknowledged, and then no longer: the gap behind it is then told.
    assert rig.box.oldest_in(EPOCH) == old
    rig.box.acknowledge(EPOCH, old, [(alarm, 1)])
    assert rig.box.oldest_in(EPOCH) == seqs(rig.box)[0] > 10_000
    assert rig.box.next_unacked(EVENTS, 0) is None


def test_a_loss_is_counted_once_wherever_the_power_fails_in_a_removal() -> None:
    rig = Rig(segments=4, blocks=24)
    rig.box.begin_epoch(EPOCH)
    while not rig.box.evicted:
        before = bytes(rig.flash.image)
        rig.box.keep(1, b"reading" * 20)
    kept = set(range(1, rig.box.next_seq - 1))
    removal = CutFlash(bytearray(before))
    Outbox(LittleFs(removal), "/outbox", rig.max_bytes).keep(1, b"reading" * 20)
    counted = set()
    for op in range(removal.ops):
        flash = CutFlash(bytearray(before))
        flash.cut_at = op
        with pytest.raises(PowerCut):
            Outbox(LittleFs(flash), "/outbox", rig.max_bytes).keep(1, b"reading" * 20)
        box = Outbox(LittleFs(CutFlash(flash.image)), "/outbox", rig.max_bytes)
        assert box.evicted == len(kept - set(seqs(box)))
        counted.add(box.evicted)
    assert counted == {0, rig.box.evicted}


def test_what_is_acknowledged_goes_first_whatever_its_lane_and_age() -> None:
    rig = Rig(segments=4)
    rig.box.begin_epoch(EPOCH)
    rig.fill(100)
    for _ in range(100):
        rig.box.keep(EVENT, b"alarm" * 8)
    rig.box.acknowledge(EPOCH, 0, [(101, 100)])
    rig.fill(120)
    assert rig.box.evicted == 0
    assert seqs(rig.box) == [*range(1, 101), *range(201, 321)]


def test_an_outbox_full_of_alarms_still_takes_readings_and_gives_up_its_oldest_alarms_only_for_alarms() -> (
    None
):
    rig = Rig(segments=4)
    rig.box.begin_epoch(EPOCH)
    for k in range(600):
        rig.box.keep(EVENT, b"%03d" % k * 10)
    first = seqs(rig.box, EVENTS)[0]
    assert first > 1
    readings = rig.fill(300)
    assert seqs(rig.box, EVENTS)[0] == first
    assert seqs(rig.box)[-1] == readings[-1]
    assert rig.box.evicted == 900 - rig.box.count(EVENTS) - rig.box.count(READINGS)


def test_seq_goes_on_when_everything_it_was_given_to_is_gone() -> None:
    rig = Rig(segments=4)
    rig.box.begin_epoch(EPOCH)
    rig.fill(50)
    rig.box.acknowledge(EPOCH, 50, [])
    for _ in range(400):
        rig.box.keep(EVENT, b"alarm" * 8)
        rig.box.acknowledge(EPOCH, rig.box.next_seq - 1, [])
    assert rig.restart().next_seq == 451
    assert rig.box.oldest_in(EPOCH) > 50
    assert rig.box.evicted == 0


def test_acks_reach_flash_a_few_at_a_time_and_at_flush(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(60)
    rig.box.flush()
    written = rig.flash.progs
    for cum in range(1, 21):
        rig.box.acknowledge(EPOCH, cum, [])
    assert rig.flash.progs == written
    rig.box.flush()
    assert rig.flash.progs > written
    assert seqs(rig.restart())[0] == 21


@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_segment_cut_short_costs_its_tail_only_and_no_seq_comes_again(rig: Rig, cut: int) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(30)
    replace(rig, "r00000001", lambda data: data[:-cut])
    box = rig.restart()
    assert seqs(box) == list(range(1, 30))
    assert box.damaged == 1
    assert box.keep(1, b"next") > 30


def test_a_bad_byte_costs_its_record_and_neither_neighbour_nor_the_flow_of_acks(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(30)
    replace(rig, "r00000001", lambda data: data[:600] + bytes([data[600] ^ 1]) + data[601:])
    box = rig.restart()
    found = offered(box, READINGS)
    assert len(found) == 29
    assert all(record.payload == bytes([record.seq - 1]) * 40 for record in found)
    lost = (set(range(1, 31)) - {record.seq for record in found}).pop()
    # The gateway has everything else: oldest passes the hole, so its cum can.
    box.acknowledge(EPOCH, lost - 1, [(lost + 1, 30 - lost)])
    assert box.oldest_in(EPOCH) > lost


def test_garbage_behind_the_last_record_is_left_alone_and_a_new_segment_begun(rig: Rig) -> None:
    rig.box.begin_epoch(EPOCH)
    rig.fill(5)
    replace(rig, "r00000001", lambda data: data + b"\xa5" * 30)
    box = rig.restart()
    assert seqs(box) == [1, 2, 3, 4, 5]
    seq = box.keep(1, b"next")
    assert seq > 6  # what the garbage was may have been sent
    assert seqs(rig.restart()) == [1, 2, 3, 4, 5, seq]


def test_an_unreadable_segment_costs_its_own_records_only() -> None:
    rig = Rig(segments=8)
    rig.box.begin_epoch(EPOCH)
    rig.fill(300)
    names = sorted(entry[0] for entry in rig.fs.ilistdir("/outbox"))
    replace(rig, names[1], lambda data: bytes(len(data)))
    box = rig.restart()
    hole = range(int(names[1][1:], 16), int(names[2][1:], 16))
    assert seqs(box) == [seq for seq in range(1, 301) if seq not in hole]
    assert box.damaged == 1
    assert box.next_seq == 301


def test_bytes_of_another_segment_are_no_records_of_this_one(rig: Rig) -> None:
    """Stale blocks hold whole records: the header's CRC is in theirs, so they do not pass."""
    rig.box.begin_epoch(EPOCH)
    rig.fill(3)
    rig.box.begin_epoch(LATER)
    rig.fill(3)
    other = read(rig, "r00000001")
    replace(rig, "r00000004", lambda data: data + other[26:])
    assert seqs(rig.restart()) == [1, 2, 3, 4, 5, 6]


def test_files_that_are_no_segments_are_left_alone(rig: Rig) -> None:
    with rig.fs.open("/outbox/notes", "wb") as file:
        file.write(b"hello")
    assert rig.restart().next_seq == 1


def test_an_erased_state_partition_is_new_and_only_that(rig: Rig) -> None:
    assert rig.box.is_new
    rig.box.keep(1, b"a")
    assert not rig.restart().is_new


def test_a_full_file_system_makes_room_before_the_outbox_is_at_its_limit() -> None:
    rig = Rig(segments=30, blocks=20)
    rig.box.begin_epoch(EPOCH)
    kept = rig.fill(2500)
    found = seqs(rig.restart())
    assert found[-1] == kept[-1]
    assert found == list(range(found[0], kept[-1] + 1))
    assert rig.box.evicted == found[0] - 1


class Failing(Flash):
    """Flash that refuses to program from a given moment on."""

    broken = False

    def writeblocks(self, block: int, buf: bytes, offset: int = 0, /) -> None:
        if self.broken:
            raise OSError(5, "I/O error")
        super().writeblocks(block, buf, offset)


def test_a_flash_that_fails_is_told_and_loses_nothing_that_was_kept() -> None:
    flash = Failing(40)
    LittleFs.mkfs(flash)

    class Fs(LittleFs):
        def call(self, function, *args):  # type: ignore[no-untyped-def]
            try:
                return super().call(function, *args)
            finally:
                self._context.raised = None

    box = Outbox(Fs(flash), "/outbox", 6 * SEGMENT_BYTES)
    box.begin_epoch(EPOCH)
    for k in range(10):
        box.keep(1, b"%d" % k)
    flash.broken = True
    with pytest.raises(StorageError, match="seq 11 could not be kept"):
        box.keep(1, b"lost")
    assert box.flash_errors
    flash.broken = False
    assert box.keep(1, b"kept again") == 11
    assert [record.payload for record in offered(box, READINGS)][-2:] == [b"9", b"kept again"]


@pytest.mark.parametrize("size", [0, 201])
def test_a_payload_of_a_size_that_no_record_has_is_refused(rig: Rig, size: int) -> None:
    with pytest.raises(StorageError, match="allowed are 1 to 200"):
        rig.box.keep(1, bytes(size))


def test_an_outbox_too_small_to_give_up_anything_is_refused() -> None:
    _, fs = formatted(16)
    with pytest.raises(StorageError, match="at least 16384"):
        Outbox(fs, "/outbox", 3 * SEGMENT_BYTES)


def read(rig: Rig, name: str) -> bytes:
    with rig.fs.open(f"/outbox/{name}", "rb") as file:
        return file.read()


def replace(rig: Rig, name: str, change):  # type: ignore[no-untyped-def]
    """Change a segment behind the outbox' back."""
    data = change(read(rig, name))
    with rig.fs.open(f"/outbox/{name}", "wb") as file:
        file.write(data)
