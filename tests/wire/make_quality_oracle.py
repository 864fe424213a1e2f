"""Write quality_oracle.txt.gz beside this: what ioos-qc 3 says of the series of mpy_quality_series.py. `make oracle`.

    python -m tests.wire.make_quality_oracle       needs the extra `oracle`

One line a series: the flags of gross range, spike, rate of change and flat line, a digit a sample.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ioos_qc import qartod

from tests.wire import mpy_quality_series

TARGET = Path(__file__).with_name("quality_oracle.txt.gz")


def line_of(number: int) -> str:
    limits, times, values, interval_s = mpy_quality_series.series(number)
    shown = np.array([np.nan if value is None else float(value) for value in values])
    when = np.array(times, dtype="datetime64[s]")
    flat = qartod.flat_line_test(
        shown, when, limits.flat_suspect_s, limits.flat_fail_s, tolerance=limits.flat_tolerance
    )
    comparable = mpy_quality_series.flat_is_comparable(limits, values, interval_s)
    flags: list[Any] = [
        qartod.gross_range_test(
            shown, (limits.fail_low, limits.fail_high), (limits.suspect_low, limits.suspect_high)
        ),
        qartod.spike_test(shown, limits.spike_suspect, limits.spike_fail),
        qartod.rate_of_change_test(shown, when, limits.rate_per_h / 3600),
        [flag if same else "." for flag, same in zip(flat, comparable, strict=True)],
    ]
    return " ".join("".join(str(flag) for flag in test) for test in flags)


def main() -> None:
    text = "".join(line_of(number) + "\n" for number in range(mpy_quality_series.COUNT))
    data = gzip.compress(text.encode(), mtime=0)
    TARGET.write_bytes(data)
    sys.stdout.write(f"wrote {TARGET}: series={mpy_quality_series.COUNT} bytes={len(data)}\n")


if __name__ == "__main__":
    main()
