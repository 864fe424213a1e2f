"""What may be wrong with a chip, its flash, its fuses and its line. The defaults are a good chip on a good line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Faults:
    """May be changed while the chip runs."""

    # The supply fails when so many bytes more were programmed, or sectors erased; the chip is dead until power_on().
    power_after_bytes: int | None = None
    power_after_erases: int | None = None
    # Sectors that come out wrong, and how often; a retry after that succeeds.
    bad_sectors: dict[int, int] | None = None
    # Answers nothing at all, as behind a broken TX wire or a charge-only cable.
    is_silent: bool = False
    # Every nth answer of a loader comes out spoiled.
    garbage_every: int = 0
    # Bytes of noise on the line at each start.
    noise_at_start: int = 0
    # What the flash says of its size, where that is not true.
    claimed_flash_size: int | None = None


@dataclass(frozen=True)
class Fuses:
    """What was burnt into the chip."""

    mac: bytes
    revision: tuple[int, int] = (3, 0)
    package: int = 0
    has_secure_boot: bool = False
    # Odd: the flash is encrypted.
    flash_crypt_count: int = 0
    # A host may not even ask the ROM to encrypt what it sends: "release mode".
    no_manual_encrypt: bool = False
    secure_download: bool = False

    @property
    def has_encryption(self) -> bool:
        return self.flash_crypt_count.bit_count() % 2 == 1
