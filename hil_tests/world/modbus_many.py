"""Many Modbus TCP devices in a process of their own: `python -m hil_tests.world.modbus_many COUNT POINTS`.

Prints the ports as JSON, serves until its input ends, and then prints the writes that landed: port, value, and when by
the monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import sys

from hil_tests.world.modbus_slave import Slave, block
from hil_tests.world.modbus_street import TcpStreet

WRITABLE = 5000


async def main(count: int, points: int) -> None:
    streets = []
    for _ in range(count):
        one = Slave(1, holding={**block(1, range(2 * points)), WRITABLE: 0}, turnaround_s=0.0)
        streets.append(TcpStreet([one]))
        await streets[-1].open()
    print(json.dumps([street.port for street in streets]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    landed = [
        (street.port, values[0], at_s)
        for street in streets
        for at_s, _address, values in street.slaves[1].writes
    ]
    print(json.dumps(landed), flush=True)
    for street in streets:
        await street.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
