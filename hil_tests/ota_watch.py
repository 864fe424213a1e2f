"""What is seen of the story of `ota`: told as it happens, shown while it lasts, and judged at its end.

It is looked at from five sides that know nothing of each other: the daemon's `campaign.show`, what the nodes say on
their own consoles, their flash, what is on the air, and what the radios of the nodes heard of that.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

from littlefs.errors import LittleFSError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from firmware.pieces import Pieces
from gateway.campaign_told import pass_told
from gateway.control import ask
from hil_tests.errors import StoryFailed
from hil_tests.running import release_on
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import envelope, group
from protocols.wire.errors import WireError
from protocols.wire.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boards.virtual.ether import Reception
    from hil_tests.stage import Stage
    from hil_tests.world.air import Flight

# Asking the daemon and copying flash cost milliseconds, so not at every look.
_ASK_S = 0.5
_FLASH_S = 1.0
# Where nothing moves (a pipe, a file), a line of progress so often.
_LINE_S = 15.0
_BAR, _WIDE = 20, 60
# Before a broadcast.
_NEAR_S = 3.0
# Of the packets, while a broadcast is under way: what the rows beyond those of the update are for.
LOSS = 0.05
# Lines of a console that belong to an update. Session and release have a number each.
_WORDS = re.compile(
    rb"(receiving update \d+, for \d+ s|update \d+ is whole|update \d+: [^\r\n]{1,80}"
    rb"|update: release [^\r\n]{1,80}|start failed [^\r\n]{1,80})\r?\n"
)
_ENDED = re.compile(r"(ended with )(\d+)$")
CRASH = "ZeroDivisionError"
# Where "is" and the name of the state would not be a sentence.
STATES_TOLD = {
    "asked": "is asked what it runs",
    "offered": "is offered release 2",
    "received": "has all of release 2",
    "trying": "tries release 2",
}


class Rollout:
    """`watchers` of the stage call `look`."""

    def __init__(self, stage: Stage) -> None:
        self.state = ""  # of the campaign; "" while there is none
        self.nodes: dict[str, dict[str, Any]] = {}  # of campaign.show, by address
        self.rows_sent: list[Flight] = []  # to everybody
        self.rows_heard: Counter[str] = Counter()  # of these, by the radio of each node
        self._stage = stage
        self._street = stage.street
        self._sites = {node: place.site for node, place in stage.street.places.items()}
        self._show: dict[str, Any] = {}
        self._said: dict[str, list[bytes]] = {node: [] for node in self._sites}
        self._kept: dict[str, int] = {}  # rows of the update on each node's flash
        self._asked_s = self._looked_s = self._told_s = 0.0
        self._line = ""
        self._ahead_s = 0.0  # of the next broadcast, when it was first seen
        self._has_begun = self._is_lossy = False
        self._pass: dict[str, Any] | None = None  # that is under way
        self._was_told = False
        self._live: Live | None = None
        stage.watchers.append(self.look)
        self._listen()

    def begin(self) -> None:
        """There is a campaign now."""
        self._has_begun = True

    # ---- on the air -------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        sky = self._street.sky
        assert sky is not None, "this story is on the air"
        for node, chip in sky.chips.items():
            chip.heard = self._counting(node, chip.heard)  # type: ignore[method-assign]
        sky.call(lambda: sky.air.taps.append(self._tap))

    def _tap(self, flight: Flight) -> None:
        if is_for_everybody(flight.signal.payload):
            self.rows_sent.append(flight)

    def _counting(self, node: str, take: Any) -> Any:
        def heard(reception: Reception) -> None:
            self.rows_heard[node] += reception.is_intact and is_for_everybody(reception.signal.payload)
            take(reception)

        return heard

    def _lose(self, is_lossy: bool) -> None:
        if is_lossy == self._is_lossy:
            return
        self._is_lossy = is_lossy
        sky = self._street.sky
        assert sky is not None
        sky.call(lambda: setattr(sky.air, "loss", LOSS if is_lossy else 0.0))
        what = f"bad air: {LOSS:.0%} of all packets are lost" if is_lossy else "the air is good again"
        self._stage.say("world", what)

    # ---- looking ----------------------------------------------------------------------------------------------------

    @property
    def are_heard(self) -> bool:
        """Whether the gateway has readings of every node."""
        with closing(sqlite3.connect(f"file:{self._street.gateway.database}?mode=ro", uri=True)) as reader:
            (count,) = reader.execute("SELECT count(DISTINCT node) FROM reading_view").fetchone()
        return int(count) == len(self._sites)

    def look(self) -> None:
        now_s = time.monotonic()
        self._hear_consoles()
        if self._has_begun and now_s - self._asked_s > _ASK_S:
            self._asked_s = now_s
            self._ask()
        if self._has_begun and now_s - self._looked_s > _FLASH_S:
            self._looked_s = now_s
            self._kept = {node: self._rows_on_flash(node) for node in self._sites}
        if self._live is not None:
            self._live.update(self.picture(), refresh=True)
        elif (
            not self._stage.console.is_terminal
            and now_s - self._told_s > _LINE_S
            and (line := self._progress()) not in ("", self._line)
        ):
            self._told_s, self._line = now_s, line
            self._stage.say("gateway", line)

    def _hear_consoles(self) -> None:
        for node, board in self._street.boards.items():
            said = _WORDS.findall(board.console)
            for words in said[len(self._said[node]) :]:
                self._stage.say(
                    "node", f"{self._sites[node]} says: {_explained(words.decode(errors='replace'))}"
                )
            self._said[node] = said

    def _ask(self) -> None:
        found = ask(self._street.gateway.data, {"operation": "campaign.show", "campaign": "1"})
        if found is None:
            return
        for row in found["nodes"]:
            before = self.nodes.get(row["node"])
            now = row["state"], row["reason"]
            if now != ("waiting", "") and (before is None or now != (before["state"], before["reason"])):
                because = f", {row['reason']}" if row["reason"] else ""
                told = STATES_TOLD.get(row["state"], f"is {row['state']}")
                self._stage.say("gateway", f"campaign: {row['site']} {told}{because}")
            self.nodes[row["node"]] = row
        near = [one for one in found["passes"] if one["left"] is not None or one["begins_in_s"] < _NEAR_S]
        was_near = self._is_lossy
        self._lose(bool(near))
        self._tell_pass(next((one for one in near if one["left"] is not None), None))
        if was_near and not near and not self._was_told:
            self._stage.say("gateway", _held(found["passes"]))
        self._show = found
        if found["state"] != self.state:
            self.state = found["state"]
            self._stage.say("gateway", f"campaign: {self.state}")

    def _tell_pass(self, now: dict[str, Any] | None) -> None:
        """When it begins, and when it is over."""
        before, self._pass = self._pass, now
        self._was_told = now is not None or before is not None
        if now is not None and before is None:
            self._stage.say("gateway", pass_told(now))
        elif before is not None and now is None:
            self._stage.say("gateway", f"{before['sent']} rows were sent; each node tells what it has")

    def _rows_on_flash(self, node: str) -> int:
        """What the node has put away of the update; the last count while it is being written to."""
        try:
            flash = Flash(image=self._street.boards[node].read_partition("state", live=True))
            return sum(number > 0 for number in set(Pieces(LittleFs(flash)).numbers()))
        except (OSError, LittleFSError):
            return self._kept.get(node, 0)

    # ---- showing ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While this lasts there is a picture at the foot of the screen, if it is one."""
        if not self._stage.console.is_terminal:
            yield
            return
        with Live(console=self._stage.console, auto_refresh=False, transient=True) as self._live:
            try:
                yield
            finally:
                self._live = None

    def picture(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for node, row in self.nodes.items():
            runs = row["target"] if row["state"] == "installed" else row["ran"]
            table.add_row(row["site"], f"runs {runs or '?'}", row["state"], self._rows(node, row))
        return Group(Text(self._progress(), style="bold"), Text(self._bar()), table)

    def _rows(self, node: str, row: dict[str, Any]) -> Text:
        whole, kept = row["fragments"], self._kept.get(node, 0)
        if row["state"] != "receiving" or not whole:
            return Text(row["reason"], style="dim")
        return Text(f"{bar(kept / whole)} {kept} rows of at least {whole}")

    def _bar(self) -> str:
        """The way to a broadcast, and then its rows."""
        for one in self._show.get("passes", ()):
            if one["left"] is not None:
                return bar(one["sent"] / (one["sent"] + one["left"]), _WIDE)
            self._ahead_s = max(self._ahead_s, one["begins_in_s"])
            return bar(1 - one["begins_in_s"] / self._ahead_s if self._ahead_s else 1.0, _WIDE)
        self._ahead_s = 0.0
        return ""

    def _progress(self) -> str:
        """Where it stands, in a line."""
        if not self._has_begun:
            return "the nodes start, and join" if not self.are_heard else ""
        passes = [pass_told(one) for one in self._show.get("passes", ())]
        done = sum(row["state"] in ("installed", "rolled back") for row in self.nodes.values())
        return "; ".join([f"{done} of {len(self._sites)} done", *passes])

    def told(self) -> str:
        return ", ".join(f"{row['site']} {row['state']}" for row in self.nodes.values())

    # ---- judging ----------------------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Who runs what, how each got it, and what this story promised; StoryFailed if that is not so."""
        table = Table(
            title="what the nodes' flash says", title_justify="left", box=None, padding=(0, 2, 0, 0)
        )
        for name in ("node", "site", "runs release", "got release 2 by", "and"):
            table.add_column(name, no_wrap=True)
        problems = []
        for node, row in self.nodes.items():
            runs = release_on(self._street.boards[node].read_partition("app", live=True))
            table.add_row(node, row["site"], str(runs), self._how(node), row["reason"] or row["state"])
            problems += self._problems(node, row, runs)
        self._stage.console.print(table)
        seconds = sum(one.end_s - one.begin_s for one in self.rows_sent)
        self._stage.console.print(
            f"To everybody at once: {len(self.rows_sent)} packets, {seconds:.1f} s on the air.",
            highlight=False,
        )
        if problems:
            raise StoryFailed("; ".join(problems))

    def _is_on_air(self, node: str) -> bool:
        return self._street.places[node].spot is not None

    def _how(self, node: str) -> str:
        if not self._is_on_air(node):
            return "its cable, as the canary"
        alone = ", the rest alone" if self._rows_alone(node) else ""
        return f"broadcast, {self.rows_heard[node]} packets of it{alone}"

    def _rows_alone(self, node: str) -> int:
        """Whether the gateway sent rows to this node alone."""
        with closing(sqlite3.connect(f"file:{self._street.gateway.database}?mode=ro", uri=True)) as reader:
            (rows,) = reader.execute(
                "SELECT rows FROM campaign_node WHERE node = ?", (int(node, 16),)
            ).fetchone()
        return int(rows)

    def _problems(self, node: str, row: dict[str, Any], runs: int) -> list[str]:
        is_last = node == max(self._sites)
        wanted = ("rolled back", "crashed", 1) if is_last else ("installed", "", 2)
        found = []
        if (row["state"], row["reason"], runs) != wanted:
            found.append(f"{row['site']} is {row['state']} {row['reason']}, and runs release {runs}")
        if is_last and not any(CRASH.encode() in words for words in self._said[node]):
            found.append(f"{row['site']} did not say why")
        if self._is_on_air(node) and not self.rows_heard[node]:
            found.append(f"{row['site']} heard no broadcast")
        return found


def _held(passes: list[dict[str, Any]]) -> str:
    """Of a broadcast whose moment has come and gone."""
    if not passes:
        return "no row was sent: nobody came"
    return f"no row was sent: it waits for one that missed its call; {pass_told(passes[0])}"


def _explained(words: str) -> str:
    """A node prints its outcomes as numbers."""
    return _ENDED.sub(lambda found: f"{found[0]} ({OUTCOMES[int(found[2])][0]})", words)


def bar(share: float, width: int = _BAR) -> str:
    full = round(max(0.0, min(share, 1.0)) * width)
    return "█" * full + "░" * (width - full)


def is_for_everybody(packet: bytes) -> bool:
    """By what is in clear: kid FFFF (OTA.md section 6.3)."""
    try:
        return bool(envelope.parse(packet, group.KID).kid.startswith(b"\xff\xff"))
    except WireError:
        return False
