"""What a node at work answers to who brings an update (OTA.md section 6.1).

To receive takes the heap of a node, so a pass is a life of its own (receive.py). Here is what comes before it: on the
heap for one command, and as little as that takes. What is agreed is kept by appointment.py.
"""

from firmware.durable import Document, read_file
from firmware.modules import forget
from firmware.pending import FILLED, FILLING, NOTHING, ON_TRIAL, PAYLOAD_SIZE, PLACES, SEQUENCE, SLOT, TOLD
from protocols.wire import update
from protocols.wire.errors import DecodeError, FrameError, WireError
from protocols.wire.ota import DELETE, NO_INDEX, NO_ROOM, NO_SESSION, NOT_WANTED, SETUP
from protocols.wire.parity import MAX_MISSING, MAX_ROW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.node import Node
    from protocols.wire.update import Pass

# Where an update is kept while it is received (pending.py, which is more than is needed here).
PIECES = "/update"
# What littlefs moves about, and what the outbox may ask for while a node receives: nothing else writes then.
_SPARE_BLOCKS = 8
# Of MicroPython itself (protocols/wire/interpreter.py): in the descriptor of a setup; the command that brings it.
IS_ONE = 1 << 31
FILL = 0x42
_ENTRY_HEAD = 3  # of what is received (pieces.py)
# Spreading factors that our drivers listen on; Hz that any of their chips can.
_SF_MIN, _SF_MAX = 7, 12
_HZ_MIN, _HZ_MAX = 150000000, 960000000


def take(node: "Node", message: "Any") -> None:
    """Answer one command. What nobody may say is counted, and changes nothing."""
    sequence = _release(node)  # first: there is no room for what finds it beside what answers
    try:
        answer = _answer(node, sequence, message.session, message.command)
    except WireError as exc:
        node.health.refused(exc.reason)
        return
    if answer:
        node.uplink.send_aside(update.UpdateStatus(sequence, message.session, answer))


def close() -> None:
    """Let go of this module and of what it loaded."""
    forget("firmware.offers")
    forget("protocols.wire.update")


def _release(node: "Node") -> int:
    from firmware import reports  # on the heap for less than this module

    sequence = reports.release(node.hal)
    forget("firmware.reports")
    return sequence


def _answer(node: "Node", sequence: int, session: int, command: bytes) -> "bytes | None":
    kind = command[0]
    if kind == update.WHO:
        return update.I_AM
    if kind == SETUP:
        return _setup(node, sequence, session, command)
    if kind == DELETE:
        return bytes((DELETE, _delete(node, session)))
    if kind == FILL:
        return _micropython(node, command)
    if kind == update.COME:
        return bytes((update.COME, _come(node, session, update.decode_pass(command))))
    return None  # the rest is for a node in a pass


# -- a session ------------------------------------------------------------------------------------------------------


def _head(node: "Node") -> "tuple[int, bytes]":
    """Session and setup of what is received; 0 and nothing where there is none."""
    data = read_file(node.hal.state_fs, PIECES, 16) or b""
    return int.from_bytes(data[3:5], "little"), data[5:16]


def _begin(node: "Node", data: bytes) -> None:
    with node.hal.state_fs.open(PIECES, "wb") as file:
        file.write(bytes((0, 0, len(data))) + data)


def _setup(node: "Node", sequence: int, session: int, command: bytes) -> "bytes | None":
    """As OtaReceiver answers it, which has no room here."""
    count, size = int.from_bytes(command[2:4], "little"), command[4] if len(command) == 11 else 0
    if not size or not 1 <= count <= MAX_ROW or command[6] >= size:
        raise DecodeError("a setup that nobody can mean")
    if _is_under_way(node):
        return None  # of this nothing can be said before the update under way has ended
    said = bytes((SETUP, 1)) + command[2:5] + bytes((command[5] & 7,)) + command[6:]
    had, kept = _head(node)
    refusal = 0
    if (had, kept) != (session, said):
        descriptor = int.from_bytes(command[7:], "little")
        if descriptor >= IS_ONE:
            refusal = _of_micropython(node)
        elif descriptor <= sequence:
            refusal = NOT_WANTED
        if session <= had:
            refusal |= NOT_WANTED
        if (count + 2 * MAX_MISSING) * (size + _ENTRY_HEAD) > _room(node):
            refusal |= NO_ROOM
        if not refusal:
            _begin(node, session.to_bytes(2, "little") + said)
    return bytes((SETUP, refusal))


def _room(node: "Node") -> int:
    """Bytes for it: what is received replaces what was."""
    fs = node.hal.state_fs
    found = fs.statvfs("/")
    try:
        old: int = fs.stat(PIECES)[6]
    except OSError:
        old = 0
    return int((found[3] - _SPARE_BLOCKS) * found[0]) + old


def _delete(node: "Node", session: int) -> int:
    had, kept = _head(node)
    if had != session or not kept:
        return NO_SESSION
    _begin(node, session.to_bytes(2, "little"))
    node.commands.pass_at_s = -1
    return 0


def _is_under_way(node: "Node") -> bool:
    return _phase(node) not in (NOTHING, TOLD, FILLING)


def _phase(node: "Node") -> int:
    kept = Document(node.hal.state_fs, "update").load()
    return kept[0] if kept else NOTHING


# -- MicroPython itself ---------------------------------------------------------------------------------------------


def _of_micropython(node: "Node") -> int:
    """Why it is not taken: this is how a setup of it is refused, before anything of it comes."""
    if node.identity.radio is not None:
        return NO_INDEX  # megabytes are for a cable
    return 0 if node.hal.has_places() else NO_ROOM


def _micropython(node: "Node", command: bytes) -> "bytes | None":
    """As filling.py answers the question, which has no room here; a piece is for a node in a pass."""
    if len(command) > 1:
        return None
    from firmware import pending

    phase = _phase(node)
    f = pending.Pending(node.hal.state_fs).f
    forget("firmware.pending")
    awaited = at = b"\0\0\0\0"
    runs = (Document(node.hal.state_fs, "micropython").load() or awaited)[:4]
    sequence = f[SEQUENCE].to_bytes(4, "little")
    if phase in (FILLING, FILLED):
        awaited, at = sequence, f[PAYLOAD_SIZE].to_bytes(4, "little")
    elif phase == ON_TRIAL and f[SLOT] >= PLACES:
        runs = sequence
    return bytes((FILL,)) + awaited + at[:3] + runs


# -- a pass ---------------------------------------------------------------------------------------------------------


def _come(node: "Node", session: int, one: "Pass") -> int:
    if not node.session.is_timely(one.answers):
        raise FrameError("late", "it answers uplink %d" % one.answers)
    had, kept = _head(node)
    if had != session or not (kept or _phase(node) == FILLING):
        return update.NO_SESSION
    if one.lasts_s > update.LASTS_MAX_S:
        return update.TOO_LONG
    if one.freq_hz and not can_hear(node.identity.radio is not None, one):
        return update.NO_RADIO
    from firmware import appointment

    is_busy = node.safe is not None or not node.commands.is_idle or _is_under_way(node)
    code = update.NOT_NOW
    if not (is_busy or appointment.has_news(node) or (one.freq_hz and appointment.is_in_use(node))):
        appointment.agree(node, session, one)
        code = update.COMES
    forget("firmware.appointment")  # to answer takes room
    return code


def can_hear(has_radio: bool, one: "Pass") -> bool:
    return has_radio and _SF_MIN <= one.sf <= _SF_MAX and _HZ_MIN <= one.freq_hz <= _HZ_MAX
