"""What looks at fast sensors between two sets: the pose of a cover, the movements of a lift. The contract.

A watch is an object with

    bits                how many alarms it can raise, at most 16
    restore(raised)     at start: bit k is set when alarm k was raised before the reset
    poll()              look, as often as the return value says (milliseconds); it blocks for one bus transaction, and
                        never raises a SensorError: what fails is counted in `errors`, and is a fault of its own in time
    changes()           alarms that begin or end, and notes (bit NOTE_BIT), oldest first; they stay until applied
    applied(change)     the event of the first of them is on flash: the state behind it holds from now on
    learn()             learn the place anew (command 7 of SPEC.md 2.2): "" or why not now
    errors              how often a sensor failed since boot

and, on a node that sleeps,

    wait_s()            seconds until it must look again; a day when there is nothing to look for
    wake_pins()         a deep sleep begins now: arm what ends it; the names of the pins that do

and it is told nothing about flash, links and the gateway. What it must know after a reset it keeps through the `keep`
that it is made with: keep(name) is a durable.Document of that name.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from firmware.alarms import Change
    from firmware.settings import Slot

    Keep = Callable[[str], Slot]

    class Watch(Protocol):
        bits: int

        @property
        def errors(self) -> int: ...
        def restore(self, raised: int) -> None: ...
        def poll(self) -> int: ...
        def changes(self) -> Sequence[Change]: ...
        def applied(self, change: Change) -> None: ...
        def learn(self) -> str: ...
        def wait_s(self) -> int: ...
        def wake_pins(self) -> tuple[str, ...]: ...


# Change.bit of what has no end: it is told once and leaves no state.
NOTE_BIT = -1
