"""A town of nodes on the air, with the real gateway: covers and river stations, concentrators, and what lies between.

    with AirRig(folder, covers=20, rivers=10, towers=2, seed=7) as rig:
        rig.settle_in()
        rig.towers[0].stop()                its power is cut; start() brings it back
        rig.storm(within_s=60)              every cover is turned, and stays so
        rig.run_s(3600)

Nodes run the firmware on a simulated SX1262; towers speak Semtech UDP to the daemon's own port. A node is put where it
reaches a tower, as a technician does who accepts it in its place: with a margin at the spreading factor it starts with.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from boards.virtual import board as virtual_board
from boards.virtual.chips.sx1262 import Sx1262
from firmware.records import SET
from firmware.settings import RADIO_DBM, RADIO_SF
from flash_tools.mint import mint
from gateway import adr as adr_maths
from hil_tests.cover_rig import CoverRig, Opening, percentile
from hil_tests.errors import RigError
from hil_tests.sim_rig import identity_on
from hil_tests.street import AREA, FIRST_ADDRESS
from hil_tests.world.agenda import WorldAgenda
from hil_tests.world.air import Air, Flight
from hil_tests.world.concentrator import DEMODULATORS, SPREADING, Concentrator
from hil_tests.world.energy import Radio, years_on_air
from hil_tests.world.forwarder import Forwarder
from hil_tests.world.propagation import SNR_MIN_DB, Physics, Spot, link_loss_db, urban
from hil_tests.world.river import River
from hil_tests.world.sim_bridge import SimBridge
from hil_tests.world.sim_line import SimLine
from hil_tests.world.sim_node import SimNode
from protocols.wire.law import Law

_SERVER = ("127.0.0.1", 1700)
_FIRST_BRIDGE = 0xB001
_EUI = 0xAA555A0000000100
# What a technician asks of a place (a margin each way), and how often he looks for a better one.
_MARGIN_DB = 10.0
_SPOTS_MAX = 2000
_START_SF = 10
_PATIENCE_H = 4
_BW_HZ = 125_000
_DAY_S = 86_400.0


class AirRig(CoverRig):
    """``sf``: the one spreading factor of a town with bridges, 0 for any. ``loss``: of packets, at random.

    ``install_s``: how long it takes until the last node is switched on. ``adr``: nodes are as ADR leaves them after
    some days, and it goes on; else all stay at SF10 and full power.
    """

    def __init__(
        self,
        folder: Path,
        covers: int,
        seed: int,
        *,
        rivers: int = 0,
        towers: int = 2,
        bridges: int = 0,
        channels: int = 8,
        sf: int = 0,
        loss: float = 0.0,
        demodulators: int = DEMODULATORS,
        across_m: float = 3000.0,
        physics: Physics | None = None,
        trucks_a_day: float = 4,
        adr: bool = True,
        install_s: float = 0.0,
        river_interval_s: int = 3600,
    ) -> None:
        self.install_s = install_s
        self._river_interval_s = river_interval_s
        self.covers, self.rivers = covers, rivers
        self.radio_plan = (0, 80, channels, sf)
        self.physics = physics if physics is not None else urban(490_000_000)
        self.chips_on_air: dict[str, Sx1262] = {}
        self.towers: list[Forwarder] = []
        self.airtime_s: defaultdict[str, float] = defaultdict(float)  # by who sent
        self.packets: Counter[str] = Counter()
        self.bridges: dict[str, SimBridge] = {}
        self._tower_spots = [_on_circle(index, towers, across_m / 4) for index in range(towers)]
        self._bridge_spots = [_on_circle(index, bridges, across_m / 4) for index in range(bridges)]
        self._across_m = across_m
        self._loss = loss
        self._demodulators = demodulators
        self._adr = adr
        self._spots: dict[str, Spot] = {}
        super().__init__(folder, covers, seed, trucks_a_day=trucks_a_day)

    # -- building it -----------------------------------------------------------------------------------------

    def set_up(self) -> None:
        self.clock = WorldAgenda(self.world)
        self.air = Air(self.clock, self.physics, self.seed)
        self.air.loss = self._loss
        self.air.taps.append(self._flown)
        law = Law(self.radio_plan[0])
        freqs = [law.freq_hz(self.radio_plan[1] + index) for index in range(self.radio_plan[2])]
        spreading: Sequence[int] = (self.radio_plan[3],) if self.radio_plan[3] else SPREADING
        for index, spot in enumerate(self._tower_spots):
            concentrator = Concentrator(
                self.air, f"tower {index}", spot, freqs, spreading, self._demodulators
            )
            self._add_tower(index, concentrator)
        for index, spot in enumerate(self._bridge_spots):
            self._add_bridge(index, spot)
        for index in range(self.rivers):
            self._add_station(self.covers + index)

    def _add_tower(self, index: int, concentrator: Concentrator) -> None:
        def to_gateway(data: bytes) -> None:
            send(data)

        tower = Forwarder(
            concentrator,
            self.clock,
            _EUI + index,
            to_gateway,
            unix_s=lambda: self.world.unix_ms() / 1000,
            seed=self.seed,
            counter_start_us=(1 << 32) - 600_000_000,  # it wraps ten minutes into the world
        )
        send = self.net.machine(tower.datagram, _SERVER)
        self.towers.append(tower)
        tower.start()

    def _add_bridge(self, index: int, spot: Spot) -> None:
        name = f"bridge-{index + 1}"
        minted = mint(
            out=self.folder,
            address=_FIRST_BRIDGE + index,
            node_type="bridge",
            radio=self.radio_plan,
            random=self.random(f"mint {name}").randbytes,
        )
        line = self.bridge_lines[name] = SimLine(name, self.world, self.random(f"line {name}"))
        image = minted.state_image.read_bytes()
        chip = Sx1262(self.air, seed=self.seed + index)
        self.air.place(chip, name, spot)
        made = SimBridge(identity_on(image), image, self.world, line, chip, self.clock, f"{self.seed} {name}")
        self.bridges[name] = made
        made.power_on()

    def tables(self) -> list[str]:
        _, channel, channels, sf = self.radio_plan
        euis = ", ".join(f'"{_EUI + index:016x}"' for index in range(len(self.towers)))
        fixed = f"sf = {sf}\n" if sf else ""
        adr = str(self._adr).lower()
        bind = f"{_SERVER[0]}:{_SERVER[1]}"
        tables = [f'[lora]\nplan = "cn470"\nchannel = {channel}\nchannels = {channels}\n{fixed}adr = {adr}\n']
        if euis:
            tables.append(f'[[semtech]]\nname = "roof"\nbind = "{bind}"\ngateways = [{euis}]\n')
        tables += [f'[[bridge]]\nname = "{name}"\npath = "/dev/null-{name}"\n' for name in self.bridges]
        return tables

    def _add_station(self, index: int) -> None:
        is_cover = index < self.covers
        address = FIRST_ADDRESS + index
        spot, snr_db = self._spot(f"{address:04x}", is_cover)
        self._spots[f"{address:04x}"] = spot
        settings = {} if is_cover else {0: self._river_interval_s, 1: 3600, 2: 86_400}
        if self._adr:
            settings |= self._settled(snr_db)
        minted = mint(
            out=self.folder,
            address=address,
            node_type="cover" if is_cover else "river",
            area=AREA,
            site=f"place-{index + 1}",
            settings=settings,
            radio=self.radio_plan,
            random=self.random(f"mint {index}").randbytes,
        )
        name = f"{minted.address:04x}"
        image = minted.state_image.read_bytes()
        self.stations[name] = SimNode(
            identity_on(image),
            image,
            self.world,
            None,
            River(self.seed + index).quantities,
            f"{self.seed} {index}",
        )

    def outfit(self, station: SimNode) -> None:
        if station.identity.node_type == "cover":
            super().outfit(station)
        chip = Sx1262(self.air, seed=self.seed)
        self.air.place(chip, station.name, self._spots[station.name])
        station.station.attach_radio(chip, self.clock)
        self.chips_on_air[station.name] = chip

    def switch_on(self, station: SimNode) -> None:
        at_s = self.random(f"install {station.name}").uniform(0, self.install_s)
        self.world.after(at_s, station.power_on)

    def settle_in(self) -> None:
        self.run_s(self.install_s)
        super().settle_in()
        for _ in range(_PATIENCE_H):  # somebody may have been unlucky
            if self.poses_learned < self.covers:
                self.run_s(3600)
        self.airtime_s.clear()
        self.packets.clear()
        for station in self.stations.values():
            station.station.starts = station.station.awake_ms = 0
        for chip in self.chips_on_air.values():
            chip.spent_s.clear()

    def _spot(self, name: str, is_cover: bool) -> tuple[Spot, float]:
        """Somewhere at random where a tower or a bridge and the node hear each other well; how well at full power."""
        rng = self.random(f"spot {name}")
        noise_dbm = self.physics.noise_dbm(_BW_HZ)
        needed_dbm = noise_dbm + SNR_MIN_DB[self.radio_plan[3] or _START_SF] + _MARGIN_DB
        ears = {f"tower {index}": spot for index, spot in enumerate(self._tower_spots)}
        ears |= dict(zip(self.bridges, self._bridge_spots, strict=True))
        for _ in range(_SPOTS_MAX):
            x_m, y_m = (rng.uniform(-0.5, 0.5) * self._across_m for _ in range(2))
            spot = Spot(x_m, y_m, is_under_iron=is_cover)
            losses = [
                link_loss_db(self.physics, self.seed, (name, its_name), (spot, its_spot))
                for its_name, its_spot in ears.items()
            ]
            power_dbm = Law(0).dbm_max - min(losses)
            if power_dbm >= needed_dbm:
                return spot, power_dbm - noise_dbm
        raise RigError(
            f"node {name}: {_SPOTS_MAX} places in a town {self._across_m:.0f} m across and none where a tower "
            "hears it; make the town smaller, or build more towers"
        )

    def _settled(self, snr_db: float) -> dict[int, int]:
        """The settings in which ADR leaves a node that is heard so well at full power, after some days."""
        law = Law(self.radio_plan[0])
        sf, dbm = self.radio_plan[3] or _START_SF, law.dbm_max
        while True:
            snrs_db = [snr_db - (law.dbm_max - dbm)] * adr_maths.HISTORY
            advice = adr_maths.advise(snrs_db, sf, dbm, law, self.radio_plan[3] > 0)
            if advice is None:
                return {RADIO_SF: sf, RADIO_DBM: dbm}
            sf, dbm = advice

    # -- what happens ----------------------------------------------------------------------------------------

    def open_covers(self, count: int, within_s: float) -> list[Opening]:
        """So many covers are opened within that time, each once, and put back after some minutes."""
        rng = self.random("openings")
        opened = []
        for node in rng.sample(list(self.motions), count):
            opening = Opening(node, rng.uniform(20, 85) if rng.random() < 0.5 else rng.uniform(100, 170), 1.0)
            opened.append(opening)
            self.openings.append(opening)
            at_s, azimuth = self.world.now_s + rng.uniform(0, within_s), rng.uniform(0, 360)
            self.world.at(at_s, self._opener(opening, azimuth))
            self.world.at(at_s + rng.uniform(180, 900), self._closer(opening, azimuth, 1.0))
        return opened

    def storm(self, within_s: float) -> list[Opening]:
        """A flood lifts every cover within that time; they stay as they are."""
        rng = self.random("storm")
        lifted = []
        for node in list(self.motions):
            opening = Opening(node, rng.uniform(100, 170), rng.uniform(0.6, 3))
            lifted.append(opening)
            self.openings.append(opening)
            self.world.after(rng.uniform(0, within_s), self._opener(opening, rng.uniform(0, 360)))
        return lifted

    def _flown(self, flight: Flight) -> None:
        self.airtime_s[flight.site.name] += flight.end_s - flight.begin_s
        self.packets["down" if flight.signal.is_inverted else "up"] += 1

    # -- figures ---------------------------------------------------------------------------------------------

    def readings_of(self, nodes: Sequence[str]) -> tuple[int, int]:
        """(kept, delivered) sets of those nodes, by their own promises and by what the city has."""
        kept = delivered = 0
        city = self.judge.records
        for node in nodes:
            for record_id, content in self.stations[node].held().items():
                if content[0] == SET:
                    kept += 1
                    delivered += record_id in city
        return kept, delivered

    def figures(self, days: float) -> Iterator[str]:
        """Of the air, for a person."""
        nodes = {name: self.airtime_s[name] / days for name in self.stations}
        covers = [nodes[name] for name in self.motions]
        rivers = [nodes[name] for name in self.stations if name not in self.motions]
        towers = [self.airtime_s[f"tower {index}"] / days for index in range(len(self.towers))]
        yield f"packets_up={self.packets['up']} packets_down={self.packets['down']} days={days:.2f}"
        for what, seconds in (("cover", covers), ("river", rivers), ("tower", towers)):
            if seconds:
                yield f"{what}_airtime_s_a_day={sum(seconds) / len(seconds):.2f} {what}_worst={max(seconds):.2f}"
        years = [self._years(name, days) for name in self.motions]
        if years:
            yield f"cover_years_p50={percentile(years, 0.5):.1f} cover_years_worst={min(years):.1f}"

    def _years(self, node: str, days: float) -> float:
        spent = self.chips_on_air[node].spent_s
        tx_s, rx_s = spent.get("tx", 0.0) / days, (spent.get("rx", 0.0) + spent.get("cad", 0.0)) / days
        station = self.stations[node].station
        awake_s = station.awake_ms / 1000 / days
        return years_on_air(virtual_board, station.starts / days, awake_s, Radio(tx_s, rx_s, 0.0))


def _on_circle(index: int, count: int, radius_m: float) -> Spot:
    angle = 2 * math.pi * index / count
    return Spot(radius_m * math.cos(angle), radius_m * math.sin(angle), is_high=True)
