"""What a person does with campaigns: begin, look, pause, resume, abort. Audited, with who and why.

Written for a running gateway and a stopped one: the engine reads the rows again.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway import campaign_limits as limits
from gateway import campaign_making as making
from gateway import campaign_reasons, campaign_skip, node_file, programs
from gateway import campaign_rows as rows
from gateway.campaign_books import tally
from gateway.campaign_files import Files, parse
from gateway.campaign_plan import Plan, windows
from gateway.campaign_rows import Campaign, Member
from gateway.clock import TrustedClock
from gateway.errors import CommandError
from gateway.operations import Operations, Reply, Request
from gateway.registry import By, Registry, audit
from gateway.store import Store

_BY = ("", "type", "area", "board")


class CampaignOperations:
    """`changed` is called when rows were written that an engine has in memory; `passes`: those of a campaign."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: TrustedClock,
        changed: Callable[[], None] = lambda: None,
        passes: Callable[[int], list[Reply]] = lambda campaign: [],
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._changed = changed
        self._passes = passes
        self._checking: asyncio.Future[list[Files]] | None = None

    def serve(self, operations: Operations) -> None:
        operations.add("campaign.add", self._do_add)
        operations.add("campaign.list", self._do_list)
        operations.add("campaign.show", self._do_show)
        operations.add("campaign.node", self._do_node)
        operations.add("campaign.pause", self._do_pause)
        operations.add("campaign.resume", self._do_resume)
        operations.add("campaign.skip", self._do_skip)
        operations.add("campaign.abort", self._do_abort)

    # --- to begin --------------------------------------------------------------------------------

    async def _do_add(self, request: Request, by: By) -> Reply:
        _must_say_why(by)
        given = request.get("releases")
        if not isinstance(given, list) or not given:
            raise CommandError("'releases' is missing: name the folder of at least one release.")
        name = request.get("name") or ""
        if not isinstance(name, str) or not name.isprintable() or len(name) > limits.NAME_CHARS_MAX:
            raise CommandError(
                f"name {name!r:.60}: allowed are up to {limits.NAME_CHARS_MAX} characters, in one line."
            )
        if name.strip().isdecimal():
            raise CommandError(f"name {name!r}: a number is the number of another campaign. Use a word.")
        files = await self._checked(given[: limits.CLASSES_MAX + 1])
        name = name or ", ".join(f"{one.node_type} {one.sequence}" for one in files)[: limits.NAME_CHARS_MAX]
        made = await making.make(
            self._store, self._registry, self._clock, files, _choice(request), _plan(request), name, by
        )
        self._changed()
        return {**made._asdict(), "waves": [list(wave) for wave in made.waves], "name": name}

    async def _checked(self, given: list[Any]) -> list[Files]:
        """In a thread: a release of 2 MB takes 25 ms of a desktop's core, so sixteen of them a second of a gateway's.

        One at a time, whether its client still waits or not, so that no thread is missing elsewhere.
        """
        if self._checking is not None and not self._checking.done():
            raise CommandError("the releases of another campaign are being checked. Ask again in a minute.")
        self._checking = asyncio.ensure_future(asyncio.to_thread(lambda: [parse(one) for one in given]))
        return await asyncio.shield(self._checking)

    # --- to look ---------------------------------------------------------------------------------

    async def _do_list(self, request: Request, by: By) -> Reply:
        def look(reader: sqlite3.Connection) -> list[Reply]:
            return [self._told(reader, campaign) for campaign in rows.campaigns(reader)]

        return {"campaigns": self._store.read(look)}

    async def _do_show(self, request: Request, by: By) -> Reply:
        def look(reader: sqlite3.Connection) -> Reply:
            campaign = _find(reader, request.get("campaign"))
            payloads = {one.id: one for one in rows.payloads(reader, campaign.id)}
            sessions = rows.sessions(reader, campaign.id)
            boards = programs.boards(reader)
            now_ms = self._clock.unix_ms()
            nodes = []
            for member in rows.members(reader, campaign.id):
                place = self._registry.place_of(member.node, now_ms)
                session = None if member.session is None else sessions.get(member.session)
                payload = None if session is None else payloads.get(session.payload)
                whole = 0 if payload is None or session is None else -(-payload.size // session.size)
                nodes.append(
                    {
                        **_node_told(member, whole),
                        "site": place.site, "area": place.area, "board": boards.get(member.node, ""),
                        "payload_bytes": 0 if payload is None else payload.size,
                        "base": None if payload is None else payload.base,
                    }
                )  # fmt: skip
            files = [one._asdict() for one in payloads.values()]
            # One that has been planned is dropped when its time comes and nobody wants it: until then it is no news.
            passes = self._passes(campaign.id) if campaign.state in rows.OPEN else []
            return {**self._told(reader, campaign), "payloads": files, "nodes": nodes, "passes": passes}

        return self._store.read(look)

    async def _do_node(self, request: Request, by: By) -> Reply:
        """What became of one node in each campaign, the newest first."""
        address = _address(request)

        def look(reader: sqlite3.Connection) -> list[Reply]:
            every = {one.id: one for one in rows.campaigns(reader)}
            return [
                {
                    **_node_told(member, 0), "campaign": member.campaign, "name": every[member.campaign].name,
                    "campaign_state": every[member.campaign].state,
                }
                for member in rows.memberships(reader, address)
                if member.campaign in every
            ]  # fmt: skip

        return {"campaigns": self._store.read(look)}

    def _told(self, reader: sqlite3.Connection, campaign: Campaign) -> Reply:
        counted = rows.counts(reader, campaign.id)
        plan = Plan.of(campaign.document)
        failed, ended = tally(counted)
        waves: list[dict[str, Any]] = [
            {"name": name, "states": dict.fromkeys(rows.NODE_STATES, 0)} for name in plan.waves
        ]
        reasons: dict[str, int] = {}
        for (wave, state, reason, _), count in counted.items():
            if wave < len(waves):
                waves[wave]["states"][state] += count
            if reason:
                reasons[reason] = reasons.get(reason, 0) + count
        is_running = campaign.state == rows.RUNNING
        opens_in_s = plan.opens_in_s(self._clock.unix_ms()) if is_running else None
        return {
            **campaign._asdict(), "plan": plan.document(), "waves": waves, "reasons": reasons,
            "states": {state: sum(wave["states"][state] for wave in waves) for state in rows.NODE_STATES},
            "failed": failed, "ended": ended, "opens_in_s": opens_in_s,
            "waits_for_clock": is_running and bool(plan.windows) and not self._clock.synchronised(),
            "holds": campaign_skip.who_holds(rows.members(reader, campaign.id), campaign),
        }  # fmt: skip

    # --- to change -------------------------------------------------------------------------------

    async def _do_pause(self, request: Request, by: By) -> Reply:
        return await self._change(request, by, (rows.RUNNING,), rows.PAUSED)

    async def _do_resume(self, request: Request, by: By) -> Reply:
        return await self._change(request, by, (rows.PAUSED, rows.HALTED), rows.RUNNING)

    async def _do_skip(self, request: Request, by: By) -> Reply:
        """Go on without a node."""
        _must_say_why(by)
        node = _address(request)
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> tuple[Campaign, Member]:
            campaign = _find(connection, request.get("campaign"))
            before = campaign_skip.skip(connection, campaign, node, now_ms)
            audit(connection, now_ms, by, "campaign.skip", f"{node:04x}", f"campaign {campaign.id}")
            return campaign, before

        campaign, before = await self._store.write(write)
        self._changed()
        return {"id": campaign.id, "name": campaign.name, "node": f"{node:04x}", "was": before.state}

    async def _do_abort(self, request: Request, by: By) -> Reply:
        return await self._change(request, by, rows.OPEN, rows.ABORTED)

    async def _change(self, request: Request, by: By, allowed: tuple[str, ...], state: str) -> Reply:
        _must_say_why(by)
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> Campaign:
            campaign = _find(connection, request.get("campaign"))
            if campaign.state not in allowed:
                raise CommandError(_not_now(campaign, state))
            rows.change_state(connection, campaign, state, by.why, now_ms, by)
            if campaign.state == rows.HALTED and state == rows.RUNNING:
                # What has failed is known to whoever goes on; it is halted again by as much more.
                failed, ended = tally(rows.counts(connection, campaign.id))
                rows.update(connection, campaign.id, base_failed=failed, base_ended=ended)
            return campaign

        campaign = await self._store.write(write)
        self._changed()
        return {"id": campaign.id, "name": campaign.name, "was": campaign.state, "state": state}


def _not_now(campaign: Campaign, state: str) -> str:
    who = f"campaign {campaign.id} ({campaign.name})"
    if campaign.state in (rows.ABORTED, rows.ENDED):
        return f"{who} is over: {campaign.state}. Begin another: tidegate campaign add"
    if state == rows.PAUSED:
        return f"{who} is {campaign.state} already. Go on with it: tidegate campaign resume {campaign.id}"
    return f"{who} is running already."


def _node_told(member: Member, whole: int) -> Reply:
    """`received`: fragments that it has, as it said last, of `fragments`; null while it did not say."""
    code = campaign_reasons.code(member.state, member.reason)
    received = None if member.deficit is None or member.deficit == 255 else max(0, whole - member.deficit)
    return {
        "node": f"{member.node:04x}", "wave": member.wave, "state": member.state, "reason": member.reason,
        **code._asdict(), "ran": member.ran, "target": member.target, "session": member.session,
        "received": received, "fragments": whole, "tries": member.tries, "vanished": member.vanished,
        "changed_ms": member.changed_ms,
    }  # fmt: skip


def _must_say_why(by: By) -> None:
    if not by.why.strip():
        raise CommandError("say why with --why: it is kept in the audit log.")


def _find(connection: sqlite3.Connection, what: Any) -> Campaign:
    """By its number or its name. Raises CommandError."""
    every = rows.campaigns(connection)
    if isinstance(what, str) and what.isascii() and what.isdecimal() and len(what) < 10:
        what = int(what)
    for campaign in every:
        if type(what) in (int, str) and what in (campaign.id, campaign.name):  # true is 1, too
            return campaign
    if not every:
        raise CommandError("there is no campaign yet. Begin one: tidegate campaign add RELEASE --why …")
    near = get_close_matches(str(what)[:60], [one.name for one in every], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    there = ", ".join(f"{one.id} ({one.name}, {one.state})" for one in every[:5])
    raise CommandError(f"there is no campaign {what!r:.60}.{hint} There are: {there}.")


# --- what a request says -------------------------------------------------------------------------


def _choice(request: Request) -> making.Choice:
    by = request.get("by") or ""
    if by not in _BY:
        near = get_close_matches(str(by)[:20], _BY[1:], 1, 0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise CommandError(f"by = {by!r:.40} is not allowed. Allowed are type, area and board.{hint}")
    return making.Choice(
        types=_texts(request, "types"), areas=_texts(request, "areas"), boards=_texts(request, "boards"),
        nodes=_addresses(request.get("nodes") or [], "nodes"),
        canary=_canary(request.get("canary")), shares=_shares(request.get("shares") or []), by=by,
    )  # fmt: skip


def _plan(request: Request) -> Plan:
    zone = request.get("zone") or ""
    try:
        if zone:
            ZoneInfo(str(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CommandError(
            f"zone {zone!r:.40} is not known. Allowed is a name such as Asia/Shanghai."
        ) from error
    return Plan(
        waves=(),
        windows=windows(_texts(request, "windows")),
        zone=str(zone),
        air_share=_number(
            request, "air_share", limits.AIR_SHARE_DEFAULT, limits.AIR_SHARE_MIN, limits.AIR_SHARE_MAX
        ),
        halt_share=_number(request, "halt_share", limits.HALT_SHARE_DEFAULT, 0.0, 1.0),
        halt_count=int(_number(request, "halt_count", limits.HALT_COUNT_DEFAULT, 1, 65_535)),
        patience_s=int(
            _number(
                request, "patience_s", limits.PATIENCE_DEFAULT_S, limits.PATIENCE_MIN_S, limits.PATIENCE_MAX_S
            )
        ),
        soak_s=int(_number(request, "soak_s", 0, 0, limits.SOAK_MAX_S)),
    )


def _number(request: Request, key: str, default: float, low: float, high: float) -> float:
    value = request.get(key)
    if value is None:
        return default
    if type(value) not in (int, float) or not low <= value <= high:
        raise CommandError(f"{key} = {value!r:.40} is not allowed. Allowed are {low:g} to {high:g}.")
    return float(value)


def _texts(request: Request, key: str) -> tuple[str, ...]:
    found = request.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found) or len(found) > 1000:
        raise CommandError(f"'{key}' must be a list of texts.")
    return tuple(found)


def _address(request: Request) -> int:
    found = node_file.parse_address(request.get("node") or "")
    if found is None:
        raise CommandError(
            f"node {request.get('node')!r:.40} is no address. Allowed is one as on the label, such as 0012."
        )
    return found


def _addresses(given: Any, key: str) -> tuple[int, ...]:
    found = [node_file.parse_address(one) for one in given] if isinstance(given, list) else [None]
    if None in found:
        raise CommandError(f"'{key}' must be a list of addresses as on the label, such as 0012.")
    return tuple(one for one in found if one is not None)


def _canary(given: Any) -> int | float | tuple[int, ...]:
    """A count, a share below 1, or a list of addresses."""
    if given is None:
        return 0
    if isinstance(given, list):
        return _addresses(given, "canary")
    if type(given) is int and 0 <= given <= 65_534:
        return given
    if type(given) is float and 0 < given < 1:
        return given
    raise CommandError(
        f"canary = {given!r:.40} is not allowed. Allowed is a number of nodes, a share, or addresses."
    )


def _shares(given: Any) -> tuple[float, ...]:
    """Growing, and the last is all."""
    numbers = list(given) if isinstance(given, list) else [0]
    if not all(type(one) in (int, float) and 0 < one <= 1 for one in numbers):
        raise CommandError(
            f"shares {given!r:.60} are not allowed. Allowed are shares up to 100 %, such as 10 %, 50 %."
        )
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        raise CommandError(
            "shares must grow: each says how much of the nodes has it when that wave is through."
        )
    return tuple(numbers) if not numbers or numbers[-1] == 1 else (*numbers, 1.0)
