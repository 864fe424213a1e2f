"""The gateway's end of a bridge and the bridge's own firmware, by the bytes between them: an uplink on the simulated
air is answered there, in its windows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from gateway.links import radio as radios
from gateway.links.bridge import Bridge, Wanted
from gateway.links.lora import LoraLink, Way
from gateway.links.radio import Transmission
from hil_tests.world.agenda import Agenda
from protocols.wire import framing
from protocols.wire.law import CN470, Law
from tests.firmware.bridge_rig import BridgeBench
from tests.firmware.radio_rig import FREQ_HZ
from tests.gateway.test_serial_link import KeptLog


class Cable(Bridge):
    """A gateway's Bridge whose port is a bench."""

    def __init__(self, bench: BridgeBench) -> None:
        self._bench = bench
        self._line = framing.Decoder()
        now_s = bench.rig.agenda.now_s
        super().__init__(
            "window", "nowhere", 115200, Wanted(CN470, 0, FREQ_HZ, 9), cast(Any, KeptLog()), monotonic=now_s
        )
        self.is_open = True
        bench.gateway.feed = self._fed  # type: ignore[method-assign]
        self._opened()

    def _fed(self, data: bytes) -> None:
        for channel, payload in self._line.feed(data):
            self._take(channel, payload)

    def _put(self, payload: bytes, channel: int) -> bool:
        self._bench.say(framing.encode(payload, channel))
        return True


class AgendaTimer:
    """A timer of the agenda, which knows none that can be cancelled."""

    def __init__(
        self, agenda: Agenda, delay_s: float, function: Callable[..., None], *arguments: Any
    ) -> None:
        self._work: Callable[[], None] | None = lambda: function(*arguments)
        agenda.call_later(delay_s, self._fire)

    def _fire(self) -> None:
        if self._work is not None:
            self._work()

    def cancel(self) -> None:
        self._work = None


def test_an_uplink_is_answered_a_second_after_its_end_and_once_more_400_ms_later() -> None:
    bench = BridgeBench((0, 3, 1, 0), start_us=(1 << 32) - 2_500_000)  # elsewhere, and about to wrap
    bridge = Cable(bench)
    bench.run(0.5)
    assert bridge.problem == ""
    assert (bridge.air["tunes"], bridge.firmware) == (1, "0.1.0")
    agenda, law, ways = bench.rig.agenda, Law(CN470), []

    def take(way: Way, frame: bytes) -> None:
        ways.append((way, frame))
        assert way.send(0x12, b"\x09first")
        assert way.send(0x12, b"\x09second")

    link = LoraLink(
        [bridge],
        lambda name: law,
        (FREQ_HZ,),
        law.size_max,
        law.dbm_max,
        take,
        lambda address: True,
        now_s=agenda.now_s,
        call_later=functools.partial(AgendaTimer, agenda),
    )
    bench.node.radio.start_send(FREQ_HZ, 9, 14, b"\x2aan uplink", False)
    bench.run(4.0)
    assert [frame for _, frame in ways] == [b"\x0aan uplink"]
    assert ways[0][0].wants_answer
    up, first, second = bench.rig.flights
    assert [one.signal.payload for one in (first, second)] == [b"\x09first", b"\x09second"]
    assert all(one.signal.is_inverted and one.signal.has_crc for one in (first, second))
    print(
        f"first_ms={(first.begin_s - up.end_s) * 1000:.2f} second_ms={(second.begin_s - first.end_s) * 1000:.2f}"
    )
    assert abs(first.begin_s - up.end_s - 1.0) < 0.01
    assert abs(second.begin_s - first.end_s - 0.4) < 0.01
    assert link.scheduler.counters["sent"] == 2


def test_a_packet_that_goes_at_once_is_on_the_air_within_the_lead_of_a_bridge() -> None:
    bench = BridgeBench((0, 3, 1, 0), start_us=(1 << 32) - 1_000_000)
    bridge = Cable(bench)
    ended: list[tuple[int, int]] = []
    bridge.on_result = lambda name, number, code: ended.append((number, code))
    bench.run(0.5)
    begins = []
    for number, sf in enumerate((7, 9, 11)):
        asked_s = bench.rig.agenda.now_s()
        assert bridge.send(Transmission(number, None, FREQ_HZ, sf, 14, b"\x09row"))
        bench.run(2.0)
        begins.append(bench.rig.flights[number].begin_s - asked_s)
    print("begins_ms=" + " ".join(f"{1000 * begin:.0f}" for begin in begins))
    assert ended == [(number, radios.SENT) for number in range(3)]
    assert all(0 < begin <= bridge.lead_s for begin in begins)
