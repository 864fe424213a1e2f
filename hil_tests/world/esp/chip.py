"""An ESP chip as the other end of a serial line: power, reset and boot pin, and the loader that is running.

    chip = EspChip("esp32")
    port = SerialChip(chip)                        # port.py; pty and RFC 2217 are beside it
    esp = esptool.cmds.detect_chip(port)
    chip.flash.data[0x1000:]                       # what was written

A reset with the boot pin high starts what is in the flash: here only its first lines, on a BenchBoard (bench.py) a
MicroPython.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hil_tests.world.esp import slip
from hil_tests.world.esp.boot import Boot, boot_of
from hil_tests.world.esp.faults import Faults, Fuses
from hil_tests.world.esp.kinds import ChipKind, kind_of
from hil_tests.world.esp.loader import Loader
from hil_tests.world.esp.nor import NorFlash, PowerLost
from hil_tests.world.esp.registers import Registers

ROM_BAUD = 115200
_REVISIONS = {"esp32": (3, 1), "esp32s3": (0, 2), "esp32c3": (0, 4), "esp32c6": (0, 1)}
_PACKAGES = {"esp32": 1, "esp32s3": 0, "esp32c3": 0, "esp32c6": 1}
_SFDP = b"SFDP\x06\x01\x01\xff" + bytes((0x00, 0x06, 0x01, 0x10, 0x30, 0x00, 0x00, 0xFF))


class EspChip:
    """``fuses``: else a fresh chip with ``mac``. ``say`` is set by the port; it gets what the chip sends."""

    def __init__(
        self,
        kind: str,
        *,
        mac: bytes | None = None,
        flash: NorFlash | None = None,
        fuses: Fuses | None = None,
        faults: Faults | None = None,
        seed: int = 0,
    ) -> None:
        self.kind: ChipKind = kind_of(kind)
        rng = random.Random(f"{seed} {kind} chip")
        mac = mac or b"\x24\x6f\x28" + rng.randbytes(3)
        self.fuses = fuses or Fuses(mac, _REVISIONS[kind], _PACKAGES[kind])
        self.flash = flash or NorFlash(1 << self.kind.jedec[2], seed=seed)
        self.faults = faults or Faults()
        self.registers = Registers(self.kind, self.fuses, self._flash_command)
        self.say: Callable[[bytes], None] = lambda _data: None
        # What a start from flash does beyond its first lines; a BenchBoard puts its own here.
        self.on_boot: Callable[[Boot], None] = lambda _boot: None
        self.on_leave: Callable[[], None] = lambda: None
        self.baud = ROM_BAUD
        self.state = "off"  # off, held (in reset), loader, stub, app, hung
        self._noise = random.Random(f"{seed} noise")
        self._loader = Loader(self)
        self._reader = slip.Reader()
        self._is_synced = False
        self._lines = (False, False)
        self._answers = 0
        self.starts = 0
        self.power_on()

    # ---- power and lines -----------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """The supply comes back; the lines say what starts."""
        if self.state == "off":
            self._arm()
            self._release(is_loader=self._lines == (True, False))

    def power_off(self) -> None:
        self._stop("off")

    def set_lines(self, dtr: bool, rts: bool) -> None:
        """Through the two transistors of a development kit: one line alone pulls its pin down, both none.

        DTR alone is GPIO0 low, RTS alone is EN low. A capacitor holds EN low for the moment in which a host that sets
        one line after the other has both active; the next change decides what starts.
        """
        self._lines = (dtr, rts)
        if self.state == "off":
            return
        if (dtr, rts) == (False, True):
            self._stop("held")
        elif self.state == "held" and not rts:
            self._release(is_loader=dtr)

    @property
    def speaks_by_itself(self) -> bool:
        return False

    def let_go(self) -> None:
        """Time passes with both lines active: the capacitor has charged, and GPIO0 is high."""
        if self.state == "held" and self._lines == (True, True):
            self._release(is_loader=False)

    def _stop(self, state: str) -> None:
        self.on_leave()
        self.state = state
        self._reader.reset()

    def _release(self, *, is_loader: bool) -> None:
        self.starts += 1
        self._reset_uart()
        if is_loader and not self._has_no_loader:
            self._loader = Loader(self)
            self.state = "loader"
            self._say_text(f"{self.kind.banner}{self.kind.boot_loader}\r\nwaiting for download\r\n")
        else:
            self.boot()

    @property
    def _has_no_loader(self) -> bool:
        """The first ESP32 has no secure download mode; what it has is no download at all."""
        return self.fuses.secure_download and not self.kind.has_security_info

    def _reset_uart(self) -> None:
        self.baud = ROM_BAUD
        self._is_synced = False
        self._reader.reset()
        self.registers.reset(self.baud)

    # ---- what runs -----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start from flash."""
        self.on_leave()
        self._reset_uart()
        self.state = "app"
        boot = boot_of(self.kind, self.flash, self.fuses)
        self._say_text(f"{self.kind.banner}{self.kind.boot_app}\r\n")
        self._say_text(boot.text)
        self.on_boot(boot)

    def restart_loader(self) -> None:
        self._release(is_loader=True)

    def start_stub(self) -> None:
        self._loader = Loader(self, is_stub=True)
        self.state = "stub"
        self.say_frame(b"OHAI")

    def hang(self) -> None:
        self.state = "hung"

    def set_baud(self, baud: int) -> None:
        self.baud = baud
        self.registers.set_baud(baud)

    # ---- the line ------------------------------------------------------------------------------------------------

    def hear(self, data: bytes, baud: int | None = None) -> None:
        """Bytes of the host, at its baud rate (None: as the chip's)."""
        if self.state not in ("loader", "stub") or self.faults.is_silent:
            return
        if baud is not None and not self._is_synced:
            self.set_baud(baud)  # the ROM measures it
        if baud is not None and baud != self.baud:
            return
        self._arm()
        try:
            for frame in self._reader.feed(data):
                self._is_synced = True
                if self.state not in ("loader", "stub"):
                    break
                self._loader.hear(frame)
        except PowerLost:
            self.faults.power_after_bytes = self.faults.power_after_erases = None
            self._stop("off")

    def say_frame(self, payload: bytes) -> None:
        framed = slip.frame(payload)
        self._answers += 1
        if self.faults.garbage_every and self._answers % self.faults.garbage_every == 0:
            framed = self._noise.randbytes(2) + framed[2:]
        self.say(framed)

    def _say_text(self, text: str) -> None:
        if not self.faults.is_silent:
            self.say(self._noise.randbytes(self.faults.noise_at_start) + text.encode())

    def _arm(self) -> None:
        """Faults of the flash, as they are asked for now."""
        faults, flash = self.faults, self.flash
        if faults.power_after_bytes is not None:
            flash.bytes_left, faults.power_after_bytes = faults.power_after_bytes, None
        if faults.power_after_erases is not None:
            flash.erases_left, faults.power_after_erases = faults.power_after_erases, None
        if faults.bad_sectors is not None:
            flash.bad_sectors.update(faults.bad_sectors)
            faults.bad_sectors = None

    def _flash_command(self, command: int, address: int) -> bytes:
        """What the flash chip shifts out."""
        size = self.faults.claimed_flash_size or self.flash.size
        if command == 0x9F:  # who are you
            return self.kind.jedec[:2] + bytes((size.bit_length() - 1,))
        if command == 0x5A:  # the table of parameters; its maker's byte is at 16
            return (_SFDP + self.kind.jedec[:1]).ljust(256, b"\xff")[address : address + 4]
        if command in (0x05, 0x35, 0x15):  # status
            return bytes(4)
        return b"\xff" * 4
