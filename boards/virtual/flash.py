"""The board's flash on the host: one file per partition, changed from outside only while the power is off."""

from pathlib import Path

from boards.virtual.board import BLOCK_SIZE, PARTITIONS, SPARE_MICROPYTHON
from boards.virtual.errors import BoardError

# Where a partition table with two places for MicroPython has them. They are there once an image was put into one.
PLACES = {"otadata": (0xD000, 0x2000), "ota_0": (0x10000, 0x1F0000), "ota_1": SPARE_MICROPYTHON}


class FlashFiles:
    """``partitions``: label -> (offset, size) of what this board has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.partitions = dict(PARTITIONS)
        if (folder / "otadata.bin").exists():
            self.partitions |= PLACES
        self._make_files()

    def make_places(self) -> None:
        self.partitions |= PLACES
        self._make_files()

    def _make_files(self) -> None:
        for label, (_, size) in self.partitions.items():
            # As a minted image: what a node keeps holds its key, so it is for this user alone.
            self.path(label).touch(mode=0o600)
            if not self.path(label).stat().st_size:
                self.path(label).write_bytes(b"\xff" * size)

    def path(self, label: str) -> Path:
        if label not in self.partitions:
            raise BoardError(f"no partition {label!r}; this board has {', '.join(sorted(self.partitions))}")
        return self._folder / f"{label}.bin"

    def read(self, label: str) -> bytes:
        return self.path(label).read_bytes()

    def write(self, label: str, image: bytes) -> None:
        """Erase the partition and write the image at its start."""
        path = self.path(label)
        _, size = self.partitions[label]
        if len(image) > size or len(image) % BLOCK_SIZE:
            raise BoardError(
                f"an image of {len(image)} bytes does not fit partition {label!r}: "
                f"at most {size} bytes, in blocks of {BLOCK_SIZE}"
            )
        path.write_bytes(image + b"\xff" * (size - len(image)))

    def erase(self, label: str) -> None:
        self.write(label, b"")
