"""Where sites are: what a person types or a file has, what is nowhere, and that an order says it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway import node_file, positions
from gateway.errors import RegistryError
from gateway.positions import Position
from hil_tests.world.order_desk import OrderDesk
from protocols.northbound import work_order
from protocols.wire.messages import RAISED
from tests.gateway.alarm_bench import NODE, TILTED, Bench, deliver, idle
from tests.gateway.alarm_bench import run as run_lives
from tests.gateway.desk import BY, desk

LINE = {"address": "0012", "node_type": "river_station", "site": "bridge-1", "master_secret": "00" * 16,
        "master_salt": "11" * 8}  # fmt: skip
HANGZHOU = Position(30.274084, 120.15507)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("30.274,120.155", Position(30.274, 120.155)),
        (" 30.274084000001 , 120.15507 ", HANGZHOU),
        ("30.274;120.155", Position(30.274, 120.155)),
        ("30.274 120.155", Position(30.274, 120.155)),
        ("-33.86,+151.21", Position(-33.86, 151.21)),
        ("-90,180", Position(-90, 180)),
    ],
)
def test_a_position_is_read_as_people_copy_it(text: str, position: Position) -> None:
    assert positions.parse(text) == position
    assert positions.parse(str(position)) == position


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("120.155,30.274", r"no place on Earth\. .* Did you mean 30\.274000,120\.155000, the latitude first"),
        ("91,181", r"no place on Earth\. Allowed are"),
        ("30.2", "no position"),
        ("0,0", "knows nothing yet"),
        ("30,27,120,15", "no position"),
        ("30.274N,120.155E", "no position"),
        ("nan,inf", "no position"),
        ("٣٠,١٢٠", "no position"),
        ("", "no position"),
        ("1" * 5000, "no position"),
    ],
)
def test_what_is_nowhere_is_told_with_what_is_allowed(text: str, told: str) -> None:
    with pytest.raises(RegistryError, match=told) as caught:
        positions.parse(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("lat", [None, "30", True, float("nan"), float("inf"), 10**400, [1]])
def test_what_is_no_number_is_refused(lat: object) -> None:
    with pytest.raises(RegistryError, match=r"lat = .* is not allowed"):
        positions.check(lat, 120.0)


def test_a_site_keeps_its_position_over_a_restart_and_a_node_that_is_swapped(tmp_path: Path) -> None:
    async def first() -> None:
        with desk(tmp_path) as made:
            await made.enrol(0x12, 0x13)
            await made.registry.add_site("bridge-1", None, None, BY)
            await made.registry.assign("bridge-1", 0x12, BY)
            await made.registry.locate("bridge-1", HANGZHOU, BY)
            await made.registry.replace("bridge-1", 0x13, BY)
            with pytest.raises(RegistryError, match="Did you mean bridge-1"):
                await made.registry.locate("bridge1", HANGZHOU, BY)

    async def then() -> None:
        with desk(tmp_path) as made:
            assert made.registry.position_of("bridge-1") == HANGZHOU
            assert made.store.read(lambda db: positions.of_site(db, "bridge-1")) == HANGZHOU
            rows = made.store.read(
                lambda db: db.execute("SELECT detail FROM audit WHERE action = 'site.locate'")
            )
            assert rows.fetchall() == [("30.274084,120.155070",)]
            await made.registry.locate("bridge-1", None, BY)
            assert made.registry.position_of("bridge-1") is None

    asyncio.run(first())
    asyncio.run(then())


def test_a_file_of_nodes_may_say_where_and_does_not_move_a_site(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as made:
            text = json.dumps({**LINE, "lat": 30.274084, "lon": 120.15507})
            await made.registry.import_nodes(node_file.parse(text, "nodes.jsonl"), BY)
            assert made.registry.position_of("bridge-1") == HANGZHOU
            again = json.dumps({**LINE, "address": "0013", "lat": 31, "lon": 121})
            await made.registry.import_nodes(node_file.parse(again, "nodes.jsonl"), BY)
            assert made.registry.position_of("bridge-1") == HANGZHOU

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"lat": 120.2, "lon": 30.3}, "nodes.jsonl:1: 120.2,30.3 is no place on Earth"),
        ({"lat": 30.3}, "nodes.jsonl:1: lon = None is not allowed"),
        ({"lat": "30.3", "lon": 120.2}, "lat = '30.3' is not allowed"),
        ({"lat": 30.3, "lon": 120.2, "site": None}, "are those of a site: name it"),
        ({"lng": 120.2}, 'unknown key "lng"'),
    ],
)
def test_a_file_of_nodes_with_a_wrong_position_is_refused_with_its_line(
    more: dict[str, object], told: str
) -> None:
    with pytest.raises(RegistryError) as caught:
        node_file.parse(json.dumps({**LINE, **more}), "nodes.jsonl")
    assert told in str(caught.value)


def test_an_order_says_where_its_place_is(tmp_path: Path) -> None:
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        registry, site = bench.made.registry, "lid-1"
        await bench.made.enrol(NODE, site=site)
        await registry.locate(site, HANGZHOU, BY)
        await bench.tell(TILTED, RAISED)
        await bench.look()
        await deliver(bench, there, idle)
        (order,) = there.orders.values()
        said = order.fields["workordercontent"]
        assert "坐标(WGS84) 30.274084,120.155070" in said
        assert "WGS84 30.274084,120.155070, since" in said
        assert order.fields["place"] == site

    run_lives(tmp_path, life)


def test_a_story_without_a_position_reads_as_before() -> None:
    story = work_order.Story("井盖", "Cover", 3, "lid-1", "0012", "t", "", "grid", "", 0, False, False)
    assert work_order.content(story, "both") == (
        "【严重】井盖，地点 lid-1，设备 0012，发生于 t / [severe] Cover at lid-1 (node 0012), since t"
    )
