"""A pass as a node goes through it on a board: compiled, on the real MicroPython, in 160 kB, beside nothing else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from firmware import pending
from firmware.pieces import Whole
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import messages, ota, update
from protocols.wire.messages import UpdateStatus
from tests.firmware.lockstep import Lockstep
from tests.firmware.receive_rig import NODE, SESSION, alone, answers, data_of, sender_of
from tests.firmware.sky import RADIO

if TYPE_CHECKING:
    from pathlib import Path

# That of an ordinary life, in which the offer is answered; the life that receives needs less.
HEAP_GIVEN = "160k"
RECEIVE_MAX = 125_000
# M of the largest update that is counted with (OTA.md), at 30 % loss: it takes the parity to its most.
ROWS, LOSS = 427, 0.3
SIZE = 48


@pytest.mark.parametrize("node_type", ["river"])
def test_427_rows_with_a_third_lost_are_received_in_its_heap(tmp_path: Path, node_type: str) -> None:
    data = data_of(ROWS * SIZE)
    sender = sender_of(data, SIZE)
    rng = random.Random(f"8 {node_type}")
    with Lockstep(tmp_path, node_type=node_type, heap=HEAP_GIVEN) as node:

        def say(message: Any, wait_s: float = 0.2) -> bytes:
            node.say(message)
            node.run(wait_s)
            found = answers(node.peer)
            return found[-1] if found else b""

        node.run(60)
        at_work = max(node.heap_used)
        invitation = sender.for_node(NODE)
        assert invitation is not None
        said = say(messages.Update(SESSION, invitation))
        assert said, node.log[-3:]
        sender.hear(NODE, said)
        sender.begin()
        passes = 0
        used = 0
        while not sender.is_ended and passes < 12:
            passes += 1
            say(messages.Ping(1))
            assert say(alone(node.peer.latest_piv, 2)) == bytes((update.COME, update.COMES)), node.log[-4:]
            node.run(4)
            while "receiving update" not in node.log[-1]:
                node.run(1)
            node.heap_used.clear()
            silent = 0
            while not sender.is_ended and silent < 3:
                command = sender.broadcast() or sender.for_node(NODE)
                if command is None:
                    sender.collected()
                elif command[0] != ota.DATA:
                    count = len(node.peer.of(UpdateStatus))
                    answer = say(messages.Update(SESSION, command), 1)
                    silent += 1
                    if len(node.peer.of(UpdateStatus)) > count:
                        silent = 0
                        sender.hear(NODE, answer)
                elif rng.random() >= LOSS:
                    say(messages.Update(SESSION, command), 0.05)
                if any("is whole" in line for line in node.log):
                    break
                used = max(used, *node.heap_used)
            if any("is whole" in line for line in node.log):
                break
        print(
            f"\n{node_type}: heap={HEAP_GIVEN} at_work={at_work} receive_used_max={used} rows={ROWS} passes={passes}"
        )
        assert any("is whole" in line for line in node.log), node.log[-5:]
        assert 0 < used < RECEIVE_MAX
        assert not [line for line in node.log if "failed" in line], node.log
        node.power_cut()
        flash = Flash(64)
        flash.image[:] = node.state.read_bytes()
        fs = LittleFs(flash)
        phase = pending.Pending(fs).f[pending.PHASE]
        is_told = any("ended with" in line for line in node.log)
        assert phase in (pending.RECEIVED, pending.ENDED) or (phase == pending.NOTHING and is_told)
        whole = Whole(fs)
        assert not whole.end or whole.read(whole.end) == data


def test_a_node_on_the_air_answers_long_after_it_let_go_of_what_an_answer_is(tmp_path: Path) -> None:
    """On the air an answer waits for its moment, and the module that has its class is not on the heap meanwhile."""
    with Lockstep(tmp_path, heap="192k", radio=RADIO) as node:
        node.run(60)
        assert node.radio is not None
        node.radio.gateway.says.append(lambda piv: messages.Update(SESSION, bytes((update.WHO,))))
        node.run(4200)
        assert answers(node.peer) == [update.I_AM]
        assert not [line for line in node.log if "failed" in line], node.log
