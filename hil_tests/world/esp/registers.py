"""The registers that a host reads and writes through a loader: fuses, the SPI controller of the flash, and the rest.

The rest is memory that keeps what was written. A command to the flash runs when the host starts the SPI controller.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from hil_tests.world.esp.faults import Fuses
from hil_tests.world.esp.kinds import MAGIC_REG, ChipKind

_SPI_START = 1 << 18
_HAS_MISO = 1 << 28
_HAS_ADDRESS = 1 << 30
_XTAL_HZ = 40_000_000
# By the ROM of the first ESP32: the crystal is what RTCCALICFG1 and a fuse say together, here exactly 40 MHz.
_RTCCALICFG1 = 0x3FF5_F06C
_CALIBRATION, _CK8M = 800, 128
_APB_CTL_DATE = 0x3FF6_607C
_OLD_SPI = {"usr": 0x1C, "usr2": 0x24, "mosi": 0x28, "miso": 0x2C, "w0": 0x80}
_NEW_SPI = {"usr": 0x18, "usr2": 0x20, "mosi": 0x24, "miso": 0x28, "w0": 0x58}


class Registers:
    def __init__(self, kind: ChipKind, fuses: Fuses, flash_command: Callable[[int, int], bytes]) -> None:
        """``flash_command(command, address)``: what the flash chip shifts out."""
        self._kind = kind
        self._flash_command = flash_command
        self._spi = _OLD_SPI if kind.spi_is_old else _NEW_SPI
        self._fixed = {MAGIC_REG: kind.magic}
        self._fixed |= _esp32_fuses(kind, fuses) if kind.spi_is_old else _fuses(kind, fuses)
        self._memory: dict[int, int] = {}
        self.reset(115200)

    def reset(self, baud: int) -> None:
        self._memory = {self._kind.uart_clkdiv: _XTAL_HZ // baud}

    def set_baud(self, baud: int) -> None:
        self._memory[self._kind.uart_clkdiv] = _XTAL_HZ // baud

    def read(self, address: int) -> int:
        return self._fixed.get(address, self._memory.get(address, 0))

    def write(self, address: int, value: int, mask: int = 0xFFFF_FFFF) -> None:
        self._memory[address] = (self._memory.get(address, 0) & ~mask) | (value & mask)
        if address == self._kind.spi_base and value & _SPI_START:
            self._run_spi()

    def _run_spi(self) -> None:
        base, memory = self._kind.spi_base, self._memory
        usr = memory.get(base + self._spi["usr"], 0)
        address = memory.get(base + 4, 0) if usr & _HAS_ADDRESS else 0
        if self._kind.spi_is_old:
            address >>= 8  # 24 bits, sent from the top of the register
        answer = self._flash_command(memory.get(base + self._spi["usr2"], 0) & 0xFF, address)
        if usr & _HAS_MISO:
            bits = (memory.get(base + self._spi["miso"], 0) & 0x3FF) + 1
            word = int.from_bytes(answer[:4].ljust(4, b"\xff"), "little")
            memory[base + self._spi["w0"]] = word & ((1 << min(bits, 32)) - 1)
        memory[base] = 0  # done


def _esp32_fuses(kind: ChipKind, fuses: Fuses) -> dict[int, int]:
    major, minor = fuses.revision
    # Each major revision set one bit more, in three different places.
    bits = (0, 1, 3, 7)[major]
    high, low = struct.unpack(">HI", fuses.mac)
    words = {
        0: fuses.flash_crypt_count << 20,
        1: low,
        2: high | _crc8(fuses.mac) << 16,
        3: (bits & 1) << 15 | (fuses.package & 7) << 9 | (fuses.package >> 3) << 2 | 1 << 13,
        4: _CK8M,
        5: (bits >> 1 & 1) << 20 | minor << 24 | (0xF << 28 if fuses.has_encryption else 0),
        6: fuses.has_secure_boot << 5 | fuses.no_manual_encrypt << 7,
    }
    found = {kind.efuse_base + 4 * number: word for number, word in words.items()}
    return found | {_APB_CTL_DATE: (bits >> 2) << 31, _RTCCALICFG1: _CALIBRATION << 7}


def _fuses(kind: ChipKind, fuses: Fuses) -> dict[int, int]:
    base, block1 = kind.efuse_base, kind.efuse_base + 0x44
    major, minor = fuses.revision
    high, low = struct.unpack(">HI", fuses.mac)
    word3 = (minor & 7) << 18 | fuses.package << 21
    word5 = (minor >> 3) << 23 | major << 24
    word4 = 0
    if kind.name == "esp32c3":
        word3 |= 1 << 27  # 4 MB of flash in the package, by XMC
        word4 = 1
    elif kind.name == "esp32c6":
        high |= 0xFFFE << 16  # what makes an EUI-64 of the MAC
        word3, word4, word5 = minor << 18 | major << 22 | fuses.package << 24, 1, 0
    return {
        base + 0x30: fuses.no_manual_encrypt << 20,
        base + 0x34: fuses.flash_crypt_count << 18 | (4 << 24 if fuses.has_encryption else 0),
        base + 0x38: fuses.has_secure_boot << 20,
        block1: low,
        block1 + 4: high,
        block1 + 12: word3,
        block1 + 16: word4,
        block1 + 20: word5,
    }


def _crc8(data: bytes) -> int:
    """Of the factory's MAC: x^8 + x^5 + x^4 + 1, lowest bit first."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc
