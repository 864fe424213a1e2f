"""A radio on the time of a simulated station, which may run ahead of the world that the air lives in."""

from __future__ import annotations

from boards.virtual.chips.sx1262 import Sx1262
from firmware.radios import HEARD, SENT
from firmware.radios.sx126x import Sx126x
from hil_tests.world.agenda import WorldAgenda
from hil_tests.world.air import Air
from hil_tests.world.propagation import Spot, open_air
from hil_tests.world.sim_hal import SimHal, SimStation
from hil_tests.world.sim_world import World
from protocols.wire.law import CN470, Law
from tests.firmware.street import IDENTITY

FREQ_HZ = 470_300_000


def station(world: World, air: Air, name: str, x_m: float) -> SimStation:
    made = SimStation(IDENTITY, now_ms=world.unix_ms, water=lambda _: {})
    chip = Sx1262(air)
    air.place(chip, name, Spot(x_m, 0.0))
    made.attach_radio(chip, WorldAgenda(world))
    return made


def driver(station: SimStation) -> Sx126x:
    hal = SimHal(station, 1)
    port = hal.radio()
    assert port is not None
    radio = Sx126x(port, Law(CN470), hal.clock)
    assert radio.begin()
    return radio


def test_two_stations_talk_though_one_of_them_lives_a_second_ahead() -> None:
    world = World()
    air = Air(WorldAgenda(world), open_air())
    ahead, other = station(world, air, "ahead", 0.0), station(world, air, "other", 900.0)
    sender, listener = driver(ahead), driver(other)
    ahead.clock.spend(1000)  # a slow sonde, in the same step
    began_s = world.now_s + ahead.clock.ahead_ms / 1000
    listener.start_listen(FREQ_HZ, 9, False, 0)
    sender.start_send(FREQ_HZ, 9, 14, b"from the future", False)
    found = {}
    for _ in range(2000):
        for name, radio in (("sender", sender), ("listener", listener)):
            event = radio.poll()
            if event is not None:
                found[name] = event, world.now_s
        world.run_s(0.001)
    assert found["sender"][0].kind == SENT
    event, at_s = found["listener"]
    assert (event.kind, event.payload) == (HEARD, b"from the future")
    assert began_s + 0.1 < at_s < began_s + 0.3, "in the world it happens when the sender's clock says"
    assert sender.errors == listener.errors == 0


def test_a_power_cut_takes_the_chip_with_it() -> None:
    world = World()
    air = Air(WorldAgenda(world), open_air())
    one = station(world, air, "one", 0.0)
    radio = driver(one)
    radio.start_listen(FREQ_HZ, 9, False, 0)
    world.run_s(0.1)
    assert one.radio is not None
    one.power_cut()
    data = bytearray((0xC0, 0))
    one.radio.transfer(data)
    assert data == bytes(2)
    one.power_on()
    one.power_cut()
    one.radio.power(True)
    assert radio.begin()
