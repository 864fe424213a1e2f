"""What a gateway and a bench know of node types is what the firmware has."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import protocols
from firmware import nodes
from protocols.node_types import settings_of, settings_problem
from protocols.wire.codes import SETTING_NAMES

TYPES = tomllib.loads(Path(protocols.__path__[0], "node_types.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(nodes.MODULES))
def test_a_node_type_has_the_settings_that_its_firmware_has(name: str) -> None:
    found = nodes.load(name)
    assert found is not None
    has = [SETTING_NAMES[key] for key in sorted(found.settings)]
    assert name in TYPES, f"protocols/node_types.toml wants: [{name}] settings = {has}"
    assert sorted(settings_of(name, on_air=False), key=SETTING_NAMES.index) == has


def test_no_node_type_is_known_that_no_firmware_has() -> None:
    assert set(TYPES) == set(nodes.MODULES)


def test_a_typed_name_is_told_what_it_could_be() -> None:
    assert settings_problem("cover", {"tilt": 20}).startswith(
        "'tilt' is no setting of a cover node; did you mean tilt_deg? It has interval_s (1 to 86400), report_s"
    )
    assert settings_problem("cover", {"tilt_deg": 61}) == "tilt_deg = 61 is not allowed. Allowed are 5 to 60"
    assert settings_problem("cover", {"tilt_deg": 60, "interval_s": 3600}) == ""


def test_a_type_that_is_not_known_here_may_have_every_setting() -> None:
    assert settings_problem("submarine", {"tilt_deg": 20}) == ""
    assert "no setting of a submarine node" in settings_problem("submarine", {"depth": 20})
