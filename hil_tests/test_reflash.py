"""A node lives, is flashed with another program, and lives on: nothing that it knew or owed is lost or used twice."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from littlefs import LittleFS

from firmware.durable import Document
from flash_tools import firmware_image
from flash_tools.flashing import Content, Flashed, Progress, flash_board
from flash_tools.images import board_constants
from flash_tools.plan import identity_in
from hil_tests.bench_rig import Bench, app_image
from hil_tests.outbox_reader import read_outbox
from hil_tests.places import RiverPlace
from hil_tests.street import ROOT
from hil_tests.world.esp import image
from hil_tests.world.flash import Flash, LittleFs

pytestmark = pytest.mark.xdist_group("real_time")

BOARD = "esp32_devkitc_sx1262"
CALIBRATION = "17"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, BOARD)
    try:
        yield made
    finally:
        made.close()


def another_program(app: bytes) -> bytes:
    """The same firmware with one module more."""
    flash = LittleFS(block_size=4096, block_count=len(app) // 4096, mount=False)
    flash.context.buffer = bytearray(app)
    flash.mount()
    with flash.open("/a/boards/of_tomorrow.mpy", "wb") as file:
        file.write(bytes(range(256)) * 20)
    return bytes(flash.context.buffer)


def dip(bench: Bench, ph: float) -> None:
    """The probe hangs in a solution, and stays there."""
    place = bench.bench.place
    assert isinstance(place, RiverPlace)
    water = place._water(0)
    place._water = lambda _now_s: {**water, "ph": ph}


def mint_and_flash(bench: Bench) -> Flashed:
    board = board_constants(BOARD)
    state = bench.minted.state_image.read_bytes()
    return flash_board(
        str(bench.port.path),
        Content(
            board=board,
            app=app_image(BOARD, "river"),
            version="0.1.0",
            micropython=firmware_image.parse(image.release("esp32"), Path("micropython.bin")),
            state=state,
            identity=identity_in(state, board.BLOCK_SIZE),
        ),
        Progress(),
    )


def flash_again(bench: Bench, folder: Path, app: bytes, *more: str) -> str:
    """As a technician types it."""
    path = folder / "app.img"
    path.write_bytes(app)
    arguments = ["flash", "--port", str(bench.port.path), "--board", BOARD, "--image", str(path)]
    arguments += ["--config", str(bench.gateway.config), "--journal", str(folder / "journal.jsonl"), *more]
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def calibrate(bench: Bench, *values: str) -> None:
    bench.gateway.cli("command", "send", "0010", "calibrate", *values, "--why", "two solutions", "--wait")


def state_of(bench: Bench) -> bytes:
    """Of a board without power."""
    at, length = board_constants(BOARD).PARTITIONS["state"]
    return bytes(bench.chip.flash.data[at : at + length])


def calibration_in(state: bytes) -> bytes | None:
    return Document(LittleFs(Flash(image=state)), "calibration").load()


def stored(bench: Bench) -> list[tuple[int, int]]:
    """(epoch, seq) of every record that the gateway has, as often as it has it."""
    with closing(sqlite3.connect(f"file:{bench.gateway.database}?mode=ro", uri=True)) as reader:
        rows = reader.execute(
            "SELECT epoch.number, seq FROM (SELECT epoch AS e, seq FROM reading UNION ALL SELECT epoch, seq FROM event)"
            " JOIN epoch ON epoch.id = e"
        ).fetchall()
        for table in ("lost", "conflict"):
            assert reader.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    return [(int(number), int(seq)) for number, seq in rows if number < 2**48]


def test_run_reflash_run_outbox_counters_and_calibration_are_still_there_and_no_id_repeats(
    bench: Bench, tmp_path: Path
) -> None:
    assert mint_and_flash(bench).booted == "hello"
    bench.gateway.start()
    bench.wait(lambda: bench.stored() >= 2, "sets of the node")
    dip(bench, 7.06)
    calibrate(bench, "ph", "zero", "6.86")
    dip(bench, 9.21)
    calibrate(bench, "ph", "span", "9.18")
    calibrate(bench, "ph", "apply", CALIBRATION)

    # Records wait on its flash while the gateway is away; then another program comes.
    bench.gateway.kill()
    node = bench.bench.node
    assert node is not None
    until_s = node.now_s() + 7
    bench.wait(lambda: node.now_s() > until_s, "three sets that nobody hears")
    app = another_program(app_image(BOARD, "river"))
    told = flash_again(bench, tmp_path, app, "--boot-check", "0")
    assert "blocks" in told, told
    bench.bench.power_off()
    kept = state_of(bench)
    assert len(read_outbox("0010", kept).waiting) >= 2, "nothing waited: the test proves nothing"
    calibration = calibration_in(kept)
    assert calibration is not None
    bench.bench.power_on()
    bench.gateway.start()
    before = bench.stored()
    bench.wait(lambda: bench.stored() >= before + 4, "what had waited, and more")

    # Once more, from under a gateway that has the port.
    told = flash_again(bench, tmp_path, app_image(BOARD, "river"), "--take-port")
    assert "the gateway hands it over" in told
    assert "the gateway has it again" in told
    before = bench.stored()
    bench.wait(lambda: bench.stored() >= before + 2, "sets after the loan")
    metrics = bench.gateway.metrics()
    refused = {name: count for name, count in metrics.items() if "frames_refused" in name and count}
    assert not any("replay" in name for name in refused), refused
    bench.gateway.stop()
    bench.bench.power_off()

    assert calibration_in(state_of(bench)) == calibration
    ids = stored(bench)
    assert len(ids) == len(set(ids)), "a record id came twice"
    assert len({epoch for epoch, _ in ids}) == 1, "its epoch was lost"
    assert {seq for _, seq in ids} == set(range(1, len(ids) + 1)), "a gap"
    steps = [json.loads(line)["step"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert steps == ["planned", "flashed", "planned", "flashed"]
    print(f"lives={bench.bench.lives} records={len(ids)} repeated=0 lost=0")
