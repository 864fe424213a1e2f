"""A campaign by broadcast, with everything real but the chips: firmware, gateway, its link, its broadcaster, the air.

The gateway is killed in the middle of a pass. Rows were given away by then, and what came is on the nodes' flash.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from gateway.campaign_files import read_folder
from hil_tests.air_rig import AirRig
from hil_tests.world.fleet import Shop
from hil_tests.world.sim_node import SimNode
from hil_tests.world.sim_slots import SlotStation
from protocols.wire import envelope, group
from protocols.wire.errors import WireError

if TYPE_CHECKING:
    from pathlib import Path

    from hil_tests.world.air import Flight

NODES, SEED = 4, 7
_HOUR_S = 3600
_LONGEST_H = 12
_NEWEST = 4


def _ask(rig: AirRig, operation: str, **words: Any) -> dict[str, Any]:
    request = {"operation": f"campaign.{operation}", **words}
    found: dict[str, Any] = rig.ask(lambda gateway: gateway.operations.handle(request, "mei"), 60)
    return found


def _begin(rig: AirRig, folder: Path) -> None:
    _ask(
        rig, "add", why="the next", name="next", releases=[read_folder(folder)], canary=0, shares=[1.0], by="",
        types=[], areas=[], boards=[], nodes=[], windows=[], zone="", air_share=0.25, halt_share=1.0,
        halt_count=3, patience_s=5 * 24 * _HOUR_S, soak_s=0,
    )  # fmt: skip


def _slots(rig: AirRig) -> dict[str, SlotStation]:
    found = {name: node.station for name, node in rig.stations.items()}
    assert all(isinstance(station, SlotStation) for station in found.values())
    return found  # type: ignore[return-value]


def _piv_of(flight: Flight) -> list[Any]:
    """Of a frame for everybody."""
    signal = flight.signal
    try:
        header = envelope.parse(signal.payload, group.KID)
    except WireError:
        return []
    return (
        [(header.kid, header.piv, signal.payload)]
        if signal.is_inverted and header.kid.startswith(b"\xff\xff")
        else []
    )


@pytest.mark.soak
def test_a_broadcast_survives_the_gateway_and_reaches_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmware.gate.gc.collect", lambda: None)
    shop = Shop(tmp_path / "shop", files=8)
    shop.release(1)
    make = functools.partial(SlotStation, files=dict(shop.program(1).files))
    monkeypatch.setattr("hil_tests.air_rig.SimNode", functools.partial(SimNode, make_station=make))
    # Deltas start from the two before it, so these nodes are sent the whole: worth a broadcast.
    newest = [shop.release(sequence) for sequence in range(2, _NEWEST + 1)][-1]
    pivs: list[Any] = []
    with AirRig(
        tmp_path / "rig", covers=0, seed=SEED, rivers=NODES, across_m=800.0, river_interval_s=900, loss=0.05
    ) as rig:
        rig.settle_in()
        rig.air.taps.append(lambda flight: pivs.extend(_piv_of(flight)))
        assert {station.sequence() for station in _slots(rig).values()} == {1}
        _begin(rig, newest.folder)
        engine = rig.alive.campaigns.engine
        rig.wait_until(lambda: engine.counters["broadcast_rows"] >= 8, _LONGEST_H * _HOUR_S, "a broadcast")
        states = {row["node"]: row["state"] for row in _ask(rig, "show", campaign="next")["nodes"]}
        rows = engine.counters["broadcast_rows"]
        rig.kill_gateway()
        rig.run_s(20)
        rig.start_gateway()
        began_s, found = rig.world.now_s, _ask(rig, "show", campaign="next")
        while found["state"] == "running" and rig.world.now_s < began_s + _LONGEST_H * _HOUR_S:
            rig.run_s(120)
            found = _ask(rig, "show", campaign="next")
        counters = rig.alive.campaigns.engine.counters
        ends = {row["node"]: row["state"] for row in found["nodes"]}
        print(
            f"nodes={NODES} at_kill={states} rows_before={rows} rows_after={counters['broadcast_rows']} "
            f"rows_alone={counters['rows']} h={(rig.world.now_s - began_s) / _HOUR_S:.1f} ends={ends} seed={SEED}"
        )
        assert found["state"] == "ended", f"seed {SEED}: {found['states']}"
        assert set(ends.values()) == {"installed"}, f"seed {SEED}"
        assert {station.sequence() for station in _slots(rig).values()} == {_NEWEST}
        assert len(pivs) > rows
        # A row may go out over both towers, in the same bytes.
        assert len({(kid, piv) for kid, piv, _ in pivs}) == len(set(pivs)), "no PIV of a key for two packets"
        assert not rig.judge.problems
