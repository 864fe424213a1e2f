"""What a person types for many units, and what they get for it: tables, addresses, calibrations, labels, records."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from firmware import calibration as on_node
from firmware.durable import Document
from flash_tools import addresses, batch, calibrations, label, mint, record, record_page
from flash_tools.accept import FAILED, OK, OPEN
from flash_tools.addresses import Station, range_text
from flash_tools.batch import Row
from flash_tools.errors import AddressError, BatchError, FlashToolError, MintError, ProvisionError
from flash_tools.key_store import KeyStore
from flash_tools.provisioning import LABELLED, Unit, Units, Wanted
from hil_tests.world.flash import Flash, LittleFs
from protocols.places import area_problem, position_problem
from protocols.wire import cbor
from protocols.wire.identity import Identity
from tests.flash_tools.provision_world import MACS, MASTER, RIVER, World

HEAD = "mac,type,board,area,site,latitude,longitude,settings,calibration\n"
GOOD = (
    HEAD
    + "24-0A-C4-00-01-10,river,esp32_devkitc_sx1262,330110001001,bridge-1,30.2741,120.1551,interval_s=900,ph=17\n"
    + ',lift,heltec_wifi_lora_32_v3,330106,"tower 7",,,interval_s=60 trapped_s=60,\n'.replace(
        "tower 7", "tower-7"
    )
    + ",river,esp32_devkitc_sx1262,330106,bridge-2,,,,\n"
)


def table(folder: Path, text: str) -> Path:
    path = folder / "units.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_says_what_each_board_becomes(tmp_path: Path) -> None:
    first, second, third = batch.read(table(tmp_path, GOOD))
    assert first == Row(
        2,
        "24:0a:c4:00:01:10",
        Wanted(
            "river",
            "esp32_devkitc_sx1262",
            "330110001001",
            "bridge-1",
            30.2741,
            120.1551,
            settings={"interval_s": 900},
            calibrations=("ph=17:0.00/0.00:10.00/10.00",),
        ),
    )
    assert second.wanted.settings == {"interval_s": 60, "trapped_s": 60}
    assert (third.mac, third.wanted.site) == (None, "bridge-2")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x,river,virtual,330106,a,,,,", "2:1: MAC 'x': write 12 hexadecimal digits"),
        (",rivr,virtual,330106,a,,,,", "2:2: no node type 'rivr' .* Did you mean 'river'?"),
        (",river,heltec,330106,a,,,,", "2:3: no board 'heltec' .* Did you mean 'heltec_wifi_lora_32_v3'?"),
        (",river,virtual,33010,a,,,,", "2:4: area '33010': has 5 digits"),
        (",river,virtual,330106,,,,,", "2:5: site is missing"),
        (
            ",river,virtual,330106,a,120.1,30.2,,",
            "2:6: latitude 120.1: .* Are latitude and longitude swapped?",
        ),
        (",river,virtual,330106,a,30.2,,,", "2:6: longitude '': write degrees"),
        (
            ",river,virtual,330106,a,,,intervall_s=60,",
            "2:8: setting 'intervall_s=60'.* Did you mean interval_s?",
        ),
        (",river,virtual,330106,a,,,tilt_deg=20,", "2:8: settings: 'tilt_deg' is no setting of a river node"),
        (",river,virtual,330106,a,,,,pH=1", "2:9: calibration 'pH=1': .* Did you mean ph?"),
        (",river,virtual,330106,a,,,,ph=1:6.0/7:4/4", "2:9: calibration .*: slope .*clean the probe"),
        (",river,virtual,330106,a,,,", "2:9: 8 cells, and 9 columns"),
    ],
)
def test_a_mistake_is_named_with_line_and_column(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(BatchError, match=rf"units\.csv:{told}"):
        batch.read(table(tmp_path, HEAD + line + "\n"))


def test_all_mistakes_of_a_table_are_named_at_once(tmp_path: Path) -> None:
    text = GOOD + ",river,virtual,99,a,,,,\n" + GOOD.splitlines()[1] + "\n"
    with pytest.raises(BatchError) as told:
        batch.read(table(tmp_path, text))
    assert [re.sub(r"^\S*units\.csv:", "", line)[:34] for line in str(told.value).splitlines()] == [
        "5:4: area '99': has 2 digits. An a",
        "6:1: mac 24:0a:c4:00:01:10 stands ",
        "6:5: site bridge-1 stands in line ",
    ]


def test_all_mistakes_of_a_line_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(BatchError) as told:
        batch.read(table(tmp_path, HEAD.strip() + ",address\n,rivr,virtul,99,a b,91,0,,,zz\n"))
    assert re.findall(r"units\.csv:2:(\d+)", str(told.value)) == ["2", "3", "4", "5", "6", "10"]


@pytest.mark.parametrize(
    ("change", "encoding"),
    [
        (lambda text: text.replace("\n", "\r\n"), "utf-8-sig"),
        (lambda text: text.replace("\n", "\r"), "utf-8"),
        (lambda text: text.replace(",", ";"), "utf-8-sig"),
        (lambda text: text.replace(",", "\t"), "utf-8"),
        (lambda text: text.replace("\n", ",,\n"), "utf-8"),
    ],
)
def test_a_table_may_come_from_a_spreadsheet(
    tmp_path: Path, change: Callable[[str], str], encoding: str
) -> None:
    path = tmp_path / "units.csv"
    wanted = batch.read(table(tmp_path, GOOD))
    path.write_bytes(change(GOOD).encode(encoding))
    assert batch.read(path) == wanted


def test_a_table_in_another_encoding_is_refused_with_its_line_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    path.write_bytes((HEAD + ",river,virtual,330106,\u6865,,,,\n").encode("gbk"))
    with pytest.raises(BatchError, match=r"units\.csv:2: is not in UTF-8.*save as"):
        batch.read(path)


@pytest.mark.parametrize("site", ["a\0b", "a\x1b[31mb", "\udcc7\udcc5"])
def test_a_site_is_text(site: str) -> None:
    with pytest.raises(MintError, match="no text"):
        mint.check_level("site", site)
    mint.check_level("site", "\u6865-1")


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("typ,board,area,site", "1:1: no column 'typ'. .* Did you mean type?"),
        ("type,board,area,site,site", "1:5: column site stands there twice"),
        ("type,board,area", "1:4: column site is missing"),
    ],
)
def test_a_mistake_in_the_columns_is_named(tmp_path: Path, head: str, told: str) -> None:
    with pytest.raises(BatchError, match=told):
        batch.read(table(tmp_path, head + "\n"))


def test_a_board_becomes_its_own_line_and_stays_it(tmp_path: Path) -> None:
    rows = batch.read(table(tmp_path, GOOD))
    named, lift, river = rows
    assert batch.row_for(rows, "24:0a:c4:00:01:10", "esp32", []) == named
    assert batch.row_for(rows, MACS[0], "esp32", []) == river
    assert batch.row_for(rows, MACS[0], "esp32s3", []) == lift
    assert batch.row_for(rows, MACS[0], "esp32c6", []) is None
    has_become = Unit(0x10, MACS[0], LABELLED, river.wanted, "s", "", {}, ())
    assert batch.row_for(rows, MACS[0], "esp32", [has_become]) == river
    assert batch.row_for(rows, MACS[1], "esp32", [has_become]) is None


# ---- places, addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["330106", "330106001", "330110001001", "test-lab", "B.2_x"])
def test_area_codes_there_are(code: str) -> None:
    assert area_problem(code) == ""


@pytest.mark.parametrize("code", ["", "33010", "990106", "杭州", "a/b", "a b", "x" * 25, "-a"])
def test_area_codes_there_are_not(code: str) -> None:
    assert area_problem(code).startswith("area ")


def test_positions() -> None:
    assert position_problem(30.2741, 120.1551) == ""
    assert "swapped?" in position_problem(120.1551, 30.2741)
    assert "longitude 181" in position_problem(0, 181)
    assert "Gulf of Guinea" in position_problem(0, 0)


def bench_toml(ranges: list[tuple[str, list[range]]], own: str) -> str:
    rows = [f'own = "{own}"']
    for name, found in ranges:
        listed = ", ".join(f'"{range_text(one)}"' for one in found)
        rows.append(f'[[stations]]\nname = "{name}"\naddresses = [{listed}]')
    return "\n".join(rows)


OVERLAP = """own = "b"
[[stations]]
name = "b"
addresses = ["0001-0010"]
[[stations]]
name = "c"
addresses = ["0010-0020"]
"""


@st.composite
def _tables(draw: st.DrawFn) -> list[tuple[str, list[range]]]:
    """Stations with one or two ranges each, often overlapping ones."""
    one = st.tuples(st.integers(1, 40), st.integers(0, 12)).map(
        lambda two: range(two[0], two[0] + two[1] + 1)
    )
    found = draw(st.lists(st.lists(one, min_size=1, max_size=2), min_size=1, max_size=4))
    return [(f"bench-{number}", ranges) for number, ranges in enumerate(found)]


@given(_tables(), st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["mint", "forget"])), max_size=60))
def test_no_two_stations_of_one_table_ever_give_out_one_address(
    ranges: list[tuple[str, list[range]]], acts: list[tuple[int, str]]
) -> None:
    """Whatever they mint in whatever order. A table that would allow it is refused on every bench."""
    place = Path("bench.toml")
    pieces = [address for _, found in ranges for one in found for address in one]
    overlap = len(set(pieces)) < len(pieces)
    if overlap:
        for name, _ in ranges:
            with pytest.raises(AddressError, match=r"overlaps|twice"):
                addresses.parse(bench_toml(ranges, name), place)
        return
    stations = [addresses.parse(bench_toml(ranges, name), place).own for name, _ in ranges]
    given_out: list[set[int]] = [set() for _ in stations]
    for number, act in acts:
        station, own = stations[number % len(stations)], given_out[number % len(stations)]
        if act == "mint":
            try:
                own.add(addresses.lowest_free(station, own))
            except AddressError:
                assert len(own) == sum(len(one) for one in station.ranges)
    every = [address for own in given_out for address in own]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('own = "a"\n[[stations]]\nname = "b"\naddresses = ["1-2"]', "toml:1: own = 'a' is no station"),
        ('own = "b"\n[[station]]\nname = "b"', r"toml:2: unknown key 'station'. .* Did you mean stations\?"),
        ('own = "b"\n[[stations]]\nname = "b"\naddresses = ["9-2"]', "toml:4: station b: address range"),
        ('own = "b"\n[[stations]]\nname = "b"\naddresses = []', "toml:4: station b: write its addresses"),
        (
            OVERLAP,
            "toml:7: 0010-0020 of station c overlaps 0001-0010 of station b",
        ),
        ("own = ", "is no TOML"),
    ],
)
def test_a_mistake_in_the_table_of_stations_is_named(text: str, told: str) -> None:
    with pytest.raises(AddressError, match=told):
        addresses.parse(text, Path("bench.toml"))


def test_a_range_that_is_used_up_is_told(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match=r"all 2 addresses of station b \(0001-0002\) are given out"):
        addresses.lowest_free(Station("b", (range(1, 3),)), {1, 2})
    world = World(tmp_path)
    elsewhere = Wanted("river", "virtual", "330106", address=0x5)
    assert "0005 is not one of station bench-1 (0100-011f)" in world.run(MACS[:1], elsewhere)[0].problem


# ---- calibrations --------------------------------------------------------------------------------------------------


def test_the_bench_judges_calibrations_as_the_node_does() -> None:
    assert {name: dict(series) for name, series in calibrations.LIMITS.items()} == on_node.ACCEPTANCE


@given(
    st.sampled_from(sorted(calibrations.LIMITS["river"])),
    st.tuples(*[st.integers(-2000, 2000) for _ in range(4)]),
)
def test_slope_and_offset_are_the_nodes(series: int, points: tuple[int, int, int, int]) -> None:
    limits = calibrations.LIMITS["river"][series]
    if points[1] != points[3]:
        assert list(calibrations._slope_and_offset(limits[0], points)) == on_node._slope_and_offset(
            limits[0], list(points)
        )
    node_refuses = bool(on_node._problem(limits, list(points)))
    measurand = calibrations.registry().of_node_type("river")[series]
    assert bool(calibrations._problem(limits, points, measurand)) == node_refuses


def test_a_minted_calibration_is_in_force_on_the_node_and_told_with_its_number() -> None:
    found = calibrations.parse(["ph=17:7.02/7.00:4.05/4.01", "orp=18"], "river")
    who = Identity(0x12, bytes(16), bytes(8), "river", "virtual", None, None)
    fs = LittleFs(Flash(image=mint.state_partition(who, {}, found)))
    kept = Document(fs, "calibration").load()
    assert kept is not None

    class Outbox:
        is_new = True

        def __init__(self) -> None:
            self.events: list[list[object]] = []

        def keep(self, kind: int, payload: bytes) -> None:
            self.events.append(cbor.loads(payload))

    class Node:
        outbox = Outbox()
        identity = who

        def record_time(self) -> tuple[int, int]:
            return 0, 3

    in_force = on_node.restore(Node(), kept)  # type: ignore[arg-type]
    assert in_force == {1: (702, 700, 405, 401), 5: (0, 0, 1000, 1000)}
    details = [event[4] for event in Node.outbox.events]
    assert details == [[1, 17, 9933, 2], [5, 18, 10000, 0]]


def test_a_calibration_of_what_has_no_probe_is_refused() -> None:
    with pytest.raises(MintError, match="a cover has no probe to calibrate"):
        calibrations.parse(["ph=1"], "cover")
    with pytest.raises(MintError, match="ph is given twice"):
        calibrations.parse(["ph=1", "ph=2"], "river")
    with pytest.raises(MintError, match=r"'7\.001/7' is no PROBE/TRUE with at most 2 decimals"):
        calibrations.parse(["ph=1:7.001/7:4/4"], "river")


# ---- labels and records --------------------------------------------------------------------------------------------


def unit_of(tmp_path: Path) -> Unit:
    world = World(tmp_path)
    world.run()
    return world.units().all()[0]


def test_a_label_says_who_the_node_is_and_its_code_says_the_same(tmp_path: Path) -> None:
    unit = unit_of(tmp_path)
    root = ElementTree.fromstring((tmp_path / "labels/0100.svg").read_text())
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert texts == ["0100", "river", "virtual", MACS[0], "area 330110001001"]
    said = label.qr_text(unit)
    assert said == "tidegate:0100?mac=240ac4000001&model=river@virtual&area=330110001001"
    # The picture has exactly the dark modules of a code of that text.
    path = next(element for element in root.iter() if element.tag.endswith("path")).attrib["d"]
    runs = re.findall(r"M(\S+) (\S+)h(\S+)v(\S+)h", path)
    matrix = segno.make(said, error="m", micro=False).matrix
    module = float(runs[0][3])
    assert sum(round(float(run[2]) / module) for run in runs) == sum(map(sum, matrix))


def test_a_pdf_of_labels_has_a_page_for_each_and_every_offset_right(tmp_path: Path) -> None:
    unit = unit_of(tmp_path)
    data = label.pdf([unit, unit])
    assert data.count(b"/Type /Page ") == 2
    table_at = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[table_at:].startswith(b"xref\n0 10\n")
    for number, row in enumerate(data[table_at:].splitlines()[3:12], 1):
        at = int(row.split()[0])
        assert data[at:].startswith(b"%d 0 obj" % number)
    assert b"(0100) Tj" in data
    assert zlib.crc32(label.pdf([unit, unit])) == zlib.crc32(data)


def test_a_record_has_every_limit_with_what_was_found_and_a_page_that_says_it(tmp_path: Path) -> None:
    unit = unit_of(tmp_path)
    made = record.of(unit)
    steps = {step["step"]: step for step in made["steps"]}
    assert {name for name, step in steps.items() if step["state"] == OPEN} == {"position", "acceptance"}
    assert steps["calibration ph"]["value"] == "no. 17: slope 0.9933, offset 0.02"
    assert steps["calibration ph"]["limit"] == "slope 0.85 to 1.05, offset ≤ ±0.51"
    assert all(step["value"] and step["limit"] for step in made["steps"])
    assert made["passed"]
    page = record_page.html(unit, made)
    assert (tmp_path / "records/0100.html").read_text() == page
    for step in made["steps"]:
        assert step["value"].replace("&", "&amp;") in page
    assert "PROVISIONED, not yet accepted in its place" in page


def test_what_was_found_at_the_lid_stands_in_the_record(tmp_path: Path) -> None:
    unit = unit_of(tmp_path)
    step = {"step": "alarm", "state": OK, "value": "0.4 s to the city", "limit": "≤ 30 s"}
    lid = {"node": "0100", "began": "2026-05-01T08:00:00Z", "who": "wang", "accepted": True, "steps": [step]}
    found = {one["step"]: one for one in record.of(unit, lid)["steps"]}
    assert found["lid alarm"]["value"] == "0.4 s to the city"
    assert found["acceptance"]["state"] == OK
    failed = record.of(unit, lid | {"accepted": False, "steps": [step | {"state": FAILED}]})
    assert not failed["passed"]
    (tmp_path / "acceptance").mkdir()
    (tmp_path / "acceptance/0100-20260501T080000Z.json").write_text("[]")
    with pytest.raises(ProvisionError, match="is no acceptance of node 0100"):
        record.find_acceptance(tmp_path / "acceptance", unit)


def test_units_are_looked_at_without_a_key_and_not_changed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    with pytest.raises(FlashToolError, match="open for reading only"):
        world.units().note(0x100, "seen")
    units = Units([])
    with pytest.raises(ProvisionError, match="there is no unit 0100 here"):
        units.advance(0x100, LABELLED)
    assert KeyStore(MASTER).key_id not in repr(world.units().all())
    assert RIVER.node_type == "river"
