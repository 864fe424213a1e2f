"""What a node says after it was flashed, and what is made of it."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import Any

import pytest

from firmware import bridge
from flash_tools import boot_check
from flash_tools.errors import BootFailed, LineLost
from flash_tools.plan import Content
from protocols.wire import envelope, framing, messages
from protocols.wire.join import NodeJoin
from protocols.wire.messages import Hello
from tests.flash_tools.flash_rig import VERSION, app_of, board_of, identity_of

BOARD = board_of()
WHO = identity_of(BOARD)
_HELD = "boot 1, reset cause 1, no epoch, 0 records waiting"
GREETING = f"tidegate {VERSION}: node 0012, river on {BOARD.NAME}, {_HELD}\r\n"
ROM = b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n"


class Line:
    """Says these pieces, one each time it is read."""

    timeout = 1.0

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, _size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def content(**changed: Any) -> Content:
    return Content(**{"board": BOARD, "app": app_of(BOARD), "version": VERSION, **changed})


def hello(firmware: str = VERSION, board: str = BOARD.NAME) -> bytes:
    join = NodeJoin(WHO.master_secret, WHO.master_salt, WHO.address)
    said = Hello(0, None, 1, 1, "river", board, firmware, 1, 1)
    return framing.encode(join.start(random.Random(1).randbytes(8), said))


def sealed() -> bytes:
    """A frame in an epoch that only the gateway knows."""
    key = envelope.sender_key(WHO.master_secret, WHO.master_salt, b"0" * 16, envelope.node_kid(WHO.address))
    return framing.encode(envelope.seal(key, 7, b"\x80"))


def watch(wanted: Content, *pieces: bytes) -> str:
    return boot_check.watch(Line(*pieces), "port", wanted, 2.0)


def test_a_hello_is_opened_with_the_minted_key_whatever_comes_around_it() -> None:
    minted = content(identity=WHO, state=b"x")
    assert watch(minted, ROM, GREETING.encode(), sealed(), hello()[:20], hello()[20:]) == "hello"


def test_without_a_key_a_greeting_and_a_sealed_frame_will_do_or_some_frames() -> None:
    assert watch(content(), ROM + GREETING.encode() + sealed()) == "frames"
    assert watch(content(), sealed(), sealed(), sealed()) == "frames"
    with pytest.raises(BootFailed, match="1 frames and no hello"):
        watch(content(), sealed())


def test_a_node_on_the_air_says_nothing_sealed_here_and_greets() -> None:
    on_air = content(identity=WHO._replace(radio=(0, 0, 8, 0)), state=b"x")
    assert watch(on_air, ROM + GREETING.encode()) == "greeting"


def test_the_greeting_of_another_node_is_no_success() -> None:
    for who in (WHO, WHO._replace(radio=(0, 0, 8, 0))):
        for other in (GREETING.replace("0012", "0013"), GREETING.replace("river", "lift")):
            with pytest.raises(BootFailed, match=r"found node .* expected node 0012 \(river\)"):
                watch(content(identity=who), other.encode())


def test_a_bridge_says_its_state_and_its_version_counts() -> None:
    state = struct.pack(">BBBBBI", bridge.STATE, bridge.FORMAT, 0, 0, 7, 1234)
    on_air = content(identity=WHO._replace(node_type="bridge", radio=(0, 0, 1, 7)), state=b"x")
    assert watch(on_air, ROM, framing.encode(state + VERSION.encode(), bridge.CHANNEL)) == "bridge"
    with pytest.raises(BootFailed, match=r"runs firmware 0\.0\.9"):
        watch(on_air, framing.encode(state + b"0.0.9", bridge.CHANNEL))


def test_a_board_without_an_identity_says_so() -> None:
    said = b"no identity: nothing minted\r\n"
    assert watch(content(), ROM + said) == "no identity"
    with pytest.raises(BootFailed, match=r"last on its console: 'no identity"):
        watch(content(state=b"x", identity=WHO), ROM + said)


FAILURES = {
    "silence": ([], "nothing that a node says within 2 s", "the hello of firmware 0.1.0"),
    "a loop": ([ROM * 4], "started 4 times", "one that starts once"),
    "the loader": (
        [b"rst:0x1 (POWERON_RESET),boot:0x3 (DOWNLOAD_BOOT)\r\nwaiting for download\r\n"],
        "waits in its loader again",
        "runs its program",
    ),
    "another version": ([hello("0.0.9")], "runs firmware 0.0.9", "0.1.0, which was flashed"),
    "another board": ([hello(board="virtual")], "minted for board virtual", BOARD.NAME),
    "another version, greeted": (
        [GREETING.replace("0.1.0", "0.0.9").encode()],
        "runs firmware 0.0.9",
        "0.1.0",
    ),
    "the wrong MicroPython": (
        [b"wrong firmware: board x needs MicroPython (1, 25, 0)\r\n"],
        "wrong firmware",
        "starts",
    ),
    "a program that does not start": (
        [b"start failed (1 in a row): OSError(5,)\r\n"],
        "start failed",
        "starts",
    ),
    "another node's hello": (
        [framing.encode(b"\x09\x00\x00\x99" + bytes(20))],
        "1 frames and no hello",
        "the hello",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_no_hello_is_told_and_that_all_was_written(name: str) -> None:
    pieces, found, expected = FAILURES[name]
    with pytest.raises(BootFailed) as told:
        watch(content(identity=WHO, state=b"x"), *pieces)
    assert found in told.value.found
    assert expected in told.value.expected
    assert told.value.advice


def test_a_port_that_goes_away_meanwhile_is_told() -> None:
    class Gone(Line):
        def read(self, _size: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(LineLost, match="Plug it in again"):
        boot_check.watch(Gone(), "port", content(), 2.0)


def test_no_noise_whatever_passes_for_a_hello() -> None:
    rng = random.Random(7)
    noise = [rng.randbytes(400) for _ in range(20)] + [
        bytes([0]) + framing.encode(rng.randbytes(40)) for _ in range(2)
    ]
    with pytest.raises(BootFailed):
        watch(replace(content(), identity=WHO, state=b"x"), *noise)
    assert messages.decode_up(messages.encode(Hello(0, None, 1, 1, "a", "b", "c", 1, 1)))
