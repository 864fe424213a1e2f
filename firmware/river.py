"""The alarms of river stations, as their node types name them. What is behind them, river_water.py, is on the heap only
while a set or new settings are judged."""

from firmware.modules import forget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from firmware.alarms import Rule
    from firmware.settings import Settings


def rules(settings: "Settings") -> "Sequence[Rule]":
    from firmware import river_water

    made = river_water.rules(settings)
    forget("firmware.river_water")
    return made


def solar_rules(settings: "Settings") -> "Sequence[Rule]":
    from firmware import river_water

    made = river_water.solar_rules(settings)
    forget("firmware.river_water")
    return made


def derive(
    memory: "list[Any]", time_s: int, values: "Sequence[int | None]", flags: "Sequence[int]"
) -> "Sequence[int | None]":
    from firmware import river_water

    derived = river_water.derive(memory, time_s, values, flags)
    forget("firmware.river_water")
    return derived
