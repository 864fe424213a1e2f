"""Random and mutated inputs through every decoder of the wire, and of what other people's devices say.

    python -m tests.wire.fuzz --runs 1000000 --seed 7

No exception but a WireError (or the error of a device's bytes: fuzz_devices.py), no input that costs more memory than
its size warrants, both CBOR decoders of one mind, and whatever a message decoder accepts encodes to the bytes it came
from. A failure names the seed, the target and the input.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocols.wire import (
    cbor_host,
    cbor_portable,
    envelope,
    fragments,
    framing,
    identity,
    join,
    messages,
    readings,
    registry_table,
)
from protocols.wire.errors import CborError, WireError
from protocols.wire.limits import MAX_FRAME
from tests.wire import fuzz_devices, fuzz_updates
from tests.wire.make_vectors import FILES, NODE, SALT, SECRET
from tests.wire.message_cases import DOWN, UP

if TYPE_CHECKING:
    from collections.abc import Callable

# Peak of one input of at most 1 KiB: cbor2's reading buffer of 64 KiB (see cbor_host.py), and some for the objects.
MAX_PEAK = 80 * 1024
# A line decoder may be given more at once, and keeps a log.
MAX_LINE_PEAK = 256 * 1024
# A profile is a document with models made from it.
PROFILE_PEAK = 2 * 1024 * 1024
MAX_RSS_GROWTH_KIB = 48 * 1024
INTERESTING = (
    0x00,
    0x01,
    0x09,
    0x0A,
    0x17,
    0x18,
    0x1B,
    0x20,
    0x3B,
    0x5B,
    0x7B,
    0x7F,
    0x80,
    0x9B,
    0x9F,
    0xBB,
    0xC2,
    0xF6,
    0xFB,
    0xFF,
)
BOMBS = tuple(
    bytes((major | form[0],)) + form[1:]
    for major in (0x40, 0x60, 0x80, 0xA0, 0xC0)
    for form in (
        b"\x1a\x7f\xff\xff\xff",
        b"\x1b\x80" + bytes(7),
        b"\x1b" + b"\xff" * 8,
        b"\x1f",
        b"\x19\x02\x00",
    )
)


class Found(Exception):
    """An input that a decoder does not hold against."""


class Target:
    """One decoder, what it is fed with, and what it may do."""

    def __init__(
        self,
        name: str,
        corpus: list[bytes],
        decode: Callable[[bytes], None],
        max_peak: int = MAX_PEAK,
        share: int = 20,
    ) -> None:
        self.name = name
        self.corpus = corpus
        self.decode = decode
        self.max_peak = max_peak
        self.share = share  # of its inputs among those of all targets
        self.accepted = 0
        self.refused = 0

    def run(self, data: bytes) -> None:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        try:
            self.decode(data)
            self.accepted += 1
        except (WireError, *fuzz_devices.ERRORS):
            self.refused += 1
        _, peak = tracemalloc.get_traced_memory()
        if peak - before > self.max_peak:
            raise Found(f"{peak - before} bytes of memory")


def golden(name: str, field: str) -> list[bytes]:
    make, _ = FILES[name]
    return [bytes.fromhex(case[field]) for case in make() if case.get(field)]


def both_cbor(data: bytes) -> None:
    """The outcome of the fast decoder must be that of the portable one."""
    try:
        value: Any = cbor_portable.loads(data)
    except CborError as error:
        try:
            fast = cbor_host.loads(data)
        except CborError as other:
            if str(other) != str(error):
                raise Found(f"two reasons: {error}; {other}") from None
            raise
        raise Found(f"only the fast decoder accepts: {fast!r}") from None
    if repr(cbor_host.loads(data)) != repr(value):
        raise Found("the decoders differ")
    if cbor_portable.dumps(value) != data:
        raise Found("accepted in more than one form")


def decode_message(decode: Callable[[bytes], Any], data: bytes) -> None:
    message = decode(data)
    if messages.encode(message) != data:
        raise Found(f"accepted in more than one form: {message}")


def sealed_up(key: envelope.SenderKey, data: bytes) -> None:
    """The attacker has the key: an authentic frame around anything."""
    frame = envelope.seal(key, len(data), data)
    if envelope.open_(key, envelope.parse(frame, envelope.KID_UP), frame) != data:
        raise Found("opened to something else")
    decode_message(messages.decode_up, data)


def parse_and_open(keys: dict[int, envelope.SenderKey], window: envelope.ReplayWindow, data: bytes) -> None:
    """No mutation may open: every byte of a frame is bound by its tag."""
    for kid_bytes, key in keys.items():
        header = envelope.parse(data, kid_bytes)
        window.is_new(header.piv)
        envelope.open_(key, header, data)


class Line:
    """A decoder that lives through all inputs, and must neither grow nor stop hearing."""

    def __init__(self) -> None:
        self._decoder = framing.Decoder()

    def __call__(self, data: bytes) -> None:
        for _, payload in self._decoder.feed(data):
            if len(payload) > MAX_FRAME:
                raise Found("a payload beyond its bound")
        if self._decoder.feed(framing.encode(b"still there"))[-1:] != [(framing.SEALED, b"still there")]:
            raise Found("the next frame was not heard")


class Air:
    """A collector that lives through all inputs, a second apart: it must not grow, nor stop hearing."""

    def __init__(self) -> None:
        self._collector = fragments.Collector(4)
        self._now_s = 0

    def __call__(self, data: bytes) -> None:
        self._now_s += 1
        frame = self._collector.take(data, self._now_s)
        if frame is not None and len(frame) > MAX_FRAME:
            raise Found("a frame beyond its bound")
        # No fragment of the corpus is of that address: one under the same tag would rightly spoil this frame.
        first, last = fragments.split(b"still there", 0x7A5C, self._now_s & 0xFF, 10)
        self._collector.take(first, self._now_s)
        if self._collector.take(last, self._now_s) != b"still there":
            raise Found("the next frame was not heard")


def decode_body(data: bytes) -> None:
    """A body does not name its schema, so its length chooses one."""
    known = sorted(registry_table.SCHEMAS)
    readings.decode(readings.schema(known[len(data) % len(known)]), 1790000000, data)


def bodies() -> list[bytes]:
    """Of single sets and batches, with and without flags."""
    made = []
    for schema_id in registry_table.SCHEMAS:
        schema = readings.schema(schema_id)
        centre = tuple(series.centre for series in schema.series)
        for count in (1, 2, 4, 8):
            times = [1790000000 + 900 * index for index in range(count)]
            rows: list[Any] = [tuple(value + 3 * index for value in centre) for index in range(count)]
            made.append(readings.encode(schema, readings.SYNCHRONISED, times, rows))
            flags = [
                tuple(readings.FLAGS[(index + column) % 4] for column in range(len(centre)))
                for index in range(count)
            ]
            made.append(readings.encode(schema, readings.GNSS, times, rows, flags))
    return made


def joins() -> tuple[list[bytes], Callable[[bytes], None]]:
    """Both state machines in the middle of a join, restarted when they are through."""
    hello = UP[0][1]
    transcript = FILES["join"][0]()[0]
    frames = [
        bytes.fromhex(transcript[name]) for name in ("first_hello", "challenge", "second_hello", "ack_frame")
    ]

    def decode(data: bytes) -> None:
        node, gateway = join.NodeJoin(SECRET, SALT, NODE), join.GatewayJoin(SECRET, SALT, NODE)
        gateway.challenge(
            envelope.parse(node.start(bytes(range(0x10, 0x18)), hello), envelope.KID_UP), bytes(8), 0
        )
        for receive in (
            lambda: node.receive(envelope.parse(data, envelope.KID_DOWN), data, bytes(8), hello),
            lambda: gateway.hello(envelope.parse(data, envelope.KID_UP), data),
            lambda: gateway.agree(envelope.parse(data, envelope.KID_UP), data, 1),
        ):
            try:
                receive()
            except WireError:
                continue

    return frames, decode


def targets() -> list[Target]:
    up = [messages.encode(message) for _, message in UP]
    down = [messages.encode(message) for _, message in DOWN]
    node = envelope.sender_key(SECRET, SALT, bytes(16), envelope.node_kid(NODE))
    gateway = envelope.sender_key(SECRET, SALT, bytes(16), envelope.gateway_kid(NODE))
    window = envelope.ReplayWindow()
    join_corpus, join_decode = joins()
    return [
        Target("cbor", golden("cbor", "hex") + up + down, both_cbor),
        Target("messages up", up, lambda data: decode_message(messages.decode_up, data)),
        Target("messages down", down, lambda data: decode_message(messages.decode_down, data)),
        Target("sealed up", up, lambda data: sealed_up(node, data[: MAX_FRAME - 13])),
        Target(
            "envelope",
            golden("envelope", "frame"),
            lambda data: parse_and_open({2: node, 3: gateway}, window, data),
        ),
        Target("framing", golden("framing", "line"), Line(), MAX_LINE_PEAK),
        Target(
            "fragments",
            [bytes.fromhex(one) for case in FILES["fragments"][0]() for one in packets(case)],
            Air(),
        ),
        Target("readings body", bodies(), decode_body, share=1),
        Target("identity", golden("identity", "hex"), lambda data: void(identity.decode(data))),
        Target("join", join_corpus, join_decode, share=4),
        *(
            Target(name, corpus, decode, PROFILE_PEAK, share)
            for name, corpus, decode, share in fuzz_devices.TARGETS
        ),
        *(
            Target(name, corpus, decode, MAX_LINE_PEAK, share)
            for name, corpus, decode, share in fuzz_updates.TARGETS
        ),
    ]


def packets(case: dict[str, Any]) -> list[str]:
    return [packet for _, packet, _ in case["taken"]] if "taken" in case else case["packets"] or []


def void(_: object) -> None:
    """Drops a result."""


def mutate(chance: random.Random, corpus: list[bytes]) -> bytes:
    """One to four edits of a good input, or nothing but noise."""
    if chance.random() < 0.1:
        return chance.randbytes(int(chance.paretovariate(0.7)) % (MAX_FRAME + 40))
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        edit = chance.randrange(9)
        if edit == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif edit == 1 and at < len(data):
            data[at] = chance.randrange(256)
        elif edit == 2 and at < len(data):
            data[at] = chance.choice(INTERESTING)
        elif edit == 3:
            data[at:at] = chance.randbytes(chance.randrange(1, 5))
        elif edit == 4:
            del data[at : at + chance.randrange(1, 5)]
        elif edit == 5:
            del data[at:]
        elif edit == 6:
            data[at : at + chance.randrange(0, 3)] = chance.choice(BOMBS)
        elif edit == 7:
            data += data[at : at + chance.randrange(1, 40)]
        else:
            other = chance.choice(corpus)
            data[at:] = other[chance.randrange(len(other) + 1) :]
    return bytes(data[: 2 * MAX_FRAME])


def fuzz(runs: int, seed: int, advance: Callable[[], object] = lambda: None) -> dict[str, tuple[int, int]]:
    """(accepted, refused) per target; Found at the first input that breaks a rule."""
    chance = random.Random(seed)
    every = targets()
    turns = [target for target in every for _ in range(target.share)]
    rss_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        for number in range(runs):
            target = turns[number % len(turns)]
            data = mutate(chance, target.corpus)
            try:
                target.run(data)
            except Exception as error:
                error.add_note(f"seed {seed}, input {number}, target {target.name}: {data.hex()}")
                raise
            if number % 1000 == 999:
                advance()
    finally:
        tracemalloc.stop()
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss_before
    if growth > MAX_RSS_GROWTH_KIB:
        raise Found(f"seed {seed}: the process grew by {growth} KiB")
    return {target.name: (target.accepted, target.refused) for target in every}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="random and mutated inputs through every decoder of the wire"
    )
    parser.add_argument("--runs", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    columns = (
        TextColumn("seed {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(str(options.seed), total=options.runs)
        result = fuzz(options.runs, options.seed, lambda: progress.advance(task, 1000))
    for name, (accepted, refused) in result.items():
        print(f"{name:14} accepted={accepted} refused={refused}")
    print(f"fuzz runs={options.runs} seed={options.seed} failures=0")


if __name__ == "__main__":
    main()
