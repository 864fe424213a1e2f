"""How much of a bus a plan needs, to the character: `check` refuses what no line can carry.

Periods meet on a grid, and what is due together is read together. So the load is worked out over the whole pattern
of moments when that is short enough, and from above (every period by itself) when it is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

from gateway import limits
from gateway.pollers.modbus_device import DeviceState
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import Device

BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
# Beyond this there is no room for writes, probes and a repeated request.
LOAD_HIGH = 0.8


def device_load(line: Line, device: Device, pause_s: float = 0.0) -> float:
    """Seconds of the line that `device` needs in each second; with its pauses: of its own time."""
    state = DeviceState(device, line, 0.0)
    periods_ms = [max(1, round(point.period_s * 1000)) for point in device.points]
    pattern_ms = reduce(math.lcm, periods_ms, 1)
    if sum(pattern_ms // period_ms for period_ms in set(periods_ms)) > limits.MODBUS_LOAD_MOMENTS_MAX:
        return _from_above(state, periods_ms, pause_s) + _switching(line, device)
    moments = sorted({at for period in set(periods_ms) for at in range(0, pattern_ms, period)})
    due_sets: dict[tuple[int, ...], int] = {}
    for at_ms in moments:
        due = tuple(index for index, period_ms in enumerate(periods_ms) if at_ms % period_ms == 0)
        due_sets[due] = due_sets.get(due, 0) + 1
    total_s = sum(count * state.reading_s(due, pause_s) for due, count in due_sets.items())
    return total_s * 1000 / pattern_ms + _switching(line, device)


def _from_above(state: DeviceState, periods_ms: Sequence[int], pause_s: float) -> float:
    rows = {
        period: tuple(i for i, own in enumerate(periods_ms) if own == period) for period in set(periods_ms)
    }
    return sum(state.reading_s(row, pause_s) * 1000 / period for period, row in rows.items())


def _switching(line: Line, device: Device) -> float:
    """Starting and stopping, at most once in the shortest period."""
    if not device.start or not device.stop:
        return 0.0
    steps_s = sum(line.exchange_s(step, device.turnaround_s) for step in (*device.start, *device.stop))
    return steps_s / min(point.period_s for point in device.points)


def bus_load(line: Line, devices: Sequence[Device]) -> float:
    """Seconds of the line that all `devices` need in each second."""
    return sum(device_load(line, device) for device in devices)


def problem(line: Line, devices: Sequence[Device]) -> str:
    """Why the plan is impossible and what would help, "" when it is not."""
    load = bus_load(line, devices)
    if load <= 1.0:
        return _restless(line, devices)
    loads = sorted(((device_load(line, device), device.name) for device in devices), reverse=True)
    worst = ", ".join(f"{name} {100 * share:.0f} %" for share, name in loads[:3])
    where = f"at {line.baud} baud" if line.baud else "over the network"
    return (
        f"this plan needs {load:.1f} s of every 1 s {where} (most: {worst}). "
        f"Read less often (periods {load / LOAD_HIGH:.1f} times as long would do){_faster(line, devices)}."
    )


def _restless(line: Line, devices: Sequence[Device]) -> str:
    """Why a device can not be read so often although the bus has the time."""
    for device in devices:
        own = device_load(line, device, device.gap_s) if device.gap_s else 0.0
        if own > 1.0:
            return (
                f"{device.name} needs {own:.1f} s of every 1 s for itself, for it wants {1000 * device.gap_s:g} ms of "
                f"silence between requests. Read it less often (periods {own / LOAD_HIGH:.1f} times as long would do)."
            )
    return ""


def _faster(line: Line, devices: Sequence[Device]) -> str:
    for baud in BAUDS:
        if line.baud and baud > line.baud:
            load = bus_load(line._replace(baud=baud), devices)
            if load <= LOAD_HIGH:
                return f", or set bus and devices to {baud} baud ({load:.1f} s of every 1 s)"
    return ", or divide the devices among several buses"
