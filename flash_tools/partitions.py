"""The partition table of a board: what MicroPython needs, and our two file systems behind it.

Where the flash has room, MicroPython has two places, so that one that runs can be replaced (OTA.md section 7): the
first is where stock tables have their one, and `otadata` is where MicroPython's tables for updates have it.
"""

from types import ModuleType
from typing import NamedTuple

# The first 2 MiB belong to MicroPython, as its own tables for 4 and 8 MiB of flash have it; nothing there moves.
FIRMWARE_END = 0x200000


class Partition(NamedTuple):
    label: str
    type: str
    subtype: str
    offset: int
    size: int


_STOCK = (
    Partition("nvs", "data", "nvs", 0x9000, 0x6000),
    Partition("phy_init", "data", "phy", 0xF000, 0x1000),
    Partition("factory", "app", "factory", 0x10000, FIRMWARE_END - 0x10000),
)


_TWO_PLACES = (
    Partition("nvs", "data", "nvs", 0x9000, 0x4000),
    Partition("otadata", "data", "ota", 0xD000, 0x2000),
    Partition("phy_init", "data", "phy", 0xF000, 0x1000),
    Partition("ota_0", "app", "ota_0", 0x10000, FIRMWARE_END - 0x10000),
)


def of_micropython(board: ModuleType) -> tuple[Partition, ...]:
    """What is not ours."""
    if board.SPARE_MICROPYTHON is None:
        return _STOCK
    offset, size = board.SPARE_MICROPYTHON
    return (*_TWO_PLACES, Partition("ota_1", "app", "ota_1", offset, size))


def otadata(board: ModuleType) -> Partition | None:
    """What says which MicroPython is started; None on a board with one."""
    return next((part for part in of_micropython(board) if part.label == "otadata"), None)


def table(board: ModuleType) -> tuple[Partition, ...]:
    """In the order of the flash. File systems are data/fat, whatever is inside: so MicroPython's own tables have it."""
    labels = {"app": board.APP_LABEL}
    ours = [
        Partition(labels.get(name, name), "data", "fat", offset, size)
        for name, (offset, size) in board.PARTITIONS.items()
    ]
    return tuple(sorted((*of_micropython(board), *ours), key=lambda partition: partition.offset))


def csv(board: ModuleType) -> str:
    """As ESP-IDF's gen_esp32part.py reads it."""
    lines = [
        f"# {board.NAME}: the first 2 MiB are MicroPython's; then `app` and `state`",
        "# name, type, subtype, offset, size",
    ]
    lines += [f"{p.label}, {p.type}, {p.subtype}, {p.offset:#x}, {p.size:#x}" for p in table(board)]
    return "\n".join(lines) + "\n"
