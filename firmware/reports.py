"""What a node says of itself: hello, status, and the line it greets the console with.

Needed at a start, once a day, and while nobody answers: on the heap only then.
"""

from firmware.outbox import EVENTS, READINGS
from firmware.settings import ALARM_REPEAT_S, INTERVAL_S, REPORT_S
from protocols.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node
    from protocols.wire.messages import Hello, Status

FIRMWARE = "0.1.0"
# Of a bundle (wire/release.py); its first two bytes, and where its sequence ends at most.
_RELEASE = "release.cbor"
_VERSION_1 = b"\x86\x01"
_HEAD_BYTES = 7

# Keys of the health map (SPEC.md 2.1).
BOOTS = 0
UPTIME_S = 1
RESET_CAUSE = 2
HEAP_FREE = 3
HEAP_FREE_MIN = 4
OUTBOX_RECORDS = 5
OUTBOX_FREE_RECORDS = 6
RECORDS_EVICTED = 7
SENSOR_ERRORS = 8
FRAMES_REFUSED = 9
BATTERY_MV = 10
SETTINGS_INTERVAL_S = 11
SETTINGS_VERSION = 12
FRAMES_SENT = 13
FRAMES_RESENT = 14
CLOCK_STEPS = 15
FLASH_ERRORS = 16
WAKES = 17
AWAKE_S = 18
ALARMS_RAISED = 19
MAINTENANCE_S = 20
SETTINGS_REPORT_S = 21
SETTINGS_ALARM_REPEAT_S = 22
SAFE_MODE = 23
TRACEBACK = 32
COUNTS_OF_TROUBLE = (RECORDS_EVICTED, SENSOR_ERRORS, FRAMES_REFUSED, FRAMES_RESENT, CLOCK_STEPS, FLASH_ERRORS)


def release(hal: "Hal") -> int:
    """The sequence of the release that this program is; 0: it is none. What else the file says is not looked at."""
    try:
        with hal.open_program(_RELEASE) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return 0
    if len(head) < _HEAD_BYTES or head[:2] != _VERSION_1:
        return 0
    first = head[2]  # a CBOR number of at most 30 bits
    return first if first < 24 else int.from_bytes(head[3 : 3 + (1 << (first & 3))], "big")


def firmware(node: "Node") -> str:
    """Version, and release: 0.1.0+r12 (SPEC.md section 2.1)."""
    sequence = release(node.hal)
    return FIRMWARE + "+r%d" % sequence if sequence else FIRMWARE


def hello(node: "Node") -> "Hello":
    epoch = node.session.epoch
    return messages.Hello(
        node.session.dn_piv,
        epoch,
        node.outbox.oldest_in(epoch),
        node.outbox.next_seq,
        node.identity.node_type,
        node.identity.board,
        firmware(node),
        node.health.boots,
        node.hal.reset_cause,
    )


def status(node: "Node") -> "Status":
    time, tq = node.record_time()
    return messages.Status(node.session.dn_piv, time, tq, _counters(node))


def _counters(node: "Node") -> "dict[int, int | str]":
    health = node.health
    outbox = node.outbox
    counters: "dict[int, int | str]" = {
        BOOTS: health.boots,
        UPTIME_S: node.hal.clock.uptime_s(),
        RESET_CAUSE: node.hal.reset_cause,
        HEAP_FREE: health.heap_free,
        HEAP_FREE_MIN: health.heap_free_min,
        OUTBOX_RECORDS: outbox.count(READINGS) + outbox.count(EVENTS),
        OUTBOX_FREE_RECORDS: outbox.free_records,
        RECORDS_EVICTED: outbox.evicted,
        SENSOR_ERRORS: node.sensor_errors(),
        FRAMES_REFUSED: sum(health.refusals.values()) + node.carrier.line_errors,
        SETTINGS_INTERVAL_S: node.settings[INTERVAL_S],
        SETTINGS_REPORT_S: node.settings[REPORT_S],
        SETTINGS_VERSION: node.settings.version,
        FRAMES_SENT: health.frames_sent,
        FRAMES_RESENT: health.frames_resent,
        CLOCK_STEPS: health.clock_steps,
        FLASH_ERRORS: health.flash_errors + outbox.flash_errors,
        ALARMS_RAISED: _ones(node.alarms.raised),
    }
    supply_mv = _supply_mv(node)
    if supply_mv is not None:
        counters[BATTERY_MV] = supply_mv
    if node.settings.has(ALARM_REPEAT_S):
        counters[SETTINGS_ALARM_REPEAT_S] = node.settings[ALARM_REPEAT_S]
    if node.maintenance.seconds:
        counters[MAINTENANCE_S] = node.maintenance.left_s()
    if node.safe is not None:
        counters[SAFE_MODE] = node.safe.failed
    if node.nap is not None:
        counters[WAKES] = node.nap.wakes
        counters[AWAKE_S] = node.nap.awake_s()
    if node.identity.radio is not None:
        counters.update(node.carrier.health())  # keys 24 to 29
        counters[SENSOR_ERRORS] = node.sensor_errors() + node.carrier.errors
        for key in COUNTS_OF_TROUBLE:
            if not counters[key]:
                del counters[key]  # what did not happen is not told: a status then fits one packet at SF10
    if health.traceback:
        counters[TRACEBACK] = health.traceback
    return counters


def _supply_mv(node: "Node") -> "int | None":
    """What the board's supply channel says; None for a board without one, and for an ADC that does not do its work."""
    try:
        return node.hal.read_mv("supply")
    except (OSError, ValueError, AttributeError):
        return None


def _ones(bits: int) -> int:
    count = 0
    while bits:
        count += bits & 1
        bits >>= 1
    return count


def greeting(node: "Node", type_name: str) -> str:
    """For a person at the console."""
    return "tidegate %s: node %04x, %s on %s, boot %d, reset cause %d, %s, %d records waiting" % (
        firmware(node),
        node.identity.address,
        type_name,
        node.identity.board,
        node.health.boots,
        node.hal.reset_cause,
        "no epoch" if node.session.epoch is None else "epoch %012x" % node.session.epoch,
        node.outbox.count(READINGS) + node.outbox.count(EVENTS),
    )
