"""What simulated radio chips and the simulated air say to each other; no physics here.

A chip is an antenna to the air: it transmits signals, tunes in, and is told what it detects and hears. The air
(hil_tests/world/air.py) decides what reaches whom. Both live on one clock; a chip whose node runs ahead of the world's
time says how far with ``after_s``.
"""

from typing import NamedTuple, Protocol


class Signal(NamedTuple):
    """One LoRa packet as it leaves an antenna."""

    freq_hz: int
    bw_hz: int
    sf: int
    cr: int  # 5 to 8 for 4/5 to 4/8
    preamble: int  # symbols
    is_implicit: bool
    has_crc: bool
    has_ldro: bool
    sync_word: int  # 12h private, 34h public
    is_inverted: bool  # IQ
    dbm: float  # conducted
    payload: bytes


class Tuning(NamedTuple):
    """What a receiver listens for: nothing else exists for it but as interference."""

    freq_hz: int
    bw_hz: int
    sf: int
    sync_word: int
    is_inverted: bool


class Reception(NamedTuple):
    """The end of a packet that a receiver had locked on."""

    signal: Signal
    rssi_dbm: float
    snr_db: float
    has_header: bool  # False: not even the header could be read; there is no payload
    is_intact: bool  # False: the payload has bit errors, and its CRC shows it


class Antenna(Protocol):
    """A chip, or one end of a concentrator. Called on the clock's thread."""

    def detected(self) -> None:
        """A preamble of what it listens for has been going on long enough to be seen."""

    def heard(self, reception: Reception) -> None:
        """A packet that it locked on has ended."""


class Ether(Protocol):
    def transmit(self, antenna: Antenna, signal: Signal, after_s: float = 0.0) -> float:
        """Begin to send; seconds it will take. Whoever sends hears nothing."""

    def stop(self, antenna: Antenna) -> None:
        """Break off what that antenna is sending: what was sent of it reaches nobody whole."""

    def tune(self, antenna: Antenna, tuning: Tuning | None, after_s: float = 0.0) -> None:
        """Begin to listen, or stop (None)."""

    def is_active(self, antenna: Antenna, tuning: Tuning) -> bool:
        """Channel activity detection: whether there is a signal of that frequency, width and SF, loud enough, right
        now (whatever its IQ and sync word)."""

    def rssi_dbm(self, antenna: Antenna, freq_hz: int, bw_hz: int) -> float:
        """Power in that channel right now, noise included."""
