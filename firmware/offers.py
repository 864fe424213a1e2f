"""What a node at work answers to who brings an update (OTA.md section 6.1), and how it goes to a pass.

To receive takes the heap of a node, so a pass is a life of its own (receive.py). Here is what comes before it: on the
heap for one command, as little as it takes. What is agreed waits in the command runner, over deep sleeps too:

order = at u32 | ends u32 (uptimes) | session u16; of a pass also: Hz u32 | spreading factor u8 | key
"""

from struct import pack

from firmware import pending, reports
from firmware.durable import Document, read_file
from firmware.lane import EVENTS
from firmware.modules import forget
from protocols.wire import ota, update
from protocols.wire.errors import DecodeError, FrameError
from protocols.wire.parity import MAX_MISSING, MAX_ROW
from protocols.wire.update import COME, COMES, NO_RADIO, NO_SESSION, NOT_NOW, TOO_LONG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.node import Node
    from protocols.wire.update import Pass, Update

# The document that names the pass a start begins with: seconds until it begins u16 | seconds it lasts u16 | flags u8 |
# session u16 | Hz u32 | spreading factor u8 | bytes of the next u8 | what the channel goes on from, as after a sleep |
# key (16 bytes, or none) | names of inputs that end it, joined by ","
DOCUMENT = "pass"
HEAD = ">HHBHIBB"
# What littlefs moves about, and what the outbox may ask for while a node receives: nothing else writes then.
_SPARE_BLOCKS = 8
# Of MicroPython itself (protocols/wire/interpreter.py): in the descriptor of a setup; the command that brings it.
IS_ONE = 1 << 31
FILL = 0x42
_ENTRY_HEAD = 3  # of what is received (pieces.py)
# An appointment is checked again so long before it, and up to so much earlier, or a street of nodes would ask at once.
_CHECK_IN_S = 300
_CHECK_JITTER_S = 200
# A frame that was just sent or heard may have another behind it.
_QUIET_MS = 100
# Spreading factors that our drivers listen on; Hz that any of their chips can.
_SF_MIN, _SF_MAX = 7, 12
_HZ_MIN, _HZ_MAX = 150000000, 960000000


def take(node: "Node", message: "Update") -> None:
    """Answer one command. WireError for what nobody may say; then nothing has changed."""
    answer = _answer(node, message.session, message.command)
    if answer:
        _say(node, message.session, answer)


def close() -> None:
    """Let go of this module and of what it loaded."""
    for name in ("offers", "pending", "reports"):
        forget("firmware." + name)
    for name in ("ota", "update", "parity"):
        forget("protocols.wire." + name)


def _say(node: "Node", session: int, answer: bytes) -> None:
    node.uplink.send_aside(update.UpdateStatus(reports.release(node.hal), session, answer))


def _answer(node: "Node", session: int, command: bytes) -> "bytes | None":
    kind = command[0]
    if kind == update.WHO:
        return update.I_AM
    if kind == ota.SETUP:
        return _setup(node, session, command)
    if kind == ota.DELETE:
        return bytes((ota.DELETE, _delete(node, session)))
    if kind == FILL:
        return _micropython(node, command)
    if kind == COME:
        return bytes((COME, _come(node, session, update.decode_pass(command))))
    return None  # the rest is for a node in a pass


# -- a session ------------------------------------------------------------------------------------------------------


def _head(node: "Node") -> "tuple[int, bytes]":
    """Session and setup of what is received; 0 and nothing where there is none."""
    data = read_file(node.hal.state_fs, pending.PIECES, 16) or b""
    return int.from_bytes(data[3:5], "little"), data[5:16]


def _begin(node: "Node", data: bytes) -> None:
    with node.hal.state_fs.open(pending.PIECES, "wb") as file:
        file.write(bytes((0, 0, len(data))) + data)


def _setup(node: "Node", session: int, command: bytes) -> "bytes | None":
    """As OtaReceiver answers it, which has no room here."""
    count, size = int.from_bytes(command[2:4], "little"), command[4] if len(command) == 11 else 0
    if not size or not 1 <= count <= MAX_ROW or command[6] >= size:
        raise DecodeError("a setup that nobody can mean")
    if _is_under_way(node):
        return None  # of this nothing can be said before the update under way has ended
    said = bytes((ota.SETUP, 1)) + command[2:5] + bytes((command[5] & 7,)) + command[6:]
    had, kept = _head(node)
    refusal = 0
    if (had, kept) != (session, said):
        descriptor = int.from_bytes(command[7:], "little")
        if descriptor >= IS_ONE:
            refusal = _of_micropython(node)
        elif descriptor <= reports.release(node.hal):
            refusal = ota.NOT_WANTED
        if session <= had:
            refusal |= ota.NOT_WANTED
        if (count + 2 * MAX_MISSING) * (size + _ENTRY_HEAD) > _room(node):
            refusal |= ota.NO_ROOM
        if not refusal:
            _begin(node, session.to_bytes(2, "little") + said)
    return bytes((ota.SETUP, refusal))


def _room(node: "Node") -> int:
    """Bytes for it: what is received replaces what was."""
    fs = node.hal.state_fs
    found = fs.statvfs("/")
    try:
        old: int = fs.stat(pending.PIECES)[6]
    except OSError:
        old = 0
    return int((found[3] - _SPARE_BLOCKS) * found[0]) + old


def _delete(node: "Node", session: int) -> int:
    had, kept = _head(node)
    if had != session or not kept:
        return ota.NO_SESSION
    _begin(node, session.to_bytes(2, "little"))
    node.commands.pass_at_s = -1
    return 0


def _is_under_way(node: "Node") -> bool:
    return _phase(node) not in (pending.NOTHING, pending.TOLD, pending.FILLING)


def _phase(node: "Node") -> int:
    return int(pending.Pending(node.hal.state_fs).f[pending.PHASE])


# -- MicroPython itself ---------------------------------------------------------------------------------------------


def _of_micropython(node: "Node") -> int:
    """Why it is not taken: this is how a setup of it is refused, before anything of it comes."""
    if node.identity.radio is not None:
        return ota.NO_INDEX  # megabytes are for a cable
    return 0 if node.hal.has_places() else ota.NO_ROOM


def _micropython(node: "Node", command: bytes) -> "bytes | None":
    """As filling.py answers the question, which has no room here; a piece is for a node in a pass."""
    if len(command) > 1:
        return None
    f = pending.Pending(node.hal.state_fs).f
    awaited = at = b"\0\0\0\0"
    runs = (Document(node.hal.state_fs, "micropython").load() or awaited)[:4]
    sequence = f[pending.SEQUENCE].to_bytes(4, "little")
    if f[pending.PHASE] in (pending.FILLING, pending.FILLED):
        awaited, at = sequence, f[pending.PAYLOAD_SIZE].to_bytes(4, "little")
    elif f[pending.PHASE] == pending.ON_TRIAL and f[pending.SLOT] >= pending.PLACES:
        runs = sequence
    return bytes((FILL,)) + awaited + at[:3] + runs


# -- a pass ---------------------------------------------------------------------------------------------------------


def _come(node: "Node", session: int, one: "Pass") -> int:
    if not node.session.is_timely(one.answers):
        raise FrameError("late", "it answers uplink %d" % one.answers)
    had, kept = _head(node)
    if had != session or not (kept or _phase(node) == pending.FILLING):
        return NO_SESSION
    if one.lasts_s > update.LASTS_MAX_S:
        return TOO_LONG
    if one.freq_hz and not can_hear(node.identity.radio is not None, one):
        return NO_RADIO
    if node.safe is not None or not node.commands.is_idle or _is_alarmed(node) or _is_under_way(node):
        return NOT_NOW
    lift = getattr(node.watch, "lift", None)
    if one.freq_hz and lift is not None and lift.motion.state:
        return NOT_NOW
    _agree(node, session, one)
    return COMES


def can_hear(has_radio: bool, one: "Pass") -> bool:
    return has_radio and _SF_MIN <= one.sf <= _SF_MAX and _HZ_MIN <= one.freq_hz <= _HZ_MAX


def _agree(node: "Node", session: int, one: "Pass") -> None:
    now_s = node.hal.clock.uptime_s()
    wait_s = max(0, one.begins_in // 10 - (now_s - node.session.latest_at_s))
    order = session.to_bytes(2, "big")
    if wait_s > update.APPOINTMENT_S:
        jitter_s = _CHECK_JITTER_S * node.hal.random(1)[0] >> 8
        wait_s = wait_s * 19 // 20 - _CHECK_IN_S - jitter_s
    else:
        order += pack(">IB", one.freq_hz, one.sf) + one.secret
    _appoint(node, wait_s, one.lasts_s, order)


def _appoint(node: "Node", wait_s: int, lasts_s: int, order: bytes) -> None:
    """In so many seconds, as far as this node's clock is to be trusted: it comes early, and stays for longer."""
    early_s = 1 if node.nap is None else update.START_S + wait_s // update.DRIFT_OF
    at_s = node.hal.clock.uptime_s() + max(0, wait_s - early_s)
    node.commands.order = pack(">II", at_s, at_s + 2 * early_s + lasts_s) + order
    node.commands.pass_at_s = at_s


def again(node: "Node", call: bytes) -> None:
    """A pass that was agreed in the life before, and begins later (`call` is what the document held)."""
    secret = call[13:29] if call[11] else b""
    _appoint(node, int.from_bytes(call[:2], "big"), int.from_bytes(call[2:4], "big"), call[5:12] + secret)


def _is_alarmed(node: "Node") -> bool:
    return node.alarms.raised != 0 or node.outbox.count(EVENTS) > 0


def go(node: "Node") -> None:
    """It is time: check in, or begin the life that receives once nothing else is under way; that does not return."""
    runner = node.commands
    order = runner.order
    session = int.from_bytes(order[8:10], "big")
    now_s = node.hal.clock.uptime_s()
    ends_s = int.from_bytes(order[4:8], "big")
    if len(order) == 10:
        runner.pass_at_s = -1
        _say(node, session, bytes((COME, COMES)))
    elif now_s >= ends_s:
        runner.pass_at_s = -1  # something else was more urgent for all the time of it
    elif not (_is_alarmed(node) or node.carrier.is_busy or node.uplink.quiet_ms() < _QUIET_MS):
        _reset(node, order, ends_s - now_s)


def _reset(node: "Node", order: bytes, left_s: int) -> None:
    pins = ",".join(node.watch.rest()) if node.watch is not None else ""
    mute = 0 if pending.has_answered(node) else pending.MUTE
    freq_hz, sf = int.from_bytes(order[10:14], "big"), order[14]
    node.outbox.flush()
    rest = node.session.rest()  # nothing is sent or accepted after this
    call = pack(HEAD, 0, left_s, mute, int.from_bytes(order[8:10], "big"), freq_hz, sf, len(rest))
    Document(node.hal.state_fs, DOCUMENT).save(call + rest + order[15:] + pins.encode())
    node.hal.reset()
