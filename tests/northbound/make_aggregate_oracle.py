"""Write aggregate_oracle.txt.gz beside this: what pandas makes of the series of aggregate_series.py. `make oracle`.

    python -m tests.northbound.make_aggregate_oracle       needs the extra `oracle`

One line a series: begin:came:valid:minimum:maximum:mean:flag of each period, by the clock of Shanghai.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from tests.northbound import aggregate_series

TARGET = Path(__file__).with_name("aggregate_oracle.txt.gz")
ORDER = "DBTCMFS"


def line_of(number: int) -> str:
    one = aggregate_series.series(number)
    local = pd.to_datetime(one.times, unit="s", utc=True).tz_convert("Asia/Shanghai")
    frame = pd.DataFrame({"value": one.values, "flag": list(one.flags)}, index=local)
    return " ".join(_period(begin, part) for begin, part in _periods(frame, one) if len(part))


def _periods(frame: Any, one: aggregate_series.Series) -> Any:
    """Minutes and hours are those of the clock, four-hour periods and days begin at midnight: by the clock, too."""
    naive = frame.index.tz_localize(None)
    keys = naive.floor(one.offset)
    # An hour that comes twice is two hours: they differ in their distance from Greenwich.
    away = frame.index.map(lambda moment: moment.utcoffset())
    folded = away if one.period_s <= 3600 else [None] * len(frame)
    frame = frame.assign(begin=keys, away=folded)
    for (begin, _), part in frame.groupby(["begin", "away"], sort=False, dropna=False):
        yield begin, part


def _period(begin: Any, part: Any) -> str:
    good = part[part["flag"] == "N"]["value"]
    others = part[part["flag"] != "N"]["flag"].value_counts()
    if len(good) / len(part) >= 0.75:
        flag = "N"
    else:
        flag = min(others[others == others.max()].index, key=ORDER.index)
    figures = (
        ("", "", "") if good.empty else (int(good.min()), int(good.max()), repr(float(good.mean() / 100)))
    )
    return ":".join(map(str, (f"{begin:%Y%m%d%H%M%S}", len(part), len(good), *figures, flag)))


def main() -> None:
    text = "".join(line_of(number) + "\n" for number in range(aggregate_series.COUNT))
    data = gzip.compress(text.encode(), mtime=0)
    TARGET.write_bytes(data)
    sys.stdout.write(f"wrote {TARGET}: series={aggregate_series.COUNT} bytes={len(data)}\n")


if __name__ == "__main__":
    main()
