"""An operation while no daemon runs: the command line writes to the database itself, and holds the data directory."""

from __future__ import annotations

import os
from typing import Any

from gateway import damage, programs, quality_checks
from gateway.alarm_operations import AlarmOperations
from gateway.campaign_operations import CampaignOperations
from gateway.clock import SystemClock
from gateway.commands import Commands
from gateway.config import Config
from gateway.config_hj212 import platforms
from gateway.daemon import load_vault, open_store
from gateway.log import Logger
from gateway.operations import Operations
from gateway.port_operations import PortOperations
from gateway.registry import Registry
from gateway.tokens import Tokens
from gateway.wishes import Wishes


async def offline(config: Config, request: dict[str, Any], who: str, log: Logger) -> dict[str, Any]:
    """Carry out an operation while no daemon runs; the caller holds the data directory."""
    clock = SystemClock(assume_synchronised=config.clock.assume_synchronised)
    store = open_store(config, clock)
    for note in store.notes:  # such as a damaged database that was set aside: nobody else would tell
        log.warning("store_recovery", note=note)
    try:
        known = Registry(store, load_vault(config), clock, config.gateway.area)
        orders, wanted = Commands(store, known, clock), Wishes(store, known, clock)
        operations = Operations(
            known,
            orders,
            wanted,
            Tokens(store, clock, os.urandom),
            programs=lambda: store.read(programs.every),
        )
        damage.serve(operations, store, clock)
        quality_checks.QualityChecks(store, known, clock, platforms(config.hj212)).serve(operations)
        AlarmOperations(store, clock).serve(operations)
        CampaignOperations(store, known, clock).serve(operations)
        PortOperations(config, store, clock).serve(operations)
        return await operations.handle(request, who)
    finally:
        store.close()
