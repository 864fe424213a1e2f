"""Partition images: reproducible, complete, and readable by the littlefs of real MicroPython."""

from __future__ import annotations

from pathlib import Path

import pytest

from boards.virtual.board import PARTITIONS
from boards.virtual.supervisor import VirtualBoard
from flash_tools.errors import ImageError
from flash_tools.images import build_app_image, build_state_image, compile_tree, shared_sources

ROOT = Path(__file__).resolve().parents[2]


def _tree(root: Path) -> Path:
    """A small source tree of the same shape, whose main says who it is."""
    files = {
        "protocols/__init__.py": "",
        "protocols/wire/__init__.py": "",
        "protocols/wire/cbor.py": "def dumps(x):\n    return repr(x).encode()\n",
        "protocols/wire/cbor_host.py": "import cbor2\n",
        "firmware/__init__.py": "",
        "firmware/main.py": (
            "import os\nfrom protocols.wire import cbor\nfrom firmware.deep.er import NAME\n"
            "def run():\n    print('running', cbor.dumps(7), NAME, sorted(os.listdir('/state')))\n"
            "    print(open('/state/identity', 'rb').read())\n"
        ),
        "firmware/starter.py": "def begin(root):\n    return root + '/a', False\n",
        "firmware/deep/__init__.py": "",
        "firmware/deep/er.py": "from boards.virtual.board import NAME\n",
        "boards/__init__.py": "",
        "boards/virtual/__init__.py": "",
        "boards/virtual/board.py": "NAME = 'virtual'\n",
        "boards/virtual/supervisor.py": "import subprocess\n",
        "boards/other/board.py": "NAME = 'other'\n",
        "gateway/store.py": "import sqlite3\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _boards() -> list[str]:
    return [path.parent.name for path in sorted(ROOT.glob("boards/*/board.py"))]


def test_only_what_a_node_runs_is_in_the_image(tmp_path: Path) -> None:
    sources = [path.as_posix() for path in shared_sources(_tree(tmp_path), "virtual")]
    assert sources == [
        "boards/__init__.py",
        "boards/virtual/__init__.py",
        "boards/virtual/board.py",
        "firmware/__init__.py",
        "firmware/deep/__init__.py",
        "firmware/deep/er.py",
        "firmware/main.py",
        "firmware/starter.py",
        "protocols/__init__.py",
        "protocols/wire/__init__.py",
        "protocols/wire/cbor.py",
    ]


def test_the_same_sources_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    one = build_app_image(_tree(tmp_path / "one"))
    two = build_app_image(_tree(tmp_path / "elsewhere" / "two"))
    assert one == two
    assert len(one.data) == PARTITIONS["app"][1]


def test_the_size_report_is_sorted_and_adds_up(tmp_path: Path) -> None:
    image = build_app_image(_tree(tmp_path))
    rows = [line.split() for line in image.report.splitlines()]
    sizes = [int(row[0]) for row in rows[:-1]]
    assert sizes == sorted(sizes, reverse=True)
    assert rows[-1] == [str(sum(sizes)), "in", str(len(sizes)), "files"]
    assert {row[1] for row in rows[:-1]} == set(image.sizes)


def test_an_image_boots_on_real_micropython_with_its_state_beside_it(tmp_path: Path) -> None:
    app = build_app_image(_tree(tmp_path / "tree"))
    state = build_state_image({"identity": b"\xa1\x00who", "documents/settings": b"{}"})
    with VirtualBoard(tmp_path / "board", app_image=app.data, state_image=state) as board:
        board.power_on()
        board.wait("halted")
        assert b"running b'7' virtual ['documents', 'identity']\n" in board.console
        assert b"b'\\xa1\\x00who'\n" in board.console
        board.power_cut()
        assert board.read_partition("app") == app.data, "the node only reads it"
        # A state that was erased is for the node to format; a missing app is for a person to flash.
        board.erase("state")
        board.power_on()
        board.wait("halted", 2)
        assert b"ENOENT" in board.console
        board.power_cut()
        board.erase("app")
        board.power_on()
        board.wait("halted", 3)
        assert b"boot: partition app does not mount" in board.console


def test_reflashing_app_leaves_state_alone(tmp_path: Path) -> None:
    app = build_app_image(_tree(tmp_path / "tree"))
    state = build_state_image({"identity": b"me"})
    with VirtualBoard(tmp_path / "board", app_image=app.data, state_image=state) as board:
        board.flash("app", app.data)
        assert board.read_partition("state") == state
    with VirtualBoard(tmp_path / "board", app_image=app.data) as board:
        assert board.read_partition("state") == state, "a board's folder is its flash"


@pytest.mark.parametrize("board", _boards())
def test_the_real_tree_makes_an_image_for_every_board_that_leaves_room_for_a_second_slot(board: str) -> None:
    image = build_app_image(ROOT, board)
    assert f"/a/boards/{board}/board.mpy" in image.sizes
    assert "/a/main.py" in image.sizes
    assert not [path for path in image.sizes if path.endswith("_host.mpy") or "supervisor" in path]
    assert sum(image.sizes.values()) < 0.4 * len(image.data)


def test_a_source_that_mpy_cross_refuses_is_named(tmp_path: Path) -> None:
    root = _tree(tmp_path)
    (root / "firmware" / "main.py").write_text("def broken(:\n")
    with pytest.raises(ImageError, match=r"main\.py"):
        compile_tree(root)


def test_a_board_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no board 'esp9'.*there are: other, virtual"):
        build_app_image(_tree(tmp_path), "esp9")


def test_files_that_do_not_fit_the_partition_are_refused_with_both_sizes() -> None:
    with pytest.raises(ImageError, match="1 files of 600000 bytes do not fit partition 'state' of 524288"):
        build_state_image({"big": bytes(600_000)})
