"""Flash that does not keep what was written to it, while an update is installed: the old release runs until the new one
is there to the byte."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from firmware import gate, install, pending, slots
from firmware.durable import Document
from firmware.pieces import Pieces
from hil_tests.world.flash import LittleFs
from protocols.wire import ota, outcomes
from tests.firmware import refuse_cases
from tests.firmware.install_world import Hal, Node, Reset
from tests.firmware.refuse_cases import COMES, RUNS, honest, of
from tests.firmware.refuse_world import Yard, load


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    refuse_cases.write(tmp_path / "cases.json")
    made = load(tmp_path / "cases.json")[0]
    return Yard(LittleFs, made)


class Worn:
    """The spare slot: of the file that it is about, one byte comes out otherwise, so often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.left, self.tried = times, 0
        create = install._Fed.create

        def worn(tree: Any, path: str) -> Any:
            file = create(tree, path)
            if path != "main.py":
                return file
            self.tried += 1
            if not self.left:
                return file
            self.left -= 1
            write = file.write
            return _Writing(file, lambda data: write(bytes((data[0] ^ 4,)) + bytes(data[1:])))

        monkeypatch.setattr(install._Fed, "create", worn)


class _Writing:
    def __init__(self, file: Any, write: Any) -> None:
        self._file, self.write = file, write

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


@pytest.mark.parametrize(
    "data", [honest(None, of(COMES)), honest(of(RUNS), of(COMES))], ids=["whole", "delta"]
)
def test_what_is_not_on_flash_as_it_was_signed_is_written_again_and_not_started(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    worn = Worn(monkeypatch, 2)
    assert yard.outcome(data) == outcomes.INSTALLED
    assert (worn.left, worn.tried) == (0, 3)
    assert yard.runs == COMES


def test_flash_that_never_keeps_it_ends_the_update_and_the_old_release_runs(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    worn = Worn(monkeypatch, 1000)
    assert yard.outcome(honest(None, of(COMES))) == outcomes.FLASH
    assert worn.tried == install.TRIES_MAX
    assert yard.runs == RUNS


def test_nothing_refers_to_a_slot_while_it_is_written(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that still names the spare slot as on trial, as after a power cut: it is taken back before the erase."""
    yard.fresh()
    slots.Slots(yard.app()).save(0, 1, 0, 0, 5)  # and nothing is there that could start
    seen = []
    clear = install._clear

    def watched(app: Any, folder: str) -> None:
        seen.append(slots.Slots(app).record)
        clear(app, folder)

    monkeypatch.setattr(install, "_clear", watched)
    assert yard.outcome(honest(None, of(COMES))) == outcomes.INSTALLED
    assert seen[0] == [0, slots.NONE, 0, 0, 0]


def test_it_is_known_that_a_trial_begins_before_the_slot_is_named(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a cut between the two would start a release that nobody judges, or count a start against a trial."""
    yard.fresh()
    yard.receive(honest(None, of(COMES)), 1)
    phases = []
    save = slots.Slots.save

    def watched(found: slots.Slots, *record: int) -> None:
        if record[slots.TRIAL] != slots.NONE and not phases:
            phases.append(pending.Pending(yard.state()).f[pending.PHASE])
        save(found, *record)

    monkeypatch.setattr(slots.Slots, "save", watched)
    Document(yard.state(), "trials").save(b"\2\0")
    with contextlib.suppress(Reset):
        yard.start()
    assert phases == [pending.ON_TRIAL]
    assert (Document(yard.state(), "trials").load() or b"")[0] == 0  # those were starts of the other program


def test_a_trial_of_fifty_starts_is_over_though_each_came_to_something(yard: Yard) -> None:
    found = slots.Slots(yard.app())
    found.save(0, 1, 0, 0, COMES)
    for _ in range(slots.STARTS_MAX):
        assert slots.counted(found) == 1
        found.came_to_something()
    assert slots.counted(found) == 0
    assert slots.Slots(yard.app()).record[slots.TRIAL] == slots.NONE


def test_what_comes_during_a_trial_does_not_make_it_forgotten(yard: Yard) -> None:
    """A pass that was agreed before it: whole or not, the trial is judged first."""
    state = yard.state()
    found = pending.Pending(state)
    found.f[pending.PHASE], found.f[pending.SLOT], found.f[pending.SEQUENCE] = pending.ON_TRIAL, 1, COMES
    found.f[pending.DIGEST], found.f[pending.PAYLOAD_DIGEST] = b"d" * 32, b"p" * 32
    found.save()
    before = found.f
    assert not pending.received(Hal(state, None, 0), 0)  # type: ignore[arg-type]
    assert pending.Pending(state).f == before


def test_what_was_refused_can_not_come_again_under_its_session(yard: Yard) -> None:
    yard.fresh()
    assert yard.outcome(b"\0" * 500, session=700) == outcomes.number("cbor")
    receiver = ota.OtaReceiver(Pieces(yard.state()), 1 << 20)
    assert (receiver.session, receiver.setup) == (700, None)
    again = ota.Setup(3, 200, 0, COMES, 0).encode()
    for session in (700, 699, 1):
        assert receiver.hear(session, again) == bytes((ota.SETUP, ota.NOT_WANTED))
    assert receiver.hear(701, again) == bytes((ota.SETUP, 0))


def test_what_is_kept_is_on_flash_before_a_rollback_resets(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    hal = Hal(yard.state(), yard.app(), 0)  # type: ignore[no-untyped-call]
    slots.Slots(hal._app).save(0, 1, 0, 1, COMES)
    found = pending.Pending(hal.state_fs)
    f = found.f
    f[pending.PHASE], f[pending.SLOT], f[pending.SEQUENCE] = pending.ON_TRIAL, 1, COMES
    f[pending.DIGEST], f[pending.PAYLOAD_DIGEST] = b"", b""
    found.save()
    node = Node(hal, False)
    monkeypatch.setattr(node.outbox, "flush", lambda: done.append("flush"))
    save = slots.Slots.save
    monkeypatch.setattr(slots.Slots, "save", lambda *words: (done.append("slots"), save(*words)))
    hal.clock.seconds = gate.HEALTHY_S - 1
    gate.look(node, 0)
    assert not done
    hal.clock.seconds = gate.HEALTHY_S
    with pytest.raises(Reset):
        gate.look(node, 0)
    assert done == ["flush", "slots"]
    assert slots.Slots(hal._app).starts == 0
    assert pending.Pending(hal.state_fs).f[pending.OUTCOME] == outcomes.UNHEALTHY


@pytest.mark.parametrize(
    "record", [b"\2\xff\0\0\0\0\0\0", b"\0\2\0\0\0\0\0\0", b"\xff" * 8, b"\0\xff\0\0", b"\1" * 9]
)
def test_a_record_of_slots_that_there_are_not_is_none(yard: Yard, record: bytes) -> None:
    """As another release may have left it: its check sum is good, and a start by it would find no folder."""
    Document(yard.app(), "slots", slots.COPIES).save(record)
    assert slots.Slots(yard.app()).record == [0, slots.NONE, 0, 0, 0]
