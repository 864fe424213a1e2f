"""An update goes to a hundred nodes at once over the gateway's real link, and alarms are told meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_tests.cover_rig import percentile
from hil_tests.pass_rig import FRAGMENT, SF, PassRig
from hil_tests.world import pass_node
from hil_tests.world.ota_world import PAUSE_ROWS, Losses, Memory
from protocols.wire import airtime, ota, ota_host

_ALARM_MAX_S = 30.0
_RATIO_MAX = 1.2
CASES = [(share, in_bursts) for share in (0.1, 0.3) for in_bursts in (False, True)]


class PassLosses:
    """Of rows for everybody, those of the seed. A row for a last few finds the weather of its own pass."""

    def __init__(self, rig: list[PassRig], seed: str, share: float, in_bursts: bool) -> None:
        self.rows = Losses(f"{seed} rows", share, in_bursts)
        self._others = Losses(f"{seed} others", share, in_bursts)
        self._rig = rig

    def of_row(self, number: int) -> bool:
        maintainer = self._rig[0].maintainer
        if maintainer.sender.phase == ota_host.REPAIRING:
            return self._others.of_row(maintainer.passes * PAUSE_ROWS)
        return self.rows.of_row(number)


def _oracle_rows(rig: PassRig, losses: dict[int, PassLosses], *, all_there: bool) -> int:
    """How many of the same rows somebody sends who knows at each moment what everybody has.

    To the same nodes: who was not there for a row had not come, whoever sends it. Or to nodes that are `all_there`.
    """
    setup = rig.maintainer.sender.setup
    missing = {address: ota.OtaReceiver(Memory(), setup.length) for address in rig.light}
    for receiver in missing.values():
        receiver.hear(1, setup.encode())
    number = 0
    while missing:
        number += 1
        row = ota.data_fragment(number, rig.maintainer.sender.row(number))
        for address in [one for one in missing if not losses[one].rows.of_row(number)]:
            if number in rig.absent[address] and not all_there:
                continue
            missing[address].hear(1, row)
            if not missing[address].deficit():
                del missing[address]
    return number


def _an_update(
    folder: Path,
    fragments: int,
    share: float,
    in_bursts: bool,
    seed: int,
    *,
    nodes: int = 100,
    covers: int = 12,
) -> tuple[float, list[float]]:
    """What went down beside the oracle's, and how late the alarms were."""
    losses: dict[int, PassLosses] = {}
    its: list[PassRig] = []

    def losses_of(address: int) -> PassLosses:
        losses[address] = PassLosses(its, f"{seed} {address}", share, in_bursts)
        return losses[address]

    with PassRig(
        folder,
        nodes=nodes,
        fragments=fragments,
        losses=losses_of,
        loss=share,
        store=Memory,
        covers=covers,
        seed=seed,
    ) as rig:
        its.append(rig)
        rig.settle_in()
        rig.openings.clear()
        rig.update()
        oracle = _oracle_rows(rig, losses, all_there=False)
        there = _oracle_rows(rig, losses, all_there=True)
        row_us = airtime.time_on_air_us(
            airtime.lora(SF), len(pass_node.group_frame(1, 1, bytes(FRAGMENT + 3)))
        )
        oracle_s = oracle * row_us / 1e6
        sent_s = rig.down_s["rows"] + rig.down_s["questions"]
        whole_s = sent_s + rig.down_s["answers"]
        rows = round(rig.down_s["rows"] / (row_us / 1e6))
        used = [node.used for node in rig.light.values()]
        latencies = [opening.latency_s for opening in rig.openings]
        print(f"\nnodes={nodes} fragments={fragments} loss={share} bursts={in_bursts} seed={seed}", end=" ")
        print(f"completed={rig.complete} rows={rows} oracle={oracle} passes={rig.maintainer.passes}", end=" ")
        print(f"minutes={(rig.ended_s - rig.began_s) / 60:.0f}")
        print(f"ratio={sent_s / oracle_s:.3f} ratio_to_ideal={rows / (fragments / (1 - share)):.2f}", end=" ")
        print(f"oracle_if_all_come={there} ratio_to_it={sent_s / (there * row_us / 1e6):.3f}", end=" ")
        print(f"with_calls_and_answers={whole_s / oracle_s:.2f} down_s={whole_s:.1f}")
        print(f"alarms={len(latencies)} p50_s={percentile(latencies, 0.5):.1f}", end=" ")
        print(f"p99_s={percentile(latencies, 0.99):.1f} max_s={max(latencies):.1f}")
        print(f"receive_s_a_node={sum(one.rx_s for one in used) / nodes:.0f}", end=" ")
        print(f"longest_receive_s={max(one.longest_s for one in used):.0f}", end=" ")
        print(f"passes_a_node={sum(one.passes for one in used) / nodes:.1f}", end=" ")
        print(f"check_ins={sum(one.check_ins for one in used)} listening_at_end={rig.listening()}")
        assert rig.complete == nodes, f"seed {seed}: {rig.maintainer.sender.to_document()}"
        assert rig.listening() == 0, f"seed {seed}"
        assert max(one.longest_s for one in used) <= pass_node.PASS_MAX_S + 1, f"seed {seed}"
        assert sum(one.check_ins for one in used) > 0, "nobody was told early enough to check in"
        assert rig.judge.problems == [], f"seed {seed}"
        return sent_s / oracle_s, latencies


def test_an_update_goes_to_thirty_nodes_at_once_and_alarms_are_told_meanwhile(tmp_path: Path) -> None:
    ratio, latencies = _an_update(tmp_path, 20, 0.3, True, seed=5, nodes=30, covers=10)
    assert ratio <= _RATIO_MAX
    assert percentile(latencies, 0.99) <= _ALARM_MAX_S


@pytest.mark.soak
def test_an_update_goes_to_a_hundred_nodes_at_once(tmp_path: Path) -> None:
    ratios: dict[tuple[int, float, bool], float] = {}
    latencies: list[float] = []
    for fragments in (20, 94, 427):
        for share, in_bursts in CASES:
            folder = tmp_path / f"{fragments} {share} {in_bursts}"
            folder.mkdir()
            ratios[fragments, share, in_bursts], told = _an_update(
                folder, fragments, share, in_bursts, seed=5
            )
            latencies += told
    print(f"alarms={len(latencies)} p50_s={percentile(latencies, 0.5):.1f}", end=" ")
    print(f"p99_s={percentile(latencies, 0.99):.1f} ratio_worst={max(ratios.values()):.3f}")
    assert percentile(latencies, 0.99) <= _ALARM_MAX_S
    assert max(ratios.values()) <= _RATIO_MAX, ratios
