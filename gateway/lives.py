"""The lives of a gateway in one process: each begins from the disk alone, as after kill -9.

A database that is found damaged ends a life; the next one sets it aside and salvages it (recovery.py). So does a
configuration that cannot be taken on part by part (reload.py). A disk that takes nothing is waited for (waiting.py).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from gateway import config as configs
from gateway import daemon, known_good, limits, recovery
from gateway import log as logs
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.errors import AlreadyRunning, ConfigError, DiskError, GatewayError
from gateway.exchange import on_trial
from gateway.log import Logger
from gateway.parts import ServiceManager
from gateway.reload import NEW_LIFE, Reload, cut_off
from gateway.waiting import Waiting


def start(file: Path, *, is_strict: bool) -> None:
    """Run by `file` until told to stop; with a broken file by the last one that worked, unless `is_strict`."""
    reason = None
    try:
        config = configs.load(file)
    except ConfigError as error:
        good = None if is_strict else known_good.load(known_good.data_dir_of(file))
        if good is None:
            raise
        config = good
        reason = f"config: {file} is not usable, the last configuration that worked is in use: {error}"
    if reason is None and known_good.verdict(config, file) == known_good.FAILED and not is_strict:
        good = known_good.load(Path(config.gateway.data_dir))
        if good is not None:
            reason = cut_off(file, on_trial(good, config))
            config = good
    log = logs.setup(config.log.level, config.log.format)
    if reason:
        log.error("config_broken", reason=reason, file=str(file))
    run(config, log, file, reason)


def run(config: Config, log: Logger, file: Path | None = None, reason: str | None = None) -> None:
    """Run the gateway until it is told to stop. Raises GatewayError when it cannot start."""
    asyncio.run(_main(Reload(config, file, reason), log))


async def _main(reload: Reload, log: Logger) -> None:
    """Lives on a disk that takes what it is given, with waits for it between them, until it is told to stop."""
    clock = SystemClock()
    pause_s = 0.0
    while True:
        began_s = time.monotonic()
        try:
            with daemon.DataDir(Path(reload.config.gateway.data_dir)):
                await _lives(reload, log)
            return
        except AlreadyRunning as error:  # a command that works on the data of a gateway that waits
            if not pause_s:
                raise
            why = str(error)
        except DiskError as error:
            why = str(error)
        # A disk that takes a probe and not the database is not worn out with tries.
        is_settled = time.monotonic() - began_s > limits.PART_SETTLED_S
        pause_s = (
            limits.DISK_RETRY_S if is_settled or not pause_s else min(2 * pause_s, limits.PART_RETRY_MAX_S)
        )
        if not await Waiting(reload.config, log, clock, why.rstrip("."), ServiceManager(), pause_s).run():
            return


async def _lives(reload: Reload, log: Logger) -> None:
    """Life after life, until it is told to stop. Raises DiskError when there can be none on this disk now."""
    pause_s = 0.0
    while True:
        began_s = time.monotonic()
        try:
            why = await _life(reload, log)
        except sqlite3.DatabaseError as error:
            if not recovery.is_corruption(error):
                raise
            recovery.suspect(Path(reload.config.gateway.data_dir, daemon.DATABASE_NAME), str(error))
            why = f"the database is damaged: {error}"
        except DiskError:
            raise
        except GatewayError as error:
            if not reload.fall_back(error):
                raise
            why = NEW_LIFE
        if why == daemon.STOP:
            return
        lasted_s = time.monotonic() - began_s
        is_wanted = why == NEW_LIFE or lasted_s > limits.PART_SETTLED_S
        pause_s = 0.0 if is_wanted else min(2 * pause_s + 1, limits.PART_RETRY_MAX_S)
        log.warning("begins_again", why=why, in_s=pause_s)
        await asyncio.sleep(pause_s)


async def _life(reload: Reload, log: Logger) -> str:
    gateway = daemon.Gateway(reload.config, log)
    try:
        reload.begin(gateway)
        return await gateway.run(reload=reload)
    finally:
        gateway.store.close()
