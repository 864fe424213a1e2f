"""A node is brought an update over its line: what it answers at work, and the life that receives."""

from __future__ import annotations

import random
from typing import Any

import pytest

from firmware import pending
from hil_tests.world.flash import LittleFs
from protocols.wire import messages, ota, update
from protocols.wire.limits import MAX_UPDATE_COMMAND
from tests.firmware.receive_rig import (
    NODE,
    RELEASE,
    SESSION,
    SETTINGS,
    Desk,
    alone,
    answers,
    data_of,
    is_receiving,
    received,
    sender_of,
)
from tests.firmware.street import Street

COMES = bytes((update.COME, update.COMES))


@pytest.fixture
def street(monkeypatch: pytest.MonkeyPatch) -> Street:
    """A node that ran for a while; what is whole stays to be looked at, for there is nothing to install it into."""
    monkeypatch.setattr("firmware.update.begin", lambda hal: False)
    made = Street(settings=SETTINGS)
    made.run(30)
    return made


def phase(street: Street) -> int:
    return int(pending.Pending(LittleFs(street.station.flash)).f[pending.PHASE])


def test_who_is_it(street: Street) -> None:
    street.say(messages.Update(0, bytes((update.WHO,))))
    assert street.peer.of(messages.UpdateStatus)[-1] == messages.UpdateStatus(0, 0, b"\x00\x03\x01")


def test_a_setup_is_taken_or_refused_as_the_receiver_does(street: Street) -> None:
    setup = ota.Setup(400, 72, 13, RELEASE, 2)
    for session, command, answer in (
        (SESSION, setup.encode(), 0),
        (SESSION, setup.encode(), 0),  # it came again
        (
            SESSION,
            ota.Setup(400, 72, 13, RELEASE + 1, 2).encode(),
            ota.NOT_WANTED,
        ),  # the same with other contents
        (SESSION - 1, setup.encode(), ota.NOT_WANTED),
        (SESSION + 1, ota.Setup(400, 72, 13, 0, 2).encode(), ota.NOT_WANTED),  # no newer release
        (SESSION + 1, ota.Setup(2000, 250, 0, RELEASE, 2).encode(), ota.NO_ROOM),
        (SESSION + 1, setup.encode(), 0),
    ):
        street.say(messages.Update(session, command))
        assert answers(street.peer)[-1] == bytes((ota.SETUP, answer)), (session, command.hex())
    found = ota.OtaReceiver(_pieces(street), 0)
    assert (found.session, found.setup) == (SESSION + 1, setup)
    street.say(messages.Update(SESSION + 1, bytes((ota.DELETE, 0))))
    street.say(messages.Update(SESSION + 1, bytes((ota.DELETE, 0))))
    assert answers(street.peer)[-2:] == [bytes((ota.DELETE, 0)), bytes((ota.DELETE, ota.NO_SESSION))]
    street.say(messages.Update(SESSION + 1, setup.encode()))
    assert answers(street.peer)[-1] == bytes((ota.SETUP, ota.NOT_WANTED)), "it was given up"


def _pieces(street: Street) -> Any:
    from firmware.pieces import Pieces

    return Pieces(LittleFs(street.station.flash))


def test_what_is_no_setup_changes_nothing_and_is_counted(street: Street) -> None:
    for command in (
        b"\x02",
        ota.Setup(0, 72, 0, RELEASE, 0).encode(),
        ota.Setup(4, 72, 72, RELEASE, 0).encode(),
        ota.Setup(4, 0, 0, RELEASE, 0).encode(),
        ota.Setup(4, 72, 0, RELEASE, 0).encode() + b"\0",
        b"\x41\0\0",
    ):
        street.say(messages.Update(SESSION, command))
    for ignored in (
        b"\x08\x01\x00" + bytes(72),
        b"\x01\x01",
        b"\x40\x01\x00",
        b"\x77",
        bytes(MAX_UPDATE_COMMAND - 1),
    ):
        street.say(messages.Update(SESSION, ignored))
    assert answers(street.peer) == [update.I_AM], "the last one begins with 00"
    assert street.node.health.refusals == {"message": 6}
    assert not list(_pieces(street).numbers())


def test_a_pass_alone_brings_it_whole_through_losses(street: Street) -> None:
    data = data_of(5000)
    rng = random.Random(5)
    desk = Desk(street, sender_of(data), loses=lambda: rng.random() < 0.3)
    desk.invite()
    desk.sender.begin()
    assert desk.call() == COMES
    assert not is_receiving(street.station)
    street.run(3)
    assert is_receiving(street.station)
    desk.send()
    street.run(2)
    assert desk.is_complete
    assert not is_receiving(street.station)
    assert phase(street) == pending.RECEIVED
    assert received(street.station) == data
    assert f"update {SESSION} is whole" in street.station.log


@pytest.mark.parametrize("who", ["node", "sender", "time"])
def test_it_goes_on_where_it_was(street: Street, who: str) -> None:
    """After resets of the node at any moment, after one of the sender, and in a second pass."""
    data = data_of(9000)
    rng = random.Random(f"6 {who}")
    desk = Desk(street, sender_of(data), loses=lambda: rng.random() < 0.3)
    desk.invite()
    desk.sender.begin()
    for _ in range(40):
        assert desk.call() == COMES
        street.run(4)
        assert is_receiving(street.station)
        desk.send(rng.randrange(10, 40))
        if desk.is_complete or not is_receiving(street.station):
            break
        if who == "node":
            street.station.power_cut()
            street.station.power_on()
        elif who == "time":
            street.run(300)
        else:
            desk.sender = sender_of(b"x").resume(data, desk.sender.to_document())
            street.run(31)  # nobody sends
            assert not is_receiving(street.station)
        street.run(20)
    street.run(5)
    assert phase(street) == pending.RECEIVED
    assert received(street.station) == data


def test_power_cuts_while_it_receives(monkeypatch: pytest.MonkeyPatch) -> None:
    """At operations of the flash all through a pass: what was put away stays, and it ends whole."""
    monkeypatch.setattr("firmware.update.begin", lambda hal: False)
    from hil_tests.world.cutflash import VARIANTS
    from hil_tests.world.sim_node import TornFlash

    cuts = 0
    for seed in range(12):
        rng = random.Random(f"cuts {seed}")
        street = Street(settings=SETTINGS, powered=False)
        flash = TornFlash(bytes(street.station.flash.image), seed)  # type: ignore[attr-defined]
        street.station.flash = flash
        street.station.power_on()
        street.run(30)
        data = data_of(3000, seed)
        desk = Desk(street, sender_of(data))
        desk.invite()
        desk.sender.begin()
        for _ in range(30):
            if street.station.node is None:
                flash.power()
                street.station.power_on()
                street.run(20)
            if phase_of(flash) == pending.RECEIVED:
                break
            assert desk.call() == COMES, f"seed {seed}"
            street.run(4)
            before = set(_known(flash))
            if rng.random() < 0.7:
                flash.cut_after(rng.randrange(120), rng.randrange(len(VARIANTS)))
            desk.send(60)
            street.run(1)
            if street.station.node is None:
                cuts += 1
                flash.power()
                assert before <= set(_known(flash)), f"seed {seed}: what was put away is gone"
            else:
                flash.power()
                street.run(31)
        assert phase_of(flash) == pending.RECEIVED, f"seed {seed}"
        assert received(street.station) == data, f"seed {seed}"
    print(f"receive_cuts={cuts}")
    assert cuts > 12


def phase_of(flash: Any) -> int:
    return int(pending.Pending(LittleFs(flash)).f[pending.PHASE])


def _known(flash: Any) -> list[int]:
    from firmware.pieces import Pieces

    return [number for number in Pieces(LittleFs(flash)).numbers() if number < ota.REDUCED]


def test_a_pass_is_refused_for_what_is_in_its_way(street: Street) -> None:
    desk = Desk(street, sender_of(data_of(900)))
    assert desk.call()[1] == update.NO_SESSION
    desk.invite()
    assert desk.call(lasts_s=301)[1] == update.TOO_LONG
    street.say(messages.Ping(1))
    one = update.Pass(street.peer.latest_piv, 20, 60, 470300000, 9, bytes(16))
    street.say(messages.Update(SESSION, update.encode_pass(one)))
    assert answers(street.peer)[-1][1] == update.NO_RADIO
    count = len(answers(street.peer))
    street.say(alone(street.peer.latest_piv - 1))
    assert len(answers(street.peer)) == count
    assert street.node.health.refusals == {"late": 1}
    street.water["dissolved_oxygen"] = 1.0
    street.run(400)
    street.say(messages.Ping(2))
    street.node.maintain(60)
    street.say(alone(street.peer.latest_piv))
    assert answers(street.peer)[-1][1] == update.NOT_NOW, "an event that nobody took yet"
    street.run(200)
    assert street.node.alarms.raised, "it is known, and may last"
    assert desk.call() == COMES


def test_an_alarm_that_nobody_took_yet_comes_before_a_pass(street: Street) -> None:
    desk = Desk(street, sender_of(data_of(900)))
    desk.invite()
    assert desk.call(begins_in_s=500, lasts_s=120) == COMES
    street.peer.mute = True
    street.water["dissolved_oxygen"] = 1.0
    street.run(700)
    assert street.node.alarms.raised
    assert not is_receiving(street.station)
    assert street.station.resets == 0
    assert street.node.commands.pass_at_s == -1


def test_an_appointment_far_away_is_checked_in_for(street: Street) -> None:
    """19/20 of the time less five minutes, less up to one."""
    desk = Desk(street, sender_of(data_of(900)))
    desk.invite()
    assert desk.call(begins_in_s=4000, lasts_s=120) == COMES
    count = len(answers(street.peer))
    street.run(4000 * 0.95 - 362)
    assert len(answers(street.peer)) == count
    street.run(70)
    assert answers(street.peer)[count:] == [COMES]
    desk.call(begins_in_s=480, lasts_s=60)
    street.run(475)
    assert not is_receiving(street.station)
    street.run(8)
    assert is_receiving(street.station)


def test_a_pass_that_nobody_sends_in_ends_by_itself(street: Street) -> None:
    desk = Desk(street, sender_of(data_of(900)))
    desk.invite()
    assert desk.call() == COMES
    street.run(10)
    assert is_receiving(street.station)
    street.run(25)
    assert not is_receiving(street.station)
    assert street.node.health.boots == 2
    assert any("nobody sends" in line for line in street.station.log)


def test_the_next_pass_is_agreed_in_this_one(street: Street) -> None:
    desk = Desk(street, sender_of(data_of(9000)))
    desk.invite()
    desk.sender.begin()
    desk.call()
    street.run(4)
    desk.say(bytes((ota.STATUS, 1)))
    assert answers(street.peer)[-1][0] == ota.STATUS
    street.say(alone(street.peer.latest_piv, begins_in_s=200))
    assert answers(street.peer)[-1] == COMES
    street.run(40)
    assert not is_receiving(street.station)
    street.run(100)
    assert not is_receiving(street.station)
    street.run(64)
    assert is_receiving(street.station)


@pytest.mark.parametrize(
    "at", ["RECEIVED", "VERIFIED", "ON_TRIAL", "ENDED", "FILLED", "TOLD", "FILLING", "NOTHING"]
)
def test_while_an_update_is_under_way_nothing_is_said_to_another(street: Street, at: str) -> None:
    desk = Desk(street, sender_of(data_of(900)))
    found = pending.Pending(street.node.hal.state_fs)
    found.f[pending.PHASE] = getattr(pending, at)
    found.f[pending.DIGEST] = found.f[pending.PAYLOAD_DIGEST] = b""
    found.save()
    street.say(messages.Update(SESSION, desk.sender.setup.encode()))
    is_free = at in ("TOLD", "FILLING", "NOTHING")
    assert answers(street.peer) == ([bytes((ota.SETUP, 0))] if is_free else [])
    assert _known(street.station.flash) == ([ota.HEAD] if is_free else [])


def test_in_a_pass_a_next_one_is_refused_for_what_is_in_its_way(street: Street) -> None:
    desk = Desk(street, sender_of(data_of(9000)))
    desk.invite()
    desk.call()
    street.run(4)
    desk.say(bytes((ota.STATUS, 1)))
    count = len(answers(street.peer))
    street.say(alone(street.peer.latest_piv - 1, begins_in_s=200))
    assert len(answers(street.peer)) == count
    assert street.node.health.refusals == {"late": 1}
    for one, code in (
        (alone(street.peer.latest_piv, lasts_s=301).command, update.TOO_LONG),
        (alone(street.peer.latest_piv, begins_in_s=601).command, update.NOT_NOW),
        (
            update.encode_pass(update.Pass(street.peer.latest_piv, 20, 60, 470300000, 9, bytes(16))),
            update.NO_RADIO,
        ),
    ):
        late = update.decode_pass(one)._replace(answers=street.peer.latest_piv)
        street.say(messages.Update(SESSION, update.encode_pass(late)))
        assert answers(street.peer)[-1] == bytes((update.COME, code))
    street.run(40)
    assert not is_receiving(street.station)
    street.run(700)
    assert street.node.health.boots == 2, "none of them was agreed"


def test_a_strange_frame_in_a_pass_is_refused(street: Street) -> None:
    desk = Desk(street, sender_of(data_of(9000)))
    desk.invite()
    desk.call()
    street.run(4)
    street.inject(street.down[-1])
    assert street.node.health.refusals == {"replay": 1}
    street.say(messages.Update(SESSION, b"\x08\x01\x00short"))
    assert street.node.health.refusals["message"] == 1
    street.say(messages.Update(SESSION + 1, b"\x08\x01\x00" + bytes(72)))
    assert desk.sender.receivers[NODE].state == "taking"
    assert not _known(street.station.flash)[1:]
