"""The outbox is gone and the key context is not: the one way in which a record id could come to name two records."""

from __future__ import annotations

from pathlib import Path

from firmware.making import OUTBOX_PATH
from hil_tests.sim_rig import SimRig
from hil_tests.world.flash import LittleFs


def _remove(fs: LittleFs, path: str) -> None:
    for name, kind, *_ in list(fs.ilistdir(path)):
        below = f"{path}/{name}"
        if kind == 0x4000:
            _remove(fs, below)
        else:
            fs.remove(below)
    fs.remove(path)


def test_a_node_that_lost_its_outbox_numbers_nothing_in_the_old_epoch(tmp_path: Path) -> None:
    """Its seqs begin at 1 again, so it joins anew before it sends; the city sees no id with two contents."""
    rig = SimRig(tmp_path, stations=1)
    try:
        node = rig.nodes[0]
        rig.wait_until(lambda: len(rig.judge.records) >= 3, 60, "three records")
        old = {epoch for _, epoch, _ in rig.judge.records}
        station = rig.stations[node]
        station.power_off()
        fs = LittleFs(station.flash)
        _remove(fs, OUTBOX_PATH)
        # The mark lives beside the other documents.
        for folder in ("/a", "/b"):
            for name, *_ in list(fs.ilistdir(folder)):
                if name == "outbox":
                    fs.remove(f"{folder}/{name}")
        station.power_on()
        rig.wait_until(
            lambda: any(epoch not in old for _, epoch, _ in rig.judge.records), 120, "a record of a new epoch"
        )
        assert rig.judge.problems == []
        lowest = min(seq for _, epoch, seq in rig.judge.records if epoch not in old)
        assert lowest == 1
    finally:
        rig.close()
