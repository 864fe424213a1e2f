"""The flash of a virtual board behaves as NOR flash, through the block protocol of a stock ESP32."""

from __future__ import annotations

import pytest

from boards.virtual.board import BLOCK_SIZE, PARTITIONS
from boards.virtual.errors import BoardError
from tests.virtual.conftest import MakeBoard, lines

PART = """
from esp32 import Partition
part = Partition.find(Partition.TYPE_DATA, label="state")[0]
def refused(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
"""


def _run(board: MakeBoard, script: str) -> list[str]:
    one = board(PART + script)
    one.power_on()
    one.wait("halted")
    return lines(one)


def test_a_write_only_clears_bits_and_an_erase_sets_them_all(board: MakeBoard) -> None:
    said = _run(
        board,
        """
page = bytearray(16)
part.writeblocks(3, b"\\xf0" * 16, 64)
part.writeblocks(3, b"\\x80" * 16, 64)
part.readblocks(3, page, 64)
print(page == b"\\x80" * 16)
print(refused(part.writeblocks, 3, b"\\x81" * 16, 64))
part.readblocks(3, page, 64)
print(page == b"\\x80" * 16)
print(part.ioctl(6, 3))
part.readblocks(3, page, 64)
print(page == b"\\xff" * 16)
""",
    )
    assert said == ["True", "5", "True", "0", "True"]


def test_the_two_argument_write_erases_first(board: MakeBoard) -> None:
    said = _run(
        board,
        """
block = bytearray(4096)
part.writeblocks(1, b"\\x00" * 4096)
part.writeblocks(1, b"\\xa5" * 4096)
part.readblocks(1, block)
print(block == b"\\xa5" * 4096)
""",
    )
    assert said == ["True"]


def test_geometry_and_the_edges_of_the_partition(board: MakeBoard) -> None:
    offset, size = PARTITIONS["state"]
    blocks = size // BLOCK_SIZE
    said = _run(
        board,
        f"""
print(part.info())
print(part.ioctl(4, 0), part.ioctl(5, 0), part.ioctl(3, 0), part.ioctl(99, 0))
part.writeblocks({blocks - 1}, b"x" * 32, 4064)
print(refused(part.writeblocks, {blocks - 1}, b"x" * 33, 4064))
print(refused(part.readblocks, {blocks}, bytearray(1), 0), refused(part.ioctl, 6, {blocks}))
print(Partition.find(Partition.TYPE_DATA, label="nvs"), Partition.find(), len(Partition.find(Partition.TYPE_DATA)))
print(refused(Partition, "nvs"))
""",
    )
    assert said == [
        f"(1, 129, {offset}, {size}, 'state', False)",
        f"{blocks} 4096 0 None",
        "5",
        "5 5",
        "[] [] 2",
        "2",
    ]


def test_a_power_cut_keeps_all_that_was_written_and_nothing_more(board: MakeBoard) -> None:
    one = board(
        PART
        + """
for n in range(part.ioctl(4, 0) * 256):
    part.writeblocks(n // 256, b"%016d" % n, n % 256 * 16)
    if n == 500:
        print("under way")
"""
    )
    one.power_on()
    one.wait_console(b"under way")
    one.power_cut()
    image = one.read_partition("state")
    written = image.rstrip(b"\xff")
    assert len(written) % 16 == 0, "a file write is whole; torn ones are simulated where they are tested"
    assert len(written) // 16 > 500
    assert written == b"".join(b"%016d" % n for n in range(len(written) // 16))


def test_littlefs_made_on_the_board_survives_and_mounts_at_the_next_boot(board: MakeBoard) -> None:
    one = board(
        PART
        + """
import vfs
try:
    print(open("/state/log").read())
except OSError:
    vfs.VfsLfs2.mkfs(part)
    vfs.mount(vfs.VfsLfs2(part), "/state")
    with open("/state/log", "w") as file:
        file.write("kept")
"""
    )
    for life in (1, 2):
        one.power_on()
        one.wait("halted", life)
        one.power_cut()
    assert lines(one) == ["kept"]


def test_images_that_do_not_fit_are_refused(board: MakeBoard) -> None:
    one = board("")
    with pytest.raises(BoardError, match="at most 524288 bytes"):
        one.flash("state", bytes(PARTITIONS["state"][1] + BLOCK_SIZE))
    with pytest.raises(BoardError, match="in blocks of 4096"):
        one.flash("state", b"x")
    with pytest.raises(BoardError, match="no partition 'nvs'; this board has app, state"):
        one.erase("nvs")


def test_flash_is_readable_by_its_user_alone_because_it_holds_the_key(board: MakeBoard) -> None:
    one = board("")
    modes = {label: (one.directory / f"{label}.bin").stat().st_mode & 0o777 for label in PARTITIONS}
    assert modes == dict.fromkeys(PARTITIONS, 0o600)
