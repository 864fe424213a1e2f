"""`tidegate inspect frame --keys|--master-key` and `row`: what the keys and the store of a gateway add."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from gateway import keys
from hil_tests.southbound import South, TestNode, keys_of
from protocols.wire import framing


def typed(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(tidegate.app, list(words))
    return result.exit_code, result.output


class Site:
    """A gateway's folder with a node, its records, and what the node sent last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        keys.write_file(folder / "master.key")
        (folder / "gateway.toml").write_text(
            '[keys]\nmaster_key_file = "master.key"\n[clock]\nassume_synchronised = true\n'
        )
        secret, salt = keys_of(0x12)
        row = {
            "address": "0012",
            "node_type": "river",
            "master_secret": secret.hex(),
            "master_salt": salt.hex(),
        }
        self.minted = folder / "nodes.jsonl"
        self.minted.write_text(json.dumps(row))
        code, said = typed("gateway", "node", "import", str(self.minted), *self.config)
        assert code == 0, said
        self.secret = secret.hex()
        self.join: list[bytes] = []
        asyncio.run(self._play())

    @property
    def config(self) -> tuple[str, str]:
        return "--config", str(self.folder / "gateway.toml")

    @property
    def database(self) -> Path:
        return self.folder / "data" / "tidegate.db"

    async def _play(self) -> None:
        south = South(self.database)
        node = TestNode(south)
        frame = south.ingest.frame

        def heard(link: object, data: bytes) -> None:
            self.join.append(data)
            frame(link, data)  # type: ignore[arg-type]

        south.ingest.frame = heard  # type: ignore[method-assign, assignment]
        await node.join()
        node.give(node.reading(), node.reading(), node.event())
        node.oldest = 5  # 4 was given up on the node
        node.seq = 4
        self.latest = node.reading()
        node.give(self.latest)
        await south.commit()
        self.epoch = node.epoch
        south.stop()

    def inspect(self, *words: str) -> tuple[int, str]:
        code, said = typed("inspect", *words)
        assert self.secret not in said
        return code, said


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


def test_the_store_of_a_gateway_opens_what_its_nodes_sealed(site: Site) -> None:
    code, said = site.inspect("frame", site.latest.hex())
    assert (code, "no key of node 0012" in said) == (0, True)
    code, said = site.inspect("frame", site.latest.hex(), "--master-key", *site.config)
    assert code == 0
    assert f"{site.epoch:012x}" in said
    assert "water_temperature  15.00 Cel" in said
    spoilt = site.latest[:-1] + bytes([site.latest[-1] ^ 1])
    code, said = site.inspect("frame", spoilt.hex(), "--master-key", *site.config)
    assert code == 1
    assert "WRONG: auth: " in said


def test_what_minting_wrote_opens_a_recorded_line_from_its_join_on(site: Site, tmp_path: Path) -> None:
    code, said = site.inspect("frame", site.latest.hex(), "--keys", str(site.minted))
    assert code == 0
    assert "the context of its epoch is not" in said
    line = b"".join(map(framing.encode, [*site.join, site.latest]))
    (tmp_path / "capture").write_bytes(b"boot text\n" + line)
    code, said = site.inspect("frame", str(tmp_path / "capture"), "--keys", str(site.minted))
    assert code == 0, said
    assert "water_temperature  15.00 Cel" in said
    assert said.rstrip().endswith("4 frames, 0 with something wrong.")


def test_rows_are_told_by_seq_and_what_is_not_there_is_explained(site: Site) -> None:
    code, said = site.inspect("row", "0012", "1-5", *site.config)
    assert code == 0
    assert "4 rows, 0 with something wrong." in said
    assert "low_dissolved_oxygen" in said
    code, said = site.inspect("row", "0012", "5", "--epoch", f"{site.epoch:012x}", "--json", *site.config)
    (thing,) = json.loads(said)["things"]
    assert {"field": "seq", "value": "5", "meaning": "", "chinese": ""} in thing["fields"]
    code, said = site.inspect("row", "0012", "4", *site.config)
    assert code == 1
    assert "4 to 4 is lost: the node gave it up" in said
    code, said = site.inspect("row", "0012", "99", *site.config)
    assert (code, "the highest that is known is 5" in said) == (1, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("0013",), "nothing was ever heard of node 0013. Heard of: 0012"),
        (("river",), "is not an address"),
        (("0012", "5-1"), "a run goes upwards"),
        (("0012", "x"), "Allowed is a seq"),
        (("0012", "--epoch", "1"), "has no epoch '1'. It has"),
    ],
)
def test_a_row_that_can_not_be_meant_is_refused_with_what_there_is(
    site: Site, words: tuple[str, ...], why: str
) -> None:
    code, said = site.inspect("row", *words, *site.config)
    assert code == 2
    assert why in said


def test_a_row_that_the_disk_changed_is_named(site: Site, tmp_path: Path) -> None:
    copy = Site(tmp_path)
    with sqlite3.connect(copy.database) as database:
        database.execute("UPDATE reading SET seq = 2 WHERE seq = 1")
    code, said = copy.inspect("row", "0012", "--last", "9", *copy.config)
    assert code == 1
    assert "does not match its fingerprint" in said
