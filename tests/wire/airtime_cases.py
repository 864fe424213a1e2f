"""Cases of protocols/vectors/airtime.json: by the book, by Semtech's calculator, and what the plans say to a packet."""

from __future__ import annotations

import itertools
from typing import Any

from protocols.wire.airtime import Modulation
from tests.wire import airtime_by_the_book, ledger_play

# As Semtech's driver has them, and where they differ as its calculator has them.
BANDWIDTHS_HZ = (
    *(7812, 10417, 15625, 20833, 31250, 41667, 62500, 125000, 250000, 500000),
    *(7810, 10420, 15630, 20830, 41670),
)
SIZES = (0, 1, 2, 10, 13, 20, 36, 51, 99, 128, 197, 222, 254, 255)
PREAMBLES = (8, 6, 12, 16, 65535)

# What Semtech's "SX1261 LoRa Calculator" shows: (sf, Hz, cr, LDRO): (preamble, size, explicit, CRC): microseconds.
# Recorded by micropython-lib (lora/tests/test_time_on_air.py) and RadioLib (TestTimeOnAir).
SEMTECH: dict[tuple[int, int, int, bool], dict[tuple[int, int, bool, bool], int]] = {
    (12, 500000, 5, False): {
        (8, 1, True, True): 206848,
        (12, 64, True, True): 649216,
        (8, 1, True, False): 165888,
        (8, 192, True, True): 1476608,
        (12, 16, False, False): 280576,
    },
    (8, 125000, 6, False): {
        (8, 1, True, True): 53760,
        (8, 2, True, False): 53760,
        (8, 3, True, True): 66048,
        (8, 3, True, False): 53760,
        (8, 5, True, False): 66048,
        (8, 253, True, True): 827904,
        (12, 5, False, True): 61952,
        (12, 10, False, True): 86528,
        (12, 253, False, True): 823808,
    },
    (5, 500000, 5, False): {
        (2, 1, True, False): 1360,
        (2, 1, True, True): 1680,
        (12, 1, False, False): 1680,
        (12, 253, False, True): 34000,
    },
    (5, 125000, 8, False): {(12, 253, False, True): 213568},
    (12, 7810, 8, True): {(128, 253, True, True): 287532907, (1000, 253, True, True): 744858387},
    (11, 10420, 7, True): {(25, 16, True, True): 12824568, (25, 16, False, False): 11448752},
    (7, 125000, 5, True): {
        (8, 1, True, True): 30976,
        (8, 10, True, True): 46336,
        (8, 50, True, True): 128256,
        (8, 255, True, True): 548096,
    },
    (11, 250000, 8, False): {
        (16, 5, False, False): 296960,
        (16, 15, False, False): 362496,
        (16, 100, False, False): 1411072,
        (16, 200, False, False): 2590720,
    },
}

# 20 bytes as this project sends them, SF7 to SF12.
TWENTY = (56576, 102912, 185344, 370688, 741376, 1318912)

# plan, Hz, sf, size, dBm, rule or None
LAW: list[tuple[str, int, int, int, int, int, str | None]] = [
    ("the largest packet at SF9", 0, 470300000, 9, 197, 17, None),
    ("one byte more than 1 s at SF9", 0, 470300000, 9, 198, 17, "time"),
    ("the largest packet at SF10", 0, 489300000, 10, 99, 17, None),
    ("one byte more than 1 s at SF10", 0, 489300000, 10, 100, 17, "time"),
    ("the largest packet at SF11", 0, 480300000, 11, 36, -9, None),
    ("one byte more than 1 s at SF11", 0, 480300000, 11, 37, -9, "time"),
    ("20 bytes at SF12", 0, 480300000, 12, 20, 0, "time"),
    ("below the grid", 0, 470100000, 7, 20, 17, "channel"),
    ("above the grid", 0, 489500000, 7, 20, 17, "channel"),
    ("between two channels", 0, 470400000, 7, 20, 17, "channel"),
    ("too strong in China", 0, 470300000, 7, 20, 18, "power"),
    ("Europe's channel 0", 1, 868100000, 12, 70, 13, None),
    ("longer than 3 s", 1, 868100000, 12, 71, 13, "time"),
    ("Europe's channel 7", 1, 867900000, 7, 222, 13, None),
    ("too strong in Europe", 1, 867900000, 7, 222, 14, "power"),
    ("China's channel in Europe", 1, 470300000, 7, 20, 13, "channel"),
    ("nobody's plan", 9, 470300000, 7, 20, 13, "plan"),
]


# What happens to a radio in Europe, one after the other: ledger_play.py says how.
LEDGERS: dict[str, list[list[Any]]] = {
    "an hour's allowance, and again after it": [
        ["fill", 10, 0, 10, 99],
        ["send", 10, 1, 7, 10],
        ["send", 10, 3, 12, 70],
        ["send", 3600, 0, 10, 99],
        ["send", 3900, 0, 10, 99],
    ],
    "over a sleep, of which not all counts": [
        ["fill", 10, 0, 12, 70],
        ["sleep", 20, 3900],
        ["send", 3900, 2, 10, 99],
        ["sleep", 4000, 9000],
        ["fill", 9001, 2, 9, 222],
    ],
    "power cuts take the bound with them": [
        *[["send", 5, 0, 10, 99], ["cut"]] * 10,
        ["send", 5, 0, 10, 99],
        ["send", 3700, 0, 10, 99],
        ["send", 3901, 0, 10, 99],
    ],
    "nobody knows what was sent": [
        ["lose"],
        ["send", 5, 0, 7, 20],
        ["send", 3899, 5, 7, 20],
        ["send", 3900, 5, 7, 20],
    ],
}


def airtime_cases() -> list[dict[str, Any]]:
    """Everything that airtime.json holds."""
    cases = [row_case(sf, bw_hz) for sf in range(5, 13) for bw_hz in BANDWIDTHS_HZ[:10]]
    for (sf, bw_hz, cr, has_ldro), packets in SEMTECH.items():
        rows = [
            [cr, preamble, int(not is_explicit), int(has_crc), int(has_ldro), size, us]
            for (preamble, size, is_explicit, has_crc), us in packets.items()
        ]
        cases.append(
            {
                "name": f"Semtech's calculator: SF{sf}, {bw_hz} Hz, 4/{cr}",
                "sf": sf,
                "bw_hz": bw_hz,
                "rows": rows,
            }
        )
    for sf, us in enumerate(TWENTY, 7):
        row = [5, 8, 0, 1, int(sf >= 11), 20, us]
        cases.append({"name": f"20 bytes of ours at SF{sf}", "sf": sf, "bw_hz": 125000, "rows": [row]})
    for name, plan, freq_hz, sf, size, dbm, rule in LAW:
        cases.append(
            {"name": name, "plan": plan, "freq_hz": freq_hz, "sf": sf, "size": size, "dbm": dbm, "rule": rule}
        )
    for name, steps in LEDGERS.items():
        cases.append({"name": name, "steps": steps, "outcomes": ledger_play.play(steps)})
    return cases


def row_case(sf: int, bw_hz: int) -> dict[str, Any]:
    """Every coding rate, header, CRC and LDRO at one spreading factor and width; sizes and preambles take turns."""
    rows = []
    combinations = itertools.product(range(5, 9), (0, 1), (0, 1), (0, 1))
    for at, (cr, is_implicit, has_crc, has_ldro) in enumerate(combinations, 13 * sf + bw_hz // 10):
        preamble, size = PREAMBLES[at % len(PREAMBLES)], SIZES[at % len(SIZES)]
        modulation = Modulation(sf, bw_hz, cr, preamble, bool(is_implicit), bool(has_crc), bool(has_ldro))
        us = airtime_by_the_book.microseconds(modulation, size)
        rows.append([cr, preamble, is_implicit, has_crc, has_ldro, size, us])
    return {"name": f"SF{sf}, {bw_hz} Hz", "sf": sf, "bw_hz": bw_hz, "rows": rows}
