"""What a campaign was asked to be: waves, hours, airtime, when it halts. Plain data; what is not allowed is said.

The plan is kept as JSON. Waves are worked out once, when the campaign is made, and each node keeps its number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway import campaign_limits as limits
from gateway.errors import CommandError

_WINDOW = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]|24):([0-5]\d)")
# Each window comes once a day, or, where clocks skip it, on the next one.
_SEARCH_S = 2 * 86_400


class Candidate(NamedTuple):
    """A node that may take part."""

    address: int
    node_type: str
    area: str
    board: str  # "": not known


class Plan(NamedTuple):
    """As it is kept."""

    waves: tuple[str, ...]  # what each is, for people
    windows: tuple[tuple[int, int], ...]  # minutes of the day, local; none: at any time
    zone: str  # of them; "": this machine's
    air_share: float  # of each hour, by this campaign
    halt_share: float
    halt_count: int
    patience_s: int
    soak_s: int  # after a wave is through, before the next one begins

    @classmethod
    def of(cls, document: dict[str, Any]) -> Plan:
        windows = tuple((int(begin), int(end)) for begin, end in document["windows"])
        return cls(**{**document, "waves": tuple(document["waves"]), "windows": windows})

    def document(self) -> dict[str, Any]:
        return self._asdict()

    def is_open(self, unix_ms: int) -> bool:
        """Whether its hours allow something to begin now."""
        return not self.windows or self._is_inside(unix_ms // 1000)

    def opens_in_s(self, unix_ms: int) -> int:
        """Seconds until something may begin; 0: now."""
        if self.is_open(unix_ms):
            return 0
        # Minute by minute: a night in which clocks are changed is not as long as they say.
        now_s = unix_ms // 1000
        following = range(now_s // 60 * 60 + 60, now_s + _SEARCH_S, 60)
        return next((at for at in following if self._is_inside(at)), now_s + _SEARCH_S) - now_s

    def _is_inside(self, unix_s: int) -> bool:
        moment = datetime.fromtimestamp(unix_s, UTC)
        local = moment.astimezone(ZoneInfo(self.zone)) if self.zone else moment.astimezone()
        minute = local.hour * 60 + local.minute
        return any(
            begin <= minute < end if begin < end else minute >= begin or minute < end
            for begin, end in self.windows
        )


def windows(texts: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """From "22:00-05:00" and the like."""
    found = []
    for text in texts:
        match = _WINDOW.fullmatch(text.strip())
        if match is None:
            raise CommandError(
                f"window {text!r:.40} is not allowed. Allowed is hh:mm-hh:mm, local time, such as 22:00-05:00."
            )
        begin, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
        if begin == end or end > 1440:
            raise CommandError(f"window {text!r:.40} is empty. Leave windows out for the whole day.")
        found.append((begin, end % 1440 if begin >= end % 1440 else end))
    if len(found) > limits.WINDOWS_MAX:
        raise CommandError(f"{len(found)} windows: at most {limits.WINDOWS_MAX}.")
    return tuple(found)


def waves(
    nodes: list[Candidate], canary: int | list[int], shares: list[float], by: str
) -> tuple[tuple[str, ...], dict[int, int]]:
    """(what each wave is, node → its wave, from 0). The canary goes first: so many, or those that were named.

    The rest goes by `by` (type, area, board, or nothing), and each of these in `shares` of its nodes, which add up.
    Who is in which is drawn from the addresses, so that asking again draws the same.
    """
    order = sorted(nodes, key=lambda node: _drawn(node.address))
    names, wave_of = [], {}
    chosen = set(canary) if isinstance(canary, list) else _canaries(order, canary)
    if chosen:
        names.append("canary")
        wave_of.update(dict.fromkeys(chosen, 0))
    groups: dict[str, list[int]] = {}
    for node in order:
        if node.address not in wave_of:
            groups.setdefault(_group(node, by), []).append(node.address)
    for group, addresses in sorted(groups.items()):
        begin = 0
        for share in shares or [1.0]:
            end = len(addresses) if share == 1 else round(len(addresses) * share)
            part = addresses[begin:end]
            begin = max(begin, end)
            if part:
                wave_of.update(dict.fromkeys(part, len(names)))
                names.append(_wave_name(group, share, len(shares)))
    if len(names) > limits.WAVES_MAX:
        raise CommandError(
            f"{len(names)} waves: at most {limits.WAVES_MAX}. Use fewer shares, or another --by."
        )
    return tuple(names), wave_of


def _wave_name(group: str, share: float, shares: int) -> str:
    if shares < 2:
        return group
    told = f"to {percent(share)}"
    return told if group == "all" else f"{group} {told}"


def percent(share: float) -> str:
    """As people gave it: 10%, or 2.5%."""
    return f"{100 * share:g}%"


def _canaries(order: list[Candidate], count: int) -> set[int]:
    """So many, of each class in turn: a canary of one type says nothing of another."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for node in order:
        kinds.setdefault((node.node_type, node.board), []).append(node.address)
    rows = [row for at in range(max(map(len, kinds.values()), default=0)) for row in
            (addresses[at] for addresses in kinds.values() if at < len(addresses))]  # fmt: skip
    return set(rows[:count])


def _group(node: Candidate, by: str) -> str:
    return {"type": node.node_type, "area": node.area, "board": node.board or "board not known"}.get(
        by, "all"
    )


def _drawn(address: int) -> bytes:
    return hashlib.sha256(b"wave" + address.to_bytes(2, "big")).digest()


def air_seconds_per_hour(plan: Plan) -> float:
    return plan.air_share * timedelta(hours=1).total_seconds()
