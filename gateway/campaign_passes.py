"""Passes: times at which many nodes listen to rows of one session, on one channel at one spreading factor.

A pass is planned when the first of them can take part, so that all that may share it will have been heard before. Each
is told of it in the answer to an uplink of its own. When it is over its nodes say what they have, each at a time it
draws, and whoever lacks something is told of the next one in the answer to that. Passes are not in the store: after a
kill nodes find silence, tell what they have, and are told anew.

A row that somebody misses who is as far behind as any costs another row later. So a pass waits for who is on the way to
it: whoever was heard of late and did not agree to come in time holds it back, and rows go out only as far as the others
lack more. Three such passes in a row, and it goes on without them. Where nodes are few, passes follow each
other before who missed a call speaks again: such a node is waited for once, and again when it was heard meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gateway import campaign_limits as limits
from gateway import campaign_steps, update_limits
from gateway.campaign_sessions import Sessions
from gateway.campaign_talk import Frame, Pass, Way, air_s
from gateway.clock import Clock
from protocols.wire import ota, update

Where = tuple[int, int]  # session, spreading factor


class Passes:
    """Those that are planned or under way."""

    def __init__(self, sessions: Sessions, clock: Clock, heartbeat_s: Callable[[int], float | None]) -> None:
        self._sessions = sessions
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._passes: dict[Where, Pass] = {}
        self._seen: dict[Where, dict[int, float]] = {}  # who wants rows: when it was there last
        self._held: dict[Where, int] = {}  # passes in a row that waited for somebody
        self._waited_s: dict[Where, float] = {}  # when the latest of them began
        self._silent: dict[Where, dict[int, int]] = {}  # passes in a row of which somebody told nothing
        self._loss: dict[Where, float] = {}  # of rows, as the reports on the latest pass showed it
        # Rows of it, and what those who came to it lacked before.
        self._sent: dict[Where, tuple[int, dict[int, int]]] = {}
        self.channel_of: Callable[[int, int], int] = lambda sf, freq_hz: freq_hz
        """Where to broadcast at a spreading factor, for nodes that were heard on a channel."""
        self.air_wait_s: Callable[[int, float], float] = lambda session, seconds: 0.0
        """Until the campaign of a session may take so much of the air."""

    def call(self, address: int, session: int, way: Way, mates: list[int], now_s: float) -> bytes | None:
        """The call to the pass that is planned for a node's session; None: it can not come in time."""
        self._seen.setdefault((session, way.sf), {})[address] = now_s
        found = self._passes.get((session, way.sf))
        if found is None or now_s > found.ends_s:
            found = self._plan(session, way, mates, now_s)
        begins_in_s = found.begins_s - now_s
        if begins_in_s < limits.PASS_NOTICE_S / 4 or found.left is not None:
            return None  # it is asked again when this one is over
        found.told.add(address)
        ended_s = now_s if way.ended_s is None else way.ended_s
        begins_in = min(round((found.begins_s - ended_s) * 10), (1 << 24) - 1)
        return update.encode_pass(
            update.Pass(way.piv, begins_in, found.lasts_s, found.freq_hz, found.sf, found.key)
        )

    def is_planned(self, session: int, sf: int) -> bool:
        return (session, sf) in self._passes

    def told_of(self, campaign: int) -> list[dict[str, Any]]:
        """Those of a campaign that somebody was told of, for people: in the order in which they begin."""
        now_s = self._clock.monotonic()
        mine = [
            found
            for found in self._passes.values()
            if (found.coming or found.told)
            and now_s <= found.ends_s
            and self._sessions.campaign(found.session) == campaign
        ]
        return [
            {
                "session": found.session, "sf": found.sf, "freq_hz": found.freq_hz,
                "begins_in_s": round(max(0.0, found.begins_s - now_s), 1), "coming": len(found.coming),
                "asked": len(found.told), "sent": found.sent, "left": found.left,
            }
            for found in sorted(mine, key=lambda one: one.begins_s)
        ]  # fmt: skip

    def expects(self, address: int) -> bool:
        """Whether a node said that it comes to a pass which is not over."""
        now_s = self._clock.monotonic()
        return any(address in found.coming and now_s <= found.ends_s for found in self._passes.values())

    def _plan(self, session: int, way: Way, mates: list[int], now_s: float) -> Pass:
        """So late that every mate will have been heard, at the pace it promised."""
        slowest_s = max((self._heartbeat_s(one) or 0.0 for one in mates), default=0.0)
        told_s = 1.1 * slowest_s + _margin_s(len(mates))
        gather_s = min(max(limits.GATHER_MIN_S, told_s), limits.GATHER_MAX_S)
        return self._begin(session, way.sf, self.channel_of(way.sf, way.freq_hz), now_s + gather_s)

    def _begin(self, session: int, sf: int, freq_hz: int, begins_s: float) -> Pass:
        size = len(self._sessions.row(session, 1))
        row_s = air_s(sf, size) / limits.SENDING_SHARE
        air = air_s(sf, size) * min(self._rows_ahead(session), update_limits.PASS_SENDS_S / row_s)
        begins_s = max(begins_s, self._clock.monotonic() + self.air_wait_s(session, air))
        found = Pass(session, sf, freq_hz, self._sessions.key(session), begins_s, row_s)
        self._passes[session, sf] = found
        return found

    def _rows_ahead(self, session: int) -> int:
        """Of the next pass, about: nobody listens for rows that there is no air for."""
        whole, sent = self._sessions.fragments(session), self._sessions.broadcast(session)
        return max(whole - sent, round(whole * limits.LOSS) + limits.EXTRA_ROWS)

    def answered(self, address: int, session: int, code: int) -> Pass | None:
        """A node said whether it comes to a pass: which; None when it was told of none just now."""
        for found in self._passes.values():
            if found.session != session:
                continue
            if address in found.told:
                found.told.discard(address)
                if code == campaign_steps.COMES:
                    found.coming.add(address)
                return found
            found.coming.discard(address)  # it asks whether it still stands
        return None

    def reported(self, address: int, session: int, *, wants_answer: bool) -> float:
        """A node said what it has; until when it need not be told anything, 0 when it should be.

        Who wants no answer has heard when the next pass is.
        """
        until_s = 0.0
        for found in self._passes.values():
            if found.session == session and found.left is None and found.is_named:
                if wants_answer:
                    found.coming.discard(address)  # until it says that it comes
                else:
                    found.coming.add(address)
                    until_s = found.ends_s
                found.heard.add(address)
        return until_s

    def due(self) -> list[Pass]:
        """Those that have begun. What nobody comes to is dropped."""
        now_s = self._clock.monotonic()
        begun = [found for found in self._passes.values() if found.begins_s <= now_s]
        for found in begun:
            if found.left is None and not found.coming:
                self._drop((found.session, found.sf))
            elif now_s > found.ends_s:
                self.end(found)
        return [found for found in begun if self._passes.get((found.session, found.sf)) is found]

    def _drop(self, where: Where) -> None:
        for by_place in (
            self._passes, self._seen, self._held, self._waited_s, self._silent, self._loss, self._sent,
        ):  # fmt: skip
            by_place.pop(where, None)

    def waited_for(self, found: Pass) -> list[int]:
        """Who was there of late and did not say in time that it comes."""
        where = found.session, found.sf
        since_s = found.begins_s - limits.PASS_HEARD_S
        seen = self._seen.get(where, {})
        if _margin_s(len(seen)) <= limits.REPORT_MARGIN_MIN_S:
            since_s = max(since_s, self._waited_s.get(where, 0.0))
        return [one for one, at_s in seen.items() if at_s >= since_s and one not in found.coming]

    async def frame(self, found: Pass, deficits: dict[int, int | None], air_left_s: float) -> Frame | None:
        """The next row of a pass; None when it has sent all it should. `deficits`: of all that are not whole."""
        now_s = self._clock.monotonic()
        if found.is_named and not deficits:
            self.nobody_takes(found)
            return None
        if found.left is None:
            found.left = self._rows_for(found, deficits, air_left_s)
        if found.left <= 0 or now_s > found.ends_s:
            return None
        found.left -= 1
        found.sent += 1
        row = await self._sessions.take_row(found.session)
        return await self._frame(found, self._sessions.row(found.session, row))

    def nobody_takes(self, found: Pass) -> None:
        """All that it was named to are whole or gone: there is nobody to ask."""
        where = found.session, found.sf
        if found.is_named and self._passes.get(where) is found:
            self._drop(where)

    async def question(self, found: Pass, *, may_name: bool = False) -> Frame | None:
        """What everybody is asked at the end of a pass; it is over with it, and the next one is planned.

        Each time that it is asked it is made anew: it says how long it is until then, where that `may_name`.
        """
        where = found.session, found.sf
        if self._passes.get(where) is found:
            self.end(found)
            found.is_asked = True
            planned = self._passes[where]
            if may_name and self._begins_in(planned) > 0:
                found.questions = self._questions(where, len(found.coming))
                self._name(found, planned)
        following = found.following
        if not found.is_asked or (following is not None and self._passes.get(where) is not following):
            return None
        begins_in = 0 if following is None or not may_name else self._begins_in(following)
        if following is None or begins_in <= 0:
            return await self._frame(found, bytes((ota.STATUS, 1)))  # who has all of it answers, too
        return await self._frame(found, update.encode_next(begins_in, following.lasts_s))

    def _questions(self, where: Where, count: int) -> int:
        """So many that hardly any of so many nodes misses all of them: who does has to be told for itself."""
        loss = max(self._loss.get(where, limits.LOSS), limits.LOSS)
        wanted = math.ceil(math.log(limits.QUESTIONS_MISSED / max(1, count)) / math.log(loss))
        return max(update_limits.PASS_QUESTIONS, min(wanted, update_limits.PASS_QUESTIONS_MAX))

    def _begins_in(self, following: Pass) -> int:
        """Tenths of a second from the end of a question that is asked now; 0 when that is no appointment."""
        wait_s = following.begins_s - self._clock.monotonic() - air_s(following.sf, _NEXT_BYTES)
        return round(10 * wait_s) if limits.PASS_NOTICE_S <= wait_s <= update.APPOINTMENT_S else 0

    def _name(self, found: Pass, following: Pass) -> None:
        """Everybody who was there is taken to come again, unless it told nothing for some passes."""
        silent = self._silent.setdefault((found.session, found.sf), {})
        for address in found.coming:
            is_silent = found.is_named and address not in found.heard
            silent[address] = silent.get(address, 0) + 1 if is_silent else 0
        following.is_named = True
        following.coming |= {one for one in found.coming if silent[one] < limits.PASSES_SILENT_MAX}
        found.following = following

    async def _frame(self, found: Pass, command: bytes) -> Frame:
        piv = await self._sessions.take_piv(found.session)
        return Frame(found.session, command, found.key, piv, found.sf, found.freq_hz)

    def _rows_for(self, found: Pass, deficits: dict[int, int | None], air_left_s: float) -> int:
        """As many as the worst of those who come needs, and as fit the pass and the budget."""
        whole = self._sessions.fragments(found.session)
        # What a node had a pass ago is of no use: who says nothing lacks less than somebody who was heard, or is whole.
        needs = {
            node: whole if deficit is None else deficit
            for node, deficit in deficits.items()
            if not found.is_named or node in found.heard or node not in found.coming
        }
        worst = max((needs.get(node, 0) for node in found.coming), default=0)
        if not worst:
            return 0
        where = found.session, found.sf
        self._learn(where, needs)
        wanted = round(worst / (1 - self._loss.get(where, limits.LOSS))) + limits.EXTRA_ROWS
        in_time = int(update_limits.PASS_SENDS_S / found.row_s) if found.row_s else wanted
        air = found.row_s * limits.SENDING_SHARE
        fitting = min(wanted, in_time, int(air_left_s / air) if air else wanted)
        most = limits.PASSES_HELD_MAX if wanted <= in_time else limits.FULL_PASSES_HELD_MAX
        rows = self._held_back(found, needs, worst, fitting, most)
        if rows:
            self._sent[where] = rows, {node: needs[node] for node in found.coming if node in needs}
        return rows

    def _learn(self, where: Where, needs: dict[int, int]) -> None:
        """How much of the latest pass did not arrive with those who still lack something."""
        rows, before = self._sent.pop(where, (0, {}))
        told = {node: needs[node] for node in before if needs.get(node, ota.SATURATED) < ota.SATURATED}
        came = [before[node] - missing for node, missing in told.items() if before[node] != ota.SATURATED]
        if rows and came:
            share = 1 - sum(came) / len(came) / rows
            self._loss[where] = min(max(share, 0.0), limits.LOSS_MAX)

    def _held_back(self, found: Pass, needs: dict[int, int], worst: int, rows: int, most: int) -> int:
        """Of so many rows, those that cost nothing although somebody is missing. `most`: held passes in a row."""
        where = found.session, found.sf
        behind = max((needs.get(node, 0) for node in self.waited_for(found)), default=0)
        free = max(0, worst - behind)
        held = self._held.get(where, 0)
        if not behind or free >= rows or held >= most:
            self._held[where] = 0
            return rows
        self._held[where] = held + 1
        self._waited_s[where] = found.begins_s
        return free

    def end(self, found: Pass) -> None:
        """Over: plan the next one for whoever still lacks something; nobody coming, it will be dropped."""
        if self._passes.get((found.session, found.sf)) is not found:
            return
        seen = self._seen.setdefault((found.session, found.sf), {})
        for address in found.coming:
            seen[address] = max(self._clock.monotonic(), seen.get(address, 0.0))
        report_s = self._sessions.report_s(found.session)
        margin_s = min(_margin_s(len(seen)), limits.NEXT_PASS_S - report_s)
        wait_s = report_s + max(limits.REPORT_MARGIN_MIN_S, margin_s)
        begins_s = max(self._clock.monotonic(), found.begins_s) + wait_s
        self._begin(found.session, found.sf, found.freq_hz, begins_s)


_NEXT_BYTES = len(update.encode_next(1, 1))


def _margin_s(count: int) -> float:
    """For so many nodes to be heard, where answers are lost: it is the last of many that takes long."""
    share = min(count / limits.REPORT_MARGIN_OF, 1.0)
    return max(limits.REPORT_MARGIN_MIN_S, share * limits.REPORT_MARGIN_S)
