"""Campaigns: a release for many nodes, wave by wave, without anybody watching.

Without links and radios: it is told what was heard, and asked what there is to say.

    heard(address, release, session, answer)   a node's update status (kind 6)
    ended(address, release, outcome)           its event 24; those in the store are found without being told
    hello(address, board, firmware)            it has started
    has_news(address), for_node(address, way)  what to say to it now, in order, after everything else
    impatient()                                on a cable: whom to speak to without waiting for an uplink
    passes_due(), frame(pass)                  broadcasts (campaign_passes.py)
    tick()                                     time has gone by

Everything that matters is in rows (campaign_books.py), and written before anybody hears of it: a state before the
message that follows from it, the number of a row before the row. So a kill costs a question that is asked twice, and
nothing is sent twice under one key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from gateway import campaign_limits as limits
from gateway import campaign_rows as rows
from gateway import campaign_steps, programs
from gateway.campaign_books import Books, ending
from gateway.campaign_passes import Passes
from gateway.campaign_rows import Campaign, Member, Payload
from gateway.campaign_sessions import Sessions
from gateway.campaign_talk import Budget, Frame, Pass, Talk, Update, Way, air_s
from gateway.clock import TrustedClock
from gateway.registry import Registry, Store
from protocols.wire import ota, update


class Campaigns:
    """All of them. `may_broadcast`: somebody asks for `passes_due`."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: TrustedClock,
        random_bytes: Callable[[int], bytes],
        heartbeat_s: Callable[[int], float | None] = lambda address: None,
        *,
        may_broadcast: bool = False,
    ) -> None:
        self.books = Books(store, clock)
        self._registry = registry
        self._clock = clock
        self._sessions = Sessions(store, random_bytes)
        self.passes = Passes(self._sessions, clock, heartbeat_s)
        self.books.is_expected = self.passes.expects
        self.passes.air_wait_s = self._air_wait_s
        self.may_broadcast = may_broadcast
        self._talks: dict[int, Talk] = {}
        self._budgets: dict[int, Budget] = {}
        self.counters = dict.fromkeys(("messages", "rows", "broadcast_rows", "answers"), 0)

    # --- what was heard --------------------------------------------------------------------------

    async def heard(
        self, address: int, release: int, session: int, answer: bytes, *, wants_answer: bool = True
    ) -> None:
        """An update status of a node."""
        self.counters["answers"] += 1
        now = self.books.program(address)._replace(release=release, at_ms=self._clock.unix_ms())

        def note(connection: sqlite3.Connection) -> None:
            programs.note(connection, address, now)
            rows.named_session(connection, session)

        await self.books.step(
            address, lambda member: campaign_steps.on_status(member, release, session, answer), note
        )
        self.books.programs[address] = now
        self._note_answer(address, session, answer, wants_answer)

    def _note_answer(self, address: int, session: int, answer: bytes, wants_answer: bool) -> None:
        """What is of this moment only."""
        talk, now_s = self._talk(address), self._clock.monotonic()
        # It is there: what follows, follows at once, unless it knows already.
        talk.next_s = self.passes.reported(address, session, wants_answer=wants_answer)
        kind = answer[0] if answer else -1
        if kind == campaign_steps.CALL and len(answer) == 2:
            self._on_call(address, talk, session, answer[1])
            return
        member = self.books.members.get(address)
        if member is None or member.session != session:
            return  # of another session, or of none that there is: nothing of it is sent to this node
        if kind == ota.STATUS and len(answer) == 5:
            talk.is_asked = False
            talk.is_stuck = bool(answer[4] & ota.NO_MEMORY) and bool(answer[3])
            talk.ask_s = now_s + limits.ASK_IN_PASS_S
            if not answer[3]:
                talk.end_pass()
        elif kind == ota.MISSING and len(answer) == 3 + ota.BITMAP:
            first, last = int.from_bytes(answer[1:3], "little"), self._sessions.fragments(session)
            talk.is_asked = False
            talk.wanted = self._sessions.missing(session, first, answer[3:])
            talk.first = first + 8 * ota.BITMAP if first + 8 * ota.BITMAP <= last else 1
            talk.is_stuck = not talk.wanted
            talk.ask_s = now_s + limits.ASK_IN_PASS_S

    def _on_call(self, address: int, talk: Talk, session: int, code: int) -> None:
        now_s = self._clock.monotonic()
        found = self.passes.answered(address, session, code)
        is_alone, talk.is_called = talk.is_called and found is None, False
        if code == campaign_steps.NO_RADIO and found is not None:
            talk.has_no_radio = True
        elif code != campaign_steps.COMES:
            pause_s = limits.NOT_NOW_ON_CABLE_S if talk.is_on_cable else limits.NOT_NOW_ON_AIR_S
            talk.next_s = now_s + pause_s
        elif found is not None:  # until then it is told anew only if it asks
            talk.next_s = found.ends_s
        elif is_alone:
            begins_in_s = limits.BEGIN_ON_CABLE_S if talk.is_on_cable else limits.BEGIN_ON_AIR_S
            talk.begins_s = talk.ask_s = now_s + begins_in_s
            talk.until_s = talk.begins_s + limits.PASS_ALONE_S
            talk.is_asked = talk.is_on_cable  # it starts anew, which takes what it takes: first it is asked
        # Else it checks in, hours before a pass: `for_node` tells it anew.

    async def hello(self, address: int, board: str, firmware: str = "") -> None:
        """A node has started."""
        self._talk(address).end_pass()
        await self.books.note_program(address, programs.of_hello(board, firmware, self._clock.unix_ms()))
        found = self.books.of(address)
        if found is not None and found[0].state == rows.RECEIVED:
            await self.books.step(address, campaign_steps.on_hello)

    def at_work(self, address: int) -> None:
        """A node said something that none in a pass says: it is in no pass any more."""
        talk = self._talks.get(address)
        if talk is not None and talk.begins_s <= self._clock.monotonic():
            talk.end_pass()

    async def ended(self, address: int, release: int, outcome: int) -> None:
        """A node's record says how an update ended."""
        await self.books.step(address, ending(release, outcome), target=release)

    async def look(self) -> None:
        """There is a record of an ending in the store, perhaps."""
        await self.books.look()

    async def tick(self) -> None:
        """Every few seconds."""
        await self.books.tick()

    def reload(self) -> None:
        """A person has changed something."""
        self.books.reload()

    # --- what there is to say --------------------------------------------------------------------

    def has_news(self, address: int) -> bool:
        """Whether `for_node` may have something: cheap, for who decides whether to answer at all."""
        found = self.books.of(address)
        if found is None:
            return False
        member, campaign = found
        talk = self._talk(address)
        if talk.is_busy or talk.next_s > self._clock.monotonic():
            return False
        if campaign.state == rows.ABORTED:
            return member.session is not None and member.state in (rows.OFFERED, rows.RECEIVING)
        is_open = campaign.state == rows.RUNNING and member.wave <= campaign.wave
        return is_open and member.state not in (*rows.FINAL, rows.RECEIVED, rows.TRYING)

    async def for_node(self, address: int, way: Way) -> list[Update]:
        """What to say to a node that can hear now, in order. What leads to it is on the disk."""
        if not self.has_news(address):
            return []
        talk = self._talk(address)
        member, campaign = self.books.members[address], self._campaign_of(address)
        talk.is_busy = True
        try:
            said = await self._say(member, campaign, talk, way)
        finally:
            talk.is_busy = False
        for one in said:
            self._budget(campaign.id).spend(self._clock.monotonic(), air_s(way.sf, len(one.command)))
        self.counters["messages"] += len(said)
        return said

    def _campaign_of(self, address: int) -> Campaign:
        return self.books.campaigns[self.books.members[address].campaign]

    async def _say(self, member: Member, campaign: Campaign, talk: Talk, way: Way) -> list[Update]:
        now_s = self._clock.monotonic()
        if campaign.state == rows.ABORTED:
            talk.next_s = now_s + limits.RESEND_S
            return [Update(member.session or 0, bytes((ota.DELETE, 0)))]
        if member.state == rows.RECEIVING and talk.in_pass(now_s):
            return await self._rows_alone(member, talk, way)
        if talk.begins_s > now_s or not self._may_begin(campaign, way):
            return []
        talk.next_s = now_s + limits.RESEND_S
        if member.state == rows.RECEIVING or (member.state == rows.GONE and member.reason == "not-now"):
            return self._call(member, talk, way)
        if member.state in (rows.WAITING, rows.GONE) or member.ran is None:
            await self._ask(member)
            return [Update(0, bytes((campaign_steps.WHO,)))]
        return await self._offer(member, way)

    def _may_begin(self, campaign: Campaign, way: Way) -> bool:
        """Its hours allow it, and there is air for it."""
        plan = self.books.plans[campaign.id]
        if plan.windows and not (self._clock.synchronised() and plan.is_open(self._clock.unix_ms())):
            return False
        return not way.sf or self._budget(campaign.id).left_s(self._clock.monotonic()) > 0

    async def _ask(self, member: Member) -> None:
        """One that is gone is asked as it is: its answer says where it goes on."""
        if member.state == rows.WAITING:
            await self.books.step(
                member.node,
                lambda one: one._replace(state=rows.ASKED) if one.state == rows.WAITING else one,
            )

    async def _offer(self, member: Member, way: Way) -> list[Update]:
        payload = self._choose(member)
        if payload is None or not way.fragment:
            return []
        if payload == "class":
            await self.books.step(
                member.node, lambda one: one._replace(state=rows.REFUSED, reason="other-class")
            )
        if isinstance(payload, str):
            return []
        count = sum(one.campaign == member.campaign for one in self.books.members.values())
        session = await self._sessions.open(payload, way.fragment, member.tries, count)

        def step(one: Member) -> Member:
            if one.state not in (rows.WAITING, rows.ASKED, rows.OFFERED):
                return one
            return campaign_steps.offered(one, payload.id, session, payload.sequence)

        after = await self.books.step(member.node, step)
        is_offered = after is not None and after.state == rows.OFFERED
        return [Update(session, self._sessions.setup(session))] if is_offered else []

    def _choose(self, member: Member) -> Payload | str | None:
        """The smallest payload that it can follow; None while its board is not known, "class" if there is none."""
        node = self._registry.node(member.node)
        every = self.books.payloads[member.campaign]
        of_type = [one for one in every if node is not None and one.node_type == node.node_type]
        board = self.books.program(member.node).board
        if not board and len({one.board for one in of_type}) > 1:
            return None
        its = [one for one in of_type if board in ("", one.board)]
        fitting = [one for one in its if one.base is None or (one.base == member.ran and not member.tries)]
        return min(fitting, key=lambda one: one.size) if fitting else "class"

    def _call(self, member: Member, talk: Talk, way: Way) -> list[Update]:
        """To a pass: with others, when there are any on its channel, or by itself."""
        now_s, session = self._clock.monotonic(), member.session or 0
        talk.is_on_cable = way.listens
        is_long = self._sessions.fragments(session) > limits.ROWS_NOT_WORTH_A_PASS
        fits = self._sessions.size(session) + limits.ROOM_FOR_REST <= way.most
        # While not every fragment went out, nobody has enough of them to work out the others: that is no reason.
        is_stuck = talk.is_stuck and self._sessions.broadcast(session) >= self._sessions.fragments(session)
        is_shared = member.tries < limits.ALONE_FROM_TRIES and not talk.has_no_radio and not is_stuck
        if way.sf and is_long and fits and self.may_broadcast and is_shared:
            mates = [one.node for one in self.books.members.values() if self._is_mate(one, member)]
            if len(mates) >= limits.BROADCAST_MIN or self.passes.is_planned(session, way.sf):
                call = self.passes.call(member.node, session, way, mates, now_s)
                return [] if call is None else [Update(session, call)]
        talk.is_called = True
        alone = update.Pass(way.piv, 0, limits.PASS_ALONE_S, 0, 0, b"")
        return [Update(session, update.encode_pass(alone))]

    def _is_mate(self, one: Member, member: Member) -> bool:
        """Whether it gets the same rows, now or soon."""
        if one.campaign != member.campaign or one.wave > self.books.campaigns[member.campaign].wave:
            return False
        if one.session is not None:
            return one.session == member.session and one.state in (rows.OFFERED, rows.RECEIVING)
        return one.state in (rows.WAITING, rows.ASKED)

    async def _rows_alone(self, member: Member, talk: Talk, way: Way) -> list[Update]:
        """The next rows of a node that listens to nobody else, and on a cable the question what it has."""
        session = member.session or 0
        talk.ask_s = self._clock.monotonic() + limits.ASK_IN_PASS_S
        many = limits.ROWS_ON_CABLE if way.listens else limits.ROWS_ON_AIR
        ask = Update(session, bytes((ota.STATUS, 1)))
        if talk.is_asked:
            return [ask]
        if talk.wanted:
            numbers, talk.wanted = talk.wanted[:many], talk.wanted[many:]
        elif talk.is_stuck:
            talk.is_asked = False
            return [Update(session, bytes((ota.MISSING,)) + talk.first.to_bytes(2, "little"))]
        else:
            numbers = await self._take_rows(member, session, many)
        self.counters["rows"] += len(numbers)
        said = [Update(session, self._sessions.row(session, number)) for number in numbers]
        talk.is_asked = way.listens
        return [*said, ask] if way.listens else said

    async def _take_rows(self, member: Member, session: int, many: int) -> list[int]:
        """Rows that it was not sent before, alone or with others; noted as sent."""
        used = member.rows if member.deficit is None else max(member.rows, self._sessions.broadcast(session))
        many = min(many, max(self._sessions.fragments(session) - used, member.deficit or 1))
        numbers = list(range(used + 1, used + 1 + many))
        after = await self.books.step(member.node, lambda one: one._replace(rows=max(one.rows, numbers[-1])))
        return [] if after is None else numbers

    def impatient(self) -> list[int]:
        """Nodes that should have answered by now, or whose pass alone begins: for those on a cable."""
        now_s = self._clock.monotonic()
        return [
            address
            for address, talk in self._talks.items()
            if talk.in_pass(now_s) and talk.ask_s <= now_s and not talk.is_busy
        ]

    def _talk(self, address: int) -> Talk:
        talk = self._talks.get(address)
        if talk is None:
            talk = self._talks[address] = Talk()
        return talk

    def _air_wait_s(self, session: int, seconds: float) -> float:
        number = self._sessions.campaign(session)
        return (
            self._budget(number).wait_s(self._clock.monotonic(), seconds)
            if number in self.books.plans
            else 0.0
        )

    def _budget(self, campaign: int) -> Budget:
        budget = self._budgets.get(campaign)
        if budget is None:
            share = self.books.plans[campaign].air_share
            budget = self._budgets[campaign] = Budget(share, self._clock.monotonic())
        return budget

    def forget(self, address: int) -> None:
        """The node's keys are void."""
        self._talks.pop(address, None)

    # --- broadcasts ------------------------------------------------------------------------------

    def passes_due(self) -> list[Pass]:
        """Those that have begun and are not over."""
        return self.passes.due()

    async def frame(self, found: Pass) -> Frame | None:
        """What goes to everybody in a pass next; None: nothing more."""
        nodes = [*found.coming, *self.passes.waited_for(found)]
        taking = [
            one for node in nodes if (one := self.books.members.get(node)) and self._is_taking(one, found)
        ]
        deficits = {one.node: one.deficit for one in taking}
        campaign = self.books.campaigns.get(taking[0].campaign) if taking else None
        if campaign is None:
            self.passes.nobody_takes(found)
        if campaign is None or campaign.state != rows.RUNNING:
            return None
        budget, now_s = self._budget(campaign.id), self._clock.monotonic()
        made = await self.passes.frame(found, deficits, budget.left_s(now_s))
        if made is not None:
            self.counters["broadcast_rows"] += 1
            budget.spend(now_s, air_s(made.sf, len(made.command)))
        return made

    def _is_taking(self, member: Member, found: Pass) -> bool:
        return member.session == found.session and member.state == rows.RECEIVING

    async def question(self, found: Pass) -> Frame | None:
        """What ends a pass, and names the next one while the campaign goes on."""
        made = await self.passes.question(found, may_name=self._goes_on(found))
        if found.following is not None:
            for address in found.following.coming:
                talk = self._talk(address)
                talk.next_s = max(talk.next_s, found.following.ends_s)  # until it asks to be told
        return made

    def _goes_on(self, found: Pass) -> bool:
        campaign = self.books.campaigns.get(self._sessions.campaign(found.session))
        if campaign is None or campaign.state != rows.RUNNING:
            return False
        return self._may_begin(campaign, Way(False, 0, sf=found.sf))

    # --- what it says of itself ------------------------------------------------------------------

    def picture(self) -> dict[str, Any]:
        """For /metrics: counters, and of each campaign that is not over how many nodes are in which state."""
        found = {}
        for number, campaign in self.books.campaigns.items():
            states = dict.fromkeys(rows.NODE_STATES, 0)
            for member in self.books.members.values():
                if member.campaign == number:
                    states[member.state] += 1
            found[str(number)] = {"state": campaign.state, "name": campaign.name, "nodes": states}
        types = {node.address: node.node_type for node in self._registry.nodes()}
        counters = {**self.counters, "endings": self.books.endings}
        return {"counters": counters, "open": found, "running": programs.counted(self.books.programs, types)}
