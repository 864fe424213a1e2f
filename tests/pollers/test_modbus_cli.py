"""`tidegate bus` as a person types it, on a simulated street; and the page that is printed of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.pollers.modbus_ports import parse
from gateway.profile_library import load
from gateway.site_pages import gateway_page
from gateway.site_report import Part, Share, page

ENVIRONMENT = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


def tidegate(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidegate", *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of a simulated line, and of the same devices on TCP."""
    link = tmp_path_factory.mktemp("street") / "tty"
    words = ["street", "modbus", "--port", "0", "--link", str(link)]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "tidegate", *words], stdout=subprocess.PIPE, text=True
    ) as street:
        try:
            assert street.stdout is not None
            street.stdout.readline()
            street.stdout.readline()
            yield f"serial:{link}", street.stdout.readline().split()[3]
        finally:
            street.terminate()


def test_a_scan_finds_units_at_their_speed_how_well_they_answer_and_what_they_are(
    bus: tuple[str, str], tmp_path: Path
) -> None:
    report = tmp_path / "site.html"
    options = ("--units", "3-7", "--bauds", "19200,9600", "--trials", "5", "--timeout-ms", "150")
    done = tidegate("bus", "scan", bus[0], *options, "--json", "--report", str(report))
    assert done.returncode == 0, done.stderr
    found = {one["unit"]: one for one in json.loads(done.stdout)}
    assert set(found) == {3, 7}
    assert found[7]["baud"] == 9600
    assert found[7]["answered"] == 5
    assert found[7]["fits"][0]["profile"] == "eastron_sdm120"
    assert found[3]["fits"][0]["profile"] == "geolux_lx80"
    assert found[3]["says"] == {"vendor": "Geolux", "product": "LX-80", "revision": "1.0", "model": ""}
    html = report.read_text()
    assert "eastron_sdm120" in html
    assert "100.0 %" in html
    assert "Geolux LX-80 1.0" in html
    assert "http" not in html, "the page loads nothing"


def test_a_scan_is_a_table_for_a_person(bus: tuple[str, str]) -> None:
    done = tidegate("bus", "scan", bus[1], "--units", "7", "--trials", "2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"7 +network +2/2 +\d+ +eastron_sdm120 11/11", done.stdout)
    assert "says it is Eastron SDM120-Modbus 1.0" in done.stdout


def test_registers_are_watched_in_all_orders_within_80_columns(bus: tuple[str, str]) -> None:
    done = tidegate("bus", "watch", bus[1], "--unit", "7", "--function", "input", "--count", "4", "--once")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert max(map(len, lines)) <= 80
    assert re.search(r" 0 +30001 4367 17255 17255 f32 +231\.4 ", done.stdout), done.stdout
    assert re.search(r"2 +30003 none", done.stdout), "a hole is shown, and does not end the view"


def test_what_is_picked_is_in_a_profile_that_holds(bus: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    common = ("--unit", "7", "--function", "input", "--type", "f32", "--into", str(file))
    done = tidegate("bus", "pick", bus[1], *common, "--at", "0", "--measurand", "voltage")
    assert done.returncode == 0, done.stderr
    assert "voltage = 231" in done.stdout
    assert tidegate("bus", "pick", bus[1], *common, "--at", "6", "--measurand", "current").returncode == 0
    profile = load(file).modbus
    assert profile is not None
    assert [(point.key, point.address, point.type) for point in profile.point] == [
        ("voltage", 0, "f32"), ("current", 6, "f32"),
    ]  # fmt: skip
    before = file.read_text()
    again = tidegate("bus", "pick", bus[1], *common, "--at", "6", "--measurand", "current")
    assert again.returncode == 2, "the same quantity twice needs a name"
    assert file.read_text() == before
    wrong = tidegate("bus", "pick", bus[1], *common, "--at", "6", "--measurand", "curent")
    assert wrong.returncode == 2 or wrong.returncode == 1
    assert "Did you mean current?" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("/dev/ttyUSB0",), "Did you mean serial:/dev/ttyUSB0?"),
        (("rtu-tcp:somewhere",), "needs a port"),
        (("tcp:127.0.0.1:1",), "no connection"),
        (("serial:/nowhere/tty",), "no such port"),
        (("tcp:127.0.0.1:1", "--units", "0-5"), "not within 1 to 255"),
        (("tcp:127.0.0.1:1", "--parities", "odd,evn"), "not one of none, even, odd"),
    ],
)
def test_a_mistake_is_told_with_a_way_out(words: tuple[str, ...], told: str) -> None:
    done = tidegate("bus", "scan", *words)
    assert done.returncode in (1, 2)
    assert told in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr


def test_addresses_are_taken_apart() -> None:
    assert parse("tcp:meter.local").port == 502
    assert parse("tcp:[::1]:1502")[1:] == ("", "::1", 1502)
    assert str(parse("rtu-tcp:10.0.0.7:4001")) == "rtu-tcp:10.0.0.7:4001"


def test_the_page_of_a_gateway_tells_states_levels_and_error_rates() -> None:
    status = {
        "name": "gw",
        "modbus": {
            "river": {"requests": 100, "answered": 90, "refused": 5, "silent": 5, "spoilt": 0, "busy_seconds": 3.0}
        },
        "modbus_devices": {"m1": {"requests": 50, "answered": 50, "refused": 0}},
        "rows": [{"node": "0001", "link": "lora", "air": {"rssi_dbm": -97.0, "margin_db": 12.0}}],
        "ble": {
            "air-1": {"passive": 1.0, "adverts": 90, "addresses": 4, "slots_used": 2, "slots_waiting": 0,
                      "restarts": 3, "start_errors": 2, "resets": 1},
        },
        "ble_devices": {"roof": {"reads": 80, "connects": 10, "read_errors": 6, "faults": 4}},
        "running_s": 120.0,
    }  # fmt: skip
    device = {
        "device": "m1",
        "profile": "p",
        "bus": "river",
        "at": 7,
        "state": "down",
        "reason": "does not <answer>",
        "rssi_dbm": -61,
        "values": {"level": {"v": 12.5, "u": "cm"}},
    }
    roof = {**device, "device": "roof", "source": "ble", "bus": "air-1", "at": "D0:00:00:00:00:01"}
    tag = {**roof, "device": "tag", "counters": {"sets": 10, "repeats": 20, "refused_auth": 10}}
    html = gateway_page(status, [device, roof, tag])
    for wanted in (
        "95.0 %",
        "100.0 %",
        "level 12.5 cm",
        "-97 dBm, margin 12 dB",
        "river",
        "-61 dBm",
        "passive",
        "90.0 %",
        "75.0 %",
        (
            '<td class="n">45.0</td><td class="n">4</td><td>2, 0 waiting</td>'
            "<td>3 restarts, 2 errors, 1 power cycles</td>"
        ),
    ):
        assert wanted in html
    assert "down: does not &lt;answer&gt;" in html
    assert "<script" not in page("<script>", "", [Part("<script>", ("a",), [("<script>",)], "")])
    assert 'class="bar bad"' in page("t", "", [Part("x", ("a",), [(Share(0.5),)])])
