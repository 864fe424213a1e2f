"""`tidegate plan`: what a person types, and sees."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hil_tests.errors import HilError
from hil_tests.plan import app

RUNNER = CliRunner()
SMALL = ["cover=20", "river=4", "--days", "0.2", "--area-km2", "0.5"]


def refused(*args: str) -> str:
    result = RUNNER.invoke(app, args)
    assert isinstance(result.exception, HilError)
    assert result.exception.exit_code == 2
    return str(result.exception)


def test_it_answers_with_the_figures_that_decide_and_says_what_it_left_out() -> None:
    result = RUNNER.invoke(app, [*SMALL, "--no-curve", "--storm", "5"], catch_exceptions=False)
    assert result.exit_code == 0
    for wanted in (
        "20 cover, 4 river on 0.5 km², 1 concentrator, cn470, 8 channels, ADR",
        "out of reach",
        "records delivered",
        "alarms, to disk",
        "storm of 5",
        "channel load",
        "duty",
        "worst node",
        "mains",
        "Left out:",
    ):
        assert wanted in result.output, result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_it_draws_delivery_and_load_over_the_number_of_nodes(tmp_path: Path) -> None:
    svg = tmp_path / "plan.svg"
    result = RUNNER.invoke(app, [*SMALL, "--svg", str(svg)], catch_exceptions=False)
    assert "fewer and more nodes" in result.output
    root = ElementTree.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"6", "12", "24", "48", "96", "records delivered", "channel load, %"} <= texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 4 * 5


def test_a_bridge_has_one_channel_and_one_spreading_factor() -> None:
    result = RUNNER.invoke(
        app, [*SMALL, "--radio", "bridge", "--sf", "9", "--no-curve"], catch_exceptions=False
    )
    assert "1 bridge, cn470, 1 channels, SF9" in result.output
    assert "name it, --sf 7 to --sf 11" in refused("cover=3", "--radio", "bridge")
    assert "one channel" in refused("cover=3", "--radio", "bridge", "--sf", "9", "--channels", "2")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["cove=3"], "Did you mean cover?"),
        (["cover"], "as in cover=100"),
        (["cover=-1"], "as in cover=100"),
        (["cover=0"], "0 nodes in all"),
        (["cover=20001"], "1 to 20000"),
        (["cover=3", "--region", "us915"], "one of cn470, eu868"),
        (["cover=3", "--sf", "12"], "7 to 11 in cn470"),
        (["cover=3", "--sf", "13", "--region", "eu868"], "7 to 12 in eu868."),
        (["cover=3", "--radio", "brigde"], "Did you mean bridge?"),
        (["cover=3", "--channels", "9"], "from 1 to 8"),
        (["cover=3", "--density", "3", "--area-km2", "2"], "give one of them"),
        (["cover=3", "--board", "heltec"], "Did you mean heltec_wifi_lora_32_v3?"),
        (["cover=3", "--board", "esp32c3_devkitm"], "currents are not known"),
        (["cover=3", "--loss", "1"], "from 0 to 0.9"),
        (["cover=3", "--svg", "nowhere/plan.svg"], "no folder nowhere"),
    ],
)
def test_what_can_not_be_answered_is_told(args: list[str], told: str) -> None:
    assert told in refused(*args)
