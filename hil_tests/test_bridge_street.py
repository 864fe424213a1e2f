"""A bridge as it ships, in real time: MicroPython at both ends of the air, a serial port, and the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.bridge_street import BridgedStreet

pytestmark = pytest.mark.xdist_group("real_time")


@pytest.fixture
def street(tmp_path: Path) -> Iterator[BridgedStreet]:
    made = BridgedStreet(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_river_is_stored_through_a_bridge_that_loses_power_and_cable(street: BridgedStreet) -> None:
    street.start()
    street.wait(lambda: street.stored() >= 3, "sets through the bridge")
    street.bridge.power_cut()
    before = street.stored()
    street.bridge.power_on()
    street.wait(lambda: street.stored() > before, "sets after the bridge was without power")
    street.bridge.unplug()
    street.wait(lambda: not street.is_ready(), "word of the missing cable")
    street.bridge.replug()
    street.wait(street.is_ready, "bridge that is ready after its cable was out")
    kept = len(street.outbox().kept)
    street.wait(lambda: street.stored() >= kept, f"{kept} records, which the node had kept by then")
