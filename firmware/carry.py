"""The counters of a channel over a deep sleep, or into a life that receives: the rest of a block is not thrown away.

A module of its own: it is on the heap for that moment only.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.durable import Channel

_U40 = 5


def counters(channel: "Channel") -> bytes:
    """What go_on() needs after a deep sleep that begins now. Nothing may be sent or accepted after it."""
    parts = [channel.next_up.to_bytes(_U40 + 1, "big"), channel.bound.to_bytes(_U40 + 1, "big")]
    for g in sorted(channel.heard):
        parts.append(bytes((g,)) + channel.heard[g].to_bytes(_U40, "big"))
    return b"".join(parts)


def go_on(channel: "Channel", kept: bytes) -> None:
    """Go on inside the block that is durable. Only for bytes of the sleep that just ended, and only once."""
    after = int.from_bytes(kept[: _U40 + 1], "big")
    bound = int.from_bytes(kept[_U40 + 1 : 2 * _U40 + 2], "big")
    if channel.id_context is None or bound != channel.bound or after > bound:
        return
    channel.next_up = after
    for at in range(2 * _U40 + 2, len(kept), 1 + _U40):
        if kept[at] in channel.ahead:
            channel.heard[kept[at]] = int.from_bytes(kept[at + 1 : at + 1 + _U40], "big")
