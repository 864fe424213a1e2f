"""Two ways to a node, with the same words: by a cable in its port, or through the gateway that hears it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from flash_tools.accept import Ask
from flash_tools.bench import Bench
from flash_tools.errors import AcceptanceError, BenchError
from protocols.inspection import messages as told_messages
from protocols.inspection.brief import sets_of, setting_name
from protocols.inspection.messages import FLAGS, RESET_CAUSES
from protocols.inspection.when import placed
from protocols.measurands import registry
from protocols.northbound.told import Line
from protocols.wire import codes, messages
from protocols.wire.codes import SETTING_NAMES

# How often the gateway is asked whether the node has answered.
POLL_S = 0.2

T = TypeVar("T")


class Set(NamedTuple):
    """What a node measured: (measurand, value with unit, what its flag says or "")."""

    seq: int
    when: str
    readings: list[tuple[str, str, str]]


class Settings(NamedTuple):
    version: int
    values: dict[str, int]


class Way(Protocol):
    """Raises BenchError with what was found, and what to do."""

    @property
    def name(self) -> str: ...

    @property
    def node_type(self) -> str: ...

    @property
    def on_air(self) -> bool: ...

    def identify(self, seconds: int) -> None: ...

    def read(self) -> Set: ...

    def settings(self) -> Settings: ...

    def set(self, changes: Mapping[str, int]) -> tuple[Settings, Settings]:
        """Change these; what was in force before and is then, by the node's own account."""

    def status(self) -> list[Line]: ...


class ByCable:
    """`bench` has found its node."""

    on_air = False

    def __init__(self, bench: Bench, wait_s: float) -> None:
        assert bench.hello is not None
        self._bench = bench
        self._hello = bench.hello
        self._wait_s = wait_s

    @property
    def name(self) -> str:
        return f"{self._bench.address:04x}"

    @property
    def node_type(self) -> str:
        return self._hello.node_type

    def identify(self, seconds: int) -> None:
        self._bench.command(codes.IDENTIFY, seconds, self._wait_s)

    def read(self) -> Set:
        message = self._bench.read(self._wait_s)
        tq = message.body[0] >> 6
        return Set(message.seq, placed(message.time, tq), sets_of(message)[0])

    def settings(self) -> Settings:
        return _named(self._bench.settings())

    def set(self, changes: Mapping[str, int]) -> tuple[Settings, Settings]:
        before = self._bench.settings()
        numbered = {SETTING_NAMES.index(name): value for name, value in changes.items()}
        return _named(before), _named(self._bench.set({**before.document, **numbered}))

    def status(self) -> list[Line]:
        status = self._bench.status()
        hello = told_messages.tell(messages.encode(self._hello)).lines
        wanted = ("node_type", "board", "firmware", "next_seq")
        lines = [Line("node", self.name)]
        lines += [line for line in hello if line.field in wanted]
        lines.append(Line("epoch", f"{self._bench.epoch:012x}"))
        told = told_messages.tell(messages.encode(status)).lines
        return lines + [_friendly(line) for line in told if line.field not in ("kind", "dn_piv", "tq")]


def _named(report: messages.SettingsReport) -> Settings:
    return Settings(
        report.version, {setting_name(key): value for key, value in sorted(report.document.items())}
    )


def _friendly(line: Line) -> Line:
    if line.field == "battery_mv":
        return Line("battery", f"{int(line.value) / 1000:.2f} V")
    return line


class ThroughGateway:
    """By the control socket: the gateway gives the command, with a deadline, and keeps who asked and why."""

    def __init__(
        self,
        ask: Ask,
        address: str,
        why: str,
        wait_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ask_gateway = ask
        self.name = address
        self._why = why
        self._wait_s = wait_s
        self._monotonic = monotonic
        self._sleep = sleep
        shown = self._show()
        self.node_type = str(shown["type"])
        self.on_air = "air" in shown
        if not shown["enrolled"]:
            raise BenchError(
                f"node {address} is not registered at gateway {shown['gateway']}. Import what minting wrote there, or "
                "ask it at its cable with --port"
            )

    def identify(self, seconds: int) -> None:
        self._command("identify", str(seconds))

    def read(self) -> Set:
        seq = int(self._command("read-now"))

        def taken() -> Set | None:
            found = self._show()["set"]
            if found is None or found["seq"] < seq:
                return None
            rows = [
                (name, _value(name, one), "" if one["q"] == 1 else FLAGS[one["q"]])
                for name, one in found["readings"].items()
            ]
            return Set(found["seq"], placed(found["time"], messages.SYNCHRONISED), rows)

        return self._until(taken, "its set has not come; `tidegate inspect row` shows what did")

    def settings(self) -> Settings:
        before_ms = (self._show()["settings"] or {"heard_ms": 0})["heard_ms"]
        self._command("report-settings")
        return self._until(lambda: self._reported(before_ms), "its report has not come")

    def set(self, changes: Mapping[str, int]) -> tuple[Settings, Settings]:
        before = self.settings()
        before_ms = (self._show()["settings"] or {"heard_ms": 0})["heard_ms"]
        version = self._ask("settings.set", node=self.name, settings=dict(changes), why=self._why)["version"]

        def ended() -> str | None:
            wishes = [
                one for one in self._ask("settings.list")["settings"] if f"{one['node']:04x}" == self.name
            ]
            state = wishes[0]["state"] if wishes and wishes[0]["version"] == version else "replaced"
            return None if state == "open" else str(state)

        state = self._until(
            ended, "it has not taken them yet. The gateway goes on: `tidegate gateway settings list` tells"
        )
        if state != "applied":
            raise BenchError(f"node {self.name}: the settings were {state}; it keeps what it had")
        return before, self._until(lambda: self._reported(before_ms), "its report has not come")

    def _reported(self, before_ms: int) -> Settings | None:
        found = self._show()["settings"]
        if found is None or found["heard_ms"] <= before_ms:
            return None
        return Settings(found["version"], found["document"])

    def status(self) -> list[Line]:
        shown = self._show()
        if "seen_s" not in shown:
            raise BenchError(
                f"node {self.name} was not heard since its gateway started: it says hello within a minute, or, if it "
                "sleeps, with its next report"
            )
        lines = [
            Line("node", self.name),
            Line("node_type", shown["type"]),
            Line("board", shown["board"]),
            Line("firmware", shown["firmware"]),
            Line("heard", f"{shown['seen_s']:.0f} s ago", f"by {shown['link']}"),
        ]
        lines += [Line(name, str(value), _cause(name, value)) for name, value in shown["health"].items()]
        if shown["boots"] is not None and "boots" not in shown["health"]:
            lines.append(Line("boots", str(shown["boots"])))
            lines.append(
                Line("reset_cause", str(shown["reset_cause"]), _cause("reset_cause", shown["reset_cause"]))
            )
        if shown["traceback"]:
            lines.append(Line("traceback", shown["traceback"]))
        return [_friendly(line) for line in lines if line.value]

    def console(self, after: int, line: str | None = None) -> dict[str, Any]:
        """What came on its line since entry `after`."""
        more = {} if line is None else {"port": line}
        return self._ask("node.console", node=self.name, after=after, **more)

    # --- asking ---------------------------------------------------------------------------------

    def _command(self, name: str, *words: str) -> str:
        """The detail of the result; BenchError unless it is done."""
        number = self._ask(
            "command.send",
            node=self.name,
            command=name,
            words=list(words),
            ttl_s=int(self._wait_s),
            why=self._why,
        )["id"]

        def ended() -> dict[str, Any] | None:
            report = self._ask("command.list", id=number)["commands"][0]
            return None if report["state"] == "open" else report

        report = self._until(ended, "the gateway has not ended its command", self._wait_s + 5)
        if report["state"] != "done":
            raise BenchError(f"node {self.name}: {name} {report['state']}: {report['detail']}")
        return str(report["detail"])

    def _until(self, look: Callable[[], T | None], otherwise: str, seconds: float = 0) -> T:
        end_s = self._monotonic() + (seconds or self._wait_s)
        while self._monotonic() < end_s:
            found = look()
            if found is not None:
                return found
            self._sleep(POLL_S)
        raise BenchError(f"node {self.name}: {otherwise} (waited {seconds or self._wait_s:.0f} s)")

    def _show(self) -> dict[str, Any]:
        return self._ask("node.show", node=self.name)

    def _ask(self, operation: str, **request: Any) -> dict[str, Any]:
        try:
            return self._ask_gateway(operation, **request)
        except AcceptanceError as error:
            raise BenchError(str(error)) from error


def _value(name: str, reading: Mapping[str, Any]) -> str:
    """With all the decimals that a set of it has."""
    if reading["v"] is None:
        return "none"
    known = registry().by_name.get(name)
    return (
        f"{reading['v']:g} {reading['u']}"
        if known is None
        else f"{reading['v']:.{known.decimals}f} {known.unit}"
    )


def _cause(name: str, value: Any) -> str:
    if name == "reset_cause" and isinstance(value, int) and 0 <= value < len(RESET_CAUSES):
        return RESET_CAUSES[value]
    return ""


def now(age_s: float = 0.0) -> str:
    """When something came, for a line that is watched live."""
    return datetime.fromtimestamp(time.time() - age_s, UTC).strftime("%H:%M:%S.%f")[:-3]
