"""Why a board can not be reached: what this machine sees, port by port, each with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flash_tools import chip, ports
from flash_tools.errors import FlashError
from flash_tools.ports import BRIDGES, Machine

_MODEM_MANAGER = "ModemManager"


class Finding(NamedTuple):
    """``ok`` None: neither good nor bad, to be known."""

    ok: bool | None
    what: str


def examine(
    names: list[str], *, reset: bool, machine: Machine | None = None
) -> list[tuple[str, list[Finding]]]:
    """Heading and findings: of this machine, then of each port. ``reset``: restart each board into its loader."""
    machine = machine or Machine()
    there = {port.device: port for port in machine.ports()}
    sections = [("this machine", _machine(machine, list(there), bool(names)))]
    for name in names or list(there):
        found = there.get(name)
        findings = []
        if found is not None:
            findings.append(
                Finding(
                    None if "unknown" in found.bridge else True,
                    f"USB {found.vid:04x}:{found.pid:04x}, {found.bridge}"
                    + (f", serial number {found.serial_number}" if found.serial_number else ""),
                )
            )
        sections.append((name, findings + _port(name, machine, reset=reset)))
    return sections


def _machine(machine: Machine, there: list[str], are_named: bool) -> list[Finding]:
    found = [
        Finding(
            bool(there) or (None if are_named else False),
            f"{len(there)} ports on USB" if there else "no port on USB",
        )
    ]
    brltty = machine.running("brltty")
    if brltty is not None:
        found.append(
            Finding(
                False,
                f"brltty runs (pid {brltty.pid}) and takes CP210x and CH340 bridges for Braille displays: sudo "
                "systemctl mask --now brltty-udev.service brltty.service",
            )
        )
    modem = machine.running(_MODEM_MANAGER)
    if modem is not None:
        found.append(
            Finding(
                None,
                f"ModemManager runs (pid {modem.pid}) and talks to new ports for a while; the udev rule stops that",
            )
        )
    return found


def _port(name: str, machine: Machine, *, reset: bool) -> list[Finding]:
    holders = machine.holders(name)
    if holders:
        return [Finding(False, str(ports.held(name, holders)))]
    try:
        line = ports.open_port(name, machine)
    except FlashError as error:
        return [Finding(False, str(error))]
    try:
        found = [Finding(True, "opens for this user, and nobody else has it"), _lines(line)]
        if reset:
            found.append(_loader(line, name))
        return found
    finally:
        line.close()


def _lines(line: Any) -> Finding:
    fault = ports.lines_fault(line)
    if fault:
        return Finding(
            False, f"{fault}: put the board into its loader by hand (hold BOOT, press RESET, let go)"
        )
    return Finding(True, "has DTR and RTS lines")


def _loader(line: Any, name: str) -> Finding:
    """Resets the board; it runs its program again afterwards."""
    found: list[str] = []

    def identify(facts: chip.ChipFacts) -> None:
        found.append(f"{facts.chip} {facts.mac}, revision {facts.revision}")
        chip.refuse_protected(name, facts)

    try:
        board = chip.connect(line, name, identify=identify)
        board.restart()
    except FlashError as error:
        return Finding(False, str(error))
    return Finding(
        True, f"reset wiring works: its loader answers, {found[0]}, {board.facts.flash_size // 2**20} MiB"
    )


def udev_rules() -> str:
    """Whoever sits at this machine may open boards, and so may the group dialout; no modem software looks at them."""
    lines = [
        "# Boards that Tidegate flashes: for who sits at this machine, and for the group dialout. Put it to",
        "# /etc/udev/rules.d/70-tidegate.rules, then: sudo udevadm control --reload; and plug the boards in again.",
    ]
    for (vid, pid), bridge in BRIDGES.items():
        product = f', ATTRS{{idProduct}}=="{pid:04x}"' if pid is not None else ""
        match = f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{vid:04x}"{product}'
        given = 'GROUP="dialout", MODE="0660", TAG+="uaccess", ENV{ID_MM_DEVICE_IGNORE}="1"'
        lines += [f"# {bridge}", f"{match}, {given}"]
    return "\n".join(lines) + "\n"


def tell(sections: list[tuple[str, list[Finding]]], echo: Callable[[str], None]) -> bool:
    """Print; whether all is well."""
    for heading, findings in sections:
        echo(heading)
        for finding in findings:
            sign = {True: "ok", False: "NO", None: "--"}[finding.ok]
            echo(f"  {sign}  {finding.what}")
    return all(finding.ok is not False for _, findings in sections for finding in findings)
