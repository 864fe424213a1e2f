"""A technician with a cable and a gateway: the commands as they are typed, real MicroPython, the real daemon."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from hil_tests.places import RiverPlace
from hil_tests.street import Street
from hil_tests.waiting import wait
from protocols.node_types import settings_of

pytestmark = pytest.mark.xdist_group("real_time")

NODE = "0010"


class Desk:
    """A street of one station and its gateway, and somebody who types."""

    def __init__(self, folder: Path) -> None:
        self.street = Street(folder, [RiverPlace("bridge-1", 1)], interval_s=2)
        self.keys = folder / "nodes.jsonl"
        self.street.start()
        (self.board,) = self.street.boards.values()
        self.port = str(self.board.link_path)

    def typed(self, *words: str, code: int = 0) -> str:
        """`tidegate …`: what it says, on either stream."""
        done = CliRunner().invoke(tidegate.app, list(words))
        assert done.exit_code == code, done.output
        assert json.loads(self.keys.read_text())["master_secret"] not in done.output
        return done.output

    def through(self, word: str, *more: str, code: int = 0) -> str:
        config = ("--gateway", "--config", str(self.street.gateway.config))
        return self.typed("node", word, *(more or (NODE,)), *config, code=code)

    def by_cable(self, word: str, *more: str, code: int = 0) -> str:
        config = ("--config", str(self.street.gateway.config), "--keys", str(self.keys), "--port", self.port)
        return self.typed("node", word, *more, *config, code=code)

    def stored(self) -> int:
        with closing(sqlite3.connect(f"file:{self.street.gateway.database}?mode=ro", uri=True)) as reader:
            return int(reader.execute("SELECT count(*) FROM reading").fetchone()[0])

    def records(self) -> int:
        return int(json.loads(self.street.gateway.cli("audit", "--json"))["stored"])

    def epochs(self) -> int:
        with closing(sqlite3.connect(f"file:{self.street.gateway.database}?mode=ro", uri=True)) as reader:
            return int(reader.execute("SELECT count(*) FROM epoch").fetchone()[0])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    try:
        wait(lambda: made.stored() >= 2, 60, "two sets in the store")
        yield made
    finally:
        made.street.close()


def test_the_same_words_by_cable_and_through_the_gateway_and_nothing_is_lost_by_it(desk: Desk) -> None:
    # Through the gateway, which has the port.
    assert "its LED is on for 1 s" in desk.through("identify", NODE, "--for", "1")
    desk.board.wait_console(b"identify: this is it")
    taken = desk.through("read")
    assert all(name in taken for name in ("water_temperature", "Cel", "ph", "[pH]", "level"))
    before = json.loads(desk.through("get", NODE, "--json"))["settings"]
    assert set(before) == set(settings_of("river", on_air=False))
    assert "did you mean interval_s?" in desk.through("set", NODE, "intervall_s=3", code=1)
    assert "node 0010 has them" in desk.through("set", NODE, "interval_s=3", "report_s=2", "status_s=3600")
    status = json.loads(desk.through("status", NODE, "--json"))
    assert (status["boots"], status["reset_cause"], status["firmware"]) == ("1", "1", "0.1.0")
    watched = desk.through("console", NODE, "--for", "3")
    assert "▲ readings" in watched
    assert "▼ ack up to" in watched
    # By cable the port is refused while the gateway has it, and borrowed when that is asked.
    assert "--take-port" in desk.by_cable("status", code=1)
    epochs = desk.epochs()
    assert "Cel" in desk.by_cable("read", "--take-port")
    listed = desk.typed("gateway", "port", "list", "--config", str(desk.street.gateway.config))
    assert listed.rstrip().endswith(("open", "closed"))  # it has it again
    # A gateway that is gone: the cable alone.
    desk.street.gateway.kill()
    assert "interval_s    3" in desk.by_cable("get", NODE)
    assert "settings version 0" in desk.by_cable("set", "interval_s=4")
    assert "target_class = 9 is not allowed. Allowed are 1 to 5" in desk.by_cable(
        "set", "target_class=9", code=1
    )
    assert json.loads(desk.by_cable("status", "--json"))["interval_s"] == "4"
    desk.by_cable("identify", "--for", "1")
    assert "▲ hello: river on virtual" in desk.by_cable("console", "--for", "3")
    assert "no key of node 0099" in desk.by_cable("read", "0099", code=1)
    # Back at the gateway: no new epoch was the price, its own settings come back, and every record is there.
    desk.street.gateway.start()
    stored = desk.stored()
    wait(lambda: desk.stored() >= stored + 2, 90, "sets after the visit")
    assert desk.epochs() == epochs
    wait(
        lambda: "interval_s  3" in desk.through("get", NODE, "--name", "interval_s"),
        60,
        "its wish again",
        look_s=1.0,
    )
    desk.street.quiet()
    wait(lambda: desk.street.is_quiet, 60, "a quiet node")
    # What its flash promised is what the store has, to the record.
    wait(lambda: len(desk.street.kept()) == desk.records(), 60, "every record in the store")
    books = json.loads(desk.street.gateway.cli("audit", "--json"))
    assert (books["missing"], books["lost"], books["holds"]) == (0, 0, True)


def test_a_node_that_was_never_heard_anywhere_is_asked_by_cable(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    try:
        desk.street.gateway.kill()
        desk.board.power_cut()
        desk.board.flash(
            "state", desk.street.state_images[NODE]
        )  # as minting left it: no epoch, nothing kept
        desk.board.power_on()
        started_s = time.monotonic()
        assert "node                 0010" in desk.by_cable("status")
        print(f"bench_first_answer_s={time.monotonic() - started_s:.1f}")
        assert "Cel" in desk.by_cable("read")
    finally:
        desk.street.close()
