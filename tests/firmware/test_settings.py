"""Settings: one versioned document, taken or refused as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.errors import SettingsError
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S, Settings
from protocols.wire import cbor

DEFAULTS = {INTERVAL_S: 900, REPORT_S: 3600, STATUS_S: 86400}


class Slot:
    """A durable document in memory that counts its writes."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data
        self.writes = 0

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.data = data
        self.writes += 1


def test_a_node_that_was_told_nothing_has_the_defaults_of_its_type() -> None:
    settings = Settings(Slot(), DEFAULTS)
    assert settings.version == 0
    assert settings.document() == DEFAULTS


def test_a_document_survives_a_reset_and_what_it_leaves_out_is_the_default() -> None:
    slot = Slot()
    Settings(slot, DEFAULTS).replace(7, {INTERVAL_S: 300})
    again = Settings(slot, DEFAULTS)
    assert (again.version, again.document()) == (7, {**DEFAULTS, INTERVAL_S: 300})


@pytest.mark.parametrize(
    "document", [{INTERVAL_S: 0}, {REPORT_S: 86401}, {STATUS_S: 9}, {3: 1}, {INTERVAL_S: 300, 99: 0}]
)
def test_one_bad_value_refuses_the_whole_document_and_writes_nothing(document: dict[int, int]) -> None:
    slot = Slot()
    settings = Settings(slot, DEFAULTS)
    settings.replace(1, {REPORT_S: 60})
    with pytest.raises(SettingsError, match="version 2 refused"):
        settings.replace(2, {STATUS_S: 60, **document})
    assert (settings.version, settings[STATUS_S], slot.writes) == (1, 86400, 1)


def test_the_same_document_again_costs_no_flash() -> None:
    slot = Slot()
    settings = Settings(slot, DEFAULTS)
    for _ in range(5):
        settings.replace(3, {INTERVAL_S: 60})
    assert slot.writes == 1


def test_a_changed_interval_keeps_the_version_it_was_changed_in() -> None:
    slot = Slot()
    settings = Settings(slot, DEFAULTS)
    settings.replace(3, {REPORT_S: 60})
    settings.change({INTERVAL_S: 5})
    again = Settings(slot, DEFAULTS)
    assert (again.version, again[INTERVAL_S], again[REPORT_S]) == (3, 5, 60)


@given(st.binary(max_size=40))
def test_whatever_stands_in_the_slot_a_node_starts_with_valid_settings(data: bytes) -> None:
    document = Settings(Slot(data), DEFAULTS).document()
    assert set(document) == set(DEFAULTS)


def test_a_value_that_this_firmware_no_longer_allows_is_forgotten_and_the_document_asked_for_again() -> None:
    settings = Settings(Slot(cbor.dumps([9, {INTERVAL_S: 10**6, REPORT_S: 60}])), DEFAULTS)
    assert (settings.version, settings.document()) == (0, {**DEFAULTS, REPORT_S: 60})


def test_what_another_release_has_more_of_is_kept_for_it_until_another_version_comes() -> None:
    slot = Slot(cbor.dumps([9, {INTERVAL_S: 300, 10: 70}, "and more"]))
    settings = Settings(slot, DEFAULTS)
    assert (settings.version, settings.document()) == (9, {**DEFAULTS, INTERVAL_S: 300})
    settings.change({REPORT_S: 60})
    assert cbor.loads(slot.data or b"") == [9, {INTERVAL_S: 300, REPORT_S: 60, 10: 70}]
    again = Settings(slot, {**DEFAULTS, 10: 60})
    assert (again.version, again[10], again[REPORT_S]) == (9, 70, 60)
    Settings(slot, DEFAULTS).replace(10, {INTERVAL_S: 300})
    assert cbor.loads(slot.data or b"") == [10, {INTERVAL_S: 300}]
