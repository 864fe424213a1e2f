"""Nodes that do not start, as they are on a board: compiled, on the real MicroPython, in the heap they are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boards.virtual.supervisor import VirtualBoard
from firmware.hal import CAUSE_WATCHDOG
from firmware.trials import FAILED_MAX, SAFE_S
from flash_tools.images import build_app_image
from protocols.wire import codes
from protocols.wire.messages import CLEARED, DONE, RAISED, REFUSED, Command, Event, Ping, Result, Status
from tests.firmware.faulty import faulty_tree
from tests.firmware.lockstep import ROOT, Lockstep
from tests.firmware.test_node_on_board import Station, state_image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.firmware.peer import Peer


def safe_events(peer: Peer) -> list[int]:
    return [event.state for event in peer.of(Event) if event.code == codes.SAFE_MODE]


def ask(node: Lockstep, op: int, args: int | None, command_id: int) -> Result:
    node.send(node.peer.send(Ping(command_id)))
    node.run(2)
    node.send(node.peer.send(Command(node.peer.latest_piv, command_id, 60, op, args)))
    node.run(3)
    found: Result = node.peer.of(Result)[-1]
    assert found.command_id == command_id
    return found


@pytest.mark.parametrize("fault", ["import", pytest.param("watch", marks=pytest.mark.soak)])
def test_three_starts_fail_and_the_fourth_can_be_asked_in_160_kb(fault: str, tmp_path: Path) -> None:
    with Lockstep(tmp_path, root=faulty_tree(tmp_path, fault)) as node:
        node.run(60)
        assert node.resets == FAILED_MAX
        assert safe_events(node.peer) == [RAISED]
        assert ask(node, codes.REPORT_SETTINGS, None, 1).outcome == DONE
        assert ask(node, codes.READ_NOW, None, 2).outcome == REFUSED
        line = ask(node, codes.CONSOLE, 0, 3)
        assert (line.outcome, str(line.detail).startswith("tidegate")) == (DONE, True)
        assert ask(node, codes.CONSOLE, 200, 4).detail == "line 200: the console has lines 0 to 0"
        node.send(node.peer.send(Ping(9)))
        node.run(2)
        assert "firmware." in str(node.peer.of(Status)[-1].health[codes.TRACEBACK])
        node.root = ROOT
        assert ask(node, codes.REBOOT, None, 5).outcome == DONE
        node.run(30)
        assert safe_events(node.peer) == [RAISED, CLEARED]
        assert node.sonde.requests > 0
        assert not [line for line in node.log if "MemoryError" in line]


@pytest.mark.soak
def test_an_hour_in_safe_mode_grows_nothing_and_ends_by_itself(tmp_path: Path) -> None:
    with Lockstep(tmp_path, root=faulty_tree(tmp_path, "sensor")) as node:
        node.run(600)
        early = max(node.heap_used[-50:])
        node.run(SAFE_S - 1200)
        late = max(node.heap_used[-50:])
        print(f"safe_mode_heap_bytes={late}")
        assert late <= early
        assert node.resets == FAILED_MAX
        node.root = ROOT
        node.run(1300)
        assert safe_events(node.peer) == [RAISED, CLEARED]


def test_a_board_whose_sensor_hangs_meets_its_watchdog_three_times_and_answers_then(tmp_path: Path) -> None:
    app = build_app_image(faulty_tree(tmp_path, "hang"), node_type="river").data
    # A watchdog of a minute, three times over, in a second and a half.
    with VirtualBoard(
        tmp_path / "board", app_image=app, state_image=state_image(), heap_size="160k", time_scale=60
    ) as board:
        station = Station(board)
        station.until(lambda: RAISED in safe_events(station.peer), "safe mode")
        assert board.counts["wdt"] == FAILED_MAX
        status = station.status()
        assert status.health[2] == CAUSE_WATCHDOG
        assert status.health[0] == FAILED_MAX + 1
        station.port.close()
