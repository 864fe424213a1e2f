"""Acceptance at the lid: is this node, where it is now and with the cover closed, good enough to be left alone?

A list of steps, each with what it measures and the limit it must keep. Some ask the node for something (a set, its
pose, a test alarm) through the gateway it reports to, so what is accepted is the whole way to the city and not the
board. What they found becomes the station record. The gateway is asked through `ask`, time comes from `clock`, so the
whole can be played against a gateway of straw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from flash_tools.errors import AcceptanceError
from protocols.measurands import CLASS_NAMES, water_class
from protocols.node_types import settings_of
from protocols.wire.readings import FAIL, MISSING

OK = "ok"
FAILED = "FAILED"
OPEN = "open"  # can not be said yet, and is no reason against the node
SKIPPED = "n/a"

# GB/T 41401-2022: an alarm of a cover within 30 s; that is asked of every node.
ALARM_MAX_S = 30.0
# A cover that lies in its frame after its pose was learned.
TILT_MAX_DEG = 2.0
# Of a new cell or a charged battery, in volts, by node type: what is below will not last to the next visit.
SUPPLY_MIN_V = {"cover": 3.4, "cover_gas": 3.4, "cover_level": 3.4, "river_solar": 11.8}
# Frames that a node refuses while it is being looked at: one that answers an uplink which another has overtaken counts
# too, and says nothing of the line.
DOWN_REFUSED_MAX = 2
# How often the gateway is asked, and how long a node that sleeps may take to wake up.
POLL_S = 0.1
NODE_WAIT_S = 120.0
CITY_WAIT_S = 30.0
_COMMAND_END_S = 5.0


class Ask(Protocol):
    """The gateway's control socket."""

    def __call__(self, operation: str, **request: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Found:
    """What a step measured, and whether it keeps its limit."""

    state: str
    value: str
    limit: str
    advice: str = ""
    details: dict[str, Any] = field(default_factory=dict)


_NOT_ASKED = Found(OPEN, "not asked: the node was not heard", "any")


@dataclass(frozen=True)
class Step:
    name: str
    what: str  # what is being done, for the person who waits
    look: Callable[[], Found]


@dataclass(frozen=True)
class Wanted:
    """What differs between one acceptance and the next."""

    firmware: str | None = None
    supply_min_v: float | None = None
    is_local: bool = False  # no city is connected yet
    wait_s: float = NODE_WAIT_S
    why: str = "acceptance at the lid"


class Acceptance:
    """One node, one visit. `steps` are carried out in order."""

    def __init__(
        self,
        ask: Ask,
        address: str,
        wanted: Wanted,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ask = ask
        self.address = address
        self.wanted = wanted
        self._monotonic = monotonic
        self._sleep = sleep
        self.node = self._show()
        self.node_type = str(self.node["type"])
        if not self.node["enrolled"]:
            raise AcceptanceError(
                f"node {address} is not registered at gateway {self.node['gateway']}. Import what minting wrote: "
                "tidegate gateway node import nodes.jsonl"
            )
        self._crc_before = self._refused_by_gateway(self.node)
        self._refused_before: int | None = None
        self._set: dict[str, Any] | None = None
        self._is_unheard = (
            False  # then nothing more is asked of the node: each question would wait as long again
        )

    def steps(self) -> Iterator[Step]:
        """What this type of node is looked at for."""
        yield Step("place", "who it is", self._place)
        yield Step("heard", "waiting for a set of readings that it takes now", self._heard)
        yield Step("firmware", "what runs on it", self._firmware)
        yield Step("settings", "whether it has the settings it should", self._settings)
        if self.node_type.startswith("cover"):
            yield Step("pose", "the cover learns how it lies: do not move it", self._pose)
        yield from self._of_type()
        yield Step("supply", "battery", self._supply)
        yield Step("alarm", "a test alarm, from the node to the city", self._alarm)
        yield Step("link", "link in both directions", self._link)

    def _of_type(self) -> Iterator[Step]:
        if self.node_type.startswith("river"):
            yield Step("probe", "what the probe says", self._probe)
        elif self.node_type.startswith("cover"):
            yield Step("tilt", "how the cover lies", self._tilt)
        elif self.node_type == "lift":
            yield Step("floors", "which floors it knows", self._floors)

    # ---- asking ----------------------------------------------------------------------------------------------------

    def _show(self, after_event: int | None = None) -> dict[str, Any]:
        after = 2**62 if after_event is None else after_event
        return self._ask("node.show", node=self.address, after_event=after)

    def _command(self, name: str) -> tuple[str, str]:
        """Have the node do it: its end, and what the node said."""
        ttl_s = int(self.wanted.wait_s)
        request = {"node": self.address, "command": name, "ttl_s": ttl_s, "why": self.wanted.why}
        number = self._ask("command.send", **request)["id"]
        until_s = self._monotonic() + ttl_s + _COMMAND_END_S
        while True:
            (report,) = self._ask("command.list", id=number)["commands"]
            if report["state"] != "open":
                return str(report["state"]), str(report["detail"])
            if self._monotonic() > until_s:
                return "unanswered", ""
            self._sleep(POLL_S)

    def _wait_for_event(self, name: str, after: int, wait_s: float) -> dict[str, Any] | None:
        until_s = self._monotonic() + wait_s
        while True:
            for event in self._show(after)["events"]:
                if event["name"] == name:
                    return dict(event)
            if self._monotonic() > until_s:
                return None
            self._sleep(POLL_S)

    # ---- the steps -------------------------------------------------------------------------------------------------

    def _place(self) -> Found:
        site, area = self.node["site"], self.node["area"]
        text = f"{self.node_type} at {area}/{site}"
        if site == "unassigned":
            advice = f"tidegate gateway site add SITE, then tidegate gateway site assign SITE {self.address}"
            return Found(FAILED, text, "a site", advice)
        return Found(OK, text, "a site")

    def _heard(self) -> Found:
        """A set taken now: the node wakes, measures, sends, and the gateway has it on its disk."""
        began_s = self._monotonic()
        limit = f"within {self.wanted.wait_s:.0f} s"
        state, detail = self._command("read-now")
        waited_s = self._monotonic() - began_s
        self.node = self._show()
        if state != "done":
            self._is_unheard = state in ("expired", "unanswered")
            return Found(FAILED, f"{state} {detail}".strip(), limit, self._advice_unheard(state))
        self._set = self._wait_for_set(int(detail))
        if self._set is None:
            return Found(FAILED, f"set {detail} did not arrive", limit, "run this again")
        self._refused_before = self.node.get("health", {}).get("frames_refused")
        return Found(
            OK, f"{waited_s:.1f} s, on {self.node.get('link', '?')}", limit, details={"set": self._set}
        )

    def _wait_for_set(self, seq: int) -> dict[str, Any] | None:
        until_s = self._monotonic() + CITY_WAIT_S
        while True:
            found = self._show()["set"]
            if found is not None and found["seq"] >= seq:
                return dict(found)
            if self._monotonic() > until_s:
                return None
            self._sleep(POLL_S)

    def _advice_unheard(self, state: str) -> str:
        if state in ("expired", "unanswered"):
            knock = "it sleeps: knock on the cover, and " if self.node_type.startswith("cover") else ""
            return f"{knock}look at power, cable and port (tidegate gateway status); then run this again"
        return "what the node said is above; tidegate gateway command send NODE console 0 tells its last line"

    def _firmware(self) -> Found:
        has = str(self.node.get("firmware") or "not told since the gateway started")
        text = f"{has} on {self.node['board'] or 'unknown board'}"
        if self.wanted.firmware is None:
            return Found(OK if self.node.get("firmware") else OPEN, text, "any")
        # A version without a release means any release of it.
        said = has if "+" in self.wanted.firmware else has.partition("+")[0]
        state = OK if said == self.wanted.firmware else FAILED
        return Found(state, text, self.wanted.firmware, "" if state == OK else "flash the app partition")

    def _settings(self) -> Found:
        wish = self.node["wish"]
        if wish is None:
            if self._is_unheard and not self.node.get("health"):
                return Found(OPEN, "none are wanted; the node has not said which it has", "as wanted")
            return Found(OK, "as minted", "as wanted")
        text = f"version {wish['version']} {wish['state']}"
        if wish["state"] == "applied":
            return Found(OK, text, "as wanted")
        has = ", ".join(settings_of(self.node_type))
        return Found(FAILED, text, "as wanted", f"wait for it, or set what the node can take: it has {has}")

    def _pose(self) -> Found:
        if self._is_unheard:
            return _NOT_ASKED
        after = self.node["last_event"]
        state, detail = self._command("learn")
        if state != "done":
            return Found(
                FAILED, f"{state} {detail}".strip(), "learned", "let the cover lie still, run this again"
            )
        event = self._wait_for_event("pose_learned", after, self.wanted.wait_s)
        if event is None:
            return Found(FAILED, "not learned", "learned", "let the cover lie still, run this again")
        x, y, z = event["detail"]
        state, detail = self._command("read-now")
        if state == "done":
            self._set = self._wait_for_set(int(detail))
        return Found(OK, f"gravity {x} {y} {z} mg", "learned", details={"gravity_mg": event["detail"]})

    def _tilt(self) -> Found:
        return self._reading("tilt", lambda value: value < TILT_MAX_DEG, f"< {TILT_MAX_DEG:.0f}°", "°")

    def _reading(self, name: str, is_good: Callable[[float], bool], limit: str, unit: str) -> Found:
        reading = (self._set or {"readings": {}})["readings"].get(name)
        if reading is None or reading["v"] is None:
            return Found(FAILED, "no value", limit, "look at the sensor, then run this again")
        state = OK if is_good(reading["v"]) and reading["q"] != FAIL else FAILED
        advice = "" if state == OK else "put it right, then run this again"
        return Found(state, f"{reading['v']} {unit}", limit, advice, {name: reading["v"]})

    def _probe(self) -> Found:
        readings = (self._set or {"readings": {}})["readings"]
        bad = [name for name, one in readings.items() if one["q"] in (FAIL, MISSING)]
        if not readings or bad:
            advice = "is the probe in the water, its cable in, its windows clean? Then run this again"
            return Found(FAILED, f"bad: {', '.join(bad) or 'no set'}", "every reading good", advice)
        grade = water_class({name: one["v"] for name, one in readings.items()}).grade
        water = "no class" if grade is None else f"class {CLASS_NAMES[grade]}"
        return Found(OK, f"{len(readings)} readings, {water}", "every reading good", details={"class": grade})

    def _floors(self) -> Found:
        events = [event for event in self._show(0)["events"] if event["name"] == "lift_floors_learned"]
        if not events:
            return Found(OPEN, "not yet: it learns them from its first trips", "any")
        return Found(OK, f"{events[-1]['detail']} floors", "any", details={"floors": events[-1]["detail"]})

    def _supply(self) -> Found:
        floor_v = self.wanted.supply_min_v or SUPPLY_MIN_V.get(self.node_type)
        has_it = "supply_voltage" in (self._set or {"readings": {}})["readings"]
        if not has_it and floor_v is None:
            return Found(SKIPPED, "not measured by this type", "none")
        if floor_v is None:
            return self._reading("supply_voltage", lambda value: True, "none", "V")
        return self._reading("supply_voltage", lambda value: value >= floor_v, f"≥ {floor_v} V", "V")

    def _alarm(self) -> Found:
        """The whole way: command down, event up, committed, and confirmed by every far side."""
        if self._is_unheard:
            return _NOT_ASKED
        limit = f"≤ {ALARM_MAX_S:.0f} s to the city"
        before = self._show()
        began_s = self._monotonic()
        state, detail = self._command("test-alarm")
        if state != "done":
            return Found(FAILED, f"{state} {detail}".strip(), limit, self._advice_unheard(state))
        event = self._wait_for_event("test_alarm", before["last_event"], CITY_WAIT_S)
        if event is None:
            return Found(FAILED, "the node sent none", limit, "run this again")
        # From the node's own word (whole seconds) to the gateway's disk, and on to the city, which is seen from here.
        at_gateway_s = max(0.0, event["received_ms"] / 1000 - event["time"])
        waiting, now_ms = self._unconfirmed(event["id"], self._monotonic() + CITY_WAIT_S)
        at_city_s = at_gateway_s + max(0, now_ms - event["received_ms"]) / 1000
        details = {
            "event": event,
            "node_to_gateway_s": round(at_gateway_s, 1),
            "node_to_city_s": round(at_city_s, 1),
            "command_to_city_s": round(self._monotonic() - began_s, 1),
        }
        if self.wanted.is_local:
            return Found(
                OK, f"{at_gateway_s:.1f} s to the gateway; no city asked for", limit, details=details
            )
        if not before["confirmed"]:
            advice = (
                "give the gateway an [[mqtt]] table; or accept the node as far as the gateway with --local"
            )
            return Found(FAILED, "this gateway has no northbound", limit, advice, details)
        if waiting:
            advice = f"{', '.join(waiting)} did not confirm it: tidegate gateway status; then run this again"
            return Found(FAILED, "not confirmed by the city", limit, advice, details)
        text = f"{at_gateway_s:.1f} s to the gateway, {at_city_s:.1f} s to the city"
        state = OK if at_city_s <= ALARM_MAX_S else FAILED
        return Found(state, text, limit, "" if state == OK else "too slow: look at the link", details)

    def _unconfirmed(self, event: int, until_s: float) -> tuple[list[str], int]:
        """The northbounds that have not confirmed it in time; and when the last one had, or they were given up."""
        while True:
            shown = self._show()
            waiting = [name for name, cursor in shown["confirmed"].items() if cursor < event]
            if not waiting or self.wanted.is_local or self._monotonic() > until_s:
                return waiting, int(shown["now_ms"])
            self._sleep(POLL_S)

    def _link(self) -> Found:
        """On a serial line there is no margin to measure: what counts is that nothing was refused meanwhile."""
        self.node = self._show()
        up = self._refused_by_gateway(self.node) - self._crc_before
        refused = self.node.get("health", {}).get("frames_refused")
        down = 0 if refused is None or self._refused_before is None else refused - self._refused_before
        text = f"bad frames up {up}, refused down {down}; margin n/a on serial"
        details = {"bad_frames_up": up, "refused_down": down, "margin_db": None}
        limit = f"0 and ≤ {DOWN_REFUSED_MAX}"
        if up or down > DOWN_REFUSED_MAX:
            return Found(
                FAILED, text, limit, "look at cable, plug and earthing; then run this again", details
            )
        return Found(OK, text, limit, details=details)

    @staticmethod
    def _refused_by_gateway(node: dict[str, Any]) -> int:
        counters = node["link_counters"] or {}
        return int(counters.get("refused_crc", 0) + counters.get("refused_oversize", 0))


def holds(found: Found) -> bool:
    """Whether this step speaks for the node, or at least not against it."""
    return found.state != FAILED


def record(
    acceptance: Acceptance, results: list[tuple[str, Found]], who: str, began_s: float
) -> dict[str, Any]:
    """The station record: who, when, where, what, and every limit with its value."""
    node = acceptance.node
    return {
        "format": 1,
        "accepted": all(holds(found) for _, found in results),
        "who": who,
        "why": acceptance.wanted.why,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began_s)),
        "gateway": node["gateway"],
        "node": acceptance.address,
        "node_type": acceptance.node_type,
        "site": node["site"],
        "area": node["area"],
        "board": node["board"],
        "firmware": node.get("firmware", ""),
        "health": node.get("health", {}),
        "steps": [{"step": name, **asdict(found)} for name, found in results],
    }


def line(name: str, found: Found) -> str:
    """A step as the person at the lid reads it."""
    advice = f"\n        → {found.advice}" if found.advice else ""
    return f"{found.state:<7} {name:<9} {found.value}  [{found.limit}]{advice}"


def report(station: dict[str, Any]) -> str:
    """The record on one page, for the folder in the cabinet."""
    verdict = "ACCEPTED" if station["accepted"] else "NOT ACCEPTED"
    head = [
        f"Station record: node {station['node']} ({station['node_type']}): {verdict}",
        f"place     {station['area']}/{station['site']}",
        f"when      {station['began']}",
        f"who       {station['who']} ({station['why']})",
        f"gateway   {station['gateway']}",
        f"hardware  {station['board']}, firmware {station['firmware']}",
        "",
    ]
    rows = [
        f"{step['state']:<7} {step['step']:<9} {step['value']}  [{step['limit']}]"
        for step in station["steps"]
    ]
    return "\n".join([*head, *rows, ""])
