"""What each node type's program may weigh. The heap it runs in is measured where the node runs."""

from __future__ import annotations

import pytest

from flash_tools.node_types import modules
from tests.firmware.lockstep import ROOT, compiled_tree

# Bytes of .mpy in the image of one node type: the flash it takes. Much of it is loaded late and forgotten again
# (calibration, operations, safe mode, naps), so the heap is measured where the node runs. LoRa is 20 kB of each: it is
# in its identity whether a node is on the air, and not in its image. Installing an update and judging it is 25 kB of
# each, of which an ordinary life loads nothing; so is receiving one, 15 kB, and MicroPython itself, 7 kB. A new node
# type gets its line here; raise a figure only together with the reason in the commit.
MPY_MAX = {
    "river": 150_500,
    "river_solar": 151_500,
    "cover": 157_500,
    "cover_gas": 158_000,
    "cover_level": 159_000,
    "lift": 161_000,
}


def test_every_node_type_has_a_budget() -> None:
    assert set(modules(ROOT)) <= set(MPY_MAX)


@pytest.mark.parametrize("node_type", sorted(modules(ROOT)))
def test_the_program_of_a_node_type_keeps_its_budget(node_type: str) -> None:
    folder, mpy_bytes = compiled_tree(node_type)
    parts = sorted(((path.stat().st_size, path) for path in folder.rglob("*.mpy")), reverse=True)
    for size, path in parts[:5]:
        print(f"  {size:6d}  {path.relative_to(folder)}")
    print(f"node_type={node_type} mpy_bytes={mpy_bytes} mpy_max={MPY_MAX[node_type]}")
    assert mpy_bytes < MPY_MAX[node_type]
