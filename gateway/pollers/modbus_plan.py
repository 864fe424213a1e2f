"""Which points to read with one request: the cheapest way to cut a row of points, holes included.

A hole costs its registers, another request costs two frames, two silences and the device's turnaround. The optimum
is exact, by dynamic programming over the places where the row may be cut. A range that the device has refused is
never asked for again, nor anything that contains it: whatever it could not read is still in there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.pollers.modbus_types import Span

ADDRESSES = 65_536


def cut(
    spans: Sequence[Span],
    cost: Callable[[int], float],
    count_max: int,
    refused: Sequence[Span] = (),
    hole_max: int = ADDRESSES,
) -> list[tuple[Span, list[int]]]:
    """The cheapest requests that read all `spans`, each with the indices of the spans it reads.

    `cost(count)` is what one request for so many costs. A span that was refused by itself is left out.
    """
    order = [
        index
        for index in sorted(range(len(spans)), key=lambda index: (spans[index].address, spans[index].end))
        if not any(spans[index].holds(bad) for bad in refused)
    ]
    best: list[
        tuple[float, int, Span]
    ] = []  # over the first so many: total, where the last request begins, its span
    for last in range(len(order)):
        best.append(
            _cheapest([spans[i] for i in order[: last + 1]], cost, count_max, refused, hole_max, best)
        )
    return _walk_back(order, best)


def _cheapest(
    row: Sequence[Span],
    cost: Callable[[int], float],
    count_max: int,
    refused: Sequence[Span],
    hole_max: int,
    best: Sequence[tuple[float, int, Span]],
) -> tuple[float, int, Span]:
    """The cheapest way to read the whole `row`, by where the request that reads its last span begins."""
    first = len(row) - 1
    whole = row[first]
    # The last one alone is always allowed: what is too long by itself is refused by the config check.
    found = (cost(whole.quantity) + (best[first - 1][0] if first else 0.0), first, whole)
    while first > 0:
        first -= 1
        hole = whole.address - row[first].end
        address = row[first].address
        whole = Span(address, max(whole.end, row[first].end) - address)
        if hole > hole_max or whole.quantity > count_max or any(whole.holds(bad) for bad in refused):
            break  # what begins further left holds at least as much
        total = cost(whole.quantity) + (best[first - 1][0] if first else 0.0)
        if total < found[0]:
            found = (total, first, whole)
    return found


def _walk_back(order: Sequence[int], best: Sequence[tuple[float, int, Span]]) -> list[tuple[Span, list[int]]]:
    blocks = []
    last = len(order) - 1
    while last >= 0:
        _total, first, whole = best[last]
        blocks.append((whole, list(order[first : last + 1])))
        last = first - 1
    return blocks[::-1]


def remember(refused: list[Span], bad: Span) -> bool:
    """Add a refused range and drop those that contain it. False when it was known."""
    if any(bad.holds(known) for known in refused):
        return False
    refused[:] = [known for known in refused if not known.holds(bad)]
    refused.append(bad)
    return True
