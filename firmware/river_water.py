"""What the alarms of a river station need beyond single readings: the class of the water, and a step that looks like a
discharge. Integers in steps of river8; the gateway's tables (protocols/water_classes.toml) are the authority.

Class by GB 3838-2002 from the factors that the station has: pH, dissolved oxygen by its amount, ammonia nitrogen. It
is worse at once, and better only when the readings keep the better limits by a margin: what lies on a limit does not
go to and fro.

A discharge: conductivity changes by a share within a quarter of an hour, and turbidity with it. Rain changes both, but
slower.
"""

from firmware.alarms import (
    DISCHARGE_SUSPECTED,
    HIGH_AMMONIA,
    LOW_DISSOLVED_OXYGEN,
    PH_OUT_OF_RANGE,
    SUPPLY_LOW,
    WATER_CLASS_WORSE,
)
from firmware.rules import above, below, outside
from firmware.settings import TARGET_CLASS
from protocols.wire.readings import FAIL, MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from firmware.alarms import Rule
    from firmware.settings import Settings

_SERIES = 8
_PH = 1
_OXYGEN = 2
_CONDUCTIVITY = 3
_TURBIDITY = 4
_AMMONIA = 6
# Limits of the classes I to V, in hundredths of mg/L.
OXYGEN_AT_LEAST = (750, 600, 500, 300, 200)
AMMONIA_AT_MOST = (15, 50, 100, 150, 200)
WORSE_THAN_V = 6
_MARGIN_PERCENT = 5
_PH_MARGIN = 10
# The window, with room for a set that was late; and what turbidity must do: change by half, and by 5 NTU at least.
_WINDOW_S = 15 * 60 + 60
_TURBIDITY_MIN = 50
# Sets that are remembered: one a minute.
_PAST_MAX = 16
_PAST_PAUSE_S = 60


def rules(settings: "Settings") -> "tuple[Rule, ...]":
    """Of river8. Limits of single readings are class III (fish, swimming, drinking water of the second grade), with an
    on-delay of two sets so that a fish in front of the probe calls nobody out."""
    return _RULES + _water_rules(settings, _SERIES)


def solar_rules(settings: "Settings") -> "tuple[Rule, ...]":
    """Of river9: the supply too, told in millivolts, ten to a step; three sets, so that a cloud does not raise it."""
    supply = below(SUPPLY_LOW, _SERIES, on=1180, off=1240, on_count=3, detail_factor=10)
    return _RULES + (supply,) + _water_rules(settings, _SERIES + 1)


_RULES = (
    below(LOW_DISSOLVED_OXYGEN, _OXYGEN, on=500, off=530),
    above(HIGH_AMMONIA, _AMMONIA, on=100, off=90),
    outside(PH_OUT_OF_RANGE, _PH, low=600, high=900, margin=10),
)


def _water_rules(settings: "Settings", series: int) -> "tuple[Rule, ...]":
    """Of what derive() gives, behind the readings: worse than the target in three sets in a row, and a step of more
    than 30 %, which is over when four sets in a row show none."""
    target = settings[TARGET_CLASS]
    return (
        above(WATER_CLASS_WORSE, series, on=target, off=target, on_count=3, off_count=3),
        above(DISCHARGE_SUSPECTED, series + 1, on=30, off=10, on_count=1, off_count=4),
    )


def derive(
    memory: "list[Any]", time_s: int, values: "Sequence[int | None]", flags: "Sequence[int]"
) -> "tuple[int | None, int | None]":
    """The class 1 to 6, and the step in percent; None: nothing tells. ``memory`` is empty at first, and ours."""
    if not memory:
        memory.append(
            0
        )  # the class before; behind it (uptime, conductivity, turbidity) of the last quarter of an hour
    known = [None if flag in (FAIL, MISSING) else value for value, flag in zip(values, flags)]
    return _class(memory, known), _step(memory, time_s, known[_CONDUCTIVITY], known[_TURBIDITY])


def _class(memory: "list[Any]", known: "Sequence[int | None]") -> "int | None":
    grade = class_of(known[_PH], known[_OXYGEN], known[_AMMONIA], 0)
    if 0 < grade < memory[0]:
        kept = class_of(known[_PH], known[_OXYGEN], known[_AMMONIA], _MARGIN_PERCENT)
        grade = min(kept, int(memory[0]))
    if grade:
        memory[0] = grade
    return grade or None


def _step(
    memory: "list[Any]", time_s: int, conductivity: "int | None", turbidity: "int | None"
) -> "int | None":
    if conductivity is None or turbidity is None:
        return None
    while len(memory) > 1 and time_s - memory[1][0] > _WINDOW_S:
        del memory[1]
    step = 0
    for _, before, clear in memory[1:]:
        if before > 0 and abs(turbidity - clear) >= max(_TURBIDITY_MIN, clear // 2):
            step = max(step, abs(conductivity - before) * 100 // before)
    if len(memory) == 1 or time_s - memory[-1][0] >= _PAST_PAUSE_S:
        memory.append((time_s, conductivity, turbidity))
        if len(memory) > _PAST_MAX + 1:
            del memory[1]
    return step


def class_of(ph: "int | None", oxygen: "int | None", ammonia: "int | None", margin_percent: int) -> int:
    """The worst class of these factors when each must keep its limits by a margin; 0 when there is none."""
    grade = 0
    if ph is not None:
        margin = _PH_MARGIN if margin_percent else 0
        grade = 1 if 600 + margin <= ph <= 900 - margin else WORSE_THAN_V
    if oxygen is not None:
        for at, limit in enumerate(OXYGEN_AT_LEAST):
            if oxygen * 100 >= limit * (100 + margin_percent):
                grade = max(grade, at + 1)
                break
        else:
            grade = WORSE_THAN_V
    if ammonia is not None:
        for at, limit in enumerate(AMMONIA_AT_MOST):
            if ammonia * (100 + margin_percent) <= limit * 100:
                grade = max(grade, at + 1)
                break
        else:
            grade = WORSE_THAN_V
    return grade
