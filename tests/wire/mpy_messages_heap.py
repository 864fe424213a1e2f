"""On MicroPython: every golden message goes through encode, seal, frame and back a hundred times without heap growth.

micropython -X heapsize=160k tests/wire/mpy_messages_heap.py
"""

import gc
import json
import sys

sys.path.insert(0, ".")

from protocols.wire import envelope, framing, messages

SECRET = bytes(range(16))
SALT = bytes(8)
ROUNDS = 100


def load():
    """(direction, plain) of every message that is valid, and of none that is not."""
    with open("protocols/vectors/messages.json") as file:
        cases = json.load(file)["cases"]
    return [(case["direction"], bytes.fromhex(case["hex"])) for case in cases if "kind" in case]


def round_trips(cases, keys, decoder, piv):
    for direction, plain in cases:
        key = keys[direction]
        decode = messages.decode_up if direction == "up" else messages.decode_down
        message = decode(plain)
        frame = envelope.seal(key, piv, messages.encode(message))
        ((channel, got),) = decoder.feed(framing.encode(frame))
        if channel != framing.SEALED or got != frame:
            raise ValueError("framing changed a frame")
        if envelope.open_(key, envelope.parse(got, len(key.kid)), got) != plain:
            raise ValueError("the envelope changed a message")


def main():
    cases = load()
    keys = {
        "up": envelope.sender_key(SECRET, SALT, bytes(16), envelope.node_kid(0x12)),
        "down": envelope.sender_key(SECRET, SALT, bytes(16), envelope.gateway_kid(0x12)),
    }
    decoder = framing.Decoder(False)
    round_trips(cases, keys, decoder, 0)
    gc.collect()
    before = gc.mem_alloc()
    for piv in range(1, ROUNDS + 1):
        round_trips(cases, keys, decoder, piv << 8)
    gc.collect()
    growth = gc.mem_alloc() - before
    # A few live words may differ from one collection to the next; a leak of one word a round would show.
    print(f"round trips={ROUNDS * len(cases)} growth={growth if growth > 64 else 0} in_use={before}")


main()
