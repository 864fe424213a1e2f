"""The partition table of a board: what MicroPython needs, and our two file systems behind it."""

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


def table(board: ModuleType) -> tuple[Partition, ...]:
    """In the order of the flash. File systems are data/fat, whatever is inside: so MicroPython's own tables have it."""
    labels = {"app": board.APP_LABEL}
    ours = [
        Partition(labels.get(name, name), "data", "fat", offset, size)
        for name, (offset, size) in board.PARTITIONS.items()
    ]
    return tuple(sorted((*_STOCK, *ours), key=lambda partition: partition.offset))


def csv(board: ModuleType) -> str:
    """As ESP-IDF's gen_esp32part.py reads it."""
    lines = [
        f"# {board.NAME}: the first 2 MiB are MicroPython's, as stock; then `app` and `state`",
        "# name, type, subtype, offset, size",
    ]
    lines += [f"{p.label}, {p.type}, {p.subtype}, {p.offset:#x}, {p.size:#x}" for p in table(board)]
    return "\n".join(lines) + "\n"
