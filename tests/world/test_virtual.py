"""What `tidegate virtual` refuses leaves no half-made board behind."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from boards.virtual.board import PARTITIONS
from flash_tools.images import image_of
from flash_tools.mint import mint
from flash_tools.radio_plan import Radio
from hil_tests.air_cli import server_address
from hil_tests.errors import HilError, RigError
from hil_tests.running import release_on
from hil_tests.virtual import _program, check_radio
from protocols.wire import release


def refused(*args: Path | str) -> str:
    done = CliRunner().invoke(tidegate.app, ["virtual", *map(str, args)])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    return done.output


def test_a_file_that_is_no_state_image_does_not_become_a_board(tmp_path: Path) -> None:
    (tmp_path / "wrong.img").write_bytes(b"x")
    told = refused(tmp_path / "board", "--state", tmp_path / "wrong.img")
    assert str(PARTITIONS["state"][1]) in told
    assert not (tmp_path / "board").exists()


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.img").write_bytes(bytes(PARTITIONS["state"][1]))
    (tmp_path / "file").write_text("")
    assert "can not be the folder of a board" in refused(tmp_path / "file", "--state", tmp_path / "state.img")


def test_one_board_is_not_switched_on_twice(tmp_path: Path) -> None:
    (tmp_path / "state.bin").write_bytes(b"")
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "switched on already" in refused(tmp_path)
    finally:
        os.close(other)


def minted(folder: Path, radio: Radio | None) -> Path:
    return mint(out=folder, address=1, node_type="river", area="330110001001", radio=radio).state_image


def test_a_node_is_told_which_way_it_was_minted_for(tmp_path: Path) -> None:
    on_air, on_line = minted(tmp_path / "air", (0, 80, 8, 0)), minted(tmp_path / "line", None)
    assert "--air FOLDER" in refused(tmp_path / "board", "--state", on_air)
    assert "leave --air out" in refused(tmp_path / "board", "--state", on_line, "--air", tmp_path)
    assert f"tidegate air {tmp_path}" in refused(tmp_path / "board", "--state", on_air, "--air", tmp_path)
    assert "300,-40" in refused(tmp_path / "board", "--state", on_air, "--air", tmp_path, "--at", "here")
    assert not (tmp_path / "board" / "state.bin").exists()


def test_channels_that_the_airs_gateway_does_not_hear_are_refused() -> None:
    check_radio((0, 80, 8, 0), (0, 80, 8, 0))
    check_radio((0, 82, 1, 9), (0, 80, 8, 0))
    for node in ((1, 0, 3, 0), (0, 79, 8, 0), (0, 84, 8, 0)):
        with pytest.raises(RigError, match="channels 80 to 87"):
            check_radio(node, (0, 80, 8, 0))


@pytest.mark.parametrize("text", ["1700", ":1700", "host:", "host:0", "host:65536", "host:x"])
def test_a_server_that_can_not_be_one_is_refused(text: str) -> None:
    with pytest.raises(HilError, match="HOST:PORT"):
        server_address(text)


def flashed(sequence: int) -> bytes:
    """An `app` partition with a release of that sequence in it, and with nothing else that matters."""
    files = {"/a/main.py": b""}
    if sequence:
        files[f"/a/{release.FILE}"] = release.encode(sequence, bytes(16), bytes(16), [(-7, bytes(64))], [])
    return image_of("virtual", files).data


def test_a_board_that_runs_a_release_keeps_what_it_brought_itself_up_to(tmp_path: Path) -> None:
    (tmp_path / "app.bin").write_bytes(flashed(7))
    assert release_on(flashed(7)) == 7
    assert _program(tmp_path, "river", None) is None
    (tmp_path / "app.bin").write_bytes(flashed(0))
    renewed = _program(tmp_path, "river", None)
    assert renewed is not None
    assert release_on(renewed) == 0
    assert release_on(bytes(4096)) == 0


def test_what_is_no_release_is_not_flashed(tmp_path: Path) -> None:
    told = refused(tmp_path / "board", "--state", minted(tmp_path, None), "--release", tmp_path)
    assert "neither a release" in told
