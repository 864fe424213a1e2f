"""An image of MicroPython that is not what was signed is not started; nothing is written beyond what was announced."""

from __future__ import annotations

import hashlib
from dataclasses import replace as replace_of
from pathlib import Path
from typing import Any

import pytest

from firmware import filling, pending, replace
from firmware.pieces import Pieces
from hil_tests.world.flash import LittleFs
from protocols import suit
from protocols.wire import identity, interpreter, ota, outcomes
from tests.firmware import refuse_cases
from tests.firmware.install_world import Hal, Reset
from tests.firmware.refuse_cases import RUNS
from tests.firmware.refuse_world import Yard, load
from tests.wire.release_cases import VENDOR, envelope

IMAGE = bytes(range(256)) * 40
SEQUENCE = 4


class Places:
    this = 0
    pending = -1
    room = 1 << 16

    def __init__(self) -> None:
        self.flash = bytearray(b"\xff" * self.room)
        self.is_set = False

    def read(self, at: int, buffer: Any) -> None:
        buffer[:] = self.flash[at : at + len(buffer)]

    def erase(self, block: int) -> None:
        self.flash[4096 * block : 4096 * block + 4096] = b"\xff" * 4096

    def write(self, at: int, data: bytes) -> None:
        self.flash[at : at + len(data)] = data

    def boot_other(self) -> None:
        self.is_set = True

    def confirm(self) -> None:
        pass

    def steady(self) -> None:
        pass


class Board(Hal):
    def __init__(self, yard: Yard) -> None:
        super().__init__(yard.state(), yard.app(), 0)  # type: ignore[no-untyped-call]
        self.place = Places()

    def places(self) -> Places:  # type: ignore[override]
        return self.place


@pytest.fixture
def board(tmp_path: Path) -> Board:
    refuse_cases.write(tmp_path / "cases.json")
    return Board(Yard(LittleFs, load(tmp_path / "cases.json")[0]))


def awaited(board: Board, phase: int = pending.FILLING, judge: int = RUNS) -> pending.Pending:
    found = pending.Pending(board.state_fs)
    f = found.f
    f[pending.PHASE], f[pending.SLOT], f[pending.JUDGE] = phase, pending.PLACES + 1, judge
    f[pending.SEQUENCE], f[pending.SIZE] = SEQUENCE, len(IMAGE)
    f[pending.DIGEST], f[pending.PAYLOAD_DIGEST] = hashlib.sha256(IMAGE).digest(), b""
    found.save()
    return found


def run(board: Board) -> str:
    """How the start that looks at the image ends."""
    with pytest.raises(Reset):
        replace.run(board, pending.Pending(board.state_fs))  # type: ignore[arg-type]
    f = pending.Pending(board.state_fs).f
    return "on trial" if f[pending.PHASE] == pending.ON_TRIAL else outcomes.OUTCOMES[f[pending.OUTCOME]][0]


def fill(board: Board, image: bytes = IMAGE) -> filling.Filling:
    coming = filling.Filling(board)  # type: ignore[arg-type]
    for at in range(0, len(image), 400):
        coming.hear(interpreter.piece(at, image[at : at + 400]))
    return coming


def test_an_image_is_started_when_it_is_what_was_signed(board: Board) -> None:
    awaited(board)
    assert fill(board).is_full
    assert board.place.flash[: len(IMAGE)] == IMAGE
    assert run(board) == "on trial"
    assert board.place.is_set


@pytest.mark.parametrize("at", [0, 5000, len(IMAGE) - 1])
def test_an_image_with_a_bit_of_its_own_is_not_started(board: Board, at: int) -> None:
    awaited(board)
    assert fill(board, IMAGE[:at] + bytes((IMAGE[at] ^ 1,)) + IMAGE[at + 1 :]).is_full
    assert run(board) == "payload"
    assert not board.place.is_set


def test_an_image_that_another_release_verified_is_not_started(board: Board) -> None:
    awaited(board, judge=RUNS - 1)
    assert fill(board).is_full
    assert run(board) == "unknown-key"
    assert not board.place.is_set


def test_pieces_out_of_order_and_beyond_the_end_are_not_written(board: Board) -> None:
    awaited(board)
    coming = filling.Filling(board)  # type: ignore[arg-type]
    for at in (1, 400, len(IMAGE), (1 << 24) - 1):
        answer = coming.hear(interpreter.piece(at, b"??"))
        assert interpreter.decode_answer(answer or b"") == (SEQUENCE, 0, 0)
    assert set(board.place.flash) == {0xFF}
    fill(board, IMAGE[:-1])
    coming = filling.Filling(board)  # type: ignore[arg-type]
    assert not coming.is_full
    short = fill(board, IMAGE[:10_000])
    at = interpreter.decode_answer(short.answer())[1]
    while at < len(IMAGE) - 100:
        short.hear(interpreter.piece(at, IMAGE[at : min(at + 400, len(IMAGE) - 100)]))
        at = min(at + 400, len(IMAGE) - 100)
    short.hear(interpreter.piece(at, IMAGE[at:] + b"!"))  # one byte too many
    assert not short.is_full
    assert set(board.place.flash[len(IMAGE) :]) == {0xFF}
    short.hear(interpreter.piece(at, IMAGE[at:]))
    assert short.is_full


def test_pieces_that_nobody_awaits_are_not_written(board: Board) -> None:
    for phase in (pending.NOTHING, pending.RECEIVED, pending.ON_TRIAL, pending.FILLED):
        awaited(board, phase)
        coming = filling.Filling(board)  # type: ignore[arg-type]
        coming.hear(interpreter.piece(0, b"??"))
        assert set(board.place.flash) == {0xFF}


@pytest.mark.parametrize(
    ("changed", "ends"),
    [
        ({}, ""),
        ({"payload_digest": b"d" * 32}, "parameter"),
        ({"payload_size": len(IMAGE) - 1}, "parameter"),
        ({"class_id": suit.class_id(VENDOR, "river", "virtual")}, "class"),
        ({"size": Places.room + 1, "payload_size": Places.room + 1}, "oversize"),
    ],
)
def test_an_image_is_awaited_only_for_an_envelope_that_says_what_it_is(
    board: Board, changed: dict[str, Any], ends: str
) -> None:
    who = identity.Identity(7, bytes(16), bytes(8), "river", "virtual", None, None)
    with board.state_fs.open("/identity", "wb") as file:
        file.write(identity.encode(who))
    digest = hashlib.sha256(IMAGE).digest()
    whom = suit.class_id(VENDOR, interpreter.NAME, "virtual")
    contents = suit.Contents(SEQUENCE, VENDOR, whom, len(IMAGE), digest, len(IMAGE), digest)
    made = envelope(replace_of(contents, **changed))
    data = len(made).to_bytes(2, "big") + made
    receiver = ota.OtaReceiver(Pieces(board.state_fs), 1 << 20)
    size = 200
    count = -(-len(data) // size)
    receiver.hear(
        1, ota.Setup(count, size, count * size - len(data), interpreter.IS_ONE | SEQUENCE, 0).encode()
    )
    for at in range(count):
        receiver.hear(1, ota.data_fragment(at + 1, data[size * at : size * at + size].ljust(size, b"\0")))
    assert pending.received(board, 0)  # type: ignore[arg-type]
    assert replace.is_meant(board.state_fs)
    with pytest.raises(Reset):
        replace.run(board, pending.Pending(board.state_fs))  # type: ignore[arg-type]
    f = pending.Pending(board.state_fs).f
    if ends:
        assert (f[pending.PHASE], outcomes.OUTCOMES[f[pending.OUTCOME]][0]) == (pending.ENDED, ends)
    else:
        assert (f[pending.PHASE], f[pending.SIZE], f[pending.PAYLOAD_SIZE]) == (
            pending.FILLING,
            len(IMAGE),
            0,
        )
    assert not board.place.is_set
