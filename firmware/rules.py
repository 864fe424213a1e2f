"""Rules of alarms as node types write them; let go of once a node has its own (assembly.py)."""

from firmware.alarms import Rule


def below(
    code: int, series: int, on: int, off: int, on_count: int = 2, off_count: int = 2, detail_factor: int = 1
) -> "Rule":
    """Raised under ``on``, cleared at ``off`` or more."""
    return Rule(code, series, on, off, None, None, on_count, off_count, detail_factor)


def above(
    code: int, series: int, on: int, off: int, on_count: int = 2, off_count: int = 2, detail_factor: int = 1
) -> "Rule":
    """Raised over ``on``, cleared at ``off`` or less."""
    return Rule(code, series, None, None, on, off, on_count, off_count, detail_factor)


def outside(
    code: int, series: int, low: int, high: int, margin: int, on_count: int = 2, off_count: int = 2
) -> "Rule":
    """Raised under ``low`` or over ``high``, cleared when inside both by ``margin``."""
    return Rule(code, series, low, low + margin, high, high - margin, on_count, off_count, 1)
