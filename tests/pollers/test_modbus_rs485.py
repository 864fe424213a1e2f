"""The direction of an RS-485 transceiver, as the kernel's drivers offer it: taken, ignored, or not there."""

from __future__ import annotations

import array
import fcntl
import os
import pty
from collections.abc import Iterator
from typing import Any

import pytest
from serial import serialposix

from gateway.config_devices import ModbusSection
from gateway.errors import LinkError
from gateway.pollers.modbus import settings_of
from gateway.pollers.modbus_ports import PortSettings, open_port

# include/uapi/linux/serial.h
ENABLED, ON_SEND, AFTER_SEND, DURING_TX = 1, 2, 4, 16


@pytest.fixture
def tty() -> Iterator[str]:
    master, far = pty.openpty()
    yield os.ttyname(far)
    os.close(master)
    os.close(far)


class Driver:
    """A driver with TIOCGRS485 and TIOCSRS485 behind a pseudo-terminal, which has neither."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ignores: bool = False) -> None:
        self.held = array.array("i", [0, 3, 4, 0, 0, 0, 0, 0])  # flags, and the delays of the device tree
        self.ignores = ignores
        self.real = fcntl.ioctl
        monkeypatch.setattr(fcntl, "ioctl", self.ioctl)

    def ioctl(self, fd: Any, request: int, arg: Any = 0, *more: Any) -> Any:
        if request == serialposix.TIOCGRS485:
            arg[:] = self.held
            return 0
        if request == serialposix.TIOCSRS485:
            if not self.ignores:
                self.held[:] = arg
            return 0
        return self.real(fd, request, arg, *more)


def test_a_port_that_cannot_switch_says_what_to_do_and_is_free_again(tty: str) -> None:
    with pytest.raises(
        LinkError, match=r"its driver cannot switch an RS-485 transceiver\. Remove rs485 = true"
    ):
        open_port(tty, PortSettings(is_rs485=True))
    open_port(tty, PortSettings()).close()


@pytest.mark.parametrize(("rts_sending", "flags"), [(True, ENABLED | ON_SEND), (False, ENABLED | AFTER_SEND)])
def test_the_kernel_is_told_to_switch_and_how(
    tty: str, rts_sending: bool, flags: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(monkeypatch)
    open_port(tty, PortSettings(is_rs485=True, rts_sending=rts_sending)).close()
    assert driver.held[0] == flags, "and nothing is heard of what is sent"
    assert list(driver.held[1:3]) == [3, 4], "delays stay as they were set up"


def test_a_driver_that_takes_the_order_and_ignores_it_is_found_out(
    tty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Driver(monkeypatch, ignores=True)
    with pytest.raises(LinkError, match="cannot switch"):
        open_port(tty, PortSettings(is_rs485=True))


def test_a_port_without_the_setting_is_left_as_it_is(tty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    open_port(tty, PortSettings()).close()
    assert driver.held[0] == 0


def test_the_configuration_says_it() -> None:
    plain = {"name": "b", "path": "/dev/ttyS1"}
    assert not settings_of(ModbusSection.model_validate(plain)).is_rs485
    settings = settings_of(ModbusSection.model_validate({**plain, "rs485": True, "rs485_rts": "low"}))
    assert (settings.is_rs485, settings.rts_sending) == (True, False)
