"""A gateway that keeps sets of two devices as fast as it can, until somebody kills it. Run by test_accept_killed.py.

With the word `stalls` its disk hangs at first, until sets have been dropped. Each line that it prints is a seq that the
store said is safe, by device.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from gateway.batch import Batch
from gateway.records import Reading
from tests.gateway.device_desk import DeviceDesk, device_desk


async def main(folder: Path, stalls: bool) -> None:
    with device_desk(folder, "level-1", "level-2", seed=os.getpid() % 256) as desk:
        await desk.devices.begin(desk.office.registry)
        desk.store.on_commit.append(lambda batch: tell(desk, batch))
        if stalls:
            stall(desk)
        count = 0
        while True:
            for device in desk.devices.by_name.values():
                # Other points now and then, so that schemas are made while it runs.
                keys = ("level", "flow", "ph_up")[: 1 + count // 40 % 3]
                desk.accept.accept(device, dict.fromkeys(keys, count % 500))
            count += 1
            await asyncio.sleep(0)


def stall(desk: DeviceDesk) -> None:
    """A disk that hangs before its first COMMIT until there is no room for more sets: what comes then is lost."""

    def until_full() -> None:
        while not any(device.counters["dropped"] for device in desk.devices.by_name.values()):
            time.sleep(0.001)

    desk.store._executor.submit(until_full)


def tell(desk: DeviceDesk, batch: Batch) -> None:
    readings: list[Reading] = batch.readings
    lines = [f"{one.ledger.node} {one.ledger.number} {one.seq}\n" for one in readings]
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), "stalls" in sys.argv[2:]))
