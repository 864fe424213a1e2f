"""`tidegate ble` as a person types it, on the radio of a simulated street."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.pollers.ble_advert import Advert
from gateway.pollers.ble_survey import Survey
from gateway.site_pages import air_page

# A table as wide as its cells, and no colours.
ENVIRONMENT = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


def tidegate(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidegate", *words]
    env = {**ENVIRONMENT, **(environment or {})}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def radio() -> Iterator[str]:
    """The transport of a simulated street's radio."""
    command = [sys.executable, "-u", "-m", "tidegate", "street", "ble", "--port", "0", "--sensors", "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as street:
        try:
            assert street.stdout is not None
            street.stdout.readline()
            yield street.stdout.readline().split()[-1]
        finally:
            street.terminate()


def test_a_scan_lists_what_is_heard_and_what_it_seems_to_be(radio: str) -> None:
    done = tidegate("ble", "scan", "--seconds", "2", "--json", "--transport", radio)
    assert done.returncode == 0, done.stderr
    found = {one["address"]: one for one in json.loads(done.stdout)}
    assert len(found) == 10
    assert found["C0:00:00:00:00:00"]["seems"] == "BTHome"
    assert found["C0:00:00:00:00:02"]["seems"] == "BTHome, encrypted"
    assert found["D0:00:00:00:00:00"]["seems"] == "Environmental Sensing"
    assert found["D0:00:00:00:00:00"]["name"] == "weather 0"
    assert found["D0:00:00:00:00:00"]["profiles"] == ["environmental_sensing"]
    assert "bthome_thermometer" in found["C0:00:00:00:00:00"]["profiles"]
    strengths = [one["best_dbm"] for one in found.values()]
    assert strengths == sorted(strengths, reverse=True), "the nearest first"


def test_a_scan_is_a_table_for_a_person(radio: str) -> None:
    done = tidegate("ble", "scan", "--seconds", "2", "--transport", radio)
    assert done.returncode == 0, done.stderr
    assert "10 devices heard" in done.stdout
    assert re.search(
        r"D0:00:00:00:00:03 +weather 3 +-70 +[0-9]+ +Environmental.* environmental_sensing", done.stdout
    )


def test_a_scan_is_a_page_to_print(radio: str, tmp_path: Path) -> None:
    file = tmp_path / "air.html"
    done = tidegate("ble", "scan", "--seconds", "2", "--transport", radio, "--report", str(file))
    assert done.returncode == 0, done.stderr
    html = file.read_text()
    assert re.search(r"<td>D0:00:00:00:00:03</td><td>weather 3</td><td>-70 dBm</td>", html)
    assert "environmental_sensing" in html
    assert "http" not in html, "the page loads nothing"


def test_the_page_of_a_scan_takes_names_for_what_they_are_and_counts_what_was_heard() -> None:
    survey = Survey()
    name = '<img src=x onerror="alert(1)">\x1b[2J'
    for rssi_dbm in (-91, -70, -88):
        survey.heard(Advert("C0:00:00:00:00:01", name, rssi_dbm, {}, {}, (), 0.0))
    html = air_page(survey, 30.0, {})
    assert "<img" not in html
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in html
    assert "\x1b" not in html
    assert '<td>-70 dBm</td><td>-88 dBm</td><td class="n">6.0</td>' in html


def test_a_device_is_watched_with_what_it_lets_be_read_and_what_it_tells(radio: str) -> None:
    done = tidegate("ble", "watch", "d0:00:00:00:00:01", "--seconds", "5", "--transport", radio)
    assert done.returncode == 0, done.stderr
    assert re.search(r"2A6F Humidity \(read\)[^\n]*7c 15", done.stdout)
    assert re.search(r"2A6F Humidity \(told\)[^\n]*relative_humidity 55 %[^\n]*7c 15", done.stdout)
    assert "connected" in done.stdout


def test_a_sensor_is_watched_by_its_adverts(radio: str) -> None:
    done = tidegate(
        "ble", "watch", "C0:00:00:00:00:00", "--no-connect", "--seconds", "2", "--transport", radio
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"service data[^\n]*40 00", done.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--transport", "usbb:0"], "Did you mean usb:…?"),
        (["--transport", "tcp-client:127.0.0.1:1"], "the radio cannot be opened"),
        (["--transport", "usb:0", "--adapter", "hci0"], "name one"),
        ([], "this system's D-Bus is not there"),
    ],
)
def test_a_radio_that_cannot_be_had_is_an_error_with_what_to_do(words: list[str], said: str) -> None:
    no_bus = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere/bus"}
    done = tidegate("ble", "scan", "--seconds", "1", *words, environment=no_bus)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
