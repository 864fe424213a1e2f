# mypy: ignore-errors
"""Waits of a board with a time_scale: their share of real time, and a jump of its clock for the rest."""

import utime
from _board import SCALE_MILLI, advance, ask

# Shorter waits are work: they are not sped up.
_SCALED_FROM_MS = 20


def skip(ms):
    """The board's clock jumps; what the chips on the bus had to do meanwhile has been done on return."""
    ask(b"skip %d" % ms)
    advance(ms)


def sleep_ms(ms):
    if ms < _SCALED_FROM_MS:
        utime.sleep_ms(ms)
        return
    began_us = utime.ticks_us()
    utime.sleep_ms(ms * 1000 // SCALE_MILLI)
    # The host's sleep may end up to a millisecond early; the board's never does.
    left_ms = ms - (utime.ticks_us() - began_us) // 1000
    if left_ms > 0:
        skip(left_ms)


def poll(wait, timeout_ms):
    """Call wait(milliseconds) with the share of real time that a wait of timeout_ms costs on this board."""
    if timeout_ms < _SCALED_FROM_MS:
        return wait(timeout_ms)
    real_ms = timeout_ms * 1000 // SCALE_MILLI
    began_us = utime.ticks_us()
    ready = wait(real_ms)
    spent_us = utime.ticks_us() - began_us
    if ready:
        passed_ms = min(timeout_ms, spent_us * SCALE_MILLI // 1000000)
    else:
        passed_ms = timeout_ms
    if passed_ms * 1000 > spent_us:
        skip(passed_ms - spent_us // 1000)
    return ready


def jump(ms):
    """On a sped up board: go to the next thing a chip does, at most ms ahead. Says how many milliseconds passed."""
    passed_ms = ask(b"jump %d" % ms)
    advance(passed_ms)
    return passed_ms
