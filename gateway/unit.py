"""The systemd unit of a gateway, made from its configuration: what it does not use, it may not do.

    tidegate gateway unit > /etc/systemd/system/tidegate.service

Type=notify: ready means that every part runs. The watchdog is fed only while every part makes progress (parts.py), so
systemd restarts a daemon that hangs, and `kill -9` is how it may do so.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.config import Config

STATE = Path("/var/lib")
WATCHDOG_S = 60
# USB bridges, boards with their own USB, ports of a single-board computer and of a PC.
SERIAL_PORTS = ("char-ttyUSB", "char-ttyACM", "char-ttyAMA", "char-ttyS")


def unit(config: Config, file: Path, name: str = "tidegate") -> str:
    """The text of the unit. `file`: the configuration, as the daemon will find it."""
    lines = [
        "# Made by `tidegate gateway unit`. Install it as root:",
        f"#   useradd --system --shell /usr/sbin/nologin {name}",
        f"#   chown -R {name}: {file.parent}",
        f"#   tidegate gateway unit --config {file} > /etc/systemd/system/{name}.service",
        f"#   systemctl daemon-reload && systemctl enable --now {name}",
        "# Its log: journalctl -u " + name + " -f",
        "[Unit]",
        f"Description=Tidegate gateway {config.gateway.name}",
        "Wants=network-online.target time-sync.target",
        "After=network-online.target time-sync.target" + (" bluetooth.target" if config.ble else ""),
        # A gateway that gives up is a city that does not hear: it is tried for ever.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={sys.executable} -m tidegate gateway run --config {file}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=always",
        "RestartSec=2",
        f"WatchdogSec={WATCHDOG_S}",
        "TimeoutStopSec=20",
        *_identity(config, file, name),
        *_devices(config),
        *HARDENING,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _identity(config: Config, file: Path, name: str) -> list[str]:
    """Its user, its folder, and the key that only it is given. No DynamicUser=: the files with passwords are of mode
    0600, so they belong to somebody."""
    data_dir = Path(config.gateway.data_dir)
    lines = [f"User={name}", "UMask=0077"]
    if data_dir.is_relative_to(STATE) and data_dir != STATE:
        lines += [f"StateDirectory={data_dir.relative_to(STATE)}", "StateDirectoryMode=0700"]
    else:
        lines += [
            "# Not below /var/lib: the folder has to be there, and to be this user's.",
            f"ReadWritePaths={data_dir}",
        ]
    credential = config.keys.master_key_credential
    if credential is not None:
        lines += [
            f"# systemd-creds encrypt --name={credential} master.key {file.parent / credential}.cred",
            f"LoadCredentialEncrypted={credential}:{file.parent / credential}.cred",
        ]
    groups = (["dialout"] if _has_serial(config) else []) + (["bluetooth"] if config.ble else [])
    if groups:
        lines.append(f"SupplementaryGroups={' '.join(groups)}")
    return lines


def _has_serial(config: Config) -> bool:
    return bool(config.serial or config.bridge or any(bus.path for bus in config.modbus))


def _devices(config: Config) -> list[str]:
    lines = ["DevicePolicy=closed"]
    if _has_serial(config):
        lines += [f"DeviceAllow={port} rw" for port in SERIAL_PORTS]
    families = ["AF_UNIX", "AF_INET", "AF_INET6"]
    radios = [section.adapter for section in config.ble if section.backend == "bumble"]
    if any(adapter.startswith("usb") for adapter in radios):
        lines.append("DeviceAllow=char-usb_device rw")
        families.append("AF_NETLINK")  # libusb hears of plugging by it
    if any(adapter.startswith("hci-socket") for adapter in radios):
        families.append("AF_BLUETOOTH")
        lines += ["AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"]
    return [*lines, f"RestrictAddressFamilies={' '.join(families)}"]


HARDENING = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=read-only",  # the configuration or the Python environment may be in one
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RemoveIPC=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    # It asks the kernel whether its clock is kept in time, which ProtectClock= would forbid too; it can not set it.
    "SystemCallFilter=adjtimex",
    "LimitNOFILE=4096",
    "OOMScoreAdjust=-500",  # it is what the machine is there for
)
