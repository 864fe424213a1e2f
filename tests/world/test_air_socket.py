"""An air of another process: what a chip sees of it, and what an air endures from whoever knocks."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boards.virtual.clock import BoardClock
from boards.virtual.ether import Reception, Signal, Tuning
from boards.virtual.hub import Hub, shared_hub
from hil_tests.world.air import Air
from hil_tests.world.air_socket import SEATS_MAX, SOCKET_NAME, AirServer, FarEther
from hil_tests.world.propagation import Spot, open_air
from protocols.wire.airtime import lora, time_on_air_us

RADIO = (0, 80, 8, 0)
FREQ_HZ, BW_HZ, SF = 486_300_000, 125_000, 9
TUNING = Tuning(FREQ_HZ, BW_HZ, SF, 0x12, False)
SIGNAL = Signal(FREQ_HZ, BW_HZ, SF, 5, 8, False, True, False, 0x12, False, 14.0, b"a packet \x00\xff")
WAIT_S = 10.0


class Chip:
    def __init__(self) -> None:
        self.told: queue.SimpleQueue[Reception | str] = queue.SimpleQueue()

    def detected(self) -> None:
        self.told.put("detected")

    def heard(self, reception: Reception) -> None:
        self.told.put(reception)

    def hears(self) -> Reception | str:
        return self.told.get(timeout=WAIT_S)


class Elsewhere:
    """The other process: an air on the thread of a hub of its own."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub()
        self.clock = BoardClock(time.time())
        self.hub.call(lambda: self.hub.add_clock(self.clock))
        self.air = Air(self.clock, open_air())
        self.changes: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        self.server = AirServer(self.hub, self.air, folder, RADIO)
        self.server.on_change = lambda name, came: self.changes.put((name, came))

    def change(self) -> tuple[str, bool]:
        return self.changes.get(timeout=WAIT_S)

    def close(self) -> None:
        self.server.close()
        self.hub.call(lambda: self.hub.remove_clock(self.clock))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path)
    yield made
    made.close()
    assert made.hub.failures == 0, "the air's thread met what it was not made for"


@pytest.fixture
def pair(elsewhere: Elsewhere, tmp_path: Path) -> Iterator[list[tuple[FarEther, Chip]]]:
    made = []
    for name, spot in (("here", Spot(0, 0)), ("there", Spot(100, 0))):
        ether, chip = FarEther(shared_hub(), tmp_path, name, spot), Chip()
        ether.attach(chip)
        assert ether.reach()
        assert elsewhere.change() == (name, True)
        made.append((ether, chip))
    yield made
    for ether, _ in made:
        ether.close()


def transmit(ether: FarEther, chip: Chip) -> float:
    return shared_hub().call(lambda: ether.transmit(chip, SIGNAL))


def tune(ether: FarEther, chip: Chip) -> None:
    """Until it listens: the air has answered a question that was put after."""
    shared_hub().call(lambda: ether.tune(chip, TUNING))
    rssi_dbm(ether, chip)


def rssi_dbm(ether: FarEther, chip: Chip) -> float:
    return shared_hub().call(lambda: ether.rssi_dbm(chip, FREQ_HZ, BW_HZ))


def is_active(ether: FarEther, chip: Chip) -> bool:
    return shared_hub().call(lambda: ether.is_active(chip, TUNING))


def test_what_one_sends_another_hears_with_its_level(pair: list[tuple[FarEther, Chip]]) -> None:
    here, there = pair
    tune(*there)
    assert transmit(*here) == time_on_air_us(lora(SF), len(SIGNAL.payload)) / 1e6
    assert there[1].hears() == "detected"
    heard = there[1].hears()
    assert isinstance(heard, Reception)
    assert heard.signal == SIGNAL
    assert heard.is_intact
    assert heard.rssi_dbm == pytest.approx(14 - 80)  # open_air: 100 dB at 1 km, 20 dB a decade
    assert here[1].told.empty()


def test_a_question_is_answered_from_the_air_and_nothing_is_lost_while_it_waits(
    pair: list[tuple[FarEther, Chip]],
) -> None:
    here, there = pair
    tune(*there)
    silence_dbm = rssi_dbm(*there)
    assert not is_active(*there)
    transmit(*here)
    seen = [is_active(*there)]
    while there[1].told.qsize() < 2:
        seen.append(is_active(*there))
        if seen[-1]:
            assert rssi_dbm(*there) >= silence_dbm
    assert any(seen)
    assert there[1].hears() == "detected"
    assert isinstance(there[1].hears(), Reception)


def test_an_air_that_goes_leaves_silence_and_one_that_comes_back_finds_the_chip_listening(
    pair: list[tuple[FarEther, Chip]], elsewhere: Elsewhere, tmp_path: Path
) -> None:
    ether, chip = pair[1]
    tune(ether, chip)
    elsewhere.server.close()
    assert not is_active(ether, chip)
    assert not ether.reach()
    assert transmit(ether, chip) > 0, "a chip sends, whether or not somebody listens"
    again = Elsewhere(tmp_path)
    elsewhere.server = again.server  # the fixture closes it
    assert ether.reach()
    assert pair[0][0].reach()
    rssi_dbm(ether, chip)
    transmit(*pair[0])
    assert chip.hears() == "detected"
    assert again.hub.failures == 0


def test_who_leaves_is_off_the_air(pair: list[tuple[FarEther, Chip]], elsewhere: Elsewhere) -> None:
    tune(*pair[1])
    transmit(*pair[1])
    pair[1][0].close()
    assert elsewhere.change() == ("there", False)
    assert elsewhere.hub.call(lambda: len(elsewhere.server.seats)) == 1
    pair[1] = pair[0]  # it is closed once
    del pair[0]


@pytest.mark.parametrize(
    "said",
    [
        b"\xff",
        b"[]",
        b"7",
        b'["what"]',
        b'["tune", [1]]',
        b'["transmit", 3]',
        b'["stop"]',
        b'["place"]',
        b"[" * 4000,
    ],
)
def test_who_speaks_nonsense_is_shown_out(elsewhere: Elsewhere, tmp_path: Path, said: bytes) -> None:
    with knock(tmp_path) as end:
        assert end.recv(4096).startswith(b'["welcome"')
        end.send(said)
        assert end.recv(4096) == b""
    assert not elsewhere.hub.call(lambda: list(elsewhere.server.seats))


def test_there_are_so_many_seats(elsewhere: Elsewhere, tmp_path: Path) -> None:
    ends = [knock(tmp_path) for _ in range(SEATS_MAX)]
    for end in ends:
        assert end.recv(4096)
    with knock(tmp_path) as late:
        assert late.recv(4096) == b""
    for end in ends:
        end.close()


def test_a_folder_with_a_long_name_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    made = Elsewhere(folder)
    ether = FarEther(shared_hub(), folder, "here", Spot(0, 0))
    assert ether.reach()
    assert ether.radio == RADIO
    ether.close()
    made.close()
    assert not (folder / SOCKET_NAME).exists()


def knock(folder: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.settimeout(WAIT_S)
    end.connect(str(folder / SOCKET_NAME))
    return end
