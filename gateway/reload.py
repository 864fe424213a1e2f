"""A changed gateway.toml without a pause: what can be exchanged alone is; for the rest another life begins.

    tidegate gateway reload, SIGHUP → read and check: any problem is told, and the running configuration goes on
      log                                   at once
      serial links, northbounds, devices    those that changed are ended and begun, no others are touched (exchange.py)
      anything else                         another life in the same process (lives.py), within a second

A new configuration is on trial while its changed northbounds have not connected. When none of them has within
`[gateway] trial_s`, the last one that is known to work comes back, and that is told until the next reload.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway import config as configs
from gateway import exchange, known_good
from gateway.config import Config
from gateway.errors import ConfigError, ControlError, GatewayError
from gateway.limits import RELOAD_LOOK_S
from gateway.northbounds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.daemon import Gateway
    from gateway.operations import Reply, Request
    from gateway.registry import By

NEW_LIFE = "a new configuration"


class Trial(NamedTuple):
    """Changed northbounds of which one must connect until then (monotonic)."""

    names: frozenset[str]
    until_s: float


class Reload:
    """Of one process; `gateway` is its present life."""

    def __init__(self, config: Config, file: Path | None, reason: str | None = None) -> None:
        self.config = config
        self.file = file
        # Why it is not the file's configuration that runs; for /readyz.
        self.reason = reason
        self.trial: Trial | None = None
        self.gateway: Gateway | None = None
        self.counters = {"reloads": 0, "refused": 0, "returned": 0}
        self._is_saved = False
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[list[str]] | None = None

    def begin(self, gateway: Gateway) -> None:
        """A life begins; after a kill during a trial, so does the trial."""
        self.gateway = gateway
        is_tried = self.trial is None and self.file is not None and not self.reason
        if is_tried and self.file and known_good.verdict(self.config, self.file) == known_good.ON_TRIAL:
            good = known_good.load(Path(self.config.gateway.data_dir))
            names = exchange.on_trial(good, self.config) if good is not None else set()
            if names:
                until_s = gateway.clock.monotonic() + self.config.gateway.trial_s
                self.trial = Trial(frozenset(names), until_s)
        gateway.operations.add("config.reload", self._asked)

    async def run(self) -> None:
        """Watch how the configuration does, for ever."""
        while True:
            self.look()
            await asyncio.sleep(RELOAD_LOOK_S)

    def look(self) -> None:
        gateway = self.gateway
        if gateway is None:
            return
        there = gateway.northbounds
        if self.trial is not None:
            if any(there[name].connected for name in self.trial.names if name in there):
                gateway.log.info("config_trial_passed", northbounds=sorted(self.trial.names))
                self.trial = None
                if self.file:
                    known_good.note(self.config, self.file, "")
            elif gateway.clock.monotonic() >= self.trial.until_s:
                self._return(gateway, self.trial)
                return
        is_proven = not there or any(northbound.connected for northbound in there.values())
        if self.trial is None and is_proven and not self._is_saved and self.file and not self.reason:
            self._is_saved = known_good.save(self.file, self.config)
            if self._is_saved:
                gateway.log.info("config_known_good", file=str(self.file))

    # ---- asked for -------------------------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """SIGHUP."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._hung_up())

    async def _hung_up(self) -> list[str]:
        try:
            return await self.reload("SIGHUP")
        except GatewayError as error:
            return [str(error)]  # it is in the log

    async def _asked(self, request: Request, by: By) -> Reply:
        return {"done": await self.reload(by.who)}

    async def reload(self, who: str) -> list[str]:
        """Read the file again and live by it; what was done. Raises ConfigError, and nothing has changed."""
        async with self._one_at_a_time:
            return await self._reload(who)

    async def _reload(self, who: str) -> list[str]:
        gateway = self.gateway
        if gateway is None or self.file is None:
            raise ControlError("this gateway was started without a file.")
        try:
            new = await asyncio.to_thread(configs.load, self.file)
            await asyncio.to_thread(_check, self.config, new)
        except GatewayError as error:
            self.counters["refused"] += 1
            gateway.log.error("config_refused", who=who, problems=str(error))
            raise
        self.counters["reloads"] += 1
        self.reason = None
        self._is_saved = False
        done = await self._apply(gateway, new, self.file)
        gateway.log.info("config_reloaded", who=who, done=done)
        return done

    # ---- doing it --------------------------------------------------------------------------------------------------

    async def _apply(self, gateway: Gateway, new: Config, file: Path) -> list[str]:
        old, self.config = self.config, new
        tables = [name for name in Config.model_fields if getattr(old, name) != getattr(new, name)]
        if not tables and old.profiles == new.profiles:
            return ["nothing has changed"]
        changed = exchange.on_trial(old, new)
        if changed:
            self.trial = Trial(frozenset(changed), gateway.clock.monotonic() + new.gateway.trial_s)
            known_good.note(new, file, known_good.ON_TRIAL)
        others = [name for name in tables if name not in exchange.TABLES]
        if others:
            gateway.end(NEW_LIFE)
            return [f"{name}: takes effect with all parts, which begin anew" for name in others]
        try:
            return await exchange.exchange(gateway, new)
        except BaseException:
            gateway.end(NEW_LIFE)  # neither the old one nor the new one: it is begun as a whole
            raise

    def fall_back(self, error: GatewayError) -> bool:
        """A life could not begin. Whether there is another configuration, with which one did."""
        good = known_good.load(Path(self.config.gateway.data_dir))
        if self.reason or good is None or good == self.config:
            return False
        self.reason = f"config: {self.file} cannot be lived by, the last one that worked is in use: {error}"
        self.counters["returned"] += 1
        self.config, self.trial = good, None
        return True

    def _return(self, gateway: Gateway, trial: Trial) -> None:
        """None of the changed northbounds connected: go back to what worked."""
        self.trial = None
        good = known_good.load(Path(self.config.gateway.data_dir))
        if good is None or good == self.config:
            return
        self.reason = cut_off(self.file, trial.names)
        if self.file:
            known_good.note(self.config, self.file, known_good.FAILED)
        self.counters["returned"] += 1
        gateway.log.error("config_returned", northbounds=sorted(trial.names), file=str(self.file))
        self.config = good
        gateway.end("the last good configuration returns")


def cut_off(file: Path | None, names: Iterable[str]) -> str:
    """Why the file is not lived by."""
    told = ", ".join(sorted(names))
    return (
        f"config: with {file} as it is now, none of {told} connected; the configuration before it is in use again. "
        "Correct the file, then: tidegate gateway reload"
    )


def _check(old: Config, new: Config) -> None:
    """What the file names must be there and usable. Raises GatewayError."""
    from gateway import config_api, daemon

    if new.gateway.data_dir != old.gateway.data_dir:
        told = f"gateway.data_dir: {new.gateway.data_dir} instead of {old.gateway.data_dir} needs a restart"
        raise ConfigError([f"{told}: the data of a running gateway cannot be exchanged."])
    daemon.load_vault(new)
    for kind, section in new.northbounds:
        KINDS[kind].check(section)
    if new.api is not None:
        config_api.tls_context(new.api)
