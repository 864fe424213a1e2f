"""How long a battery lasts: currents of a board (its board.py names the sources) times what a virtual run counted.

Fixed assumptions, whatever was run: 85 % of the cell's 19 Ah can be used (self-discharge, cold, the end of its
voltage); 0.8 s from a wake to the node's program, at full current; a radio at SF10, 125 kHz, with both receive windows
of a class A device, the answer always in the second; the accelerometer at 2 uA (LIS3DH datasheet, table 11, 1 Hz). A
dozen openings a year, each with its repetitions. The cell itself is sold for ten to fifteen years: beyond that the
number only says that consumption is not what ends its life.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from protocols.wire import airtime

CAPACITY_MAH = 19_000
USABLE = 0.85
BOOT_S = 0.8
ACCELEROMETER_UA = 2
_DAY_H = 24
_HOUR_S = 3600
_YEAR_D = 365.25
_SPREADING = 10
_SYMBOL_S = 2**_SPREADING / 125_000
# Receive windows: the first opens after a second and finds no preamble, the second after two and brings the answer.
_SECOND_WINDOW_S = 2.0
_EMPTY_WINDOW_S = 8 * _SYMBOL_S
_ANSWER_BYTES = 24
# Per opening: the alarm, its end, a set every ten minutes for an hour with a status among them, and the looks between.
_OPENINGS_A_YEAR = 12
_OPENING_FRAMES = 10
_OPENING_WAKES = 40


@dataclass(frozen=True)
class Use:
    """What a node does in a day, as counted in a run."""

    wakes: float
    awake_s: float  # without the boots
    frames: float
    frame_bytes: float


def air_s(payload_bytes: float) -> float:
    """Time on air of a frame of a mean size: the next whole byte."""
    return float(airtime.time_on_air_us(airtime.lora(_SPREADING), math.ceil(payload_bytes))) / 1e6


def mah_a_day(board: Any, use: Use) -> dict[str, float]:
    """By what takes it."""
    openings = _OPENINGS_A_YEAR / _YEAR_D
    wakes = use.wakes + openings * _OPENING_WAKES
    frames = use.frames + openings * _OPENING_FRAMES
    up_s, down_s = air_s(use.frame_bytes), air_s(_ANSWER_BYTES)
    exchange_mas = (
        up_s * (board.ACTIVE_MA + board.RADIO_TX_MA)
        + _SECOND_WINDOW_S * board.ACTIVE_MA
        + _EMPTY_WINDOW_S * board.RADIO_RX_MA
        + down_s * (board.ACTIVE_MA + board.RADIO_RX_MA)
    )
    return {
        "sleep": _DAY_H * (board.DEEP_SLEEP_UA + board.RADIO_SLEEP_UA + ACCELEROMETER_UA) / 1000,
        "boots": wakes * BOOT_S * board.ACTIVE_MA / _HOUR_S,
        "awake": use.awake_s * board.ACTIVE_MA / _HOUR_S,
        "radio": frames * exchange_mas / _HOUR_S,
    }


@dataclass(frozen=True)
class Radio:
    """What a node's radio does in a day, as counted on a simulated air."""

    tx_s: float
    rx_s: float
    awake_s: float  # of the node, while it sends and waits


def years_on_air(board: Any, wakes: float, awake_s: float, radio: Radio) -> float:
    """As `years`, with the radio's time as it was, and power at its highest."""
    sleep_ua = board.DEEP_SLEEP_UA + board.RADIO_SLEEP_UA + ACCELEROMETER_UA
    active_s = wakes * BOOT_S + awake_s + radio.awake_s
    mas = active_s * board.ACTIVE_MA + radio.tx_s * board.RADIO_TX_MA + radio.rx_s * board.RADIO_RX_MA
    return float(CAPACITY_MAH * USABLE / (_DAY_H * sleep_ua / 1000 + mas / _HOUR_S) / _YEAR_D)


def years(board: Any, use: Use) -> float:
    return CAPACITY_MAH * USABLE / sum(mah_a_day(board, use).values()) / _YEAR_D
