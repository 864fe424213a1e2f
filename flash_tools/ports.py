"""Serial ports: which of them may be boards, and why one can not be opened, in words that help.

On Linux the holder of a port is looked up where the kernel tells it (/proc); elsewhere the error of the operating
system has to do.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import serial
from serial.tools import list_ports

from flash_tools.errors import FlashError, PortAmbiguous, PortForbidden, PortHeld, PortMissing

# USB ids of what ESP boards carry: bridges, and the chips' own USB. product None: every one of this maker.
BRIDGES: dict[tuple[int, int | None], str] = {
    (0x10C4, 0xEA60): "CP210x bridge",
    (0x10C4, 0xEA70): "CP2105 bridge",
    (0x1A86, 0x7523): "CH340 bridge",
    (0x1A86, 0x55D3): "CH343 bridge",
    (0x1A86, 0x55D4): "CH9102 bridge",
    (0x0403, 0x6001): "FT232 bridge",
    (0x0403, 0x6010): "FT2232 bridge",
    (0x0403, 0x6015): "FT231X bridge",
    (0x303A, 0x1001): "the chip's own USB",
    (0x303A, None): "Espressif USB",
}
# Takes CP210x and CH340 bridges for Braille displays, and then the port is gone or talks to nobody.
_BRLTTY = "brltty"
_UNKNOWN = "unknown USB"
_PROCESSES_MAX = 65536


class Found(NamedTuple):
    """A port of this machine that may be a board."""

    device: str
    vid: int | None
    pid: int | None
    bridge: str
    serial_number: str


class Holder(NamedTuple):
    pid: int
    name: str
    command: str

    @property
    def is_gateway(self) -> bool:
        return "tidegate" in self.command and " gateway run" in f" {self.command}"


@dataclass(frozen=True)
class Machine:
    """What of this computer is looked at; tests put their own in its place."""

    proc: Path = Path("/proc")
    comports: Callable[[], Iterable[Any]] = field(default=list_ports.comports)

    def ports(self) -> list[Found]:
        """All on USB, in the order of their names."""
        found = [
            Found(port.device, port.vid, port.pid, bridge_name(port.vid, port.pid), port.serial_number or "")
            for port in self.comports()
            if port.vid is not None
        ]
        return sorted(found, key=lambda port: _natural(port.device))

    def holders(self, device: str) -> list[Holder]:
        """Who has this device open or locked, as far as this user may know."""
        pids = {*self._openers(device), *self._lockers(device)} - {os.getpid()}
        return [holder for holder in map(self._holder, sorted(pids)) if holder is not None]

    def running(self, name: str) -> Holder | None:
        """A process of this name."""
        for folder in self._processes():
            if _text(folder / "comm") == name:
                return self._holder(int(folder.name))
        return None

    def _processes(self) -> list[Path]:
        try:
            return [path for path in self.proc.iterdir() if path.name.isdigit()][:_PROCESSES_MAX]
        except OSError:
            return []

    def _openers(self, device: str) -> list[int]:
        real = os.path.realpath(device)
        pids = []
        for folder in self._processes():
            try:
                links = [os.readlink(link) for link in (folder / "fd").iterdir()]
            except OSError:
                continue  # of another user, or gone
            if real in links:
                pids.append(int(folder.name))
        return pids

    def _lockers(self, device: str) -> list[int]:
        """Locks are told to everybody, with the inode of the device."""
        try:
            inode = Path(device).stat().st_ino
        except OSError:
            return []
        found = re.findall(
            r"FLOCK\s+\S+\s+\S+\s+(\d+)\s+[0-9a-f]+:[0-9a-f]+:(\d+)\s", _text(self.proc / "locks")
        )
        return [int(pid) for pid, number in found if int(number) == inode]

    def _holder(self, pid: int) -> Holder | None:
        name = _text(self.proc / str(pid) / "comm")
        command = _text(self.proc / str(pid) / "cmdline").replace("\0", " ").strip()
        return Holder(pid, name, command) if name or command else None


def bridge_name(vid: int | None, pid: int | None) -> str:
    if vid is None:
        return "no USB"
    return BRIDGES.get((vid, pid)) or BRIDGES.get((vid, None)) or _UNKNOWN


def choose(names: list[str], take_all: bool, machine: Machine | None = None) -> list[str]:
    """The ports to work on: those named, all there are, or the only one."""
    if names:
        real = [os.path.realpath(name) if "://" not in name else name for name in names]
        twice = next((name for name, path in zip(names, real, strict=True) if real.count(path) > 1), None)
        if twice:
            raise PortAmbiguous(
                f"--port {twice}", "it twice", "each port once", "Name every board's own port"
            )
        return names
    machine = machine or Machine()
    everything = machine.ports()
    # A modem or a GPS mouse is not to be reset and spoken to because it is plugged in.
    there = [port for port in everything if port.bridge != _UNKNOWN]
    if not there:
        holder = machine.running(_BRLTTY)
        others = ", ".join(f"{port.device} ({port.vid:04x}:{port.pid:04x})" for port in everything)
        raise PortMissing(
            "ports",
            "no board on any USB port"
            + (", and brltty runs, which takes them for Braille displays" if holder else ""),
            "one at least",
            _remove_brltty()
            if holder
            else f"Unknown to us: {others}. If one is your board, name it with --port"
            if others
            else "Plug one in with a cable that has data wires, or name a port with --port; "
            "`tidegate flash doctor` shows what this machine sees",
        )
    if len(there) > 1 and not take_all:
        listed = ", ".join(f"{port.device} ({port.bridge})" for port in there)
        raise PortAmbiguous(
            "ports", f"{len(there)} that may be boards: {listed}", "one", "Name it with --port, or take --all"
        )
    return [port.device for port in there]


def open_port(name: str, machine: Machine | None = None) -> Any:
    """The port, locked for us. Raises PortMissing, PortForbidden, PortHeld."""
    try:
        if "://" not in name and not os.path.exists(name) and os.name == "posix":
            raise FileNotFoundError(errno.ENOENT, "no such port")
        line = serial.serial_for_url(name, 115200, timeout=0.1, exclusive=True, do_not_open=True)
        line.open()
        return line
    except (OSError, ValueError) as error:
        raise _why_not(name, error, machine or Machine()) from error


def lines_fault(line: Any) -> str:
    """Why this open port has no DTR and RTS, which reset a board; "" when it has: a pty and some adapters have none."""
    try:
        line.dtr = line.dtr
        _ = line.cts  # asks the driver
    except OSError as error:
        return (
            "no DTR and RTS lines"
            if error.errno in (errno.ENOTTY, errno.EINVAL)
            else str(error.strerror or error)
        )
    return ""


def held(name: str, holders: list[Holder]) -> PortHeld:
    """The error for a port that somebody else has."""
    if any(holder.is_gateway for holder in holders):
        advice = "Run this with --take-port: the gateway hands the port over, and has it back afterwards"
    elif any(holder.name == _BRLTTY for holder in holders):
        advice = _remove_brltty()
    elif holders:
        advice = f"End it (kill {holders[0].pid}, or close its window) and run this again"
    else:
        advice = "Close the monitor, console or IDE that has it open, and run this again"
    listed = " and ".join(f"{holder.name} (pid {holder.pid})" for holder in holders) or "another program"
    return PortHeld(name, f"it in the hands of {listed}", "a free port", advice)


def _why_not(name: str, error: Exception, machine: Machine) -> FlashError:
    number = getattr(error, "errno", None)
    text = str(error)
    holders = machine.holders(name)
    if number == errno.ENOENT or "No such file" in text or "FileNotFound" in text:
        holder = machine.running(_BRLTTY)
        return PortMissing(
            name,
            "no such port" + (f", and brltty runs (pid {holder.pid})" if holder else ""),
            _listed(machine),
            _remove_brltty() if holder else "Is it plugged in, with a cable that has data wires?",
        )
    if number in (errno.EACCES, errno.EPERM) or "Permission denied" in text or "PermissionError" in text:
        return PortForbidden(
            name, f"a port that {_user()} may not open", "read and write access", _allow(name)
        )
    if (
        holders
        or number in (errno.EBUSY, errno.EAGAIN)
        or "exclusively lock" in text
        or "Access is denied" in text
    ):
        return held(name, holders)
    reason = (text.strip().splitlines() or [type(error).__name__])[0]
    return PortMissing(
        name, f"a port that does not open ({reason})", _listed(machine), "Unplug it and plug it in again"
    )


def _listed(machine: Machine) -> str:
    names = [port.device for port in machine.ports()]
    return f"one of {', '.join(names)}" if names else "a port; this machine sees no board"


def _allow(name: str) -> str:
    group = _group_of(name)
    join = ""
    if group not in ("", "root"):
        join = f"Join its group: sudo usermod -aG {group} $USER, then log out and in. Or for every board at once: "
    return (
        f"{join}tidegate flash doctor --udev | sudo tee /etc/udev/rules.d/70-tidegate.rules, then unplug the board "
        "and plug it in again. Root is not needed to flash"
    )


def _group_of(name: str) -> str:
    try:
        import grp

        return grp.getgrgid(os.stat(name).st_gid).gr_name
    except (OSError, KeyError, ImportError):
        return ""


def _user() -> str:
    return os.environ.get("USER") or (f"user {os.getuid()}" if hasattr(os, "getuid") else "this user")


def _remove_brltty() -> str:
    return (
        "Nobody here needs a Braille display? sudo systemctl mask --now brltty-udev.service brltty.service (or sudo "
        "apt remove brltty), then unplug the board and plug it in again"
    )


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
