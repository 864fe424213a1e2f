"""A node on the air is brought an update: in its own windows, and in a broadcast that it hears all the time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from firmware import pending
from hil_tests.world.air import air_s
from hil_tests.world.flash import LittleFs
from protocols.wire import group, messages, ota, update
from protocols.wire.ota_host import COLLECTING, REPAIRING, SENDING, TAKING
from tests.firmware.receive_rig import (
    NODE,
    SESSION,
    SETTINGS,
    alone,
    answers,
    data_of,
    is_receiving,
    received,
    sender_of,
)
from tests.firmware.sky import Sky

SECRET = bytes(range(40, 56))
FREQ_HZ = 471_900_000
SF = 9
COMES = bytes((update.COME, update.COMES))


@pytest.fixture(autouse=True)
def keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is whole stays to be looked at, for there is nothing to install it into."""
    monkeypatch.setattr("firmware.update.begin", lambda hal: False)


def phase(sky: Sky) -> int:
    return int(pending.Pending(LittleFs(sky.station.flash)).f[pending.PHASE])


class Sender:
    """The other end: answers in windows, and rows to everybody. ``loses``: a row, on its way."""

    def __init__(self, sky: Sky, size: int, loses: Callable[[], bool] = lambda: False) -> None:
        self.sky = sky
        self.data = data_of(size)
        self.sender = sender_of(self.data)
        self.loses = loses
        self.piv = 0
        self._heard = 0

    def ask(self, makes: Callable[[int], Any], within_s: float = 400) -> bytes:
        """Say something in answer to the next uplink that wants one; what the node says to that."""
        sky = self.sky
        count = len(answers(sky.peer))
        sky.gateway.says = [makes]
        if not is_receiving(sky.station):
            sky.node.status_at_s = sky.station.hal.clock.uptime_s()  # type: ignore[union-attr]
        for _ in range(int(within_s)):
            sky.run(1)
            if len(answers(sky.peer)) > count:
                return answers(sky.peer)[count]
        raise AssertionError(f"no answer: {sky.station.log[-3:]}")

    def invite(self) -> None:
        command = self.sender.for_node(NODE)
        assert command is not None
        answer = self.ask(lambda piv: messages.Update(SESSION, command))
        self.sender.hear(NODE, answer)
        assert self.sender.receivers[NODE].state == TAKING
        self.sender.begin()
        self._heard = len(answers(self.sky.peer))

    def call(self, begins_in_s: float, lasts_s: int) -> bytes:
        def makes(piv: int) -> Any:
            self.from_s = self.sky.agenda.now_s()
            one = update.Pass(piv, round(begins_in_s * 10), lasts_s, FREQ_HZ, SF, SECRET)
            return messages.Update(SESSION, update.encode_pass(one))

        return self.ask(makes)

    def broadcast(self, seconds: float, share: float = 0.25) -> None:
        """Rows, so far apart that the radio sends for that share of the time."""
        sky, key = self.sky, group.key_of(SECRET, SESSION)
        end_s = sky.agenda.now_s() + seconds
        while sky.agenda.now_s() < end_s:
            command = self.sender.broadcast()
            if command is None:
                return
            packet = group.seal(key, self.piv, command)
            self.piv += 1
            up = sky.gateway.packets[-1]
            signal = up._replace(
                freq_hz=FREQ_HZ, sf=SF, has_ldro=False, is_inverted=True, payload=packet, dbm=17.0
            )
            if not (command[0] == ota.DATA and self.loses()):
                sky.gateway.concentrator.send(signal)
            sky.run(air_s(signal) / share)

    def hear(self) -> None:
        found = answers(self.sky.peer)
        for answer in found[self._heard :]:
            if answer[0] == ota.STATUS:
                self.sender.hear(NODE, answer)
        self._heard = len(found)


def is_listening(sky: Sky) -> bool:
    return sky.chip.mode == "rx"


def test_alone_in_its_windows_sixteen_at_a_time() -> None:
    sky = Sky(settings=SETTINGS)
    sky.run(60)
    desk = Sender(sky, 3000)
    desk.invite()
    assert desk.ask(lambda piv: alone(piv, 5)) == COMES
    sky.run(8)
    assert is_receiving(sky.station)
    rng = random.Random(3)
    sender = desk.sender
    for _ in range(60):
        desk.hear()
        if not is_receiving(sky.station):
            break
        commands: list[bytes] = []
        if sender.phase in (COLLECTING, REPAIRING):
            sender.collected()  # the node has just told
        while len(commands) < 15:
            command = sender.broadcast() or sender.for_node(NODE)
            if command is None or command[0] != ota.DATA:
                break
            commands.append(command)
        sky.gateway.says = [
            (lambda piv, one=one: messages.Update(SESSION, one)) for one in commands if rng.random() >= 0.3
        ]
        count = len(answers(sky.peer))
        while len(answers(sky.peer)) == count and is_receiving(sky.station):
            sky.run(1)
    sky.run(30)
    assert phase(sky) == pending.RECEIVED
    assert received(sky.station) == desk.data
    assert not is_listening(sky)


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_broadcast_is_heard_to_its_end_and_no_receiver_stays_on(loss: float) -> None:
    sky = Sky(settings=SETTINGS)
    sky.run(60)
    rng = random.Random(f"4 {loss}")
    desk = Sender(sky, 2500, loses=lambda: rng.random() < loss)
    desk.invite()
    for _ in range(10):
        assert desk.call(30, 200) == COMES
        sky.run(desk.from_s + 31 - sky.agenda.now_s())
        assert is_receiving(sky.station)
        assert is_listening(sky)
        desk.broadcast(200)
        sky.run(2)
        assert not is_listening(sky), "it was asked, or has it all"
        sky.run(60)
        desk.hear()
        desk.sender.collected()
        if desk.sender.phase == REPAIRING:  # what is left goes to everybody all the same
            desk.sender.phase, desk.sender._left = SENDING, 10
        if phase(sky) == pending.RECEIVED:
            break
    assert phase(sky) == pending.RECEIVED
    assert received(sky.station) == desk.data
    assert not is_receiving(sky.station)
    assert not is_listening(sky)


def test_a_recording_and_a_stranger_are_refused_in_a_broadcast() -> None:
    sky = Sky(settings=SETTINGS)
    sky.run(60)
    desk = Sender(sky, 2500)
    desk.invite()
    assert desk.call(20, 100) == COMES
    sky.run(desk.from_s + 21 - sky.agenda.now_s())
    desk.broadcast(5)
    desk.piv = 0
    heard = sky.node.receiver.heard
    desk.broadcast(3)
    assert sky.node.receiver.heard == heard
    assert sky.node.health.refusals == {"replay": 2}


@pytest.mark.parametrize("drift", [-0.05, 0.0, 0.05])
@pytest.mark.parametrize("ahead_s", [60, 600])
def test_a_sleeper_is_there_in_time_whatever_its_clock(drift: float, ahead_s: int) -> None:
    """It is called awake, sleeps until then, and listens before the first row; it is not there much too early."""
    sky = Sky(settings={0: 86400, 1: 86400, 2: 86400}, node_type="cover", sleep_drift=drift, boot_ms=800)
    sky.run(900)
    desk = Sender(sky, 2500)
    _wake(sky)
    desk.invite()
    assert desk.call(ahead_s, 120) == COMES
    sky.run(20)
    assert sky.station.sleep is not None
    begins_s = desk.from_s + ahead_s
    while not is_receiving(sky.station) and sky.agenda.now_s() < begins_s + 60:
        sky.run(1)
    early_s = begins_s - sky.agenda.now_s()
    print(f"rendezvous: drift={drift} ahead_s={ahead_s} early_s={early_s:.1f}")
    assert 0 <= early_s <= 0.11 * ahead_s + 4, "it has measured before, and its chip says nothing"
    sky.run(begins_s - sky.agenda.now_s())
    desk.broadcast(100)
    assert not is_receiving(sky.station) or sky.node.receiver.heard > 30 or sky.node.is_whole()
    sky.run(300)
    assert not is_listening(sky)


def _wake(sky: Sky) -> None:
    """Somebody lifts the float of a cover for a moment: it is awake, and says so."""
    sky.station.set_pin("float", 1)
    sky.run(3)
    sky.station.set_pin("float", 0)


def test_a_lid_that_opens_ends_a_broadcast_at_once() -> None:
    sky = Sky(settings={0: 86400, 1: 86400, 2: 86400}, node_type="cover", boot_ms=800)
    sky.run(900)
    desk = Sender(sky, 2500)
    _wake(sky)
    desk.invite()
    assert desk.call(60, 200) == COMES
    sky.run(desk.from_s + 61 - sky.agenda.now_s())
    assert is_receiving(sky.station)
    desk.broadcast(20)
    assert is_receiving(sky.station)
    sky.station.set_pin("float", 1)
    sky.run(2)
    assert not is_receiving(sky.station)
    assert not is_listening(sky)
    sky.run(25)
    assert [event.code for event in sky.peer.of(messages.Event)][-1] == 9, "level high"
