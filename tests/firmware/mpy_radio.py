"""The driver of a radio on the real MicroPython, its port at the other end of stdin and stdout: run by radio_rig.py.

A line from there is a call: the method and its arguments, as text that is evaluated. Until the answer, which begins
with `=` (or `!`, an AirRefused), each line from here is a question to the port or the clock, answered by a line.
"""

import sys

sys.path.insert(0, sys.argv[1])

from firmware.radios.sx126x import Sx126x
from protocols.wire.airtime import AirRefused
from tests.firmware.radio_laws import law_of


def ask(line):
    sys.stdout.write(line + "\n")
    return sys.stdin.readline().strip()


class Port:
    chip = "sx1262"
    dio2_switches = True
    dbm_max = 22

    def __init__(self, tcxo_mv):
        self.tcxo_mv = tcxo_mv

    def transfer(self, data):
        data[:] = bytes.fromhex(ask("transfer " + bytes(data).hex()))

    def is_busy(self):
        return ask("is_busy") == "1"

    def is_raised(self):
        return ask("is_raised") == "1"

    def reset(self):
        ask("reset")

    def switch(self, is_receiving):
        ask("switch %d" % is_receiving)

    def ticks_us(self):
        return int(ask("ticks_us"))


class Clock:
    def uptime_s(self):
        return int(ask("uptime_s"))

    def ticks_ms(self):
        return int(ask("ticks_ms"))

    def ticks_diff(self, later, earlier):
        return (later - earlier + (1 << 29)) % (1 << 30) - (1 << 29)

    def sleep_ms(self, ms):
        ask("sleep_ms %d" % ms)


law = law_of(None if sys.argv[2] == "None" else int(sys.argv[2]))
radio = Sx126x(Port(None if sys.argv[3] == "None" else int(sys.argv[3])), law, Clock())
while True:
    line = sys.stdin.readline()
    if not line:
        break
    name, _, arguments = line.strip().partition(" ")
    try:
        found = getattr(radio, name)
        if arguments:
            found = found(*eval(arguments))  # noqa: S307  (the test's own text)
        sys.stdout.write("= %r\n" % (tuple(found) if isinstance(found, tuple) else found,))
    except AirRefused as exc:
        sys.stdout.write("! %r\n" % ((exc.rule, str(exc), exc.wait_s),))
