"""What a node keeps outlives a release that keeps it otherwise, and the way back: settings, calibration, records.

The other release is this source tree with one more setting, and more in each document and record. On the virtual board
it is built, signed, installed and rolled back, while nothing is acknowledged; one judge hears all of it.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual.supervisor import VirtualBoard
from firmware import boots, calibration, records
from firmware.durable import Document
from firmware.nodes.river_station import NODE_TYPE
from firmware.outbox import EVENTS, READINGS, Outbox
from firmware.records import SET
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S, TRAPPED_S, Settings
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.sim_hal import blank_flash
from protocols.wire import cbor, messages
from tests.firmware import test_update_on_board as on_board
from tests.firmware.street import IDENTITY, Street, mint
from tests.firmware.test_calibration import APPLY, PH, SPAN, ZERO, Bench
from tests.firmware.test_node_on_board import Station
from tests.firmware.test_update_on_board import HEAP, name_of, news, received, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.firmware.test_update_on_board import Shop

shop = on_board.shop

BLOCKS = 128  # of a board's `state`
QUICKLY = {INTERVAL_S: 5, REPORT_S: 5, STATUS_S: 3600}
BACKLOG = 400
# Where the other release differs; the last two have it fail its trial in a minute.
CHANGES = {
    "firmware/nodes/river_station.py": (
        ("STATUS_S, TARGET_CLASS\n", "STATUS_S, TARGET_CLASS, TRAPPED_S\n"),
        ("TARGET_CLASS: 3}", "TARGET_CLASS: 3, TRAPPED_S: 60}"),
    ),
    "firmware/settings.py": (("cbor.dumps([version, document])", 'cbor.dumps([version, document, "new"])'),),
    "firmware/mark.py": (('save(b"".join(parts))', 'save(b"".join(parts) + b"new")'),),
    "firmware/records.py": (
        ("None if all_good else list(flags)]", 'None if all_good else list(flags), "new"]'),
        ("[time, tq, code, state, detail]", '[time, tq, code, state, detail, "new"]'),
    ),
    "firmware/gate.py": (
        ("HEALTHY_S = 3600\n", "HEALTHY_S = 60\n"),
        ("_HOUR_S = 3600\n", "_HOUR_S = 60\n"),
        ("HEAP_MIN = 2048\n", "HEAP_MIN = 1 << 28\n"),
    ),
}


def other_tree(folder: Path) -> Path:
    root = tree(folder, lambda text: text)
    for name, changes in CHANGES.items():
        text = (root / name).read_text(encoding="utf-8")
        for before, after in changes:
            assert before in text, f"{name} has changed: {before!r}"
            text = text.replace(before, after)
        (root / name).write_text(text, encoding="utf-8")
    return root


class Kept:
    """What lies on a `state` partition."""

    def __init__(self, image: bytes) -> None:
        self.fs = LittleFs(Flash(image=image))
        box = Outbox(self.fs, "/outbox", 256 * 1024)
        self.next_seq = box.next_seq
        self.waiting = set()
        for lane in (READINGS, EVENTS):
            after = 0
            while (record := box.next_unacked(lane, after)) is not None:
                after = record.seq
                self.waiting.add(after)

    def document(self, name: str) -> bytes:
        return Document(self.fs, name).load() or b""


def said(peer: Any) -> int:
    """The release in its latest hello."""
    return int(peer.of(messages.Hello)[-1].firmware.partition("+r")[2] or 0)


def lived() -> tuple[Any, bytes]:
    """A gateway, and the flash of its station: calibrated, with settings, and a full outbox."""
    bench = Bench.__new__(Bench)
    bench.number = 0
    bench.street = street = Street(powered=False)
    street.station.flash = blank_flash(IDENTITY, BLOCKS)
    mint(street.station, {INTERVAL_S: 900, REPORT_S: 60, STATUS_S: 86400})
    street._wobbling = lambda: dict(street.water)  # type: ignore[method-assign]
    street.station.power_on()
    street.run(60)
    bench.calibrate(PH, ZERO, 686, 7.0)
    bench.calibrate(PH, SPAN, 918, 9.3)
    bench.calibrate(PH, APPLY, 5)
    street.say(messages.Ping(1))
    street.say(messages.Settings(street.peer.latest_piv, 3, QUICKLY))
    street.run(5)
    street.peer.deaf = True
    street.run(5 * BACKLOG)
    street.station.power_cut()
    flash: Any = street.station.flash
    return street.peer, bytes(flash.image)


@pytest.mark.soak
def test_all_that_a_node_keeps_goes_into_another_layout_and_back(tmp_path: Path, shop: Shop) -> None:
    peer, image = lived()
    before = Kept(image)
    assert len(before.waiting) >= BACKLOG
    assert cbor.loads(before.document("settings")) == [3, QUICKLY]
    state = received(image, shop.update(other_tree(tmp_path)))
    with VirtualBoard(
        tmp_path / "board", app_image=shop.app, state_image=state, heap_size=HEAP, time_scale=30
    ) as board:
        station = Station(board)
        peer.deaf, peer.acks, peer._unix_s = False, False, station.peer._unix_s
        station.peer = peer
        station.until(lambda: said(peer) == 2, "the other release")
        station.status()  # what is answered must be new
        station.port.write(peer.send(messages.Settings(peer.latest_piv, 4, {**QUICKLY, TRAPPED_S: 77})))
        station.until(lambda: bool(news(station)), "news of the update")
        assert name_of(news(station)[0]) == "unhealthy"
        assert said(peer) == 1
        peer.acks = True
        wanted = set(range(1, Kept(board.read_partition("state", live=True)).next_seq))
        station.until(lambda: wanted <= peer.seqs(), "the backlog, and all of the other release")
        station.port.close()
        board.power_cut()
        after = Kept(board.read_partition("state"))
    made = max(wanted) - before.next_seq + 1
    print(f"backlog={len(before.waiting)} since={made}")
    assert before.waiting <= wanted, "nothing is lost; the judge fails on an id that comes twice"
    assert made >= 3, "of the other release, too; how many is a matter of how fast this machine is"
    assert after.next_seq > max(wanted)
    assert cbor.loads(after.document("settings"))[:2] == [4, {**QUICKLY, TRAPPED_S: 77}]
    settings = Settings(Document(after.fs, "settings"), dict(NODE_TYPE.settings))
    assert (settings.version, settings[INTERVAL_S]) == (4, 5)
    assert after.document("calibration") == before.document("calibration")
    assert calibration._load(after.document("calibration"))[0][PH]


def test_raised_alarms_are_found_among_more_or_fewer_rules_and_series() -> None:
    fs = LittleFs(blank_flash(IDENTITY))
    document = Document(fs, "raised")
    old, new = bytes((3, 8)), bytes((4, 9))
    raised = 0b01_00000010_100  # of the watch the first, of the series the second, of the rules the third
    document.save(pack(">I", raised) + old + bytes(8))
    box: Any = None
    found, _ = boots.alarm_state(fs, document, box, new)
    assert found == 0b01_000000010_0100
    document.save(pack(">I", found) + new + bytes(8))
    assert boots.alarm_state(fs, document, box, old)[0] == raised
    assert boots.alarm_state(fs, document, box, bytes(2))[0] == found, "safe mode touches nothing"


MAINTENANCE = pack(">II", 3600, 1_790_000_000)


@pytest.mark.parametrize("is_shaped", [False, True])
@pytest.mark.parametrize("seq", [0, 1, 0x0285, 0x02850285, 0x85028502])
def test_alarms_that_a_release_before_kept_are_taken_over_and_left_to_it(is_shaped: bool, seq: int) -> None:
    """Both layouts that a document of another name had; ``seq``: of the event that was to be kept, 0: none."""
    fs = LittleFs(blank_flash(IDENTITY))
    before, document = Document(fs, "alarms"), Document(fs, "raised")
    raised, shape = 0b01_00000010_100, bytes((3, 8))
    event = records.pack_event(1_790_000_000, 1, 9, messages.RAISED, None)
    kept = pack(">I", raised) + (shape if is_shaped else b"") + MAINTENANCE
    if seq:
        kept += pack(">IB", seq, records.EVENT) + event
    before.save(kept)
    box: Any = Box()
    found, rest = boots.alarm_state(fs, document, box, shape)
    assert (found, rest[: len(MAINTENANCE)]) == (raised, MAINTENANCE)
    assert box.kept == ([(records.EVENT, event)] if seq else [])
    document.save(pack(">I", 0) + shape + bytes(8))
    assert boots.alarm_state(fs, document, box, shape)[0] == 0, "its own counts from now on"
    assert before.load() == kept, "the release before it may run again"


class Box:
    """What is kept."""

    next_seq = 1

    def __init__(self) -> None:
        self.kept: list[tuple[int, bytes]] = []

    def keep(self, kind: int, payload: bytes) -> int:
        self.kept.append((kind, payload))
        return len(self.kept)


def test_a_record_that_only_the_other_release_can_send_holds_up_nothing_and_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    street = Street(settings=QUICKLY)
    street.run(60)
    street.peer.deaf = True
    street.run(20)
    odd = [
        street.node.outbox.keep(SET, cbor.dumps(what))
        for what in ([99, 1_790_000_000, 1, [1], None], {1: 2}, [1], [1, 2, 3, 4, 5], 7)
    ]
    street.run(20)
    street.peer.deaf = False
    street.run(600)
    assert not set(odd) & street.peer.seqs()
    assert set(range(1, street.node.outbox.next_seq - 2)) - set(odd) <= street.peer.seqs()
    assert not [line for line in street.station.log if "step failed" in line], street.station.log
    street.station.press_reset()
    street.run(60)
    assert all(street.node.outbox.has(seq) for seq in odd)
