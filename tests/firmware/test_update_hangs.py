"""Releases that hang, run out of memory or leave at once, on the virtual board: given up after three starts.

A node that hangs waits here for what never comes, as the virtual board's time passes only while a node waits; to its
watchdog that is the same as a loop that turns.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from boards.virtual.supervisor import VirtualBoard
from flash_tools.images import build_app_image
from gateway import campaign_reasons
from gateway.campaign_rows import ROLLED_BACK
from protocols.wire.messages import Readings
from tests.firmware import test_update_on_board as on_board
from tests.firmware.test_node_on_board import Station, state_image
from tests.firmware.test_update_on_board import outcome, releases_said, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.firmware.test_update_on_board import Shop

shop = on_board.shop

STARTS = 3
_HANG = "import time\n\ndef hang(arg):\n    while True:\n        time.sleep_ms(1000)\n\n"
_STEP = "            begun_ms = clock.ticks_ms()\n"
_RUN = "    board = Board()\n"


def _before(code: str, text: str) -> str:
    return code + text


def _in(place: str, code: str, text: str) -> str:
    assert text.count(place) == 1, f"main.py has changed: {place!r}"
    return text.replace(place, place + code)


# What happens to it, by what the board counts; and how main.py is changed for it.
FAULTS = {
    "import": ("wdt", partial(_before, _HANG + "hang(0)\n")),
    "step": ("wdt", lambda text: _HANG + _in(_STEP, "            hang(0)\n", text)),
    "interrupt": (
        "wdt",
        lambda text: (
            _HANG
            + _in(_RUN, "    import micropython\n\n    getattr(micropython, 'schedule')(hang, 0)\n", text)
        ),
    ),
    "heap": ("reset", lambda text: _in(_RUN, "    global kept\n    kept = bytearray(1 << 24)\n", text)),
    "heap in a step": ("reset", partial(_in, _STEP, "            bytearray(1 << 24)\n")),
    "leak": (
        "reset",
        lambda text: "kept = []\n" + _in(_STEP, "            while 1: kept.append(bytes(999))\n", text),
    ),
    "reset": ("reset", partial(_before, "import machine\nmachine.reset()\n")),
    "sleep": ("deepsleep", partial(_before, "import machine\nmachine.deepsleep(1000)\n")),
}
QUICK = ("sleep",)


@pytest.mark.parametrize(
    "fault", [one if one in QUICK else pytest.param(one, marks=pytest.mark.soak) for one in FAULTS]
)
def test_it_is_given_up_after_three_starts_and_the_gateway_is_told_why(
    fault: str, tmp_path: Path, shop: Shop
) -> None:
    event, change = FAULTS[fault]

    def is_back(station: Station) -> None:
        assert releases_said(station)[-1] == 1
        ended = station.board.counts[event]
        print(f"fault={fault!r} {dict(station.board.counts)}")
        assert ended >= STARTS, "each of them ended in this way"
        assert station.board.counts["boot"] <= STARTS + 4, "the flashed, the installing, the old again"

    found = outcome(tmp_path, shop, shop.update(tree(tmp_path, change)), is_back)
    assert campaign_reasons.ending(found[1]) == (ROLLED_BACK, "crashed")


_ONCE = "import machine\n\nif machine.reset_cause() != machine.WDT_RESET:\n    "


@pytest.mark.parametrize("fault", ["hang(0)", "raise OSError(5)"])
def test_a_start_that_comes_to_nothing_before_the_program_has_a_watchdog_is_tried_again(
    fault: str, tmp_path: Path
) -> None:
    """No release is on trial: nobody but the watchdog brings this node back."""
    root = tree(tmp_path, partial(_before, _HANG + _ONCE + fault + "\n\n"))
    app = build_app_image(root, node_type="river").data
    with VirtualBoard(
        tmp_path / "board", app_image=app, state_image=state_image(), heap_size="160k", time_scale=60
    ) as board:
        station = Station(board)
        if fault.startswith("raise"):  # its time passes no faster: nothing waits any more
            board.wait("halted")
            assert board.is_watched
            return
        station.until(lambda: bool(station.peer.of(Readings)), "it is at work")
        assert board.counts["wdt"] == 1
