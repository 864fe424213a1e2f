"""Plays what happens to a radio under a duty cycle. Runs on any Python, for the golden cases.

["send", now_s, channel, sf, bytes]     the microseconds, or the seconds to wait as a negative number
["fill", now_s, channel, sf, bytes]     as often as it is allowed: how often, and the seconds to wait
["sleep", now_s, later_s]               a deep sleep: the bytes in RTC memory
["cut"]                                 the power fails: what is durable
["lose"]                                what is durable is unreadable
"""

from binascii import hexlify

from protocols.wire import airtime
from protocols.wire.airtime import AirRefused
from protocols.wire.law import EU868, Law


class Kept:
    """Implements duty.Spent."""

    def __init__(self):
        self.data = b""

    def load(self):
        return self.data

    def save(self, data):
        self.data = data
        return True


def play(steps):
    """What came of each step."""
    kept = Kept()
    law = Law(EU868, kept)
    outcomes = []
    for step in steps:
        outcome = None
        if step[0] == "send":
            outcome = send(law, step)
        elif step[0] == "fill":
            outcome = [0, send(law, step)]
            while outcome[1] >= 0:
                outcome = [outcome[0] + 1, send(law, step)]
        elif step[0] == "sleep":
            rested = law.rest(step[1])
            outcome = hexlify(rested).decode()
            law = Law(EU868, kept)
            law.resume(step[2], rested)
        else:
            outcome = hexlify(kept.data).decode()
            if step[0] == "lose":
                kept.data = None
            law = Law(EU868, kept)
        outcomes.append(outcome)
    return outcomes


def send(law, step):
    freq_hz = law.freq_hz(step[2])
    try:
        air_us = law.check(step[1], freq_hz, airtime.lora(step[3]), step[4], law.dbm_max)
    except AirRefused as exc:
        return -exc.wait_s
    law.sent(step[1], freq_hz, air_us)
    return air_us
