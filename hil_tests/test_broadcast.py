"""An update goes to a hundred nodes at once over the gateway's real link, and alarms are told meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hil_tests.cover_rig import percentile
from hil_tests.pass_rig import FRAGMENT, SF, PassRig
from hil_tests.world import pass_node
from hil_tests.world.ota_world import Losses, Memory
from protocols.wire import airtime, ota

_ALARM_MAX_S = 30.0
_RATIO_MAX = 1.2
# What is lost, whether in bursts, seed: of long updates one seed each, for they take a minute or two.
_KINDS = [(share, in_bursts) for share in (0.1, 0.3) for in_bursts in (False, True)]
CASES = {
    fragments: [(share, in_bursts, seed) for share, in_bursts in _KINDS for seed in seeds]
    for fragments, seeds in ((20, (5, 6)), (94, (5,)), (427, (5,)))
}


@dataclass
class Figures:
    """Of one update."""

    ratio: float = 0.0  # airtime of rows and questions to the oracle's
    told_s: list[float] = field(default_factory=list)  # how late each alarm was
    told_in_passes_s: list[float] = field(default_factory=list)  # of those due while rows went out


def _oracle_rows(rig: PassRig, losses: dict[int, Losses]) -> int:
    """How many of the same rows somebody sends to all nodes who knows at each moment what everybody has."""
    setup = rig.maintainer.sender.setup
    missing = {address: ota.OtaReceiver(Memory(), setup.length) for address in rig.light}
    for receiver in missing.values():
        receiver.hear(1, setup.encode())
    count = number = 0
    while missing:
        number += 1
        if number not in rig.flown and number < max(rig.flown):
            continue
        count += 1
        row = ota.data_fragment(number, rig.maintainer.sender.row(number))
        for address in [one for one in missing if not losses[one].of_row(number)]:
            missing[address].hear(1, row)
            if not missing[address].deficit():
                del missing[address]
    return count


def _an_update(
    folder: Path,
    fragments: int,
    share: float,
    in_bursts: bool,
    seed: int,
    *,
    nodes: int = 100,
    covers: int = 24,
    towers: int = 1,
) -> Figures:
    """What went down beside the oracle's, and how late the alarms were."""
    losses: dict[int, Losses] = {}

    def losses_of(address: int) -> Losses:
        losses[address] = Losses(f"{seed} {address} rows", share, in_bursts)
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
        towers=towers,
    ) as rig:
        rig.settle_in()
        rig.openings.clear()
        rig.update()
        print(f"\nnodes={nodes} fragments={fragments} loss={share} bursts={in_bursts} seed={seed}", end=" ")
        figures = _figures(rig, share, _oracle_rows(rig, losses))
        used = [node.used for node in rig.light.values()]
        print(f"receive_s_a_node={sum(one.rx_s for one in used) / nodes:.0f}", end=" ")
        print(f"longest_receive_s={max(one.longest_s for one in used):.0f}", end=" ")
        print(f"passes_a_node={sum(one.passes for one in used) / nodes:.1f}", end=" ")
        print(f"check_ins={sum(one.check_ins for one in used)} listening_at_end={rig.listening()}")
        assert rig.complete == nodes, f"seed {seed}: {rig.maintainer.sender.to_document()}"
        assert rig.listening() == 0, f"seed {seed}"
        assert max(one.longest_s for one in used) <= pass_node.PASS_MAX_S + 1, f"seed {seed}"
        assert sum(one.check_ins for one in used) > 0, "nobody was told early enough to check in"
        assert rig.judge.problems == [], f"seed {seed}"
        return figures


def _figures(rig: PassRig, share: float, oracle: int) -> Figures:
    row_s = (
        airtime.time_on_air_us(airtime.lora(SF), len(pass_node.group_frame(1, 1, bytes(FRAGMENT + 3)))) / 1e6
    )
    fragments = rig.maintainer.fragments(1)
    rows, sent_s = round(rig.down_s["rows"] / row_s), rig.down_s["rows"] + rig.down_s["questions"]
    whole_s = sent_s + rig.down_s["answers"]
    figures = Figures(sent_s / (oracle * row_s), [opening.latency_s for opening in rig.openings])
    figures.told_in_passes_s = [one.latency_s for one in rig.openings if rig.fell_into_a_pass(one)]
    print(f"completed={rig.complete} rows={rows} oracle={oracle} passes={len(rig.maintainer.begun)}", end=" ")
    print(f"minutes={(rig.ended_s - rig.began_s) / 60:.0f}")
    print(f"ratio={figures.ratio:.3f} ratio_to_ideal={rows / (fragments / (1 - share)):.2f}", end=" ")
    print(f"with_calls_and_answers={whole_s / (oracle * row_s):.2f} down_s={whole_s:.1f}")
    _print_alarms(figures.told_s, "")
    _print_alarms(figures.told_in_passes_s, "_in_passes")
    return figures


def _print_alarms(told_s: list[float], which: str) -> None:
    print(f"alarms{which}={len(told_s)} p50{which}_s={percentile(told_s, 0.5):.1f}", end=" ")
    print(f"p99{which}_s={percentile(told_s, 0.99):.1f} max{which}_s={max(told_s):.1f}", end=" ")
    print(f"late{which}={sum(one > _ALARM_MAX_S for one in told_s)}")


def test_an_update_goes_to_thirty_nodes_at_once_and_alarms_are_told_meanwhile(tmp_path: Path) -> None:
    figures = _an_update(tmp_path, 20, 0.3, True, seed=5, nodes=30, covers=12)
    assert figures.ratio <= _RATIO_MAX
    # Of fifty alarms, of whose packets one in ten is lost, one may be late: a p99 is for the soak.
    assert sum(late_s > _ALARM_MAX_S for late_s in figures.told_s) <= 1


def _an_update_to_a_hundred(
    folder: Path, fragments: int, share: float, in_bursts: bool, seed: int, **town: int
) -> Figures:
    figures = _an_update(folder, fragments, share, in_bursts, seed, **town)
    assert figures.ratio <= _RATIO_MAX, f"{fragments} rows, {share} lost, in bursts: {in_bursts}, seed {seed}"
    return figures


@pytest.mark.soak
@pytest.mark.parametrize("fragments", [20, 94, 427])
def test_an_update_goes_to_a_hundred_nodes_at_once(tmp_path: Path, fragments: int) -> None:
    """In a town of one gateway, which is deaf to alarms while it answers.

    Updates of some rows are over after fifty alarms, which are too few for a p99: it is of all cases of a size.
    """
    figures = []
    for share, in_bursts, seed in CASES[fragments]:
        folder = tmp_path / f"{share} {in_bursts} {seed}"
        folder.mkdir()
        figures.append(_an_update_to_a_hundred(folder, fragments, share, in_bursts, seed))
    print()
    told_s = [one_s for one in figures for one_s in one.told_s]
    _print_alarms(told_s, "_of_all")
    _print_alarms([one_s for one in figures for one_s in one.told_in_passes_s], "_in_passes_of_all")
    print(f"fragments={fragments} ratio_worst={max(one.ratio for one in figures):.3f}")
    assert percentile(told_s, 0.99) <= _ALARM_MAX_S


@pytest.mark.soak
def test_another_gateway_changes_nothing(tmp_path: Path) -> None:
    """One sends the rows, and both listen."""
    figures = _an_update_to_a_hundred(tmp_path, 94, 0.3, True, 5, towers=2)
    assert percentile(figures.told_s, 0.99) <= _ALARM_MAX_S
