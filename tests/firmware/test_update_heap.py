"""Each type's lives on the way through an update, in 160 kB: `bench/heap.py` finds the smallest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.firmware.heap_lives import LIVES, OFFER, ORDINARY, RECEIVE, ROLLBACK, TRIAL, lived

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_K = 160
QUICK = ("river", "cover")
RARE = ("lift", "river_solar", "cover_gas", "cover_level")


def live(node_type: str, life: str, folder: Path) -> None:
    """A story to its end; an ordinary life of three hours has one of its own."""
    wrong, used = lived(folder, node_type, life, dict.fromkeys(LIVES, LIMIT_K))
    for kind, held in used.items():
        print(f"\ntype={node_type} life={kind} heap_k={LIMIT_K} used_max={held}", end="")
    assert not wrong
    assert set(used) >= ({ORDINARY} if life == ORDINARY else {OFFER, RECEIVE})


@pytest.mark.parametrize("node_type", QUICK)
def test_each_life_fits_its_heap(node_type: str, tmp_path: Path) -> None:
    """But for the ordinary one: test_node_micropython.py and test_cover_micropython.py have days of it."""
    live(node_type, TRIAL, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("node_type", "life"),
    [(node_type, life) for life in (ORDINARY, TRIAL, ROLLBACK) for node_type in QUICK + RARE],
)
def test_each_life_of_all_types_fits_its_heap(node_type: str, life: str, tmp_path: Path) -> None:
    live(node_type, life, tmp_path)
