"""What the tests of flashing share: boards with a simulated chip, small images, a look into the flash."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from littlefs import LittleFS
from littlefs.errors import LittleFSError

from flash_tools import firmware_image
from flash_tools.blocks import BLOCK, blocks
from flash_tools.firmware_image import Firmware
from flash_tools.flash_run import Manner, Result
from flash_tools.flashing import ChipFacts, Content, Flashed, Progress, flash_board
from flash_tools.images import board_constants, build_state_image
from flash_tools.mint import IDENTITY_PATH
from flash_tools.plan import Plan
from hil_tests.world.esp import image
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.port import SerialChip
from protocols.wire import identity as identity_file
from protocols.wire.identity import Identity

BOARDS = ("esp32_devkitc_sx1262", "heltec_wifi_lora_32_v3", "esp32c3_devkitm")
VERSION = "0.1.0"
# Listening to a chip without a program would only cost time.
QUICK = Manner(boot_s=0, attempts=2)


def board_of(name: str = BOARDS[0]) -> ModuleType:
    return board_constants(name)


def release_of(board: ModuleType, version: str = "1.28.0", **kinds: Any) -> bytes:
    return image.release(board.CHIP, version, flash_size=board.FLASH_SIZE, **kinds)


# Of ESP32_GENERIC; what is flashed for a test may be an eighth of it.
USUAL_APP_BYTES = 1_550_000


@cache
def micropython_of(board: ModuleType, version: str = "1.28.0", size: int | None = None) -> Firmware:
    data = release_of(board, version)
    if size is not None:
        begin = 0x10000 - firmware_image.CHIPS[board.CHIP][1]
        data = data[:begin] + image.app(board.CHIP, version, size=size)
    return firmware_image.parse(data, Path("micropython.bin"))


MODULES = {f"m{number}.mpy": 3000 + 700 * number for number in range(20)}


def app_of(board: ModuleType, modules: dict[str, int] | None = None, seed: int = 1) -> bytes:
    """An `app` partition with files of these sizes; the same seed and name give the same content."""
    return _app(board.PARTITIONS["app"][1], tuple((modules or MODULES).items()), seed)


@cache
def _app(size: int, modules: tuple[tuple[str, int], ...], seed: int) -> bytes:
    flash = LittleFS(
        block_size=4096, block_count=size // 4096, read_size=32, prog_size=32, disk_version=0x20000
    )
    for name, length in modules:
        with flash.open(f"/{name}", "wb") as file:
            file.write(random.Random(f"{seed} {name} {length}").randbytes(length))
    return bytes(flash.context.buffer)


def modules_in(image_bytes: bytes) -> dict[str, bytes] | None:
    """What a node would find on its `app` partition; None when it could not mount it."""
    flash = LittleFS(block_size=4096, block_count=len(image_bytes) // 4096, mount=False)
    flash.context.buffer = bytearray(image_bytes)
    try:
        flash.mount()
        names = flash.listdir("/")
        return {name: flash.open(f"/{name}", "rb").read() for name in names}
    except LittleFSError:
        return None


def identity_of(board: ModuleType, address: int = 0x12, seed: int = 1) -> Identity:
    rng = random.Random(f"{seed} identity")
    return Identity(address, rng.randbytes(16), rng.randbytes(8), "river", board.NAME, None, None)


def state_of(identity: Identity, board: ModuleType, **more: bytes) -> bytes:
    files = {IDENTITY_PATH: identity_file.encode(identity)}
    return build_state_image({**files, **{f"/{name}": data for name, data in more.items()}}, board.NAME)


def content_of(board: ModuleType, **changed: Any) -> Content:
    made: dict[str, Any] = {"board": board, "app": app_of(board), "version": VERSION}
    made["micropython"] = micropython_of(board)
    return Content(**{**made, **changed})


class Bench:
    """A chip at a port, and what was said while it was flashed."""

    def __init__(self, board: ModuleType, seed: int = 1, **kinds: Any) -> None:
        self.board = board
        self.chip = EspChip(board.CHIP, seed=seed, **kinds)
        self.port = SerialChip(self.chip, f"bench{seed}")

    @property
    def flash(self) -> bytearray:
        return self.chip.flash.data

    @property
    def mac(self) -> str:
        return ":".join(f"{byte:02x}" for byte in self.chip.fuses.mac)

    def flash_it(
        self,
        content: Content | Callable[[ChipFacts], Content],
        progress: Progress | None = None,
        **manner: Any,
    ) -> Flashed:
        if not self.port.is_open:  # esptool closes a port that it could not connect on
            self.port.open()
        return flash_board(self.port, content, progress or Progress(), boot_s=0, attempts=2, **manner)

    def partition(self, label: str) -> bytes:
        offset, size = self.board.PARTITIONS[label]
        return bytes(self.flash[offset : offset + size])

    def missing_blocks(self, content: Content) -> int:
        """How many 64-KiB blocks are not as wanted: looked up in the flash, not asked of the code under test."""
        regions = [*content.fixed_regions(), *filter(None, [content.state_region()])]
        return len(
            {
                at // BLOCK
                for one in regions
                for at, part in blocks(one)
                if bytes(self.flash[at : at + len(part)]) != part
            }
        )

    def holds(self, content: Content) -> bool:
        return self.missing_blocks(content) == 0


class Watched(Progress):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.plan: Plan | None = None
        self.sent_to: list[tuple[int, int]] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def planned(self, made: Plan) -> None:
        self.plan = made

    def sent(self, done: int, total: int) -> None:
        self.sent_to.append((done, total))


class Quiet:
    """Shows nothing, keeps the results."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def board(self, port: str) -> Progress:
        return Progress()

    def done(self, result: Result) -> None:
        self.results.append(result)
