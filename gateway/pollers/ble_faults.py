"""What can go wrong with Bluetooth, in classes that differ in what to do: how long to wait, and what a person can do.

Stacks tell the same thing in many ways: bleak's own errors, BlueZ's D-Bus names, ATT codes. They meet here and
nowhere else.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakCharacteristicNotFoundError,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
    BleakGATTProtocolError,
)
from dbus_fast.errors import AuthError, DBusError, InvalidAddressError

from gateway.errors import GatewayError

BUSY = "busy"  # the stack is connecting already, to this one or another
ABSENT = "absent"  # not in reach, or forgotten by the stack
AUTH = "auth"  # it wants to be paired, or its key is gone
LOST = "lost"  # was connected, and is no more
TIMEOUT = "timeout"
SILENT = "silent"  # connected, and says nothing
STORM = "storm"  # connected, and says too much
PROFILE = "profile"  # lacks what its profile names
ADAPTER = "adapter"  # none there, or switched off
DENIED = "denied"  # this user may not
OTHER = "other"


class Pause(NamedTuple):
    """How long to leave a device alone after the first fault of a class, and at most."""

    min_s: float
    max_s: float


# A lost link is mostly back at once; what needs a person's hand is not worth a slot every minute.
PAUSES = {
    BUSY: Pause(2, 60),
    ABSENT: Pause(5, 120),
    AUTH: Pause(60, 3600),
    LOST: Pause(0.5, 30),
    TIMEOUT: Pause(2, 120),
    SILENT: Pause(2, 300),
    STORM: Pause(30, 1800),
    PROFILE: Pause(60, 3600),
    ADAPTER: Pause(1, 30),
    DENIED: Pause(10, 300),
    OTHER: Pause(5, 300),
}

_DBUS = {
    "org.bluez.Error.InProgress": BUSY,
    "org.bluez.Error.AlreadyExists": BUSY,
    "org.bluez.Error.DoesNotExist": ABSENT,
    "org.freedesktop.DBus.Error.UnknownObject": ABSENT,
    "org.bluez.Error.AuthenticationFailed": AUTH,
    "org.bluez.Error.AuthenticationCanceled": AUTH,
    "org.bluez.Error.AuthenticationRejected": AUTH,
    "org.bluez.Error.AuthenticationTimeout": AUTH,
    "org.bluez.Error.NotAuthorized": AUTH,
    "org.bluez.Error.NotPermitted": AUTH,
    "org.bluez.Error.NotConnected": LOST,
    "org.bluez.Error.NotReady": ADAPTER,
    "org.bluez.Error.NotAvailable": ADAPTER,
    "org.freedesktop.DBus.Error.ServiceUnknown": ADAPTER,
    "org.freedesktop.DBus.Error.NameHasNoOwner": ADAPTER,
    "org.freedesktop.DBus.Error.AccessDenied": DENIED,
    "org.freedesktop.DBus.Error.NoReply": TIMEOUT,
}
# BlueZ tells the reason of a failed connection in words only.
_FAILED_WORDS = {"abort": LOST, "in progress": BUSY, "timeout": TIMEOUT, "timed out": TIMEOUT, "auth": AUTH}
_ATT_AUTH = (0x05, 0x08, 0x0C, 0x0F)  # insufficient authentication, authorization, key size, encryption
_DENIED_REASONS = (
    BleakBluetoothNotAvailableReason.DENIED_BY_USER,
    BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM,
    BleakBluetoothNotAvailableReason.DENIED_BY_UNKNOWN,
)


class BleFault(GatewayError):
    """A Bluetooth device or adapter that does not do as it should; `kind` is one of the classes above.

    Its message already says what a person can do.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# Everything the stacks raise, and what we make of it; what is not in here is a mistake of ours and ends the part.
STACK_ERRORS = (BleFault, BleakError, OSError, EOFError, DBusError, AuthError, InvalidAddressError)

ADVICE = {
    ADAPTER: "Is an adapter plugged in and on (`bluetoothctl show`, `rfkill list`), and does the bluetooth service "
    "run (`systemctl status bluetooth`)?",
    DENIED: "This user may not speak with Bluetooth. Add it to the group `bluetooth` (and log in again), or run the "
    "gateway under its systemd unit.",
    AUTH: "The device wants to be paired, which a person does once: `bluetoothctl pair ADDRESS`. With backend = "
    '"bumble" that is not offered: have it on a [[ble]] with backend = "bluez".',
    BUSY: "The stack is busy with another attempt. If that lasts, `bluetoothctl power off` and `power on` free it.",
    PROFILE: "The device is another than its profile says; `tidegate ble watch ADDRESS` lists what it has.",
}


def explain(error: BaseException, what: str) -> str:
    """`what` went wrong, why, and what a person can do about it."""
    message = f"{what}: {text_of(error)}"
    return message if isinstance(error, BleFault) else told(classify(error), message)


def told(kind: str, message: str) -> str:
    """`message` with what a person can do about it."""
    advice = ADVICE.get(kind)
    return f"{message.rstrip('.')}. {advice}" if advice else message


def text_of(error: BaseException) -> str:
    """What `error` says, for people: some of bleak's keep more than their message."""
    if isinstance(error, BleakBluetoothNotAvailableError):
        return str(error.args[0])
    return str(error) or type(error).__name__


def classify(error: BaseException) -> str:
    """The class of whatever the stacks raised."""
    if isinstance(error, BleFault):
        return error.kind
    if isinstance(error, BleakDBusError):
        return _classify_dbus(error)
    if isinstance(error, DBusError):
        return _DBUS.get(error.type, OTHER)
    if isinstance(error, AuthError):
        return DENIED
    if isinstance(error, BleakBluetoothNotAvailableError):
        return DENIED if error.reason in _DENIED_REASONS else ADAPTER
    if isinstance(error, BleakDeviceNotFoundError):
        return ABSENT
    if isinstance(error, BleakCharacteristicNotFoundError):
        return PROFILE
    if isinstance(error, BleakGATTProtocolError):
        return AUTH if error.args[0] in _ATT_AUTH else OTHER
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if isinstance(error, PermissionError):
        return DENIED
    if isinstance(error, EOFError | ConnectionError | FileNotFoundError | InvalidAddressError):
        return ADAPTER  # the bus or the transport is not there, or went away
    if isinstance(error, OSError):
        return ADAPTER if error.errno in (errno.ENODEV, errno.ENXIO, errno.EIO) else OTHER
    return _classify_words(str(error))


def _classify_dbus(error: BleakDBusError) -> str:
    known = _DBUS.get(error.dbus_error)
    if known is not None:
        return known
    details = str(error.args[1:]).lower()
    return next((kind for words, kind in _FAILED_WORDS.items() if words in details), OTHER)


def _classify_words(text: str) -> str:
    """bleak raises its plain BleakError with words only."""
    lower = text.lower()
    if "adapter" in lower and "not found" in lower:
        return ADAPTER
    if "disconnected" in lower or "not connected" in lower:
        return LOST
    if "device" in lower and "not found" in lower:
        return ABSENT
    return OTHER


def kind_within(error: BaseException) -> str:
    """The class of what a call within a connection raised: of the device, or other; the adapter tells its own."""
    kind = classify(error)
    return kind if kind in (AUTH, LOST, TIMEOUT, PROFILE) else OTHER


class Backoff:
    """The growing pause of one device: doubles while the same class of fault goes on, and starts over with another."""

    def __init__(self) -> None:
        self.kind = ""
        self.in_a_row = 0

    def failed(self, kind: str) -> float:
        """Note a fault; returns the seconds to pause."""
        self.in_a_row = self.in_a_row + 1 if kind == self.kind else 1
        self.kind = kind
        pause = PAUSES[kind]
        return float(min(pause.min_s * 2 ** min(self.in_a_row - 1, 30), pause.max_s))

    def worked(self) -> None:
        """A whole turn without a fault."""
        self.kind = ""
        self.in_a_row = 0
