"""Which profile a scan believes: what makes sense, and what a device says of itself."""

from __future__ import annotations

import asyncio

from gateway import profile_library
from gateway.pollers.modbus_ports import PortSettings
from gateway.pollers.modbus_scan import Finding, Scan
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import ANSWERED, READ_HOLDING, REFUSED, Outcome, Request

REGISTERS = {0: 75, 100: 4711}
PROFILE = """
title = "t"
vendor = "v"
model = "m"
sources = ["s"]
checked = "c"
[modbus]
[[modbus.identity]]
name = "model_code"
function = "holding"
address = 100
type = "u16"
expect = {expect}
[[modbus.point]]
measurand = "ph"
unit = "[pH]"
function = "holding"
address = 0
type = "u16"
scale = 0.1
"""


class Meter:
    """A device with two registers."""

    async def exchange(self, request: Request, timeout_s: float) -> Outcome:
        wanted = range(request.address, request.address + request.quantity)
        if request.function != READ_HOLDING:
            return Outcome(REFUSED, code=1)
        if not all(address in REGISTERS for address in wanted):
            return Outcome(REFUSED, code=2)
        return Outcome(ANSWERED, tuple(REGISTERS[address] for address in wanted))


def test_a_device_that_says_it_is_another_model_is_not_taken_for_this_one() -> None:
    profiles = {
        name: profile_library.parse(PROFILE.format(expect=expect).encode(), name)
        for name, expect in (("another", 4712), ("this", 4711))
    }
    finding = Finding(1, PortSettings(9600, "N"))
    asyncio.run(Scan(lambda settings: Line(), lambda: 0.0).identify(Meter(), finding, profiles))
    assert [(fit.profile, fit.plausible, fit.identity) for fit in finding.fits] == [
        ("this", 1, "model_code 4711"),
        ("another", 0, "model_code 4711, not 4712"),
    ]
