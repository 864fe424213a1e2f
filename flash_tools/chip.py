"""A chip whose loader answers: identify, checksum, erase, write. The only importer of esptool.

esptool knows the chips, their loaders and its own stub; we call the functions its documentation lists for scripts, on a
port that we opened and that we close again whatever happens. Its output is not for our users: what went wrong is told
in our words, with what to do.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from esptool import cmds
from esptool.logger import log
from esptool.util import FatalError, flash_size_bytes

from flash_tools.errors import ChipLoops, ChipProtected, ChipSilent, DownloadLocked, FlashError, LineLost

try:
    import termios

    _TTY_ERROR: type[Exception] = termios.error  # no OSError, and what a port raises that was pulled out
except ImportError:  # Windows
    _TTY_ERROR = OSError

ROM_BAUD = 115200
# What every common bridge carries without a loss; the chip's own USB does not care.
FAST_BAUD = 460800
# esptool's own number: each try is a reset by one of its four ways of pulling the two lines.
CONNECT_ATTEMPTS = 7
# Erasing and writing 64 KiB takes half a second; the worst that flash chips allow themselves is twenty times that.
_BLOCK_TIMEOUT_S = 15.0
# What a chip says within this time tells a loop from silence; a start by a watchdog repeats faster.
_LISTEN_S = 2.0
_READ_S = 0.1
_READ_BYTES = 4096
_START = re.compile(rb"rst:0x[0-9a-f]+")
_LOOP_STARTS = 3
# A line of text cut short by a chip that started anew, and the like.
WIRE_ERRORS = (FatalError, OSError, _TTY_ERROR, struct.error, IndexError)


@dataclass(frozen=True)
class ChipFacts:
    """What a chip says of itself. ``mac`` as printed on modules: 24:0a:c4:00:01:10."""

    chip: str
    mac: str
    revision: str
    flash_size: int
    secure_boot: bool = False
    flash_encryption: bool = False


# Its progress is written to the terminal, which belongs to the command.
log.set_verbosity("silent")


class Chip:
    """A chip that runs esptool's stub. Every method may raise LineLost."""

    def __init__(self, where: str, loader: Any, facts: ChipFacts) -> None:
        self._where = where
        self._loader = loader
        self.facts = facts
        self.line_bytes = 0  # of data and its compression, as sent

    def md5(self, offset: int, size: int) -> str:
        """Of this part of the flash, made by the chip."""
        with _told(self._where, "checking"):
            return str(self._loader.flash_md5sum(offset, size))

    def read(self, offset: int, size: int) -> bytes:
        with _told(self._where, "reading"):
            return bytes(self._loader.read_flash(offset, size))

    def erase(self, offset: int, size: int) -> None:
        with _told(self._where, "erasing"):
            self._loader.erase_region(offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Erase the sectors of `data` and write it. The last of it may still be under way: see `settle`."""
        packed = zlib.compress(data, 9)
        step = self._loader.FLASH_WRITE_SIZE
        with _told(self._where, "writing"):
            self._loader.flash_defl_begin(len(data), len(packed), offset)
            for number, at in enumerate(range(0, len(packed), step)):
                piece = packed[at : at + step]
                self._loader.flash_defl_block(piece, number, timeout=_BLOCK_TIMEOUT_S)
                self.line_bytes += len(piece)

    def settle(self) -> None:
        """The stub answers before it writes: wait until the last block is in the flash."""
        with _told(self._where, "writing"):
            self._loader.flash_defl_finish(reboot=False, timeout=_BLOCK_TIMEOUT_S)

    def restart(self) -> None:
        """Let the chip run what it holds."""
        with _told(self._where, "restarting"):
            cmds.reset_chip(self._loader, "hard-reset")


def connect(
    line: Any,
    where: str,
    *,
    baud: int = FAST_BAUD,
    attempts: int = CONNECT_ATTEMPTS,
    identify: Callable[[ChipFacts], None],
) -> Chip:
    """Reset the chip at this open port into its loader. ``identify`` may refuse it before anything is loaded into it.

    Raises ChipSilent, ChipLoops, DownloadLocked, LineLost, and whatever ``identify`` raises.
    """
    try:
        rom = cmds.detect_chip(line, ROM_BAUD, connect_attempts=attempts)
    except WIRE_ERRORS as error:
        raise _why_silent(line, where, error) from error
    try:
        if rom.secure_download_mode:
            raise DownloadLocked(
                where,
                f"{_chip_name(rom)} in secure download mode, which reads and checks nothing",
                "a chip whose flash can be verified",
                "This mode can not be left: it was burnt into the chip. Use another board",
            )
        with _told(where, "identifying"):
            facts = _facts(rom)
        identify(facts)
    except FlashError:
        with contextlib.suppress(*WIRE_ERRORS):
            cmds.reset_chip(rom, "hard-reset")  # it may be a node at work: refused, it goes on with that
        raise
    with _told(where, "starting the flasher"):
        loader = cmds.run_stub(rom)
        if baud != ROM_BAUD and not _is_chip_usb(loader):
            loader.change_baud(baud)
        cmds.attach_flash(loader)
        name = cmds.detect_flash_size(loader)
        size = flash_size_bytes(name) if name else 0
        if size:
            loader.flash_set_parameters(size)
    return Chip(where, loader, ChipFacts(**{**vars(facts), "flash_size": size}))


def refuse_protected(where: str, facts: ChipFacts) -> None:
    """What we write is plain and not signed."""
    found = [
        name
        for name, on in (("flash encryption", facts.flash_encryption), ("secure boot", facts.secure_boot))
        if on
    ]
    if found:
        raise ChipProtected(
            where,
            f"{facts.chip} {facts.mac} with {' and '.join(found)} on",
            "a chip without: our images are plain and not signed",
            "It would not start again after a plain image. Use another board; this one is as it was",
        )


def _facts(rom: Any) -> ChipFacts:
    revision = rom.get_chip_revision()
    return ChipFacts(
        chip=_chip_name(rom),
        mac=":".join(f"{byte:02x}" for byte in rom.read_mac()),
        revision=f"{revision // 100}.{revision % 100}",
        flash_size=0,
        secure_boot=bool(rom.get_secure_boot_enabled()),
        flash_encryption=bool(rom.get_flash_encryption_enabled()),
    )


def _chip_name(loader: Any) -> str:
    """As in board files."""
    return str(loader.CHIP_NAME).lower().replace("-", "")


def _is_chip_usb(loader: Any) -> bool:
    """USB of the chip itself has no baud rate, and some of its drivers lose bytes when one is set."""
    return bool(loader.get_usb_vid_pid()[1] == loader.USB_JTAG_SERIAL_PID)


@contextlib.contextmanager
def _told(where: str, what: str) -> Iterator[None]:
    try:
        yield
    except FlashError:
        raise
    except WIRE_ERRORS as error:
        raise LineLost(
            where,
            f"a line that broke off while {what} ({_first_line(error)})",
            "an answer from the chip",
            "Check cable and power, and run the same command again: it goes on where this ended",
        ) from error


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.split(". ")[0].rstrip(".")  # behind it: where esptool's help is on the web


def _why_silent(line: Any, where: str, error: BaseException) -> FlashError:
    """No loader: what the chip does instead tells what is wrong."""
    heard = _listen(line)
    starts = len(_START.findall(heard))
    if starts >= _LOOP_STARTS:
        last = heard.decode("utf-8", "replace").strip().splitlines()[-1][:80]
        return ChipLoops(
            where,
            f"a chip that starts again and again ({starts} times in {_LISTEN_S:.0f} s; its last words: {last!r})",
            "its loader",
            "Hold BOOT, press RESET, let go of BOOT, and run the same command again: the loader starts whatever is "
            "in the flash. If it still loops, supply or module are bad",
        )
    if "Wrong boot mode" in str(error):
        return ChipSilent(
            where,
            "a chip that restarts but runs its program, not its loader",
            "the loader: GPIO0 (GPIO9 on a C3 or C6) low while it restarts",
            "Hold BOOT while this command connects; on a board of your own, wire DTR to the boot pin",
        )
    if heard:
        return ChipSilent(
            where,
            f"a program that goes on talking ({len(heard)} bytes in {_LISTEN_S:.0f} s): no reset reached the chip",
            "its loader",
            "Hold BOOT, press RESET, let go of BOOT, and run this again; `tidegate flash doctor` says whether the port "
            "has reset lines at all",
        )
    return ChipSilent(
        where,
        f"no answer ({_first_line(error)})",
        "the loader of an ESP chip",
        "Is it such a board, and has it power? Try another cable (some only charge), then hold BOOT, press RESET, let "
        "go of BOOT, and run this again",
    )


def _listen(line: Any) -> bytes:
    """What the chip says by itself, for a moment; nothing when the port is gone, too."""
    heard = bytearray()
    try:
        if not line.is_open:
            line.open()
        line.baudrate, line.timeout = ROM_BAUD, _READ_S
        for _ in range(round(_LISTEN_S / _READ_S)):
            heard += line.read(_READ_BYTES)
    except WIRE_ERRORS:
        pass
    return bytes(heard)
