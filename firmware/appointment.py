"""When a node is to be at a pass, and how it goes there (OTA.md section 6.2): on the heap when that is agreed or due.

What is agreed waits in the command runner, over deep sleeps too:

order = at u32 | ends u32 (uptimes) | session u16; of a pass also: named u8 | Hz u32 | spreading factor u8 | key
"""

from struct import calcsize, pack

from firmware.durable import Document
from firmware.lane import EVENTS
from firmware.modules import forget
from protocols.wire import update
from protocols.wire.update import COME, COMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node
    from protocols.wire.update import Pass

# The document that names the pass a start begins with: seconds until it begins u16 | seconds it lasts u16 | the series
# that are silent u16 | session u16 | passes that may be named after it u8 | Hz u32 | spreading factor u8 | bytes of the
# next u8 | what the channel goes on from, as after a sleep | key (16 bytes, or none) | names of inputs that end it,
# joined by ","
DOCUMENT = "call"
HEAD = ">HHHHBIBB"
# Passes that are named by those before them: so many in a row, for whoever knows the key of a broadcast can name one.
# Then a node wants to hear of it under its own key, and not all of them at the same pass.
_NAMED_MIN, _NAMED_SPREAD = 8, 7
# An appointment is checked again so long before it, and up to so much earlier, or a street of nodes would ask at once.
_CHECK_IN_S = 300
_CHECK_JITTER_S = 60
# What is measured before a node goes takes so long where a sensor says nothing; else a second.
_MEASURE_S = 5
# The order of a broadcast is longer than the key in it. Its first rows are said when it begins, whoever is there; alone
# a node asks for its own.
_SECRET_BYTES = 16
# A frame that was just sent or heard may have another behind it.
_QUIET_MS = 100
# After a start, until a watch that looks every second has begun to count for how long something has been so.
_SEE_S = 5


def close() -> None:
    """Let go of this module and of what it loaded."""
    forget("firmware.appointment")
    forget("protocols.wire.update")


def agree(node: "Node", session: int, one: "Pass") -> None:
    now_s = node.hal.clock.uptime_s()
    wait_s = max(0, one.begins_in // 10 - (now_s - node.session.latest_at_s))
    order = session.to_bytes(2, "big")
    if wait_s > update.APPOINTMENT_S:
        jitter_s = _CHECK_JITTER_S * node.hal.random(1)[0] >> 8
        wait_s = wait_s * 19 // 20 - _CHECK_IN_S - jitter_s
    else:
        order += pack(">BIB", named(node.hal), one.freq_hz, one.sf) + one.secret
    _appoint(node, wait_s, one.lasts_s, order)


def named(hal: "Hal") -> int:
    """How many passes may be named after one that this node was told of under its own key."""
    return _NAMED_MIN + (hal.random(1)[0] & _NAMED_SPREAD)


def _appoint(node: "Node", wait_s: int, lasts_s: int, order: bytes) -> None:
    """In so many seconds, as far as this node's clock is to be trusted: it comes early, and stays for longer."""
    early_s = 1
    if node.nap is not None or len(order) > _SECRET_BYTES:
        early_s = update.START_S + (_MEASURE_S if _lacking(node) else 0)
    if node.nap is not None:
        early_s += wait_s // update.DRIFT_OF
    at_s = node.hal.clock.uptime_s() + max(0, wait_s - early_s)
    node.commands.order = pack(">II", at_s, at_s + 2 * early_s + lasts_s) + order
    node.commands.pass_at_s = at_s


def again(node: "Node", call: bytes) -> None:
    """A pass that was agreed in the life before, and begins later (`call` is what the document held)."""
    at = calcsize(HEAD) + call[14]
    secret = call[at : at + _SECRET_BYTES] if call[13] else b""
    if call[14]:
        from firmware import carry

        # Nobody need be told of this start: a hundred nodes that said hello would be answered at the same moment.
        carry.go_on(node.session.channel, call[calcsize(HEAD) : at])
        forget("firmware.carry")
        node.uplink.must_hello = False
    _appoint(node, int.from_bytes(call[:2], "big"), int.from_bytes(call[2:4], "big"), call[6:14] + secret)
    # It may have been an input that ended the pass before: what that means is seen first.
    node.commands.pass_at_s = max(node.commands.pass_at_s, node.hal.clock.uptime_s() + _SEE_S)


def has_news(node: "Node") -> bool:
    """Whether the gateway lacks an event. An alarm that it knows of may last for weeks, and holds up no update."""
    return node.outbox.count(EVENTS) > 0


def go(node: "Node") -> None:
    """It is time: check in, or begin the life that receives once nothing else is under way; that does not return."""
    runner = node.commands
    order = runner.order
    session = int.from_bytes(order[8:10], "big")
    now_s = node.hal.clock.uptime_s()
    ends_s = int.from_bytes(order[4:8], "big")
    if len(order) == 10:
        runner.pass_at_s = -1
        from firmware import reports

        sequence = reports.release(node.hal)
        forget("firmware.reports")
        node.uplink.send_aside(update.UpdateStatus(sequence, session, bytes((COME, COMES))))
    elif now_s >= ends_s:
        runner.pass_at_s = -1  # something else was more urgent for all the time of it
    elif not (
        has_news(node)
        or _is_uneasy(node, ends_s - now_s)
        or (int.from_bytes(order[11:15], "big") and is_in_use(node))
        or node.carrier.is_busy
        or node.uplink.quiet_ms() < _QUIET_MS
    ):
        if _is_measured(node, int.from_bytes(order[:4], "big")):
            _reset(node, order, ends_s - now_s)


def _is_measured(node: "Node", at_s: int) -> bool:
    """Whether it is known what is silent here, which a release will be judged by (gate.py); else it is measured.

    A node that woke for the pass has measured nothing, and the first set of a lift lacks what its barometer had no time
    to say. So what lacks something is looked at again, after the time at which the pass was to begin.
    """
    if node.has_measured and (node.finished_s > at_s or not _lacking(node)):
        return True
    node.begin_measurement(False)
    return False


def _lacking(node: "Node") -> int:
    """As pending.py has it; before the first measurement everything."""
    from firmware import pending

    found = pending.lacking(node)
    forget("firmware.pending")
    return found


def is_in_use(node: "Node") -> bool:
    """Whether somebody is in the car, or it moves: a lift that receives would see nobody trapped."""
    lift = getattr(node.watch, "lift", None)
    return lift is not None and bool(lift.motion.state or lift.faults.somebody)


def _is_uneasy(node: "Node", left_s: int) -> bool:
    """Whether what its watch sees may become an alarm, or the end of one, by time alone before the pass is over."""
    return node.nap is not None and node.watch is not None and node.watch.wait_s() < left_s


def _reset(node: "Node", order: bytes, left_s: int) -> None:
    from firmware import carry

    pins = ",".join(node.watch.wake_pins()) if node.watch is not None else ""
    lacks = _lacking(node)
    freq_hz, sf = int.from_bytes(order[11:15], "big"), order[15]
    node.outbox.flush()
    rest = carry.counters(node.session.channel)  # nothing is sent or accepted after this
    call = pack(HEAD, 0, left_s, lacks, int.from_bytes(order[8:10], "big"), order[10], freq_hz, sf, len(rest))
    Document(node.hal.state_fs, DOCUMENT).save(call + rest + order[16:] + pins.encode())
    node.hal.reset()
