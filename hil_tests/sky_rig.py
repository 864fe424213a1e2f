"""A cover and a river station on the air over real processes, and a thief of what the gateway answers.

The simulated SX1262s, the air and the packet forwarder run in real time; the daemon hears of them by Semtech UDP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from boards.virtual.ether import Reception, Signal
from hil_tests.broker import Mosquitto
from hil_tests.consumer import Consumer
from hil_tests.places import CoverPlace, RiverPlace
from hil_tests.sky import Sky
from hil_tests.street import Street
from hil_tests.world.air import Flight
from hil_tests.world.propagation import Spot
from protocols.wire.codes import SETTING_NAMES

COVER, RIVER = "0010", "0011"
_TIMEOUT_S = 60
# Of the answers, so many are kept from the river station.
STOLEN = 1


def settings(**named: int) -> dict[int, int]:
    return {SETTING_NAMES.index(name): value for name, value in named.items()}


class SkyRig:
    """A cover under iron and a river station, a roof, a gateway and a city."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.broker = Mosquitto(folder / "broker")
        self.broker.start()
        self.city = Consumer(self.broker.port)
        self.cover = CoverPlace("lid-1", seed, trucks_a_day=4, spot=Spot(150, 80, is_under_iron=True))
        self.cover.settings = settings(interval_s=15, report_s=1, radio_sf=7)
        self.river = RiverPlace("bridge-1", seed, spot=Spot(300, 0))
        self.river.settings = settings(interval_s=3, report_s=3, radio_sf=7)
        self.street = Street(
            folder, [self.cover, self.river], seed=seed, mqtt=("127.0.0.1", self.broker.port)
        )
        assert self.street.sky is not None
        self.sky: Sky = self.street.sky
        self.flights: list[Flight] = []
        self.sky.call(lambda: self.sky.air.taps.append(self.flights.append))

    def events(self, node: str) -> list[tuple[str, str]]:
        records = list(self.city.judge.records.values())
        told = [one["event"] for one in records if one["node"] == node and "event" in one]
        return [(event["name"], event["state"]) for event in told]

    def sets(self, node: str) -> int:
        records = list(self.city.judge.records.values())
        return sum(one["node"] == node and one["lane"] != "event" for one in records)

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + _TIMEOUT_S
        while not holds():
            if time.monotonic() > until_s:
                boards = {
                    node: (board.counts, board.console[-800:]) for node, board in self.street.boards.items()
                }
                raise TimeoutError(
                    f"no {what}: {boards}\n{self.sky.forwarder.counts}\n{self.street.gateway.log_tail()}"
                )
            time.sleep(0.05)
        print(f"{what}: {time.monotonic() - until_s + _TIMEOUT_S:.1f} s")

    def balance(self) -> None:
        """The cover has been told to be quiet before: it hears that when it next speaks."""
        self.street.quiet(RIVER)
        self.wait(lambda: self.street.is_quiet, "end of sampling")
        self.wait(lambda: self.street.kept() <= self.city.judge.records.keys(), "end of what is owed")
        books = self.street.books(self.city.judge)
        print(books.line())
        books.balance()

    def close(self) -> None:
        self.street.close()
        self.city.close()
        self.broker.stop()


class Thief:
    """Keeps the first answer from the river station and records it; later says it again in its windows.

    On the channel of its latest uplink, at the right moment, after one that the gateway does not answer: heard as well
    as a true one.
    """

    def __init__(self, sky: Sky) -> None:
        self.recorded: list[Signal] = []
        self.reached: list[bytes] = []  # what the river station heard
        self._is_replaying = False
        self._air = sky.air
        self._air.place(self, "thief", Spot(310, 10))
        self._air.jammers.append(self._jam)
        self._air.taps.append(self._hear)
        chip = sky.chips[RIVER]
        take = chip.heard

        def heard(reception: Reception) -> None:
            self.reached.append(reception.signal.payload)
            take(reception)

        chip.heard = heard  # type: ignore[method-assign]

    def replay(self) -> None:
        self._is_replaying = True

    def replays_heard(self) -> int:
        return sum(self.reached.count(signal.payload) for signal in self.recorded)

    def detected(self) -> None:
        """It does not listen."""

    def heard(self, reception: Reception) -> None:
        """Nor is it told."""

    def _jam(self, flight: Flight) -> bool:
        if not flight.signal.is_inverted or len(self.recorded) >= STOLEN or self._is_replaying:
            return False
        if address_of(flight.signal.payload) != int(RIVER, 16):
            return False
        self.recorded.append(flight.signal)
        return True

    def _hear(self, flight: Flight) -> None:
        wants_no_answer = not flight.signal.payload[0] & 0xE0
        if self._is_replaying and flight.site.name == RIVER and wants_no_answer:
            signal = self.recorded[self.replays_heard() % len(self.recorded)]
            again = signal._replace(freq_hz=flight.signal.freq_hz, sf=flight.signal.sf)
            self._air.clock.call_later(1.0, lambda: self._air.transmit(self, again))


def address_of(packet: bytes) -> int:
    """Whom a whole downlink is for, by the kid in its clear head (SPEC.md section 3)."""
    at = 1 + (packet[0] & 7)
    if packet[0] & 0x10:
        at += 1 + packet[at]
    return int.from_bytes(packet[at : at + 2], "big")
