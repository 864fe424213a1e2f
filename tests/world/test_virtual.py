"""What `tidegate virtual` refuses leaves no half-made board behind."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from typer.testing import CliRunner

import tidegate
from boards.virtual.board import PARTITIONS


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
