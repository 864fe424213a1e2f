"""What differs between the chips, as far as a host at the serial line can see: addresses, ids, and what the ROM says.

Register addresses and bit positions are those of the technical reference manuals.
"""

from __future__ import annotations

from dataclasses import dataclass

from hil_tests.errors import RigError


@dataclass(frozen=True)
class ChipKind:
    name: str  # as in a board file's CHIP and in an esptool command
    chip_id: int  # in image headers; the ROM of the first ESP32 does not tell it
    magic: int  # at MAGIC_REG
    bootloader_at: int
    spi_base: int
    spi_is_old: bool  # register offsets of the first ESP32
    efuse_base: int
    uart_clkdiv: int
    sync_value: int
    jedec: bytes  # maker, type, and size by 2**n
    # First lines of a start, and the word for each way of booting.
    banner: str
    boot_app: str
    boot_loader: str

    @property
    def has_security_info(self) -> bool:
        return self.name != "esp32"


MAGIC_REG = 0x4000_1000
# The second makes a reset that a host asked for look as one by the EN pin.
_ESP32_BANNER = "ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:"
_ROM_BANNER = "ESP-ROM:%s\r\nBuild:%s\r\nrst:0x1 (POWERON),boot:"

KINDS = {
    kind.name: kind
    for kind in (
        ChipKind(
            "esp32", 0, 0x00F0_1D83, 0x1000, 0x3FF4_2000, True, 0x3FF5_A000, 0x3FF4_0014, 0x5555_2007,
            b"\xef\x40\x16", _ESP32_BANNER,
            "0x13 (SPI_FAST_FLASH_BOOT)", "0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))",
        ),
        ChipKind(
            "esp32s3", 9, 0x0000_0009, 0x0, 0x6000_2000, False, 0x6000_7000, 0x6000_0014, 0x2012_0707,
            b"\xc8\x40\x17", _ROM_BANNER % ("esp32s3-20210327", "Mar 27 2021"),
            "0x8 (SPI_FAST_FLASH_BOOT)", "0x0 (DOWNLOAD(USB/UART0))",
        ),
        ChipKind(
            "esp32c3", 5, 0x1B31_506F, 0x0, 0x6000_2000, False, 0x6000_8800, 0x6000_0014, 0x2012_0707,
            b"\x20\x40\x16", _ROM_BANNER % ("esp32c3-api1-20210207", "Feb  7 2021"),
            "0xd (SPI_FAST_FLASH_BOOT)", "0x5 (DOWNLOAD(USB/UART0/1))",
        ),
        ChipKind(
            "esp32c6", 13, 0x2CE0_806F, 0x0, 0x6000_3000, False, 0x600B_0800, 0x6000_0014, 0x2012_0707,
            b"\x20\x40\x17", _ROM_BANNER % ("esp32c6-20220919", "Sep 19 2022"),
            "0xc (SPI_FAST_FLASH_BOOT)", "0x4 (DOWNLOAD(USB/UART0/SDIO_REI_FEO))",
        ),
    )
}  # fmt: skip


def kind_of(name: str) -> ChipKind:
    try:
        return KINDS[name]
    except KeyError:
        raise RigError(f"no simulated chip {name!r}. There are: {', '.join(KINDS)}.") from None
