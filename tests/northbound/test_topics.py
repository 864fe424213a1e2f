"""Topic templates: areas in their levels, did-you-mean, and nothing in a topic that ends or matches a level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.northbound import topics
from protocols.northbound.topics import NONE, Fields

LEVELS = "{province}/{city}/{district}/{street}/{community}"


@pytest.mark.parametrize(
    ("area", "levels"),
    [
        ("330106003002", ["33", "3301", "330106", "330106003", "330106003002"]),
        ("330106003", ["33", "3301", "330106", "330106003", "330106003"]),
        ("330106", ["33", "3301", "330106", "330106", "330106"]),
        ("unassigned", ["unassigned"] * 5),
        ("", [NONE] * 5),
    ],
)
def test_an_area_gives_its_levels_and_itself_for_those_it_has_not(area: str, levels: list[str]) -> None:
    assert topics.fill(LEVELS, Fields(area=area)).split("/") == levels


def test_every_field_is_filled() -> None:
    template = "{gateway}/{area}/{site}/{node}/{stream}/{measurand}"
    assert (
        topics.fill(template, Fields("gw", "330106", "s", "0012", "readings", "ph"))
        == "gw/330106/s/0012/readings/ph"
    )


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_a_site_is_called_a_topic_keeps_its_levels_and_has_no_wildcard(
    site: str, measurand: str
) -> None:
    made = topics.fill("a/{site}/{measurand}", Fields(site=site, measurand=measurand))
    assert made.count("/") == 2
    assert not set(made) & set("+#\0")
    assert all(made.split("/"))


@given(st.text(max_size=40))
def test_a_template_is_either_told_or_makes_a_topic(template: str) -> None:
    if topics.problem(template, topics.RECORD_FIELDS) is None:
        made = topics.fill(template, Fields("g", "330106", "s", "0012", "readings", "ph"))
        assert not set(made) & set("+#\0{}")


def test_a_long_template_is_refused() -> None:
    assert "1025 bytes" in str(topics.problem("x" * 1025, topics.RECORD_FIELDS))
