"""A pass ends with a row missing, and the next one is agreed: between the two a node is heard as ever.

Whatever happens meanwhile, power cuts, resets, a gateway that is gone or off by an hour, nothing but another pass keeps
it from the air for longer than a start takes. Simulated, and compiled on the real MicroPython.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firmware.hal import CAUSE_HARD_RESET, CAUSE_POWER_ON, CAUSE_WATCHDOG
from hil_tests.world.air import air_s
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import cbor, group, messages, ota, update
from protocols.wire.document import encode as encode_document
from tests.firmware.lockstep import Lockstep
from tests.firmware.receive_rig import NODE, SESSION, answers, data_of, sender_of
from tests.firmware.sky import RADIO, Sky

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = bytes(range(40, 56))
FREQ_HZ, SF = 471_900_000, 7
SETTINGS = {0: 60, 1: 60, 2: 60}
FIRST_S, LASTS_S = 30, 60
# From a start to the first authentic word: hello, and a few more when the channel is busy.
HEARD_S = 30
# Listening for a pass that nobody holds, its silence, and the moment at which its status is said.
PASS_S = 120 + 68 + 16 + 30
COMES = bytes((update.COME, update.COMES))


class Simulated:
    """CPython, on a clock that jumps."""

    def __init__(self, folder: Path) -> None:
        self.node = Sky(settings=SETTINGS)
        self.run: Callable[[float], None] = self.node.run
        self.peer, self.gateway = self.node.peer, self.node.gateway
        self.hears_s: Callable[[], float] = self.node.agenda.now_s

    @property
    def log(self) -> list[str]:
        return self.node.station.log

    def restart(self, cause: int) -> None:
        station = self.node.station
        if cause == CAUSE_POWER_ON:
            station.power_cut()
            station.power_on()
        elif cause == CAUSE_WATCHDOG:
            station.watchdog_reset()
        else:
            station.press_reset()

    def close(self) -> None:
        """Nothing is left of it."""


class Compiled:
    """MicroPython, in the heap of a river station on the air."""

    def __init__(self, folder: Path) -> None:
        self.node = Lockstep(folder, heap="192k", radio=RADIO, powered=False)
        flash = Flash(image=self.node.state.read_bytes())
        fs = LittleFs(flash)
        for copy in ("/a", "/b"):
            fs.mkdir(copy)
            with fs.open(copy + "/settings", "wb") as file:
                file.write(encode_document("settings", 1, cbor.dumps([0, SETTINGS])))
        self.node.state.write_bytes(bytes(flash.image))
        self.node.power_on()
        assert self.node.radio is not None
        self.run: Callable[[float], None] = self.node.run
        self.peer, self.gateway = self.node.peer, self.node.radio.gateway
        self.hears_s: Callable[[], float] = self.node.radio.agenda.now_s

    @property
    def log(self) -> list[str]:
        return self.node.log

    def restart(self, cause: int) -> None:
        self.node.power_cut()
        self.node.power_on(cause)

    def close(self) -> None:
        self.node.power_cut()


class Story:
    """One node up to where a pass has ended with a row missing, and the next one is agreed."""

    def __init__(self, world: Any, begins_in_s: int, *, is_named: bool = False) -> None:
        self.world = world
        self.sender = sender_of(data_of(1500))
        self.piv = 0
        world.run(70)
        command = self.sender.for_node(NODE)
        assert command is not None
        self.sender.hear(NODE, self.ask(lambda piv: messages.Update(SESSION, command)))
        self.sender.begin()
        assert self.call(FIRST_S) == COMES
        self.until(lambda: self.said("receiving update") == 1, FIRST_S + 10, "it comes")
        world.run(5)
        self.broadcast(20)  # of 21
        if is_named:
            self.name(begins_in_s)
            self.until(lambda: self.said("rows are missing") == 1, 60, "it ends")
            return
        self.everybody(bytes((ota.STATUS, 1)))
        self.until(lambda: answers(world.peer)[-1][0] == ota.STATUS, 60, "it says what it has")
        # In the windows of another uplink of that life, or of the same.
        assert self.call(begins_in_s) == COMES
        self.next_s = world.hears_s() + begins_in_s
        self.until(lambda: self.said("rows are missing") == 1, 60, "it ends")
        self.ended_s = world.hears_s()

    def said(self, words: str) -> int:
        return sum(words in line for line in self.world.log)

    def until(self, is_so: Callable[[], bool], within_s: float, what: str) -> float:
        began_s = self.world.hears_s()
        while not is_so():
            late_s = self.world.hears_s() - began_s
            assert late_s < within_s, f"{what}: not within {within_s} s; {self.world.log[-4:]}"
            self.world.run(1)
        return float(self.world.hears_s() - began_s)

    def ask(self, makes: Callable[[int], Any]) -> bytes:
        count = len(answers(self.world.peer))
        self.world.gateway.says = [makes]
        self.until(lambda: not self.world.gateway.says, 400, "an uplink that wants an answer")
        kind = makes(0).command[0]
        self.until(
            lambda: any(said[0] == kind for said in answers(self.world.peer)[count:]), 90, "an answer to it"
        )
        found = [said for said in answers(self.world.peer)[count:] if said[0] == kind]
        return found[0]

    def call(self, begins_in_s: int) -> bytes:
        return self.ask(
            lambda piv: messages.Update(
                SESSION,
                update.encode_pass(update.Pass(piv, begins_in_s * 10, LASTS_S, FREQ_HZ, SF, SECRET)),
            )
        )

    def everybody(self, command: bytes) -> None:
        gateway = self.world.gateway
        packet = group.seal(group.key_of(SECRET, SESSION), self.piv, command)
        self.piv += 1
        signal = gateway.packets[-1]._replace(
            freq_hz=FREQ_HZ, sf=SF, has_ldro=False, is_inverted=True, payload=packet, dbm=17.0
        )
        gateway.concentrator.send(signal)
        self.world.run(3 * air_s(signal))

    def name(self, begins_in_s: int) -> None:
        """The pass is over, and everybody is told of the next."""
        self.next_s = self.world.hears_s() + begins_in_s
        self.everybody(update.encode_next(begins_in_s * 10, LASTS_S))

    def broadcast(self, rows: int) -> None:
        for _ in range(rows):
            command = self.sender.broadcast()
            assert command is not None
            self.everybody(command)

    def is_heard(self, within_s: float, what: str) -> float:
        """A word of it that can be believed."""
        count = len(self.world.peer.messages)
        return self.until(lambda: len(self.world.peer.messages) > count, within_s, what)


@pytest.fixture(params=[Simulated, Compiled])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("firmware.update.begin", lambda hal: False)  # there is nothing to install it into
    made = request.param(tmp_path)
    yield made
    made.close()


def _some(values: list[int], quick: int) -> list[Any]:
    """The others are for `make soak`."""
    return [one if one == quick else pytest.param(one, marks=pytest.mark.soak) for one in values]


@pytest.mark.parametrize("begins_in_s", _some([30, 120, 600], 120))
def test_it_is_heard_and_comes_to_the_next_pass_and_from_one_that_nobody_holds(
    world: Any, begins_in_s: int
) -> None:
    story = Story(world, begins_in_s)
    heard_s = story.is_heard(HEARD_S, "after the pass")
    while world.hears_s() < story.next_s - 90:
        story.is_heard(SETTINGS[2] + HEARD_S, "between the passes")
    story.until(lambda: story.said("receiving update") == 2, begins_in_s + 10, "it comes again")
    early_s = story.next_s - world.hears_s()
    back_s = story.is_heard(PASS_S, "nobody held that pass")
    print(f"heard_s={heard_s} early_s={early_s:.0f} back_s={back_s}")
    story.until(lambda: story.said("rows are missing") == 2, PASS_S, "it ends")
    story.is_heard(HEARD_S, "and is at work again")


@pytest.mark.parametrize("cause", _some([CAUSE_POWER_ON, CAUSE_HARD_RESET, CAUSE_WATCHDOG], CAUSE_POWER_ON))
@pytest.mark.parametrize("after_s", _some([0, 1, 7, 61], 1))
def test_a_start_at_any_moment_between_them_is_heard(world: Any, cause: int, after_s: int) -> None:
    """It costs the appointment at most."""
    story = Story(world, 120)
    world.run(after_s)
    world.restart(cause)
    heard_s = story.is_heard(HEARD_S, "after the start")
    for _ in range(4):
        heard_s = max(heard_s, story.is_heard(PASS_S, "and from then on"))
    print(f"cause={cause} after_s={after_s} heard_s={heard_s}")


def test_a_gateway_that_is_gone_and_comes_back_hears_it(world: Any) -> None:
    story = Story(world, 60)
    world.peer.mute = True
    world.run(400)
    world.peer.mute = False
    print(f"heard_s={story.is_heard(300, 'the gateway is back')}")
    for _ in range(3):
        story.is_heard(PASS_S, "and from then on")


@pytest.mark.parametrize("step_s", _some([-3600, 3600, 86400 * 365], 3600))
def test_a_clock_that_jumps_by_an_answer_moves_no_appointment(world: Any, step_s: int) -> None:
    story = Story(world, 120)
    unix_s = world.peer._unix_s
    world.peer._unix_s = lambda: unix_s() + step_s
    story.is_heard(HEARD_S, "after the pass")
    # The event of the step is told first.
    story.until(lambda: story.said("receiving update") == 2, 130, "it comes again")
    assert abs(story.next_s - world.hears_s()) < 15
    story.is_heard(PASS_S, "nobody held that pass")
    story.until(lambda: story.said("rows are missing") == 2, PASS_S, "it ends")
    story.is_heard(HEARD_S, "and is at work again")


@pytest.mark.parametrize("begins_in_s", _some([30, 120, 600], 120))
def test_a_pass_that_is_named_in_the_one_before_needs_no_answer_to_anybody(
    world: Any, begins_in_s: int
) -> None:
    story = Story(world, begins_in_s, is_named=True)
    gateway, peer = world.gateway, world.peer
    assert answers(peer)[-1] == ota.status(20, 1)
    assert not gateway.wanted[-1]
    hellos, wanted = len(peer.of(messages.Hello)), len(gateway.wanted)
    if begins_in_s > SETTINGS[2]:
        story.is_heard(SETTINGS[2] + HEARD_S, "at work between them")
    story.until(lambda: story.said("receiving update") == 2, begins_in_s + 10, "it comes again")
    assert abs(story.next_s - world.hears_s()) < 10, "four seconds early, and five in which it could measure"
    print(f"asked_for={sum(gateway.wanted[wanted:])} hellos={len(peer.of(messages.Hello)) - hellos}")
    assert len(peer.of(messages.Hello)) == hellos, "nobody was told that it started"
    world.run(5)
    story.broadcast(1)
    story.until(lambda: story.said("it has all") == 1, 10, "it has the last one, too")
    story.until(lambda: answers(peer)[-1] == ota.status(21, 0), 4 * 16 + HEARD_S, "it comes to say so")
    assert gateway.wanted[-1]
    story.until(lambda: story.said("is whole") == 1, 30, "and would install it")


@pytest.mark.parametrize("cause", _some([CAUSE_POWER_ON, CAUSE_HARD_RESET, CAUSE_WATCHDOG], CAUSE_POWER_ON))
@pytest.mark.parametrize("after_s", _some([0, 1, 7, 61], 1))
def test_a_start_before_a_named_pass_is_heard(world: Any, cause: int, after_s: int) -> None:
    """It costs the appointment at most, and no number is used twice: the peer refuses those."""
    story = Story(world, 120, is_named=True)
    world.run(after_s)
    world.restart(cause)
    heard_s = story.is_heard(HEARD_S + SETTINGS[2], "after the start")
    for _ in range(4):
        heard_s = max(heard_s, story.is_heard(PASS_S, "and from then on"))
    print(f"cause={cause} after_s={after_s} heard_s={heard_s}")


def test_who_knows_the_key_of_a_broadcast_can_not_keep_a_node_listening(world: Any) -> None:
    """Passes are named one after the other, and nobody says a word under the node's own key."""
    story = Story(world, 30, is_named=True)
    world.peer.mute = True
    named = 0
    while named < 40 and not (named and world.gateway.wanted[-1]):
        _comes_and_is_told_of_the_next(story)
        named += 1
    print(f"named={named}")
    assert 8 <= named <= 16
    passes = story.said("receiving update")
    story.until(lambda: story.said("rows are missing") == passes, 400, "nobody answers it")
    world.peer.mute = False
    story.is_heard(400, "and it is at work")
    world.run(400)
    assert story.said("receiving update") == passes


def _comes_and_is_told_of_the_next(story: Story) -> None:
    passes = story.said("receiving update")
    story.until(lambda: story.said("receiving update") > passes, 40, "it comes")
    story.world.run(5)
    said = len(answers(story.world.peer))
    story.name(30)
    story.until(lambda: len(answers(story.world.peer)) > said, 60, "it says what it has")
