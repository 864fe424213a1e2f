"""Nodes on the air with every process real: MicroPython, the daemon, Mosquitto (unix rig)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.sky_rig import COVER, RIVER, STOLEN, SkyRig, Thief

pytestmark = pytest.mark.xdist_group("real_time")


@pytest.fixture
def air(tmp_path: Path, base_seed: int) -> Iterator[SkyRig]:
    made = SkyRig(tmp_path, base_seed)
    try:
        yield made
    finally:
        made.close()


def test_nodes_on_the_air_deliver_and_alarm_and_a_stolen_answer_changes_nothing(air: SkyRig) -> None:
    thief = air.sky.call(lambda: Thief(air.sky))
    air.street.start()
    air.street.gateway.cli("command", "send", COVER, "learn", "--why", "it lies where it is to lie")
    air.wait(lambda: air.sets(RIVER) >= 2, "readings of the river station")
    assert len(thief.recorded) == STOLEN
    thief.replay()
    air.wait(lambda: ("pose_learned", "note") in air.events(COVER), "pose of the cover")
    began_s = time.monotonic()
    air.cover.turn(40)
    air.street.quiet(COVER)
    air.wait(lambda: ("cover_tilted", "raised") in air.events(COVER), "alarm")
    alarm_s = time.monotonic() - began_s
    air.wait(lambda: thief.replays_heard() >= STOLEN, "replay that was heard")
    sets = air.sets(RIVER)
    air.wait(lambda: air.sets(RIVER) > sets, "readings after the replay")
    print(f"alarm_s={alarm_s:.1f} replays_heard={thief.replays_heard()} packets={len(air.flights)}")
    air.balance()
    assert air.street.boards[RIVER].counts["boot"] == 1
    epochs = {(node, epoch) for node, epoch, _ in air.city.judge.records}
    assert sorted(node for node, _ in epochs) == [COVER, RIVER], "a node was made to begin anew"
