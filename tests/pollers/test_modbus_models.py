"""A simulated device of every shipped Modbus profile reads as the profile says."""

from __future__ import annotations

import random

import pytest

from gateway.pollers.modbus_profile import FUNCTIONS
from gateway.profile_library import Library
from hil_tests.world import modbus_models

NAMES = [name for name in Library().names() if Library().get(name).modbus is not None]


@pytest.mark.parametrize("name", NAMES)
def test_a_device_of_a_shipped_profile_can_be_simulated(name: str) -> None:
    profile = Library().get(name).modbus
    assert profile is not None
    slave = modbus_models.slave(name, 9, random.Random(1))
    for point in profile.point:
        length = profile.length(point)
        address = profile.wire_address(point)
        pdu = bytes([FUNCTIONS[point.function]]) + address.to_bytes(2, "big") + length.to_bytes(2, "big")
        answer, _manner = slave.serve(pdu, 0.0)
        assert answer is not None
        assert answer[0] == FUNCTIONS[point.function], f"{point.key}: exception {answer[1]}"
