"""Any valid message, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from protocols.wire import codes, messages
from protocols.wire.limits import MAX_ACK_RUNS, MAX_BODY

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.one_of(st.integers(0, 300), st.integers(0, 0xFFFFFFFF))
u40 = st.one_of(u32, st.integers(0, 0xFFFFFFFFFF))
epochs = st.one_of(st.none(), st.integers(0, 0xFFFFFFFFFFFF))
numbers = st.one_of(st.integers(-300, 300), st.integers(-(2**32), 2**32 - 1))
details = st.one_of(st.none(), numbers, st.lists(numbers, max_size=4))
documents = st.dictionaries(u8, numbers, max_size=10)


def text(most: int) -> st.SearchStrategy[str]:
    """At most so many bytes of UTF-8."""
    return st.text(max_size=most).filter(lambda value: len(value.encode()) <= most)


@st.composite
def record_heads(draw: st.DrawFn) -> tuple[int, int, int]:
    """seq, held, time."""
    seq = draw(st.integers(1, 0xFFFFFFFF))
    return seq, draw(st.integers(0, seq - 1)), draw(u40)


@st.composite
def hellos(draw: st.DrawFn) -> messages.Hello:
    next_seq = draw(st.integers(1, 0xFFFFFFFF))
    names = [draw(text(24)) for _ in range(3)]
    return messages.Hello(
        draw(u40), draw(epochs), draw(st.integers(1, next_seq)), next_seq, *names, draw(u32), draw(u8)
    )


@st.composite
def records(draw: st.DrawFn) -> Any:
    seq, held, time = draw(record_heads())
    tq, epoch = draw(st.integers(0, 3)), draw(epochs)
    which = draw(st.integers(0, 2))
    if which == 0:
        body = draw(st.one_of(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=MAX_BODY)))
        return messages.Readings(draw(u16), seq, held, time, body, epoch)
    if which == 1:
        return messages.Event(seq, held, time, tq, draw(u16), draw(st.integers(0, 2)), draw(details), epoch)
    detail = draw(st.one_of(details, text(64)))
    return messages.Result(seq, held, time, tq, draw(u32), draw(st.integers(0, 4)), detail, epoch)


@st.composite
def statuses(draw: st.DrawFn) -> messages.Status:
    health: dict[int, int | str] = dict(draw(st.dictionaries(st.integers(0, 31), numbers, max_size=20)))
    if draw(st.booleans()):
        health[codes.TRACEBACK] = draw(text(128))
    return messages.Status(draw(u40), draw(u40), draw(st.integers(0, 3)), health)


@st.composite
def acks(draw: st.DrawFn) -> messages.Ack:
    count = draw(st.integers(0, MAX_ACK_RUNS))
    edges = sorted(draw(st.sets(st.integers(0, 0xFFFFFFFF), min_size=2 * count + 1, max_size=2 * count + 1)))
    cum, rest = edges[0], edges[1:]
    runs = [(rest[index], rest[index + 1] - rest[index]) for index in range(0, 2 * count, 2)]
    return messages.Ack(cum, tuple(reversed(runs)), draw(epochs))


up = st.one_of(
    hellos(),
    records(),
    statuses(),
    st.builds(messages.SettingsReport, u32, documents),
    st.builds(messages.UpdateStatus, u32, u16, st.binary(min_size=1, max_size=64)),
)
down = st.one_of(
    acks(),
    st.builds(messages.Time, u40, u40, st.integers(0, 999)),
    st.builds(messages.Command, u40, u32, u16, u8, st.one_of(st.none(), numbers)),
    st.builds(messages.Settings, u40, u32, documents),
    st.builds(messages.Challenge, st.binary(min_size=8, max_size=8)),
    st.builds(messages.Ping, u32),
    st.builds(messages.Update, u16, st.binary(min_size=1, max_size=460)),
)
