"""What tests of a driver put in the place of the law or beneath it, on both interpreters."""

from protocols.wire.airtime import time_on_air_us
from protocols.wire.law import Law


class FreeForAll:
    """No law at all: a rude neighbour."""

    needs_listening = False

    def freq_hz(self, channel):  # type: ignore[no-untyped-def]
        return 470300000

    def check(self, now_s, freq_hz, modulation, size, dbm):  # type: ignore[no-untyped-def]
        return time_on_air_us(modulation, size)

    def sent(self, now_s, freq_hz, air_us):  # type: ignore[no-untyped-def]
        pass


class Kept:
    """Where a plan with duty cycle keeps its bound: here, never written before."""

    def __init__(self):  # type: ignore[no-untyped-def]
        self.data = b""

    def load(self):  # type: ignore[no-untyped-def]
        return self.data

    def save(self, data):  # type: ignore[no-untyped-def]
        self.data = bytes(data)
        return True


def law_of(plan_id):  # type: ignore[no-untyped-def]
    """None: none."""
    return FreeForAll() if plan_id is None else Law(plan_id, Kept())
