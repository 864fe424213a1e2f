"""Serial framing: whatever the line does, whole frames come through, nothing else does, and memory is bounded."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire import framing
from protocols.wire.errors import EncodeError
from protocols.wire.limits import MAX_CHANNEL, MAX_FRAME, MAX_LOG_LINE, MAX_LOG_LINES

payloads = st.one_of(
    st.binary(max_size=60),
    st.binary(min_size=240, max_size=MAX_FRAME),
    st.builds(
        lambda byte, size: bytes((byte,)) * size, st.sampled_from([0, 1, 255]), st.integers(0, MAX_FRAME)
    ),
)
channels = st.integers(1, MAX_CHANNEL)


def cobs_by_the_paper(raw: bytes) -> bytes:
    """Cheshire and Baker's own loop, byte by byte."""
    out = bytearray(b"\x00")
    code_at, code = 0, 1
    for index, byte in enumerate(raw):
        if byte:
            out.append(byte)
            code += 1
        if not byte or code == 0xFF:
            out[code_at] = code
            code_at, code = len(out), 1
            if byte and index == len(raw) - 1:
                return bytes(out)
            out.append(0)
    out[code_at] = code
    return bytes(out)


def pieces_of(line: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(line), *(cut % (len(line) + 1) for cut in cuts)})
    return [line[left:right] for left, right in itertools.pairwise(edges)]


@given(payloads, channels)
def test_a_line_is_cobs_between_two_zeros(payload: bytes, channel: int) -> None:
    line = framing.encode(payload, channel)
    assert line[0] == line[-1] == 0
    assert line.count(0) == 2
    crc = framing.crc32(bytes((channel,)) + payload).to_bytes(4, "little")
    assert line[1:-1] == cobs_by_the_paper(bytes((channel,)) + payload + crc)


@given(st.lists(st.tuples(payloads, channels), max_size=5), st.lists(st.integers(0, 4000), max_size=20))
def test_frames_come_out_whole_however_they_are_cut(sent: list[tuple[bytes, int]], cuts: list[int]) -> None:
    line = b"".join(framing.encode(payload, channel) for payload, channel in sent)
    decoder = framing.Decoder()
    got = [frame for piece in pieces_of(line, cuts) for frame in decoder.feed(piece)]
    assert got == [(channel, payload) for payload, channel in sent]
    assert (decoder.frames, decoder.crc_errors, decoder.noise_bytes) == (len(sent), 0, 0)


@given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=10))
def test_how_the_reads_are_cut_makes_no_difference(line: bytes, cuts: list[int]) -> None:
    whole, cut = framing.Decoder(), framing.Decoder()
    frames = whole.feed(line + b"\x00")
    assert [frame for piece in pieces_of(line + b"\x00", cuts) for frame in cut.feed(piece)] == frames
    assert whole.take_log() == cut.take_log()
    for name in ("frames", "crc_errors", "oversize", "noise_bytes"):
        assert getattr(whole, name) == getattr(cut, name)


@given(st.binary(max_size=2000), payloads)
def test_after_any_garbage_the_next_frame_is_heard(garbage: bytes, payload: bytes) -> None:
    decoder = framing.Decoder()
    decoder.feed(garbage)
    assert decoder.feed(framing.encode(payload))[-1:] == [(framing.SEALED, payload)]


@settings(max_examples=300)
@given(payloads, st.integers(0, 2000), st.integers(1, 255))
def test_a_changed_byte_never_gives_another_frame(payload: bytes, at: int, change: int) -> None:
    line = bytearray(framing.encode(payload))
    line[at % len(line)] ^= change
    for _, got in framing.Decoder().feed(bytes(line) + b"\x00"):
        assert got == payload  # a delimiter that became something else


def test_a_bad_line_loses_few_frames_and_invents_none() -> None:
    """One byte in 170 dropped, doubled or changed, seeded."""
    chance = random.Random(5)
    sent = [chance.randbytes(42) for _ in range(2000)]
    decoder = framing.Decoder()
    got: list[bytes] = []
    for payload in sent:
        line = bytearray()
        for byte in framing.encode(payload):
            luck = chance.random()
            if luck < 0.002:
                continue
            line += bytes((chance.randrange(256) if luck < 0.004 else byte,)) * (2 if luck > 0.998 else 1)
        got += [frame for _, frame in decoder.feed(bytes(line))]
    assert set(got) <= set(sent)
    assert len(got) == decoder.frames
    # 50 bytes a frame, 0.6 % of them damaged: about 26 % of the frames.
    assert 1300 < len(got) < 1700


@given(
    st.lists(
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, exclude_categories=["C", "Z"])),
        max_size=5,
    )
)
def test_console_lines_come_through_between_frames(lines: list[str]) -> None:
    lines = [line[:60] for line in lines if line]
    decoder = framing.Decoder()
    for line in lines:
        decoder.feed((line + "\r\n").encode())
        assert decoder.feed(framing.encode(b"frame")) == [(framing.SEALED, b"frame")]
    assert decoder.take_log() == lines
    assert decoder.take_log() == []


def test_a_traceback_shows_although_no_frame_follows() -> None:
    decoder = framing.Decoder()
    decoder.feed(framing.encode(b"last") + b"Traceback (most recent call last):\r\n")
    decoder.feed(b'  File "node.py", line 7\r\nOSError: 5\r\n>>> ')
    assert decoder.take_log() == [
        "Traceback (most recent call last):",
        '  File "node.py", line 7',
        "OSError: 5",
    ]


def test_a_node_may_talk_for_ever() -> None:
    """Endless text, an endless line, an endless frame: none of them grows the decoder."""
    decoder = framing.Decoder()
    for _ in range(1000):
        decoder.feed(b"again and again\n" * 10)
        decoder.feed(b"x" * 1000)
    log = decoder.take_log()
    assert len(log) == MAX_LOG_LINES
    assert max(len(line) for line in log) <= MAX_LOG_LINE
    assert decoder.log_lines_dropped > 10_000
    decoder.feed(b"\x00\x09\x01")
    for _ in range(1000):
        assert decoder.feed(b"\x77" * 1000) == []
        assert len(decoder._pending) <= 1600
    assert decoder.oversize == 1
    assert decoder.feed(framing.encode(b"still here")) == [(framing.SEALED, b"still here")]


def test_a_node_need_not_keep_a_log() -> None:
    decoder = framing.Decoder(keep_log=False)
    decoder.feed(b"text\n\xff\xfe\xfd\n" * 100)
    assert decoder.take_log() == []
    assert decoder.noise_bytes == 300


@pytest.mark.parametrize("channel", [0, MAX_CHANNEL + 1, 255])
def test_channels_are_those_that_no_text_contains(channel: int) -> None:
    with pytest.raises(EncodeError, match="channel"):
        framing.encode(b"", channel)


def test_a_payload_is_bounded() -> None:
    with pytest.raises(EncodeError, match="at most 512"):
        framing.encode(bytes(MAX_FRAME + 1))
