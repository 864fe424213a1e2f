"""Every sixth series of the quality oracle on MicroPython, from the repository's root."""

import sys

sys.path.insert(0, ".")

import deflate

from tests.wire import mpy_quality_series

SHARE = 6


def main():
    flags = 0
    series = 0
    with open("tests/wire/quality_oracle.txt.gz", "rb") as packed:
        text = deflate.DeflateIO(packed, deflate.GZIP)
        for number in range(mpy_quality_series.COUNT):
            line = text.readline().decode().rstrip("\n")
            if number % SHARE == 0:
                flags += mpy_quality_series.compared(number, line)
                series += 1
    print("quality series=%d flags=%d" % (series, flags))


main()
