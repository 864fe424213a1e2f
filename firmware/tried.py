"""A MicroPython on trial: which of the two runs, what that means, and the way back.

Which one is started is known to the bootloader alone, and it goes back by itself at the first start of a trial that was
not confirmed: so that start is given again, three times, before it is called a failure. One that was confirmed here and
found wanting later is left the same way that it was come to.
"""

from firmware.durable import Document
from firmware.pending import ON_TRIAL, OUTCOME, PHASE, PLACES, SEQUENCE, SLOT, TRIES, give_a_start
from protocols.wire import outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal, Places
    from firmware.pending import Pending

# Starts of a trial: power may fail in one.
STARTS_MAX = 3
# What runs, if it came this way: sequence u32 | place u8.
_NAME = "micropython"


def settle(hal: "Hal", pending: "Pending") -> None:
    """Where the trial stands, by what runs. Returns when that is the one on trial, or when the trial has ended."""
    places = hal.places()
    f = pending.f
    if places is None:
        pending.end(outcomes.FLASH)
        return
    places.steady()
    if places.this == f[SLOT] - PLACES:
        if f[OUTCOME]:  # it was to be left when the power failed
            leave(places)
            hal.reset()
        return
    if places.pending == 1 - places.this:
        hal.reset()  # what a power cut left half made was finished just now: the bootloader gives it up
    if not f[OUTCOME] and f[TRIES] < STARTS_MAX:
        start(hal, pending, places)
    places.confirm()
    give_a_start(hal)
    pending.end(f[OUTCOME] or outcomes.CRASHED)


def leave(places: "Places") -> None:
    """What runs is not started again."""
    if places.pending != places.this:  # else that is so already
        places.boot_other()


class Trial:
    """What slots.Slots is to a release, for gate.py."""

    def __init__(self, hal: "Hal", pending: "Pending") -> None:
        self._hal = hal
        self._pending = pending

    def came_to_something(self) -> None:
        """The bootloader does not go back by itself any more: what is waited for may take days."""
        places = self._hal.places()
        if places is not None:
            places.confirm()

    def confirm(self) -> None:
        f = self._pending.f
        data = f[SEQUENCE].to_bytes(4, "little") + bytes((f[SLOT] - PLACES,))
        Document(self._hal.state_fs, _NAME).save(data)

    def roll_back(self) -> None:
        places = self._hal.places()
        if places is not None:
            leave(places)


def sequence(hal: "Hal", places: "Places") -> int:
    """Of the MicroPython that runs; 0: it came by cable."""
    data = Document(hal.state_fs, _NAME).load()
    return int.from_bytes(data[:4], "little") if data and data[4] == places.this else 0


def start(hal: "Hal", pending: "Pending", places: "Places") -> None:
    """One more start of the trial; returns only when the chip refuses the image."""
    pending.f[PHASE] = ON_TRIAL
    pending.f[TRIES] += 1
    pending.save()
    give_a_start(hal)
    if places.pending == places.this:
        places.confirm()  # what runs here is what it falls back on
    try:
        places.boot_other()
    except OSError as exc:
        hal.log("update: MicroPython %d can not be started: %r" % (pending.f[SEQUENCE], exc))
        places.confirm()
        pending.end(outcomes.IMAGE)
        hal.reset()
    hal.log("update: MicroPython %d is on trial" % pending.f[SEQUENCE])
    hal.reset()
