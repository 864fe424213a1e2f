"""The serial loader of a chip: the one in its ROM, and the stub that esptool puts into its RAM, command by command.

A request is `00 op size(2) checksum(4) body`, an answer `01 op size(2) value(4) data status`, in SLIP frames. The
status has four bytes in a ROM's answer and two in a stub's.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from hil_tests.world.esp import session as errors
from hil_tests.world.esp.session import Refused, WriteSession
from hil_tests.world.esp.slip import xor_of
from hil_tests.world.esp.stubs import known_stubs

if TYPE_CHECKING:
    from hil_tests.world.esp.chip import EspChip

# esptool asks for all frames of a read before the first acknowledgement; more is never on the way.
_IN_FLIGHT_MAX = 64
_SLOW_READ = 64
# More RAM than any of the chips has.
_RAM_MAX = 1 << 20
# What a loader takes the flash for until it is told; it refuses to work beyond.
_FLASH_SIZE = 16 << 20
# Of addresses with four bytes; esptool knows no larger one.
_FLASH_SIZE_MAX = 128 << 20
# Of a ROM that does not know a command: so often, and under this op.
_UNKNOWN_TIMES, _UNKNOWN_OP = 8, 0xFF
_SYNC_TIMES = 8
# With secure boot, esptool starts its stub on an S3 through this pointer of the ROM.
_S3_READ_POINTER = 0x3FCE_F688
OPS = {
    0x02: "flash_begin", 0x03: "flash_data", 0x04: "flash_end", 0x05: "mem_begin", 0x06: "mem_end", 0x07: "mem_data",
    0x08: "sync", 0x09: "write_reg", 0x0A: "read_reg", 0x0B: "spi_set_params", 0x0D: "spi_attach",
    0x0E: "read_flash_slow", 0x0F: "change_baudrate", 0x10: "flash_defl_begin", 0x11: "flash_defl_data",
    0x12: "flash_defl_end", 0x13: "spi_flash_md5", 0x14: "get_security_info", 0xD0: "erase_flash",
    0xD1: "erase_region", 0xD2: "read_flash", 0xD3: "run_user_code",
}  # fmt: skip
_STUB_ONLY = ("erase_flash", "erase_region", "read_flash", "run_user_code")
_ROM_ONLY = ("read_flash_slow",)
# All that is left of the ROM's commands in secure download mode.
_IN_SECURE_DOWNLOAD = (
    "sync", "flash_begin", "flash_data", "flash_end", "flash_defl_begin", "flash_defl_data", "flash_defl_end",
    "spi_set_params", "spi_attach", "change_baudrate", "get_security_info",
)  # fmt: skip


class Loader:
    def __init__(self, chip: EspChip, *, is_stub: bool = False) -> None:
        self._chip = chip
        self.is_stub = is_stub
        self._session: WriteSession | None = None
        self._late_error: Refused | None = None
        self._ram: dict[int, bytearray] = {}
        self._ram_at = 0
        self._value = 0
        self._flash_size = _FLASH_SIZE
        self._read: _FlashRead | None = None

    def hear(self, frame: bytes) -> None:
        """One frame. Raises PowerLost out of the flash."""
        if self._read is not None:
            self._go_on_reading(frame)
            return
        if len(frame) < 8 or frame[0] != 0:
            return
        _, op, size, checksum = struct.unpack_from("<BBHI", frame)
        body = frame[8:]
        name = OPS.get(op, "")
        if not self._knows(name):
            self._answer_unknown(op)
            return
        try:
            if size != len(body):
                raise Refused(*errors.BAD_LENGTH)
            if name.endswith("_data"):
                body = _checked(body, checksum)
            self._value = 0 if self.is_stub else self._value
            self._COMMANDS[name](self, op, body)
        except struct.error:
            self._refuse(op, Refused(*errors.BAD_LENGTH))
        except Refused as error:
            self._refuse(op, error)

    def _knows(self, name: str) -> bool:
        if not name or name in (_ROM_ONLY if self.is_stub else _STUB_ONLY):
            return False
        if name == "get_security_info" and not self._chip.kind.has_security_info:
            return False
        return not self._chip.fuses.secure_download or name in _IN_SECURE_DOWNLOAD

    # ---- answers -------------------------------------------------------------------------------------------------

    def _answer(self, op: int, data: bytes = b"", status: bytes = b"\0\0") -> None:
        payload = data + status + (b"" if self.is_stub else b"\0\0")
        self._chip.say_frame(struct.pack("<BBHI", 1, op, len(payload), self._value) + payload)

    def _refuse(self, op: int, error: Refused) -> None:
        self._answer(op, status=struct.pack(">H", error.stub) if self.is_stub else bytes((1, error.rom)))

    def _answer_unknown(self, op: int) -> None:
        if self.is_stub:
            self._refuse(op, Refused(*errors.INVALID))
            return
        for _ in range(_UNKNOWN_TIMES):
            self._refuse(_UNKNOWN_OP, Refused(*errors.INVALID))

    # ---- the chip ------------------------------------------------------------------------------------------------

    def _sync(self, op: int, _body: bytes) -> None:
        self._value = 0 if self.is_stub else self._chip.kind.sync_value
        for _ in range(_SYNC_TIMES):
            self._answer(op)

    def _read_reg(self, op: int, body: bytes) -> None:
        (address,) = struct.unpack("<I", body)
        self._value = self._chip.registers.read(address)
        self._answer(op)

    def _write_reg(self, op: int, body: bytes) -> None:
        for address, value, mask, _delay_us in struct.iter_unpack("<IIII", body):
            self._chip.registers.write(address, value, mask)
        self._answer(op)

    def _get_security_info(self, op: int, _body: bytes) -> None:
        fuses = self._chip.fuses
        flags = fuses.has_secure_boot | fuses.secure_download << 2
        purposes = bytes((4 if fuses.has_encryption else 0, 9 if fuses.has_secure_boot else 0)).ljust(
            7, b"\0"
        )
        info = struct.pack("<IB7sII", flags, fuses.flash_crypt_count, purposes, self._chip.kind.chip_id, 0)
        self._answer(op, info)

    def _change_baudrate(self, op: int, body: bytes) -> None:
        baud, _old = struct.unpack("<II", body)
        if not baud:
            raise Refused(*errors.FAILED)
        self._answer(op)
        self._chip.set_baud(baud)

    def _spi_attach(self, op: int, _body: bytes) -> None:
        self._answer(op)

    def _spi_set_params(self, op: int, body: bytes) -> None:
        _, self._flash_size, _, _, _, _ = struct.unpack("<IIIIII", body)
        self._answer(op)

    def _check_range(self, at: int, size: int) -> None:
        if at + size > min(self._flash_size, _FLASH_SIZE_MAX):
            raise Refused(*errors.FAILED)

    # ---- RAM -----------------------------------------------------------------------------------------------------

    def _mem_begin(self, op: int, body: bytes) -> None:
        _size, _blocks, _block_size, self._ram_at = struct.unpack("<IIII", body)
        self._ram[self._ram_at] = bytearray()
        self._answer(op)

    def _mem_data(self, op: int, body: bytes) -> None:
        if self._ram_at not in self._ram:
            raise Refused(*errors.FAILED)
        self._ram[self._ram_at] += body
        if len(self._ram[self._ram_at]) > _RAM_MAX:
            raise Refused(*errors.FAILED)
        self._answer(op)

    def _mem_end(self, op: int, body: bytes) -> None:
        stays, entry = struct.unpack("<II", body)
        self._answer(op)
        if not stays:
            self._jump(entry)

    def _jump(self, entry: int) -> None:
        """Only code that is known can be run here; whatever else it is, the line stays silent until a reset."""
        digest = known_stubs(self._chip.kind.name).get(entry)
        if digest is not None and any(
            hashlib.sha256(code).hexdigest() == digest for code in self._ram.values()
        ):
            self._chip.start_stub()
        else:
            self._chip.hang()

    def _run_user_code(self, _op: int, _body: bytes) -> None:
        self._chip.boot()

    # ---- writing -------------------------------------------------------------------------------------------------

    def _flash_begin(self, op: int, body: bytes) -> None:
        self._begin(op, body, is_packed=False)

    def _flash_defl_begin(self, op: int, body: bytes) -> None:
        self._begin(op, body, is_packed=True)

    def _begin(self, op: int, body: bytes, *, is_packed: bool) -> None:
        # The ROM of the first ESP32 has no fifth word; the others have: whether they are to encrypt.
        is_short = not self.is_stub and not self._chip.kind.has_security_info
        size, _blocks, _block_size, at = struct.unpack("<IIII" if is_short else "<IIII4x", body)
        self._check_range(at, size)
        self._late_error = None
        self._session = WriteSession(self._chip.flash, at, size, is_stub=self.is_stub, is_packed=is_packed)
        self._answer(op)

    def _flash_data(self, op: int, body: bytes) -> None:
        self._data(op, body, is_packed=False)

    def _flash_defl_data(self, op: int, body: bytes) -> None:
        self._data(op, body, is_packed=True)

    def _data(self, op: int, block: bytes, *, is_packed: bool) -> None:
        session = self._session
        if session is None or session.is_packed != is_packed:
            raise Refused(*errors.NOT_IN_FLASH_MODE)
        if not self.is_stub:
            session.write(block)
            self._answer(op)
            return
        self._raise_late()
        self._answer(op)
        try:
            session.write(block)
        except Refused as error:
            self._late_error = error

    def _raise_late(self) -> None:
        error, self._late_error = self._late_error, None
        if error is not None:
            raise error

    def _flash_end(self, op: int, body: bytes) -> None:
        (stays,) = struct.unpack("<I", body)
        session, self._session = self._session, None
        if session is None:
            raise Refused(*errors.NOT_IN_FLASH_MODE)
        self._raise_late()
        if self.is_stub:
            session.end()
        self._answer(op)
        if not stays:
            self._chip.restart_loader()  # a reset by software: what the boot pin said at the start still counts
        elif not self.is_stub:
            self._chip.boot()

    # ---- reading and erasing -------------------------------------------------------------------------------------

    def _spi_flash_md5(self, op: int, body: bytes) -> None:
        at, size, _, _ = struct.unpack("<IIII", body)
        self._check_range(at, size)
        digest = hashlib.md5(self._chip.flash.read(at, size), usedforsecurity=False)
        self._answer(op, digest.digest() if self.is_stub else digest.hexdigest().encode())

    def _read_flash_slow(self, op: int, body: bytes) -> None:
        at, size = struct.unpack("<II", body)
        if self._chip.kind.name == "esp32s3" and self._chip.registers.read(_S3_READ_POINTER):
            self._jump(self._chip.registers.read(_S3_READ_POINTER))
            return
        if size > _SLOW_READ:
            raise Refused(*errors.BAD_BLOCK_SIZE)
        self._answer(op, self._chip.flash.read(at, size).ljust(_SLOW_READ, b"\xff"))

    def _erase_flash(self, op: int, _body: bytes) -> None:
        self._chip.flash.erase(0, self._chip.flash.size)
        self._answer(op)

    def _erase_region(self, op: int, body: bytes) -> None:
        at, size = struct.unpack("<II", body)
        if at % 4096 or size % 4096:
            raise Refused(*errors.BAD_BLOCK_SIZE)
        self._check_range(at, size)
        self._chip.flash.erase(at, size)
        self._answer(op)

    def _read_flash(self, op: int, body: bytes) -> None:
        at, size, block, in_flight = struct.unpack("<IIII", body)
        if not 0 < block <= 4096:
            raise Refused(*errors.BAD_BLOCK_SIZE)
        self._check_range(at, size)
        self._answer(op)
        self._read = _FlashRead(self._chip.flash.read(at, size), block, min(in_flight, _IN_FLIGHT_MAX))
        self._send_read(self._read)

    def _go_on_reading(self, frame: bytes) -> None:
        assert self._read is not None
        if len(frame) == 4:
            (self._read.acknowledged,) = struct.unpack("<I", frame)
        self._send_read(self._read)

    def _send_read(self, read: _FlashRead) -> None:
        for piece in read.due():
            self._chip.say_frame(piece)
        if read.acknowledged >= len(read.data):
            self._chip.say_frame(hashlib.md5(read.data, usedforsecurity=False).digest())
            self._read = None

    _COMMANDS: ClassVar[dict[str, Callable[[Loader, int, bytes], None]]] = {
        "sync": _sync,
        "read_reg": _read_reg,
        "write_reg": _write_reg,
        "get_security_info": _get_security_info,
        "change_baudrate": _change_baudrate,
        "spi_attach": _spi_attach,
        "spi_set_params": _spi_set_params,
        "mem_begin": _mem_begin,
        "mem_data": _mem_data,
        "mem_end": _mem_end,
        "run_user_code": _run_user_code,
        "flash_begin": _flash_begin,
        "flash_defl_begin": _flash_defl_begin,
        "flash_data": _flash_data,
        "flash_defl_data": _flash_defl_data,
        "flash_end": _flash_end,
        "flash_defl_end": _flash_end,
        "spi_flash_md5": _spi_flash_md5,
        "read_flash_slow": _read_flash_slow,
        "erase_flash": _erase_flash,
        "erase_region": _erase_region,
        "read_flash": _read_flash,
    }


class _FlashRead:
    """What a stub is asked to read: frames go ahead of their acknowledgements by a window."""

    def __init__(self, data: bytes, block: int, in_flight: int) -> None:
        self.data = data
        self.acknowledged = 0
        self._block = block
        self._window = block * max(1, in_flight)
        self._sent = 0

    def due(self) -> list[bytes]:
        pieces = []
        while self._sent < len(self.data) and self._sent - self.acknowledged < self._window:
            pieces.append(self.data[self._sent : self._sent + self._block])
            self._sent += len(pieces[-1])
        return pieces


def _checked(body: bytes, checksum: int) -> bytes:
    """The block in a request that carries one: size, sequence number, twice nothing, and the bytes."""
    (size,) = struct.unpack_from("<I12x", body)
    block = body[16:]
    if len(block) != size:
        raise Refused(*errors.BAD_LENGTH)
    if xor_of(block) ^ 0xEF != checksum & 0xFF:
        raise Refused(*errors.BAD_CHECKSUM)
    return block
