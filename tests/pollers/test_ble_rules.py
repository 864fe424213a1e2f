"""The rules of the Bluetooth poller that need no radio: what is news, which fault is which, how long to pause."""

from __future__ import annotations

import errno

import pytest
from bleak.args.bluez import OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
    BleakGATTProtocolError,
)

from gateway import limits
from gateway.pollers import ble_faults as faults
from gateway.pollers.ble_advert import Advert, Repeats, short_uuid, uuid16
from gateway.pollers.ble_backend import or_patterns
from gateway.pollers.ble_survey import Survey

BTHOME = uuid16(0xFCD2)


def advert(data: bytes, heard_s: float = 0.0, address: str = "C0:00:00:00:00:01", name: str = "") -> Advert:
    return Advert(address, name, -60, {BTHOME: data}, {}, (), heard_s)


def test_a_repeat_is_no_news_and_a_door_that_closes_again_is() -> None:
    repeats = Repeats()
    told = [
        repeats.is_news(advert(data, at))
        for at, data in enumerate((b"open", b"open", b"shut", b"open", b"open"))
    ]
    assert told == [True, False, True, True, False]


def test_a_steady_value_is_told_again_after_a_while() -> None:
    repeats = Repeats()
    assert repeats.is_news(advert(b"same"))
    assert not repeats.is_news(advert(b"same", limits.BLE_REPEAT_S - 1))
    assert repeats.is_news(advert(b"same", limits.BLE_REPEAT_S))


def test_the_address_heard_longest_ago_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLE_ADDRESSES_MAX", 3)
    repeats = Repeats()
    for number in range(5):
        repeats.is_news(advert(b"x", address=str(number)))
    assert len(repeats) == 3
    assert not repeats.is_news(advert(b"x", address="4"))
    assert repeats.is_news(advert(b"x", address="0"))


def test_a_survey_joins_what_an_advert_and_its_scan_response_say() -> None:
    survey = Survey()
    survey.heard(advert(b"\x40\x01\x64"))
    survey.heard(Advert("C0:00:00:00:00:01", "shelf", -50, {}, {0x0499: b"\x05"}, (uuid16(0x181A),), 1.0))
    (found,) = survey.by_strength()
    assert (found.name, found.best_dbm, found.count) == ("shelf", -50, 2)
    assert found.seems() == "BTHome, Environmental Sensing, company 0499"


def test_uuids_are_shown_as_people_know_them() -> None:
    assert short_uuid(uuid16(0x181A)) == "181A"
    assert short_uuid("6e400001-b5a3-f393-e0a9-e50e24dcca9e") == "6e400001-b5a3-f393-e0a9-e50e24dcca9e"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BleakDBusError("org.bluez.Error.InProgress", ["x"]), faults.BUSY),
        (BleakDBusError("org.bluez.Error.AuthenticationFailed", ["x"]), faults.AUTH),
        (BleakDBusError("org.bluez.Error.NotReady", ["x"]), faults.ADAPTER),
        (BleakDBusError("org.bluez.Error.Failed", ["le-connection-abort-by-local"]), faults.LOST),
        (BleakDBusError("org.bluez.Error.Failed", ["Operation already in progress"]), faults.BUSY),
        (BleakDBusError("org.bluez.Error.Failed", ["why"]), faults.OTHER),
        (BleakDBusError("org.freedesktop.DBus.Error.UnknownObject", []), faults.ABSENT),
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", []), faults.ADAPTER),
        (BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", []), faults.DENIED),
        (BleakDeviceNotFoundError("C0"), faults.ABSENT),
        (BleakGATTProtocolError(0x0F), faults.AUTH),
        (BleakGATTProtocolError(0x0E), faults.OTHER),
        (BleakError("adapter 'hci9' not found"), faults.ADAPTER),
        (BleakError("failed to discover services, device disconnected"), faults.LOST),
        (BleakError("device 'dev_C0' not found"), faults.ABSENT),
        (BleakError("Not connected"), faults.LOST),
        (
            BleakBluetoothNotAvailableError("x", BleakBluetoothNotAvailableReason.POWERED_OFF),
            faults.ADAPTER,
        ),
        (
            BleakBluetoothNotAvailableError("x", BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM),
            faults.DENIED,
        ),
        (TimeoutError(), faults.TIMEOUT),
        (EOFError(), faults.ADAPTER),
        (PermissionError(errno.EACCES, "x"), faults.DENIED),
        (OSError(errno.ENODEV, "x"), faults.ADAPTER),
    ],
)
def test_every_way_of_saying_a_fault_is_known(error: Exception, kind: str) -> None:
    assert isinstance(error, faults.STACK_ERRORS)
    assert faults.classify(error) == kind


def test_a_fault_that_needs_a_person_says_what_to_do() -> None:
    told = faults.explain(BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", ["no"]), "cannot scan")
    assert told.startswith("cannot scan: [org.freedesktop.DBus.Error.AccessDenied]")
    assert "group `bluetooth`" in told


def test_pauses_double_up_to_their_bound_and_start_over_with_another_fault() -> None:
    backoff = faults.Backoff()
    assert [backoff.failed(faults.LOST) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.failed(faults.AUTH) == 60
    assert backoff.failed(faults.LOST) == 0.5
    backoff.worked()
    assert backoff.failed(faults.LOST) == 0.5
    for _ in range(2000):
        backoff.failed(faults.BUSY)
    assert backoff.failed(faults.BUSY) == faults.PAUSES[faults.BUSY].max_s


def test_patterns_let_connectable_devices_and_what_profiles_are_heard_by_through() -> None:
    patterns = or_patterns([0xFCD2], [0x0499])
    assert OrPattern(0, AdvertisementDataType.FLAGS, b"\x06") in patterns
    assert OrPattern(0, AdvertisementDataType.SERVICE_DATA_UUID16, b"\xd2\xfc") in patterns
    assert OrPattern(0, AdvertisementDataType.MANUFACTURER_SPECIFIC_DATA, b"\x99\x04") in patterns
    many = or_patterns(range(100), range(100))
    assert len(many) == limits.BLE_PATTERNS_MAX
    assert OrPattern(0, AdvertisementDataType.FLAGS, b"\x06") in many
