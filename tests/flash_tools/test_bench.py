"""The bench's side of a cable against the node's own code: it finds, asks, sets, and uses no number twice."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from flash_tools.bench import Bench
from flash_tools.bench_numbers import PIVS_PER_S, Numbers
from flash_tools.errors import BenchError
from protocols.inspection.frames import Secrets
from protocols.wire import codes, envelope, framing, messages
from protocols.wire.limits import PIV_BLOCK
from tests.firmware.street import IDENTITY, Street
from tests.firmware.test_node import joined

KEYS = {IDENTITY.address: Secrets(IDENTITY.master_secret, IDENTITY.master_salt)}


class Cable:
    """The line of a street's node, in its time. `spoil`: what happens to bytes on the way (bytes, is it up)."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.came = bytearray()
        self.sent: list[bytes] = []
        self.spoil: Any = lambda data, is_up: data
        street.peer.deaf = True
        street.station.to_gateway = lambda data: self.came.extend(self.spoil(data, True))

    def read(self, seconds: float) -> bytes:
        if not self.came:
            self.street.run(seconds)
        data, self.came = bytes(self.came), bytearray()
        return data

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        self.street._send(self.spoil(data, False))

    def leave(self) -> None:
        self.street.station.to_gateway = self.street._up
        self.street.peer.deaf = False


class Visit:
    """A person with a bench at a station."""

    def __init__(self, street: Street, folder: Path, keys: Any = None, seed: int = 3) -> None:
        self.street = street
        self.cable = Cable(street)
        self.file = folder / "bench.json"
        self.bench = Bench(
            self.cable,
            KEYS if keys is None else keys,
            lambda address: Numbers(self.file, address, lambda: street.now_ms / 1000),
            lambda: street.now_ms / 1000,
            random.Random(seed).randbytes,
        )

    def pivs(self) -> list[int]:
        """Of what the bench sent in an epoch."""
        decoder = framing.Decoder()
        headers = [
            envelope.parse(frame, envelope.KID_DOWN)
            for data in self.cable.sent
            for _, frame in decoder.feed(data)
        ]
        return [one.piv for one in headers if not one.kid_context and one.kid[-1] == envelope.BENCH]


def test_a_node_of_a_gateway_is_found_asked_and_set_and_goes_on_in_its_epoch(tmp_path: Path) -> None:
    street = joined()
    epoch = street.node.session.epoch
    visit = Visit(street, tmp_path)
    hello = visit.bench.find()
    assert (hello.epoch, visit.bench.epoch, visit.bench.address) == (epoch, epoch, IDENTITY.address)
    visit.bench.command(codes.IDENTIFY, 5)
    assert street.station.identified == [True]
    taken = visit.bench.read(60)
    assert taken.seq == street.node.outbox.next_seq - 2  # the result is the record behind it
    before = visit.bench.settings()
    assert (before.version, before.document[0]) == (0, 3600)
    after = visit.bench.set({**before.document, 0: 120})
    assert after.document[0] == street.node.settings[0] == 120
    assert visit.bench.status().health[codes.HEALTH_NAMES.index("boots")] == 1
    visit.cable.leave()
    joins = street.peer.joins
    street.run(7300)
    assert street.peer.joins == joins
    assert sorted(street.peer.seqs())[:3] == [1, 2, 3]


def test_a_node_without_an_epoch_is_joined_with_and_is_the_gateways_afterwards(tmp_path: Path) -> None:
    street = Street()
    visit = Visit(street, tmp_path)
    visit.bench.find()
    assert street.node.session.epoch == visit.bench.epoch
    visit.bench.command(codes.IDENTIFY, 5)
    assert (
        street.node.outbox.next_unacked(0, 0) is not None or street.node.outbox.next_unacked(1, 0) is not None
    )
    visit.cable.leave()
    street.run(1200)
    street.node.uplink.hurry()
    street.run(60)
    assert street.peer.joins == 1
    assert sorted(street.peer.seqs()) == list(range(1, street.node.outbox.next_seq))


def test_who_only_watches_reads_a_first_hello_and_joins_with_nobody(tmp_path: Path) -> None:
    street = Street()
    visit = Visit(street, tmp_path)
    visit.bench.may_join = False
    seen: list[Any] = []
    visit.bench.heard = lambda message, piv: seen.append(message)
    visit.bench.knock()
    for _ in range(100):
        visit.bench.watch()
    assert {type(message) for message in seen} == {messages.Hello}
    assert street.node.session.epoch is None
    assert visit.bench.can_knock


def test_a_line_that_spoils_a_tenth_of_its_bytes_only_costs_time(tmp_path: Path) -> None:
    street = joined()
    visit = Visit(street, tmp_path)
    rng = random.Random(11)

    def spoil(data: bytes, is_up: bool) -> bytes:
        return bytes(byte ^ 0x10 if rng.random() < 0.01 else byte for byte in data)

    visit.cable.spoil = spoil
    visit.bench.find(seconds=600)
    street.node._keep_event(
        codes.ALARM_TEST, messages.NOTE, None
    )  # what waits for a gateway holds nothing up
    for _ in range(5):
        visit.bench.command(codes.IDENTIFY, 1, seconds=600)
        visit.bench.read(600)
        visit.bench.status()
    assert street.station.identified.count(True) == 5, "each was done once"
    assert len(visit.pivs()) == len(set(visit.pivs()))


def test_no_number_comes_twice_over_visits_kills_and_a_book_that_is_gone(tmp_path: Path) -> None:
    street = joined()
    pivs: list[int] = []
    ids: list[int] = []
    for number in range(4):
        visit = Visit(street, tmp_path, seed=number)  # a new process each time: the last one was killed
        visit.bench.find()
        ids.append(visit.bench.command(codes.IDENTIFY, 1).command_id)
        pivs += visit.pivs()
        if number == 2:
            visit.file.unlink()
            street.run(1)
    assert len(set(pivs)) == len(pivs) >= 4
    assert ids == sorted(set(ids))


def test_numbers_are_durable_before_use_and_never_below_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bench.json"
    now = [1_790_000_000.0]
    numbers = Numbers(file, 0x12, lambda: now[0])
    first = numbers.piv()
    assert first == 1_790_000_000 * PIVS_PER_S
    assert json.loads(file.read_text())["0012"]["piv"] == first + PIV_BLOCK
    now[0] -= 10_000  # the clock was set back: the book knows better
    assert Numbers(file, 0x12, lambda: now[0]).piv() == first + PIV_BLOCK
    given = [numbers.piv() for _ in range(PIV_BLOCK)]
    assert given[-1] == first + 2 * PIV_BLOCK
    assert Numbers(file, 0x13, lambda: now[0]).piv() == int(now[0]) * PIVS_PER_S
    assert (numbers.command_id(), numbers.command_id()) == (1_789_990_000, 1_789_990_001)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BenchError, match="nothing was sent"):
        Numbers(file, 0x12, lambda: now[0]).piv()


@pytest.mark.parametrize("text", ["{", "[]", '{"0012": {"piv": "x"}}', "\x00\x01"])
def test_a_book_that_can_not_be_read_stops_the_bench_with_what_to_do(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    with pytest.raises(BenchError, match="remove the file"):
        Numbers(file, 0x12, lambda: 1_790_000_000.0).piv()


def test_a_clock_that_is_years_behind_is_refused_for_commands(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="years behind"):
        Numbers(tmp_path / "bench.json", 0x12, lambda: 100.0).command_id()


def test_why_a_node_is_not_found_is_said(tmp_path: Path) -> None:
    street = joined()
    street.node._keep_event(codes.ALARM_TEST, messages.NOTE, None)
    other = {0x77: KEYS[IDENTITY.address]}
    with pytest.raises(BenchError, match=r"on this port is node 0010\. Give the keys"):
        Visit(street, tmp_path, other).bench.find()
    with pytest.raises(BenchError, match="There are keys of: 0077"):
        Visit(street, tmp_path, other).bench.find(0x10)
    with pytest.raises(BenchError, match="no key at all"):
        Visit(street, tmp_path, {}).bench.find()
    silent = Visit(street, tmp_path)
    silent.cable.spoil = lambda data, is_up: b""
    with pytest.raises(BenchError, match="nothing came at all"):
        silent.bench.find()
    radio = Visit(street, tmp_path)
    radio.cable.spoil = lambda data, is_up: b""
    radio.cable.came.extend(framing.encode(b"\x03\x01", 2))
    with pytest.raises(BenchError, match="a bridge"):
        radio.bench.find()
    talking = Visit(street, tmp_path)
    talking.cable.spoil = lambda data, is_up: b""
    talking.cable.came.extend(b"boot\r\nno identity: nothing was minted\r\n\x00")
    with pytest.raises(BenchError, match="its console says: 'no identity"):
        talking.bench.find()


def test_a_refusal_of_the_node_is_told_in_its_words(tmp_path: Path) -> None:
    street = joined()
    visit = Visit(street, tmp_path)
    visit.bench.find()
    with pytest.raises(BenchError, match=r"refused: .*nothing to learn"):
        visit.bench.command(codes.LEARN, None)
    visit.cable.spoil = lambda data, is_up: b""
    with pytest.raises(BenchError, match="did not answer within 15 s"):
        visit.bench.status()
