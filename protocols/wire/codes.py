"""What the numbers inside messages mean: operations, events, health counters, settings (SPEC.md sections 2.1 to 2.5).

A gateway and a bench read the names; a node has no room for them, and uses the numbers.
"""

import sys

from protocols.wire.limits import (
    MAX_INTERVAL_S,
    MAX_SERIES,
    MAX_STATUS_PERIOD_S,
    MIN_STATUS_PERIOD_S,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Container

    from protocols.wire.messages import Args

# op of a command.
IDENTIFY = 1
REBOOT = 2
READ_NOW = 3
SET_INTERVAL = 4
REPORT_SETTINGS = 5
MAINTENANCE = 6
LEARN = 7
TEST_ALARM = 8
CALIBRATE = 9
CONSOLE = 10
SET_RADIO = 11
_OPERATION_MAX = SET_RADIO
MAX_IDENTIFY_S = 0xFFFF
MAX_CONSOLE_LINE = 255
# Steps of a calibration (SPEC.md 2.5).
CALIBRATE_ZERO = 0
CALIBRATE_SPAN = 1
CALIBRATE_APPLY = 2
CALIBRATE_DISCARD = 3
MAX_CALIBRATION = 0xFFFF

# code of an event, SPEC.md section 2.3.
EVENT_NAMES = {
    1: "low_dissolved_oxygen",
    2: "high_ammonia",
    3: "ph_out_of_range",
    4: "probe_fault",
    5: "supply_low",
    6: "cover_tilted",
    7: "cover_upturned",
    8: "cover_displaced",
    9: "level_high",
    10: "level_very_high",
    11: "gas_warning",
    12: "gas_alarm",
    13: "lift_trapped",
    14: "discharge_suspected",
    15: "water_class_worse",
    16: "records_lost",
    17: "clock_stepped",
    18: "maintenance",
    19: "test_alarm",
    20: "pose_learned",
    21: "calibrated",
    22: "safe_mode",
    23: "node_silent",
    24: "update_ended",
    32: "lift_trip",
    33: "lift_stopped_out_of_zone",
    34: "lift_overspeed",
    35: "lift_moved_with_door_open",
    36: "lift_long_stay",
    37: "lift_unintended_movement",
    38: "lift_door_fault",
    39: "lift_overran_top",
    40: "lift_overran_bottom",
    41: "lift_service_mode",
    42: "lift_ride_rough",
    43: "lift_floors_learned",
}
RECORDS_LOST = 16
CLOCK_STEPPED = 17
IN_MAINTENANCE = 18
ALARM_TEST = 19
POSE_LEARNED = 20
CALIBRATED = 21
SAFE_MODE = 22
NODE_SILENT = 23  # the gateway says so of a node
UPDATE = 24
# Codes below are those that somebody must hear of at once.
URGENT_CODES = 24

# Keys of a status' health map; the name of key k is HEALTH_NAMES[k].
HEALTH_NAMES = (
    "boots",
    "uptime_s",
    "reset_cause",
    "heap_free",
    "heap_free_min",
    "outbox_records",
    "outbox_free_records",
    "records_evicted",
    "sensor_errors",
    "frames_refused",
    "battery_mv",
    "interval_s",
    "settings_version",
    "frames_sent",
    "frames_resent",
    "clock_steps",
    "flash_errors",
    "wakes",
    "awake_s",
    "alarms_raised",
    "maintenance_s",
    "report_s",
    "alarm_repeat_s",
    "safe_mode",
    "down_rssi_dbm",
    "down_snr_tenth_db",
    "airtime_ms",
    "radio_sf",
    "radio_dbm",
    "frames_held_back",
)
TRACEBACK = 32

# Keys of a settings document and what each may be, SPEC.md section 2.4.
SETTING_NAMES = (
    "interval_s",
    "report_s",
    "status_s",
    "alarm_repeat_s",
    "tilt_deg",
    "tilt_hold_s",
    "displaced_deg",
    "level_high",
    "level_very_high",
    "battery_low_mv",
    "trapped_s",
    "rated_speed_mm_s",
    "long_stay_s",
    "target_class",
    "radio_sf",
    "radio_dbm",
)
# By key.
SETTING_RANGES = (
    (1, MAX_INTERVAL_S),
    (1, MAX_INTERVAL_S),
    (MIN_STATUS_PERIOD_S, MAX_STATUS_PERIOD_S),
    (60, MAX_INTERVAL_S),
    (5, 60),
    (5, 60),
    (2, 45),
    (-10000, 100000),
    (-10000, 100000),
    (1000, 60000),
    (30, 600),
    (250, 10000),
    (60, MAX_INTERVAL_S),
    (1, 5),
    (7, 12),
    (-9, 22),
)

if sys.implementation.name != "micropython":

    def _setting_name(key: int) -> str:
        return SETTING_NAMES[key]

else:

    def _setting_name(key: int) -> str:
        return "settings key %d" % key  # a node has no room for names


def command_problem(op: int, args: "Args") -> str:
    """What is wrong with the args of an operation, or "". An operation unknown here is not ours to judge."""
    if op == CALIBRATE:
        if not isinstance(args, (list, tuple)) or len(args) != 3:
            return "calibrate takes [series, step, value], not %r" % (args,)
        if not (0 <= args[0] < MAX_SERIES and CALIBRATE_ZERO <= args[1] <= CALIBRATE_DISCARD):
            return "calibrate: series 0 to %d, step 0 to 3, not %r" % (MAX_SERIES - 1, args)
        if args[1] == CALIBRATE_APPLY and not 1 <= args[2] <= MAX_CALIBRATION:
            return "calibrate: a calibration is numbered 1 to %d, not %d" % (MAX_CALIBRATION, args[2])
        return ""
    if op == SET_RADIO:
        if not isinstance(args, (list, tuple)) or len(args) != 2:
            return "set radio takes [spreading factor, dBm], not %r" % (args,)
        for value, (low, high) in zip(args, SETTING_RANGES[-2:]):
            if type(value) is not int or not low <= value <= high:
                return "set radio: spreading factor 7 to 12, -9 to 22 dBm, not %r" % (args,)
        return ""
    if isinstance(args, (list, tuple)) and op <= _OPERATION_MAX:
        return "operation %d takes no array" % op
    if op == MAINTENANCE and not (type(args) is int and 0 <= args <= MAX_INTERVAL_S):
        return "maintenance takes 0 to %d seconds, not %r" % (MAX_INTERVAL_S, args)
    if op == CONSOLE and not (type(args) is int and 0 <= args <= MAX_CONSOLE_LINE):
        return "console takes a line from 0 (the newest) to %d, not %r" % (MAX_CONSOLE_LINE, args)
    if op == IDENTIFY and not (type(args) is int and 0 <= args <= MAX_IDENTIFY_S):
        return "identify takes 0 to %d seconds, not %r" % (MAX_IDENTIFY_S, args)
    if op == SET_INTERVAL and not (type(args) is int and 1 <= args <= MAX_INTERVAL_S):
        return "set interval takes 1 to %d seconds, not %r" % (MAX_INTERVAL_S, args)
    if op in (REBOOT, READ_NOW, REPORT_SETTINGS, LEARN, TEST_ALARM) and args is not None:
        return "operation %d takes null, not %r" % (op, args)
    return ""


def settings_problem(
    document: "dict[int, int]", known: "Container[int] | None" = None, kept: "dict[int, int] | None" = None
) -> str:
    """Why a node must refuse the whole document, or "" when it must not; ``known``: the settings its type has.

    ``kept``: what it has of other releases, which may stay as it is.
    """
    for key, value in document.items():
        if kept and known is not None and key not in known and kept.get(key) == value:
            continue
        if not 0 <= key < len(SETTING_RANGES):
            return "settings key %d is not known" % key
        if known is not None and key not in known:
            return "settings key %d is not one of this node type" % key
        low, high = SETTING_RANGES[key]
        if not low <= value <= high:
            return "%s %d: allowed are %d to %d" % (_setting_name(key), value, low, high)
    return ""
