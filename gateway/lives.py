"""The lives of a gateway in one process: each begins from the disk alone, as after kill -9.

A database that is found damaged ends a life; the next one sets it aside and salvages it (recovery.py).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from gateway import daemon, limits, recovery
from gateway.config import Config
from gateway.log import Logger


def run(config: Config, log: Logger) -> None:
    """Run the gateway until it is told to stop. Raises GatewayError when it cannot start."""
    with daemon.DataDir(Path(config.gateway.data_dir)):
        asyncio.run(_main(config, log))


async def _main(config: Config, log: Logger) -> None:
    """Lives of a gateway in one process, until it is told to stop. A life ends as kill -9 would end it, in order."""
    pause_s = 0.0
    while True:
        began_s = time.monotonic()
        try:
            why = await _life(config, log)
        except sqlite3.DatabaseError as error:
            if not recovery.is_corruption(error):
                raise
            recovery.suspect(Path(config.gateway.data_dir, daemon.DATABASE_NAME), str(error))
            why = f"the database is damaged: {error}"
        if why == daemon.STOP:
            return
        lasted_s = time.monotonic() - began_s
        pause_s = 0.0 if lasted_s > limits.PART_SETTLED_S else min(2 * pause_s + 1, limits.PART_RETRY_MAX_S)
        log.warning("begins_again", why=why, in_s=pause_s)
        await asyncio.sleep(pause_s)


async def _life(config: Config, log: Logger) -> str:
    gateway = daemon.Gateway(config, log)
    try:
        return await gateway.run()
    finally:
        gateway.store.close()
