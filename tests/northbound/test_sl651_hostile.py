"""What a centre of SL 651 that means harm sends: it costs no connection, no report, and a few lines in the log."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hil_tests.world.clock import pass_s
from hil_tests.world.sl_centre import SlCentre
from protocols.northbound import sl651
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651 import Frame
from tests.northbound.hj_rig import START_S
from tests.northbound.sl_rig import STATION, SlRig
from tests.northbound.test_sl651_northbound import HOUR, all_is_there, queued, world

_TIMES = ("260922000000", "000000000000", "999999999999", "FFFFFFFFFFFF", "260230256199")
_RESTS = (
    "", "26092200260923000418010000", "26092200260923000418000000", "FFFFFFFFFFFFFFFF0418000005",
    "26010100261231230418000005F4612", "39233923", "46", "F0F0",
)  # fmt: skip


def hostile(rng: random.Random) -> bytes:
    """Garbage, a question with absurd times and steps, or a confirmation of what was never sent."""
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.randrange(300))
    body = rng.randrange(40_000, 65_536).to_bytes(2, "big") + bytes.fromhex(rng.choice(_TIMES))
    rest = rng.choice(_RESTS)
    body += bytes.fromhex(rest[: len(rest) // 2 * 2]) + rng.randbytes(rng.choice((0, 0, 0, 1, 5)))
    function = rng.choice((*codes.FUNCTIONS, rng.randrange(256)))
    end = rng.choice((codes.ENQ, codes.ENQ, codes.ACK, codes.NAK, codes.EOT, codes.ESC))
    data = sl651.encode(Frame(1, STATION, rng.choice(("03E8", "0000")), function, body, end, up=False))
    return data[:-1] if kind < 0.2 else data


@pytest.mark.parametrize("seed", range(3))
def test_a_centre_that_sends_anything_costs_nothing_that_is_owed(tmp_path: Path, seed: int) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            for line in centre.lines:
                line.say(b"".join(hostile(rng) for _ in range(100)))
            await rig.live(60)
        await pass_s(120)
        print(f"seed={seed} connections={centre.connections}")
        assert centre.connections == 1
        all_is_there(rig, START_S + HOUR)
        assert queued(rig) == 0
        assert rig.sl_desk.counters["questions"] > 1000

    world(tmp_path, story)


def test_a_wrong_question_asked_over_and_over_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await pass_s(1)
        for _ in range(100):
            centre.ask(codes.CLEAR_STORE, STATION)
            centre.ask(codes.SET_CLOCK, STATION, sent="260922000100")
            for line in centre.lines:
                line.say(b"\x7e\x7e\x00")
            await pass_s(0.2)
        assert rig.sl_desk.counters["questions"] > 150

    world(tmp_path, story)
    told = [record for record in caplog.records if record.name.startswith("gateway.northbound.sl651")]
    assert 2 <= len(told) <= 4, "three kinds"
