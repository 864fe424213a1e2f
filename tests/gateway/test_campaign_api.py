"""Campaigns over the management API, through a real socket: roles, bounds, words that can not be, what comes twice."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import campaign_operations, limits
from gateway.campaign_files import Files, parse, read_folder
from gateway.store_settings import StoreSettings
from gateway.tokens import ADMIN, OPERATOR, VIEWER
from tests.gateway.release_files import write_release
from tests.gateway.test_api import Served, served

LOOKS = ("list", "show", "node")
CHANGES = ("add", "pause", "resume", "skip", "abort")
# What no word of a request may be.
JUNK: tuple[Any, ...] = (
    [], {}, [[]], [None], [{}], ["0012", 5], {"a": 1}, True, False, -1, 1.5, 1e300, (1 << 63) - 1, "", " ", "x" * 300,
    "../../etc", "\0", "\x1b[2J", "0012", "ffff",
)  # fmt: skip


def play(folder: Path, story: Callable[[Served, dict[str, Any]], Awaitable[None]]) -> None:
    async def go() -> None:
        async with served(folder, StoreSettings(linger_ms=0)) as to:
            # The bound of requests in a second is another test's.
            to.api._rates = type(to.api._rates)(1_000_000, 0.1, to.desk.clock.monotonic)
            await story(to, {"releases": [read_folder(write_release(folder))], "why": "fix"})

    asyncio.run(go())


def test_who_may_look_and_who_may_change(tmp_path: Path) -> None:
    async def story(to: Served, wanted: dict[str, Any]) -> None:
        assert (await to.change("campaign.add", wanted, ADMIN))[0] == 200
        for role in (VIEWER, OPERATOR, ADMIN):
            for name in LOOKS:
                assert (await to.ask(f"/campaign.{name}?campaign=1&node=0012", role))[0] == 200
        may = {(OPERATOR, "pause")}
        for role in (VIEWER, OPERATOR):
            for name in CHANGES:
                status, _ = await to.change(f"campaign.{name}", {"campaign": 1, "node": "0012"}, role)
                assert (status == 200) == ((role, name) in may), (role, name)
        for name in (*LOOKS, *CHANGES):
            assert (await to.ask(f"/campaign.{name}?campaign=1"))[0] == 401
        for name in CHANGES:
            assert (await to.ask(f"/campaign.{name}?campaign=1", ADMIN))[0] == 405
        _, found = await to.ask("/campaign.show?campaign=1", VIEWER)
        assert found["state"] == "paused"

    play(tmp_path, story)


def test_words_of_another_kind_are_the_clients_mistake_and_change_nothing(tmp_path: Path) -> None:
    words = ("releases", "name", "canary", "shares", "by", "types", "areas", "boards", "nodes", "windows", "zone",
             "air_share", "halt_share", "halt_count", "patience_s", "soak_s", "why")  # fmt: skip

    async def story(to: Served, wanted: dict[str, Any]) -> None:
        assert (await to.change("campaign.add", wanted, ADMIN))[0] == 200
        for word in words:
            for junk in random.Random(word).sample(JUNK, 8):
                status, answer = await to.change("campaign.add", {**wanted, word: junk}, ADMIN)
                # The node of this world is in campaign 1 already: nothing that is well said is done, either.
                assert status == 400, (word, junk, answer)
                assert answer["error"]
        for word, junk, told in (
            ("air_share", 0, "0.001 to 0.25"),
            ("halt_count", 0, "1 to 65535"),
            ("zone", "x", "Asia"),
        ):
            _, answer = await to.change("campaign.add", {**wanted, word: junk}, ADMIN)
            assert told in answer["error"]
        (release,) = wanted["releases"]
        for part in ("label", "record", "files"):
            for junk in JUNK:
                status, _ = await to.change(
                    "campaign.add", {**wanted, "releases": [{**release, part: junk}]}, ADMIN
                )
                assert status == 400, (part, junk)
        for name in CHANGES[1:]:
            for junk in (*JUNK, 2, "2", "fix ", "1.0", 1.0):
                status, answer = await to.change(
                    f"campaign.{name}", {"campaign": junk, "node": "0012"}, ADMIN
                )
                assert (status, "no campaign" in answer["error"]) == (400, True), (name, junk, answer)
        for junk in JUNK:
            if junk != "0012":
                status, _ = await to.change("campaign.skip", {"campaign": 1, "node": junk}, ADMIN)
                assert status == 400, junk
        _, found = await to.ask("/campaign.list", VIEWER)
        assert [(one["id"], one["state"]) for one in found["campaigns"]] == [(1, "running")]

    play(tmp_path, story)


def test_a_release_beyond_the_bound_of_a_request_is_not_read(tmp_path: Path) -> None:
    async def story(to: Served, wanted: dict[str, Any]) -> None:
        (release,) = wanted["releases"]
        release["files"]["full.bin"] = "00" * (limits.API_BODY_BYTES_MAX // 2)
        status, answer = await to.change("campaign.add", wanted, ADMIN)
        assert status == 413, answer
        assert (await to.ask("/campaign.list", VIEWER))[1] == {"campaigns": []}

    play(tmp_path, story)


def test_a_campaign_that_is_begun_twice_is_one_and_a_replayed_pause_pauses_nothing(tmp_path: Path) -> None:
    async def story(to: Served, wanted: dict[str, Any]) -> None:
        key = "begin-000000000001"
        assert (await to.change("campaign.add", wanted, ADMIN, key=key))[0] == 200
        status, answer = await to.change("campaign.add", wanted, ADMIN, key=key)
        assert (status, answer["reply"]["id"]) == (409, 1)
        pause, one = {"campaign": 1}, "pause-000000000001"
        assert (await to.change("campaign.pause", pause, OPERATOR, key=one))[0] == 200
        assert (await to.change("campaign.resume", pause, ADMIN))[0] == 200
        assert (await to.change("campaign.pause", pause, OPERATOR, key=one))[0] == 409
        old_s = to.desk.clock.unix_ms() // 1000 - limits.API_SKEW_S - 1
        assert (await to.change("campaign.abort", pause, ADMIN, at_s=old_s))[0] == 400
        _, found = await to.ask("/campaign.list", VIEWER)
        assert [(row["id"], row["state"]) for row in found["campaigns"]] == [(1, "running")]

    play(tmp_path, story)


def test_the_gateway_goes_on_while_a_release_is_checked_and_checks_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, ways = threading.Event(), threading.Event(), []

    def slow(given: Any) -> Files:
        begun.set()
        ways.append(may_end.wait(20))
        return parse(given)

    monkeypatch.setattr(campaign_operations, "parse", slow)

    async def story(to: Served, wanted: dict[str, Any]) -> None:
        first = asyncio.create_task(to.change("campaign.add", wanted, ADMIN))
        assert await asyncio.to_thread(begun.wait, 20)
        status, answer = await to.change("campaign.add", wanted, ADMIN)
        assert (status, "are being checked" in answer["error"]) == (400, True)
        may_end.set()
        assert (await first)[0] == 200
        assert ways == [True]
        assert (await to.change("campaign.abort", {"campaign": 1}, ADMIN))[0] == 200
        assert (await to.change("campaign.add", wanted, ADMIN))[0] == 200

    play(tmp_path, story)
