"""The radio's SPI and lines on a board. On the heap of nodes on the air, and of no others."""

import time

import machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The chip takes 16 MHz; half of it works over a header's wires, too.
_HZ = 8000000


class Port:
    """Implements firmware.hal.RadioPort."""

    def __init__(self, board: "Any") -> None:
        self._board = board
        self.chip: str = board.RADIO_CHIP
        self.tcxo_mv: "int | None" = board.RADIO_TCXO_MV
        self.dio2_switches: bool = board.RADIO_DIO2_RF_SWITCH
        self.dbm_max: int = board.RADIO_TX_DBM_MAX
        self._select = _output(board.RADIO_NSS_PIN, 1, False)
        self._reset = _output(board.RADIO_RST_PIN, 1, False)
        self._receive = None
        if board.RADIO_RXEN_PIN is not None:
            self._receive = _output(board.RADIO_RXEN_PIN, 0, False)
        self._spi = machine.SPI(
            board.RADIO_SPI,
            baudrate=_HZ,
            polarity=0,
            phase=0,
            sck=machine.Pin(board.RADIO_SCK_PIN),
            mosi=machine.Pin(board.RADIO_MOSI_PIN),
            miso=machine.Pin(board.RADIO_MISO_PIN),
        )
        # Levels, 0 or 1: looked at often, so without a method of ours between.
        self.is_busy: "Callable[[], bool]" = machine.Pin(board.RADIO_BUSY_PIN, machine.Pin.IN).value  # type: ignore[assignment]
        self.is_raised: "Callable[[], bool]" = machine.Pin(board.RADIO_DIO1_PIN, machine.Pin.IN).value  # type: ignore[assignment]
        self.ticks_us: "Callable[[], int]" = time.ticks_us  # type: ignore[attr-defined]

    def transfer(self, data: bytearray) -> None:
        self._select(0)
        try:
            self._spi.write_readinto(data, data)
        finally:
            self._select(1)

    def reset(self) -> None:
        self._reset(0)
        time.sleep_ms(1)  # type: ignore[attr-defined]
        self._reset(1)

    def switch(self, is_receiving: bool) -> None:
        if self._receive is not None:
            self._receive(is_receiving)

    def hold(self) -> None:
        """Before a deep sleep: pins would float, and a falling NSS wakes the radio for hours."""
        import esp32

        _output(self._board.RADIO_NSS_PIN, 1, True)
        if self._receive is not None:
            _output(self._board.RADIO_RXEN_PIN, 0, True)
        # Only pins of the RTC domain keep a hold by themselves.
        esp32.gpio_deep_sleep_hold(True)  # type: ignore[attr-defined]


def _output(pin: int, level: int, is_held: bool) -> "machine.Pin":
    return machine.Pin(pin, machine.Pin.OUT, value=level, hold=is_held)  # type: ignore[call-arg]
