"""Where each node and each campaign stands: the rows, what follows from a change of one, and their mirror in memory.

A change of a node and what it leads to (a halt, the next wave, the end) are one transaction. Campaigns age only while
a gateway works on them, by its monotonic clock: one that was off for a day, or whose clock was set, waited for nobody.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from gateway import campaign_limits as limits
from gateway import campaign_reasons, campaign_steps, programs
from gateway import campaign_rows as rows
from gateway.campaign_plan import Plan, percent
from gateway.campaign_rows import Campaign, Member, Payload
from gateway.clock import Clock
from gateway.programs import Program
from gateway.records import KIND_EVENT
from gateway.registry import By, Store
from protocols.wire import codes, ota

Step = Callable[[Member], Member]
# How far a node is: the campaign, how often it was begun, the state, and the rows that it lacks, below zero.
Furthest = tuple[int, int, int, int]
_BY = By("gateway", "campaign")


class Books:
    """`members` are those of campaigns that are not over, of each node its newest."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.campaigns: dict[int, Campaign] = {}
        self.plans: dict[int, Plan] = {}
        self.payloads: dict[int, list[Payload]] = {}
        self.members: dict[int, Member] = {}
        self.programs: dict[int, Program] = {}
        self.endings = 0
        self.is_expected: Callable[[int], bool] = lambda address: False
        """Whether a node has an appointment, and is silent until then."""
        self._active: dict[int, float] = {}
        self._furthest: dict[int, Furthest] = {}  # of nodes; what a kill costs of it is one patience more
        self._event = 0
        self._ticked_s = self._saved_s = clock.monotonic()
        self.reload()

    def reload(self) -> None:
        """Take everything from the rows again: at the start, and when a person has changed something."""
        self._store.read(self._read)

    def _read(self, reader: sqlite3.Connection) -> None:
        found = [one for one in rows.campaigns(reader) if one.state != rows.ENDED]
        self.programs = programs.every(reader)
        self._event = rows.cursor(reader)[0]
        self.campaigns, self.members = {}, {}
        for campaign in reversed(found):  # the newest last: it has the say
            self._take(campaign)
            self.payloads[campaign.id] = rows.payloads(reader, campaign.id)
            self.members |= {one.node: one for one in rows.members(reader, campaign.id)}

    def _take(self, campaign: Campaign) -> None:
        self.campaigns[campaign.id] = campaign
        self.plans[campaign.id] = Plan.of(campaign.document)
        self._active.setdefault(campaign.id, float(campaign.active_s))

    def of(self, address: int) -> tuple[Member, Campaign] | None:
        """A node that is in a campaign which is not over."""
        member = self.members.get(address)
        campaign = None if member is None else self.campaigns.get(member.campaign)
        return None if member is None or campaign is None else (member, campaign)

    # --- one node --------------------------------------------------------------------------------

    async def step(
        self,
        address: int,
        step: Step,
        note: Callable[[sqlite3.Connection], None] = lambda connection: None,
        target: int | None = None,
    ) -> Member | None:
        """Change the row of a node, and note something with it; its row now, None when it is in no campaign.

        `target`: of the campaign that brings this release, however old; None: of its newest.
        """

        def write(connection: sqlite3.Connection) -> tuple[Member, Campaign] | None:
            note(connection)
            return self._apply(connection, address, step, target)

        done = await self._store.write(write)
        if done is None:
            return None
        self._mirror(*done)
        return done[0]

    def _apply(
        self, connection: sqlite3.Connection, address: int, step: Step, target: int | None = None
    ) -> tuple[Member, Campaign] | None:
        found = rows.memberships(connection, address)
        if target is not None:
            found = [one for one in found if one.target == target]
        campaign = rows.get(connection, found[0].campaign) if found else None
        if campaign is None:
            return None
        active_s = int(self._active.get(campaign.id, campaign.active_s))
        before = found[0]
        after = step(before)
        if self._is_further(before, after):
            after = after._replace(since_s=max(active_s, before.since_s))
        if after.state != before.state:
            after = after._replace(changed_ms=self._clock.unix_ms())
        if after != before:
            rows.save_member(connection, after)
        if after.state != before.state:
            campaign = self._judge(connection, campaign, active_s)
        return after, campaign

    def _is_further(self, before: Member, after: Member) -> bool:
        """Whether there was progress. To be heard alone is none: an alarm that lasts would hold up all the others; nor
        is what goes to and fro.
        """
        if before.state == rows.GONE:
            self._furthest.pop(after.node, None)
            return after.state != rows.GONE
        furthest, far = self._furthest.get(after.node, _how_far(before)), _how_far(after)
        self._furthest[after.node] = max(furthest, far)
        return far > furthest

    def _mirror(self, member: Member, campaign: Campaign) -> None:
        known = self.members.get(member.node)
        if campaign.id not in self.campaigns or (known is not None and known.campaign > member.campaign):
            return
        self.members[member.node] = member
        before = self.campaigns[campaign.id]
        if campaign.state == rows.ENDED:
            self._forget(campaign.id)
        elif campaign.wave != before.wave:
            self.reload()
        else:
            self._take(campaign)

    def _forget(self, number: int) -> None:
        del self.campaigns[number], self.plans[number], self.payloads[number], self._active[number]
        self.members = {node: one for node, one in self.members.items() if one.campaign != number}

    def program(self, address: int) -> Program:
        """What a node told of its program last."""
        return self.programs.get(address, programs.UNKNOWN)

    async def note_program(self, address: int, now: Program) -> None:
        """A node said what it is."""
        if now[:3] != self.program(address)[:3]:
            await self._store.write(lambda connection: programs.note(connection, address, now))
            self.programs[address] = now

    # --- records of endings ----------------------------------------------------------------------

    async def look(self) -> None:
        """Take up records of endings that are in the store: each exactly once, through any kill."""
        while (last := self._store.read(_last_event)) > self._event:
            upto = min(last, self._event + limits.EVENTS_CHUNK)
            changed = await self._store.write(self._taking_up(self._event, upto))
            self._event = upto
            for done in changed:
                self.endings += 1
                self._mirror(*done)

    def _taking_up(
        self, after: int, upto: int
    ) -> Callable[[sqlite3.Connection], list[tuple[Member, Campaign]]]:
        found = self._store.read(lambda reader: _endings(reader, after, upto))

        def write(connection: sqlite3.Connection) -> list[tuple[Member, Campaign]]:
            rows.note_event(connection, upto)
            return [
                done
                for node, release, outcome in found
                if (done := self._apply(connection, node, ending(release, outcome), release)) is not None
            ]

        return write

    # --- campaigns -------------------------------------------------------------------------------

    def _judge(self, connection: sqlite3.Connection, campaign: Campaign, active_s: int) -> Campaign:
        """Halt it, if too much failed; note that its open waves are through; open the next; end it."""
        if campaign.state != rows.RUNNING:
            return campaign
        plan = Plan.of(campaign.document)
        counted = rows.counts(connection, campaign.id)
        failed, ended = tally(counted)
        failed, ended = failed - campaign.base_failed, ended - campaign.base_ended
        if failed >= plan.halt_count and failed > plan.halt_share * ended:
            told = f"{failed} of {ended} failed; at most {percent(plan.halt_share)} may"
            rows.change_state(connection, campaign, rows.HALTED, told, self._clock.unix_ms(), _BY)
        elif any(
            wave <= campaign.wave and state not in rows.FINAL and state != rows.GONE
            for wave, state, _, _ in counted
        ):
            if campaign.settled_s is not None:  # one that was gone is back
                rows.update(connection, campaign.id, settled_s=None)
        else:
            settled_s = active_s if campaign.settled_s is None else campaign.settled_s
            rows.update(connection, campaign.id, settled_s=settled_s)
            if active_s >= settled_s + _soak_s(campaign, plan):
                self._next_wave(connection, campaign, plan, active_s)
        return rows.get(connection, campaign.id) or campaign

    def _next_wave(
        self, connection: sqlite3.Connection, campaign: Campaign, plan: Plan, active_s: int
    ) -> None:
        wave = campaign.wave + 1
        if wave >= len(plan.waves):
            told = "every node was heard of, or was waited for long enough"
            rows.change_state(connection, campaign, rows.ENDED, told, self._clock.unix_ms(), _BY)
            return
        rows.update(connection, campaign.id, wave=wave, settled_s=None)
        connection.execute(
            "UPDATE campaign_node SET since_s = ? WHERE campaign = ? AND wave = ?",
            (active_s, campaign.id, wave),
        )

    async def tick(self) -> None:
        """Time has gone by: look for endings and for nodes that do not come back, open waves, write down the time."""
        now_s = self._clock.monotonic()
        passed_s = min(max(0.0, now_s - self._ticked_s), limits.SAVE_S)
        self._ticked_s = now_s
        if self.campaigns:
            await self.look()
        must_save = now_s - self._saved_s >= limits.SAVE_S
        if must_save:
            self._saved_s = now_s
        for campaign in [one for one in self.campaigns.values() if one.state == rows.RUNNING]:
            self._active[campaign.id] += passed_s
            gone = self._silent(campaign)
            if must_save or gone or self._is_due(campaign):
                await self._age(campaign.id, gone)

    def _silent(self, campaign: Campaign) -> list[int]:
        plan, active_s = self.plans[campaign.id], self._active[campaign.id]
        return [
            one.node
            for one in self.members.values()
            if one.campaign == campaign.id
            and one.wave <= campaign.wave
            and is_overdue(one, plan, active_s)
            and not self.is_expected(one.node)
        ]

    def _is_due(self, campaign: Campaign) -> bool:
        soak_s = _soak_s(campaign, self.plans[campaign.id])
        return campaign.settled_s is not None and self._active[campaign.id] >= campaign.settled_s + soak_s

    async def _age(self, number: int, gone: list[int]) -> None:
        active_s, plan, now_ms = int(self._active[number]), self.plans[number], self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> None:
            rows.update(connection, number, active_s=active_s)
            for node in gone:
                member = rows.member(connection, number, node)
                if member is not None and is_overdue(member, plan, active_s):
                    rows.save_member(
                        connection, campaign_steps.on_silence(member)._replace(changed_ms=now_ms)
                    )
            campaign = rows.get(connection, number)
            if campaign is not None:
                self._judge(connection, campaign, active_s)

        await self._store.write(write)
        self.reload()

    def counts(self) -> dict[int, rows.Counts]:
        """Of each campaign that is not over, from the rows."""
        numbers = list(self.campaigns)
        return self._store.read(lambda reader: {number: rows.counts(reader, number) for number in numbers})


def ending(release: int, outcome: int) -> Step:
    """What such a record makes of a row."""
    return lambda member: campaign_steps.on_ending(member, release, outcome)


def tally(counted: rows.Counts) -> tuple[int, int]:
    """(failures, nodes of which it is known how it ended), by what the threshold counts."""
    failed = installed = 0
    for (_, state, reason, vanished), count in counted.items():
        if campaign_reasons.is_failure(state, reason, vanished):
            failed += count
        elif state == rows.INSTALLED:
            installed += count
    return failed, failed + installed


def _how_far(member: Member) -> Furthest:
    missing = ota.SATURATED + 1 if member.deficit is None else member.deficit
    return member.campaign, member.tries, rows.NODE_STATES.index(member.state), -missing


def is_overdue(member: Member, plan: Plan, active_s: float) -> bool:
    """Whether it made no progress for long enough. On trial a node may need three days to decide, and is given more."""
    if member.state in rows.FINAL or member.state == rows.GONE:
        return False
    return active_s - member.since_s > patience_s(member, plan)


def patience_s(member: Member, plan: Plan) -> int:
    is_on_trial = member.state in (rows.RECEIVED, rows.TRYING)
    return max(plan.patience_s, limits.TRIAL_PATIENCE_S) if is_on_trial else plan.patience_s


def _soak_s(campaign: Campaign, plan: Plan) -> int:
    return plan.soak_s if campaign.wave + 1 < len(plan.waves) else 0


def _last_event(reader: sqlite3.Connection) -> int:
    return int(reader.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0])


def _endings(reader: sqlite3.Connection, after: int, upto: int) -> list[tuple[int, int, int]]:
    """(node, release, outcome) of the records of endings among these events."""
    found = []
    for node, text in reader.execute(
        "SELECT node, detail FROM event_view WHERE id > ? AND id <= ? AND kind = ? AND code = ? ORDER BY id",
        (after, upto, KIND_EVENT, codes.UPDATE),
    ):
        detail = json.loads(text)
        if isinstance(detail, list) and len(detail) == 2:
            found.append((node, int(detail[0]), int(detail[1])))
    return found
