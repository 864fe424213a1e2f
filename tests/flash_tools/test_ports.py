"""Ports: which may be boards, and why one does not open, told so that a person can act on it."""

from __future__ import annotations

import errno
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serial

from flash_tools import doctor, ports
from flash_tools.errors import FlashError, PortAmbiguous, PortForbidden, PortHeld, PortMissing
from flash_tools.ports import Machine


def usb(device: str, vid: int | None = 0x10C4, pid: int | None = 0xEA60, number: str | None = "0001") -> Any:
    return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=number)


class Proc:
    """A /proc of a test: processes with names, command lines, open files and locks."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        (folder / "locks").write_text("")

    def process(self, pid: int, name: str, command: str = "", opened: str | None = None) -> None:
        folder = self.path / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(name + "\n")
        (folder / "cmdline").write_text((command or name).replace(" ", "\0"))
        if opened is not None:
            (folder / "fd" / "7").symlink_to(opened)

    def lock(self, pid: int, device: str) -> None:
        inode = Path(device).stat().st_ino
        (self.path / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE {pid} 00:18:{inode} 0 EOF\n")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    (tmp_path / "proc").mkdir()
    return Proc(tmp_path / "proc")


@pytest.fixture
def tty() -> Iterator[str]:
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def machine(proc: Proc, *found: Any) -> Machine:
    return Machine(proc.path, lambda: list(found))


def test_the_only_board_needs_no_name_and_of_several_one_has_to_be_named(proc: Proc) -> None:
    one, two, other = usb("/dev/ttyUSB10"), usb("/dev/ttyUSB2", 0x303A, 0x1001), usb("/dev/ttyS0", None, None)
    assert ports.choose([], False, machine(proc, one, other)) == ["/dev/ttyUSB10"]
    assert ports.choose([], True, machine(proc, one, two)) == ["/dev/ttyUSB2", "/dev/ttyUSB10"]
    assert ports.choose(["/dev/x"], False, machine(proc, one, two)) == ["/dev/x"]
    with pytest.raises(PortAmbiguous) as told:
        ports.choose([], False, machine(proc, one, two))
    assert "/dev/ttyUSB2 (the chip's own USB), /dev/ttyUSB10 (CP210x bridge)" in told.value.found
    assert "--all" in told.value.advice
    with pytest.raises(PortAmbiguous, match="twice"):
        ports.choose(["/dev/x", "/dev/x"], False)


def test_what_is_no_known_bridge_is_only_taken_when_it_is_named(proc: Proc) -> None:
    mouse, board = usb("/dev/ttyACM0", 0x1546, 0x01A8), usb("/dev/ttyUSB0")
    assert ports.choose([], True, machine(proc, mouse, board)) == ["/dev/ttyUSB0"]
    with pytest.raises(
        PortMissing, match=r"Unknown to us: /dev/ttyACM0 .1546:01a8.\. .* name it with --port"
    ):
        ports.choose([], True, machine(proc, mouse))
    assert ports.choose(["/dev/ttyACM0"], False, machine(proc, mouse)) == ["/dev/ttyACM0"]


def test_no_board_at_all_is_told_with_brltty_if_it_runs(proc: Proc) -> None:
    with pytest.raises(PortMissing, match="no board on any USB port; expected one"):
        ports.choose([], False, machine(proc))
    proc.process(812, "brltty")
    with pytest.raises(PortMissing, match=r"and brltty runs.*systemctl mask"):
        ports.choose([], False, machine(proc))


def test_a_port_that_is_not_there_is_told_with_those_that_are(proc: Proc, tmp_path: Path) -> None:
    name = str(tmp_path / "ttyUSB7")
    with pytest.raises(PortMissing, match=r"no such port; expected one of /dev/ttyUSB0\. Is it plugged in"):
        ports.open_port(name, machine(proc, usb("/dev/ttyUSB0")))
    proc.process(812, "brltty")
    with pytest.raises(PortMissing, match=r"brltty runs .pid 812.*mask --now brltty-udev.service"):
        ports.open_port(name, machine(proc))


def refuses(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The system's answer to whoever opens a port; root would be refused nothing."""

    def deny(_self: object) -> None:
        raise serial.SerialException(number, f"could not open port: [Errno {number}] {os.strerror(number)}")

    monkeypatch.setattr(serial.Serial, "open", deny)


def test_without_permission_a_person_learns_about_the_group_and_the_rule_and_never_to_take_root(
    proc: Proc, tty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses(monkeypatch, errno.EACCES)
    monkeypatch.setattr(ports, "_group_of", lambda _name: "dialout")
    with pytest.raises(PortForbidden) as told:
        ports.open_port(tty, machine(proc))
    for words in ("usermod -aG dialout", "tidegate flash doctor --udev", "Root is not needed"):
        assert words in told.value.advice


HOLDERS = {
    "the gateway": (
        "python",
        "python -m tidegate gateway run --config gateway.toml",
        "python (pid 4711)",
        "--take-port",
    ),
    "brltty": ("brltty", "brltty", "brltty (pid 4711)", "mask --now brltty-udev.service"),
    "a monitor": ("picocom", "picocom /dev/ttyUSB0", "picocom (pid 4711)", "kill 4711"),
}


@pytest.mark.parametrize("who", HOLDERS)
@pytest.mark.parametrize("how", ["open", "locked"])
def test_who_holds_a_port_is_named_with_its_pid_and_what_to_do(
    who: str, how: str, proc: Proc, tty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, command, found, advice = HOLDERS[who]
    proc.process(4711, name, command, tty if how == "open" else None)
    if how == "locked":  # of another user: its open files can not be looked at
        proc.lock(4711, tty)
    refuses(monkeypatch, errno.EBUSY)
    with pytest.raises(PortHeld) as told:
        ports.open_port(tty, machine(proc))
    assert found in told.value.found
    assert advice in told.value.advice


def test_a_port_that_is_really_locked_is_told_and_free_again_afterwards(proc: Proc, tty: str) -> None:
    first = ports.open_port(tty, machine(proc))
    with pytest.raises(PortHeld, match=r"another program.*Close the monitor"):
        ports.open_port(tty, machine(proc))
    first.close()
    ports.open_port(tty, machine(proc)).close()


def test_the_doctor_says_of_each_port_what_is_wrong(proc: Proc, tty: str) -> None:
    proc.process(9, "ModemManager")
    lines: list[str] = []
    found = doctor.examine([tty, "/dev/ttyUSB9"], reset=False, machine=machine(proc, usb("/dev/ttyUSB9")))
    assert not doctor.tell(found, lines.append)
    text = "\n".join(lines)
    for words in (
        "1 ports on USB",
        "ModemManager runs (pid 9)",
        f"{tty}\n  ok  opens for this user",
        "NO  no DTR and RTS lines: put the board into its loader by hand",
        "ok  USB 10c4:ea60, CP210x bridge, serial number 0001",
        "NO  /dev/ttyUSB9: found no such port",
    ):
        assert words in text, text


def test_the_doctor_names_a_holder(proc: Proc, tty: str) -> None:
    proc.process(4711, "picocom", opened=tty)
    [(_, _), (_, findings)] = doctor.examine([tty], reset=False, machine=machine(proc))
    assert [finding.ok for finding in findings] == [False]
    assert "picocom (pid 4711)" in findings[0].what


def test_the_rule_is_for_every_bridge_and_for_people_at_the_machine() -> None:
    rules = [line for line in doctor.udev_rules().splitlines() if not line.startswith("#")]
    assert len(rules) == len(ports.BRIDGES)
    for rule in rules:
        assert rule.startswith('SUBSYSTEM=="tty", ATTRS{idVendor}=="')
        assert 'TAG+="uaccess"' in rule
        assert 'GROUP="dialout", MODE="0660"' in rule


def test_a_port_error_of_any_kind_is_one_of_ours(
    proc: Proc, tty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (errno.EIO, errno.ENXIO, errno.EAGAIN, errno.EPERM):
        refuses(monkeypatch, number)
        with pytest.raises(FlashError):
            ports.open_port(tty, machine(proc))
