"""The cases of protocols/vectors/fragments.json, for make_vectors.py."""

from __future__ import annotations

from typing import Any

from protocols.wire import fragments

NODE = 0x0012


def fragment_cases() -> list[dict[str, Any]]:
    mixed = bytes((index * 7 + 3) % 256 for index in range(512))
    cases: list[dict[str, Any]] = [
        {
            "name": f"{size} bytes in packets of {room}",
            "frame": mixed[:size].hex(),
            "address": NODE,
            "tag": tag,
            "room": room,
            "packets": [packet.hex() for packet in fragments.split(mixed[:size], NODE, tag, room)],
        }
        for size, room, tag in [
            (99, 99, 0),
            (100, 99, 0),
            (512, 36, 255),
            (512, 222, 9),
            (40, 36, 1),
            (7, 5, 2),
        ]
    ]
    cases += [
        {"name": name, "frame": mixed[:size].hex(), "address": NODE, "tag": 0, "room": room, "packets": None}
        for name, size, room in [
            ("seventeen would be needed", 512, 35),
            ("a packet with room for the head alone", 5, 4),
            ("a packet with no room at all", 1, -1),
        ]
    ]
    a = fragments.split(mixed[:70], NODE, 7, 36)
    b = fragments.split(mixed[100:180], NODE, 8, 36)
    other = fragments.split(mixed[:70], NODE + 1, 7, 36)
    changed = a[0][:-1] + bytes((a[0][-1] ^ 1,))

    def collect(name: str, dropped: int, *steps: tuple[int, bytes, int | bytes]) -> None:
        """Each step: when, the packet, and how much of ``mixed`` it completes or what."""
        taken = [
            [now_s, packet.hex(), (mixed[:frame] if isinstance(frame, int) else frame).hex() or None]
            for now_s, packet, frame in steps
        ]
        cases.append({"name": name, "frames_max": 2, "taken": taken, "dropped": dropped})

    collect("in order", 0, (0, a[0], 0), (1, a[1], 0), (2, a[2], 70))
    collect("backwards, each twice", 0, *((0, one, 0) for one in (a[2], a[2], a[1], a[1])), (0, a[0], 70))
    collect("two frames at a time", 0, (0, a[0], 0), (0, b[1], 0), (0, b[0], 0), (0, a[2], 0),
            (0, b[2], mixed[100:180]), (0, a[1], 70))  # fmt: skip
    collect("the same tag of two nodes", 0, *((0, one, 0) for one in (a[0], other[0], a[1], other[1])),
            (0, other[2], 70), (0, a[2], 70))  # fmt: skip
    collect("the last one after 59 s", 0, (0, a[0], 0), (0, a[1], 0), (59, a[2], 70))
    collect("the last one after 60 s", 2, (0, a[0], 0), (0, a[1], 0), (60, a[2], 0))
    collect("the first of three gives way", 1, (0, a[0], 0), (1, b[0], 0), (2, other[0], 0), (2, b[1], 0),
            (2, b[2], mixed[100:180]))  # fmt: skip
    collect("its sender begins anew with the tag", 2, (0, changed, 0), (0, a[1], 0), (1, a[0], 0), (1, a[1], 0),
            (1, a[2], 70))  # fmt: skip
    collect("two last ones", 1, (0, a[2], 0), (0, bytes((a[1][0] | 0x10,)) + a[1][1:], 0))
    collect(
        "one behind the last", 1, (0, bytes((a[1][0] | 0x10,)) + a[1][1:], 0), (0, a[2][:1] + a[2][1:], 0)
    )
    collect("without a byte of the frame", 2, (0, a[0][:4], 0), (0, a[0][:1], 0))
    collect(
        "more than a frame may have", 3, *((0, bytes((0xE0 + n, 7, 0, 18)) + bytes(218), 0) for n in range(3))
    )
    return cases
