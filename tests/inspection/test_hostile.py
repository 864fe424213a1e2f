"""Whatever comes in, something is said of it: no traceback, nothing but printable letters, a bounded answer."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from flash_tools import inspect_image, inspect_manifest, inspect_program
from flash_tools.errors import InspectError
from protocols.inspection import air, frames, guess, messages, show
from protocols.inspection.frames import KeyRing, Secrets
from protocols.northbound.told import Told
from protocols.wire import fragments, framing
from protocols.wire import messages as wire
from tests.inspection import files
from tests.inspection.test_own_bytes import CONTEXT, EVENT, NODE, SALT, SECRET, cases, datagram, sealed

SEED = 20261128
RUNS = 3000
IMAGES = 60
LINES_MAX = 5000
RING = KeyRing({NODE: Secrets(SECRET, SALT)}, {NODE: [CONTEXT]})
Teller = Callable[[bytes], list[Told]]


def guessed(data: bytes) -> list[Told]:
    return [Told(one.command, [], [], [one.reason]) for one in guess.guesses(data)]


TELLERS: dict[str, Teller] = {
    "frame": lambda data: frames.tell(data, RING),
    "message": lambda data: [messages.tell(data)],
    "lora": lambda data: air.tell_packets([data], RING),
    "semtech": lambda data: air.tell_datagram(data, RING),
    "what": guessed,
    "table": lambda data: [inspect_program.tell_table(data, "it")],
    "program": lambda data: [inspect_program.tell_program(data, "it")],
    "segment": lambda data: inspect_image.tell_outbox(data, "r00000001", True),
    "image": lambda data: inspect_image.tell(data, "it"),
    "manifest": lambda data: [inspect_manifest.tell(data)],
}


def corpus() -> list[list[bytes]]:
    """Good ones, by kind: what is mutated from these comes furthest."""
    found, _ = inspect_image.read_littlefs(files.outbox_image())
    rxpk = {"tmst": 1, "stat": 1, "datr": "SF9BW125", "data": base64.b64encode(sealed(EVENT)).decode()}
    return [
        [bytes.fromhex(case["hex"]) for case in cases("messages")],
        [sealed(EVENT), sealed(wire.Command(300, 17, 60, 1, 30), 9, b"\x00\x12\x02")],
        [framing.encode(sealed(EVENT)), b"text\r\n" + framing.encode(sealed(EVENT)) + b"\x01\x02"],
        [
            framing.encode(b"\x01" + bytes(13) + sealed(EVENT), frames.BRIDGE),
            framing.encode(b"\x13", frames.BRIDGE),
        ],
        fragments.split(sealed(EVENT), NODE, 5, 20),
        [datagram(rxpk), bytes((2, 0, 0, 4))],
        [files.TABLE],
        [bytes.fromhex(cases("updates")[0]["envelope"])],
        [files.program()],
        [content for path, content in found.items() if path.startswith("/outbox/")],
    ]


def mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1)
        how = rng.randrange(4)
        if how == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif how == 1:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 40)))
        elif how == 2:
            del out[at : at + rng.choice((1, 3, 200))]
        elif out:
            out[at % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(out)


def inputs(rng: random.Random) -> Iterator[bytes]:
    known = corpus()
    for _ in range(RUNS):
        yield (
            rng.randbytes(rng.randrange(64))
            if rng.random() < 0.1
            else mutated(rng, rng.choice(rng.choice(known)))
        )


def check(name: str, teller: Teller, data: bytes) -> int:
    try:
        told = teller(data)
    except InspectError:  # said in a sentence, as all of ours
        return 1
    lines = list(show.page(told, "things"))
    assert len(lines) <= LINES_MAX
    assert all(letter.isprintable() for line in lines for letter in line.strip("\n")), name
    # Digests of a manifest, and answers of a receiver, count up in the vectors as that key does.
    is_counting = name == "manifest" or bytes(range(17)) in data
    assert is_counting or SECRET.hex() not in "".join(lines)
    return sum(bool(one.problems) for one in told)


def test_no_bytes_whatever_are_too_much() -> None:
    rng = random.Random(SEED)
    wrong = dict.fromkeys(TELLERS, 0)
    for data in inputs(rng):
        for name, teller in TELLERS.items():
            try:
                wrong[name] += bool(check(name, teller, data))
            except Exception as error:
                raise AssertionError(f"seed {SEED}, {name}: {data.hex()}") from error
    print(f"inspect_fuzz_runs={RUNS * len(TELLERS)} seed={SEED} told_as_wrong={wrong}")
    # Each of them also took something for good, and something for bad: the corpus reaches them all.
    assert all(0 < count < RUNS or name == "what" for name, count in wrong.items())


def test_a_spoilt_file_system_is_told_as_far_as_it_goes(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    images = [files.outbox_image(), files.minted(tmp_path)[0]]
    wrong = 0
    for number in range(IMAGES):
        image = bytearray(images[number % 2])
        used = [at for at in range(0, len(image), 4096) if image[at : at + 4096].strip(b"\xff")]
        for _ in range(rng.choice((1, 3, 20))):
            image[rng.choice(used) + int(rng.random() ** 3 * 4096)] = rng.randrange(256)
        try:
            for teller in (
                inspect_image.tell,
                lambda data, name: inspect_image.tell_outbox(data, name, True),
            ):
                wrong += check("image", lambda data, teller=teller: teller(data, "it"), bytes(image))  # type: ignore[misc]
        except Exception as error:
            raise AssertionError(f"seed {SEED}, image {number}") from error
    print(f"inspect_images={IMAGES} seed={SEED} told_as_wrong={wrong}")
    assert 0 < wrong < 4 * IMAGES
