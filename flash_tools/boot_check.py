"""Whether a node that was just flashed runs: what it says on its line, listened to and never answered.

A node on a serial line says hello, sealed. One that has no epoch yet, or that nobody answers, begins a join, whose
first hello is sealed under the minted key alone: with that key it can be opened here, and says version, board and type.
A node on the air says nothing sealed on this line, and greets in plain text; a bridge says its state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flash_tools.chip import WIRE_ERRORS
from flash_tools.errors import BootFailed, LineLost
from flash_tools.plan import Content
from protocols.wire import envelope
from protocols.wire.errors import WireError
from protocols.wire.framing import SEALED, Decoder
from protocols.wire.join import GatewayJoin
from protocols.wire.limits import NONCE_SIZE
from protocols.wire.messages import Hello

# A node begins a join after three hellos that nobody answered, 2, 4 and 8 s apart.
BOOT_S = 60.0
_READ_S = 0.1
_READ_BYTES = 4096
_GREETING = re.compile(r"tidegate (\S+): node ([0-9a-f]{4}), (\S+) on (\S+), boot (\d+)")
_START = re.compile(r"rst:0x[0-9a-f]+")
_LOOP_STARTS = 4
# Said by the loader of every chip of the family, in one way of writing or another.
_DOWNLOAD = "waiting for download"
_NODE_KID_BYTES = 2
# What a bridge says of itself at its start (SPEC.md section 8): its version comes behind nine bytes.
_BRIDGE_CHANNEL, _BRIDGE_STATE, _BRIDGE_HEAD_BYTES = 2, 3, 9
# Its greeting may have been lost while the port was opened; a node that sends so many frames runs.
_FRAMES_WITHOUT_GREETING = 3


@dataclass
class Heard:
    """What came so far."""

    frames: int = 0
    starts: int = 0
    greeting: tuple[str, str, str, str] | None = None  # version, address, type, board
    hello: Hello | None = None
    bridge: str = ""  # version
    has_no_identity: bool = False
    last_line: str = ""


def watch(line: Any, where: str, content: Content, seconds: float) -> str:
    """What was heard at last: "hello", "frames", "greeting", "bridge" or "no identity". BootFailed for anything else.

    ``line`` is open at the baud rate of the console.
    """
    heard = Heard()
    decoder = Decoder()
    join = None
    if content.identity is not None:
        who = content.identity
        join = GatewayJoin(who.master_secret, who.master_salt, who.address)
    try:
        line.timeout = _READ_S
        for _ in range(round(seconds / _READ_S)):
            for channel, frame in decoder.feed(line.read(_READ_BYTES)):
                _on_frame(heard, channel, frame, join)
            for text in decoder.take_log():
                _on_text(heard, text, where)
            verdict = _verdict(heard, content, where)
            if verdict:
                return verdict
    except WIRE_ERRORS as error:
        raise LineLost(
            where,
            f"a port that went away while the node started ({error})",
            "its hello",
            "Plug it in again and run the same command: what is flashed stays, and is only checked",
        ) from error
    raise BootFailed(
        where,
        f"{heard.frames} frames and no hello that its key opens within {seconds:.0f} s"
        if heard.frames
        else f"nothing that a node says within {seconds:.0f} s"
        + (f"; last on its console: {heard.last_line!r}" if heard.last_line else ""),
        f"the hello of firmware {content.version}",
        "All was written and verified. Look at its console, and run the same command again",
    )


def _on_frame(heard: Heard, channel: int, frame: bytes, join: GatewayJoin | None) -> None:
    if channel == _BRIDGE_CHANNEL and frame[:1] == bytes([_BRIDGE_STATE]):
        heard.bridge = frame[_BRIDGE_HEAD_BYTES:].decode("utf-8", "replace")
    if channel != SEALED:
        return
    try:
        header = envelope.parse(frame, _NODE_KID_BYTES)
        heard.frames += 1
        if join is not None and len(header.kid_context) == NONCE_SIZE:
            heard.hello = join.hello(header, frame)
    except WireError:
        return  # another node's, or noise that passed a checksum


def _on_text(heard: Heard, text: str, where: str) -> None:
    heard.last_line = text[-80:]
    heard.starts += bool(_START.search(text))
    found = _GREETING.search(text)
    if found:
        version, address, node_type, board, _ = found.groups()
        heard.greeting = (version, address, node_type, board)
    if text.startswith("no identity"):
        heard.has_no_identity = True
    if text.startswith(("wrong firmware", "start failed", "no such air")):
        raise BootFailed(
            where, f"a node that says {text[:120]!r}", "one that starts", "Is --board right, and --type?"
        )
    if _DOWNLOAD in text.lower():
        raise BootFailed(
            where,
            "a chip that waits in its loader again",
            "one that runs its program",
            "All was written and verified. Something holds its boot pin low (GPIO0; GPIO9 on a C3 or C6): let go of "
            "BOOT, look at what is wired there, and press RESET",
        )
    if heard.starts >= _LOOP_STARTS:
        raise BootFailed(
            where,
            f"a chip that started {heard.starts} times; its last words: {heard.last_line!r}",
            "one that starts once",
            "All was written and verified: is the image for this module, and the supply strong enough?",
        )


def _verdict(heard: Heard, content: Content, where: str) -> str:
    """ "" while it is worth to go on listening."""
    if heard.hello is not None:
        _compare(where, content, heard.hello.firmware, heard.hello.board)
        return "hello"
    if heard.bridge:
        _compare(where, content, heard.bridge, content.board.NAME)
        return "bridge"
    if heard.greeting is not None:
        _compare(where, content, heard.greeting[0], heard.greeting[3])
        _compare_node(where, content, heard.greeting[1], heard.greeting[2])
        if content.identity is not None and content.identity.radio is not None:
            return "greeting"
    enough = 1 if heard.greeting is not None else _FRAMES_WITHOUT_GREETING
    if content.identity is None and heard.frames >= enough:
        return "frames"
    return "no identity" if heard.has_no_identity and content.state is None else ""


def _compare_node(where: str, content: Content, address: str, node_type: str) -> None:
    """On the air nothing sealed is said here: then the greeting is all that tells one node from another."""
    who = content.identity
    if who is not None and (address, node_type) != (f"{who.address:04x}", who.node_type):
        raise BootFailed(
            where,
            f"node {address} ({node_type})",
            f"node {who.address:04x} ({who.node_type})",
            "Another identity was written to this board since. Let a gateway that knows that node have its records; "
            "then end the unit that it was, and make a new one of the board",
        )


def _compare(where: str, content: Content, version: str, board: str) -> None:
    if version != content.version:
        raise BootFailed(
            where,
            f"a node that says it runs firmware {version}",
            f"{content.version}, which was flashed",
            "Something else is in its way: flash with --micropython and --repartition, and look at its console",
        )
    if board != content.board.NAME:
        raise BootFailed(
            where,
            f"a node that was minted for board {board}",
            f"{content.board.NAME}",
            "Name its own board with --board, or mint it anew",
        )
