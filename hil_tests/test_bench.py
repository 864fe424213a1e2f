"""From blank flash to a node that the gateway hears: written by the real esptool, run by a real MicroPython."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from esptool.logger import log

from hil_tests.bench_rig import Bench


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    log.set_verbosity("silent")
    made = Bench(tmp_path, request.param)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("bench", ["esp32_devkitc_sx1262"], indirect=True)
def test_a_flashed_board_boots_and_the_gateway_stores_what_it_says_and_a_reflash_keeps_what_it_knew(
    bench: Bench,
) -> None:
    assert bench.bench.boot is not None
    assert bench.bench.boot.fault == "no bootloader", "a fresh board is blank"
    bench.write()
    bench.bench.wait_for_life()
    bench.gateway.start()
    bench.wait(lambda: bench.stored() >= 3, "sets of the node")
    bench.gateway.stop()
    before = bench.stored()
    bench.write(with_state=False)
    bench.gateway.start()
    bench.wait(lambda: bench.stored() > before, "sets after the reflash")
    assert bench.bench.lives == 2
