"""How a campaign is made of releases, nodes and what a person wants: all is checked, then one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from gateway import campaign_limits as limits
from gateway import campaign_rows as rows
from gateway import programs
from gateway.campaign_files import Files
from gateway.campaign_plan import Candidate, Plan, waves
from gateway.campaign_rows import Campaign, Member
from gateway.clock import Clock
from gateway.errors import CommandError
from gateway.registry import By, Registry, Store, audit


class Choice(NamedTuple):
    """Which nodes, in which order. What is empty chooses nothing out."""

    types: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()  # an area, and those that begin with it: 3301 has 330106 in it
    boards: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    canary: int | float | tuple[int, ...] = 0  # so many, such a share, or these
    shares: tuple[float, ...] = ()
    by: str = ""


class Made(NamedTuple):
    """A campaign as it begins."""

    id: int
    nodes: int
    waves: tuple[tuple[str, int], ...]  # what each is, and how many nodes
    left_out: int  # registered nodes of these types that were not chosen, or are on another board


async def make(
    store: Store,
    registry: Registry,
    clock: Clock,
    files: list[Files],
    choice: Choice,
    plan: Plan,
    name: str,
    by: By,
) -> Made:
    """`plan.waves` is worked out here. Raises CommandError."""
    _check_classes(registry, files)
    known = store.read(programs.boards)
    every = _candidates(registry, files, known)
    chosen = _chosen(every, choice)
    if not chosen:
        raise CommandError(_nobody(registry, files, every, choice))
    canary = _canary(choice.canary, chosen)
    names, wave_of = waves(chosen, canary, list(choice.shares), choice.by)
    plan = plan._replace(waves=names)
    targets = {(one.node_type, one.board): one.sequence for one in files}
    only = {one.node_type for one in files if sum(other.node_type == one.node_type for other in files) == 1}
    now_ms = clock.unix_ms()

    def write(connection: sqlite3.Connection) -> int:
        _check_free(connection, chosen)
        text = json.dumps(plan.document())
        if not any(one.state in rows.OPEN for one in rows.campaigns(connection)):
            rows.note_event(connection, _last_event(connection))
        number = rows.insert(
            connection,
            Campaign(0, name, rows.RUNNING, "", text, by.who, by.why, now_ms, now_ms, 0, 0, None, 0, 0),
            [
                (one.node_type, one.board, one.sequence, part.base, part.data)
                for one in files
                for part in one.parts
            ],
        )
        sequence_of = {kind: sequence for (kind, _), sequence in targets.items() if kind in only}
        rows.add_members(
            connection,
            [
                Member(
                    number, node.address, wave_of[node.address], rows.WAITING, "",
                    targets.get((node.node_type, node.board), sequence_of.get(node.node_type)),
                    None, None, None, None, 0, 0, "", now_ms, 0,
                )
                for node in chosen
            ],
        )  # fmt: skip
        told = f"{name}: {len(chosen)} nodes in {len(names)} waves"
        audit(connection, now_ms, by, "campaign.add", str(number), told)
        return number

    number = await store.write(write)
    sizes = tuple((name, list(wave_of.values()).count(at)) for at, name in enumerate(names))
    return Made(number, len(chosen), sizes, len(every) - len(chosen))


def _last_event(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0])


def _check_classes(registry: Registry, files: list[Files]) -> None:
    if not files or len(files) > limits.CLASSES_MAX:
        raise CommandError(
            f"{len(files)} releases: allowed are 1 to {limits.CLASSES_MAX}, one for each class."
        )
    if sum(len(one.parts) for one in files) > limits.PAYLOADS_MAX:
        raise CommandError(f"more than {limits.PAYLOADS_MAX} payloads. Build with fewer --against.")
    types = sorted({node.node_type for node in registry.nodes()})
    seen: dict[tuple[str, str], str] = {}
    for one in files:
        kind = (one.node_type, one.board)
        if kind in seen:
            raise CommandError(
                f"{seen[kind]} and {one.label} are both for {one.node_type} on {one.board}. Name one release of each."
            )
        seen[kind] = one.label
        if one.node_type not in types:
            near = get_close_matches(one.node_type, types, 1)
            hint = f" Did you mean a release for {near[0]}?" if near else ""
            raise CommandError(
                f"{one.label} is for nodes of type {one.node_type}; registered here are "
                f"{', '.join(types) or 'none at all'}.{hint}"
            )


def _candidates(registry: Registry, files: Iterable[Files], known: dict[int, str]) -> list[Candidate]:
    """Nodes of these classes; of one whose board is not known yet, by its type."""
    boards: dict[str, set[str]] = {}
    for one in files:
        boards.setdefault(one.node_type, set()).add(one.board)
    now_ms = registry.now_ms()
    found = []
    for node in registry.nodes():
        board = known.get(node.address, "")
        if node.removed_ms is None and node.node_type in boards and board in {"", *boards[node.node_type]}:
            area = registry.place_of(node.address, now_ms).area
            found.append(Candidate(node.address, node.node_type, area, board))
    return found


def _chosen(every: list[Candidate], choice: Choice) -> list[Candidate]:
    return [
        node
        for node in every
        if (not choice.types or node.node_type in choice.types)
        and (not choice.areas or node.area.startswith(choice.areas))
        and (not choice.boards or node.board in choice.boards)
        and (not choice.nodes or node.address in choice.nodes)
    ]


def _nobody(registry: Registry, files: list[Files], every: list[Candidate], choice: Choice) -> str:
    classes = ", ".join(f"{one.node_type} on {one.board}" for one in files)
    if not every:
        return (
            f"no registered node is {classes}. `tidegate gateway node list` shows who is; what board a node has, "
            f"it says when it starts."
        )
    wanted = [*choice.types, *choice.areas, *choice.boards, *(f"{one:04x}" for one in choice.nodes)]
    there = sorted({text for node in every for text in (node.node_type, node.area, node.board) if text})
    near = [match for one in wanted for match in get_close_matches(one, there, 1)]
    hint = f" Did you mean {near[0]}?" if near and near[0] not in wanted else ""
    return (
        f"of {len(every)} nodes that are {classes}, none is {' and '.join(wanted)}.{hint} There are: "
        f"{', '.join(there)[:300]}."
    )


def _canary(wanted: Any, chosen: list[Candidate]) -> int | list[int]:
    if isinstance(wanted, tuple):
        there = {node.address for node in chosen}
        strange = [f"{one:04x}" for one in wanted if one not in there]
        if strange:
            raise CommandError(
                f"canary {', '.join(strange)}: not among the {len(chosen)} nodes of this campaign. Choose other ones."
            )
        return list(wanted)
    if isinstance(wanted, float):
        return max(1, round(wanted * len(chosen)))
    return min(int(wanted), len(chosen))


def _check_free(connection: sqlite3.Connection, chosen: list[Candidate]) -> None:
    """A node is in one open campaign at a time."""
    addresses = {node.address for node in chosen}
    for campaign in rows.campaigns(connection):
        if campaign.state not in rows.OPEN:
            continue
        there = [
            one.node
            for one in rows.members(connection, campaign.id)
            if one.node in addresses and one.state not in rows.FINAL
        ]
        if there:
            raise CommandError(
                f"{len(there)} of these nodes are in campaign {campaign.id} ({campaign.name}), which is "
                f"{campaign.state}: {', '.join(f'{one:04x}' for one in there[:5])}{' …' if len(there) > 5 else ''}. "
                f"Wait for its end, or abort it: tidegate campaign abort {campaign.id} --why …"
            )
