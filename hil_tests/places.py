"""Where a virtual node stands: the chips on its board, and the world that they feel.

    place = CoverPlace("lid-1", seed=3)
    place.attach(board)              wires the chips; before power on
    place.live()                     a few times a second: what happens there by itself
    place.lift_cover(40)             what a person may do there

One class per node type, one line in PLACES.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from boards.virtual.board import INPUT_PINS, RS485_UART, SENSORS_I2C, SUPPLY_ADC_PIN, SUPPLY_DIVIDER_MILLI
from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.supervisor import VirtualBoard
from hil_tests.errors import RigError
from hil_tests.world.lift_profile import LiftDrive
from hil_tests.world.lift_shaft import Shaft
from hil_tests.world.propagation import Spot
from hil_tests.world.river import River
from hil_tests.world.street_cover import CoverMotion

# quantities(unix seconds) -> measurand name: value
Water = Callable[[float], dict[str, float]]
# Vehicles a day over the demonstration's cover: one every few seconds, or nobody would see any.
BUSY_TRUCKS_A_DAY = 8_000
# On the air: a river station starts with 176k and a cover with 184k; neither does with 8k less.
HEAP_ON_AIR = "192k"
_CELL_MV = 3_620
# A cover that is stolen by itself: first after so long, when it has learned how it lies, and put back after so long.
_FIRST_THEFT_S, _THEFT_S = 75.0, 20.0
_HEIGHTS_M = (0.0, 4.5, 7.5, 10.5)
_DOOR_S = 3.0
# The car stands still for this before and after its door moves.
_PAUSE_S = 1.0


class Place(Protocol):
    node_type: str
    heap_size: str
    site: str
    settings: dict[int, int]  # by key of SPEC.md 2.4, beside those of the street
    spot: Spot | None  # of its antenna; None: a serial line

    def attach(self, board: VirtualBoard) -> None: ...
    def live(self) -> None: ...


class RiverPlace:
    """A sonde in a river."""

    node_type = "river"
    # It works with 160k, but what chooses its slot left it so little there that settings by cable did not always fit.
    heap_size = "164k"

    def __init__(self, site: str, seed: int, water: Water | None = None, spot: Spot | None = None) -> None:
        self.site = site
        self.spot = spot
        if spot is not None:
            self.heap_size = HEAP_ON_AIR
        self.settings: dict[int, int] = {}
        self._water = water or River(seed).quantities
        self._spill_from_s = float("inf")

    def attach(self, board: VirtualBoard) -> None:
        self._board = board
        board.attach_uart(RS485_UART, ModbusSonde(YOSEMITECH, self._quantities))

    def live(self) -> None:
        """The water flows by itself."""

    def spill(self) -> None:
        """Somebody upstream lets a vat of brine and mud go."""
        self._spill_from_s = self._board.now_s()

    def _quantities(self, now_s: float) -> dict[str, float]:
        found = dict(self._water(now_s))
        if now_s >= self._spill_from_s:
            found["conductivity"] *= 3
            found["turbidity"] = found["turbidity"] * 5 + 40
        return found


class CoverPlace:
    """A manhole cover in a street, with traffic over it."""

    node_type = "cover"
    heap_size = "168k"  # it starts with 160k, and has nothing to spare there (firmware/README.md)

    def __init__(
        self, site: str, seed: int, trucks_a_day: float = BUSY_TRUCKS_A_DAY, spot: Spot | None = None
    ) -> None:
        self.site = site
        self.spot = spot
        if spot is not None:
            self.heap_size = HEAP_ON_AIR
        self.settings: dict[int, int] = {}
        self.thefts_every_s = 0.0  # 0: by nobody who does it by himself
        self.opened_s: float | None = None  # unix seconds, when somebody turned it last
        self._next_s = 0.0
        self.angle_deg = 0.0
        self._seed = seed
        self._trucks_a_day = trucks_a_day

    def attach(self, board: VirtualBoard) -> None:
        self._board = board
        self._next_s = board.now_s() + _FIRST_THEFT_S
        board.adc_uv[SUPPLY_ADC_PIN] = _CELL_MV * 1_000_000 // SUPPLY_DIVIDER_MILLI
        self.motion = motion = CoverMotion(self._seed, start_s=board.now_s(), trucks_a_day=self._trucks_a_day)
        self._chip = Lis3dh(
            motion.acceleration, steady_until=motion.steady_until, seed=self._seed, offset_g=motion.offset_g
        )
        board.attach_i2c(SENSORS_I2C, self._chip)
        board.wire(self._chip.int1, INPUT_PINS["motion"])

    def live(self) -> None:
        """Traffic comes by itself, and so do thieves, where they are expected."""
        now_s = self._board.now_s()
        if not self.thefts_every_s or now_s < self._next_s:
            return
        self._next_s = now_s + (self.thefts_every_s if self.angle_deg else _THEFT_S)
        self.turn(0 if self.angle_deg else 40)

    def turn(self, angle_deg: float, over_s: float = 2.0) -> None:
        """Somebody turns the cover, from now on."""
        if angle_deg and not self.angle_deg:
            self.opened_s = self._board.now_s()
        self.angle_deg = angle_deg

        def turn() -> None:
            self.motion.turn(self._board.now_s() + 0.1, angle_deg, 30, over_s)
            self._chip.changed()

        self._board.call(turn)


class LiftPlace:
    """A car in a shaft of four floors. It serves them by itself unless `is_busy` is set to False."""

    node_type = "lift"
    heap_size = "184k"  # it starts with 168k (firmware/README.md)

    def __init__(self, site: str, seed: int, *, is_busy: bool = True) -> None:
        self.site = site
        self.spot: Spot | None = None
        self.settings: dict[int, int] = {}
        self.is_busy = is_busy
        self.floor = 0
        self._seed = seed
        self._rng = random.Random(f"{seed} lift")
        self._shaft = Shaft(_HEIGHTS_M, LiftDrive(1.6, 0.9, 1.2))
        self._next_s = 0.0
        self._plan: list[tuple[float, Callable[[], object]]] = []

    def attach(self, board: VirtualBoard) -> None:
        self._board = board
        board.attach_i2c(SENSORS_I2C, Lis3dh(self._shaft.acceleration, seed=self._seed))
        board.attach_i2c(SENSORS_I2C, Bmp390(self._shaft.air, seed=self._seed))
        board.set_pin(INPUT_PINS["door"], 1)  # closed while the door is shut
        self._next_s = board.now_s() + 10  # it learns how it hangs first

    def live(self) -> None:
        now_s = self._board.now_s()
        while self._plan and self._plan[0][0] <= now_s:
            self._plan.pop(0)[1]()
        if self.is_busy and not self._plan and now_s >= self._next_s:
            self.ride(self._rng.choice([floor for floor in range(len(_HEIGHTS_M)) if floor != self.floor]))

    @property
    def is_idle(self) -> bool:
        """Whether the car stands with its door shut and has no plan."""
        return not self._plan and self._board.now_s() >= self._next_s

    def ride(self, floor: int) -> None:
        """To a floor, and the door opened and shut there."""
        start_s = self._board.now_s() + 0.3
        end_s = self._board.call(lambda: self._shaft.ride(start_s, floor))
        self.floor = floor
        door = INPUT_PINS["door"]
        open_s = end_s + _PAUSE_S
        self._plan += [
            (open_s, lambda: self._board.set_pin(door, 0)),
            (open_s + _DOOR_S, lambda: self._board.set_pin(door, 1)),
        ]
        self._next_s = open_s + _DOOR_S + _PAUSE_S

    def stop_between(self, floor: int, height_m: float) -> None:
        """The safety circuit opens on the way to a floor, with somebody in the car."""
        self.is_busy = False
        self._board.set_pin(INPUT_PINS["presence"], 1)
        start_s = self._board.now_s() + 0.3
        self._next_s = self._board.call(lambda: self._shaft.stop_on_the_way(start_s, floor, height_m))

    def free(self) -> None:
        """Help came: the door is open, the car is empty."""
        self._board.set_pin(INPUT_PINS["door"], 0)
        self._board.set_pin(INPUT_PINS["presence"], 0)


PLACES: dict[str, Callable[[str, int], Place]] = {
    "river": RiverPlace,
    "cover": CoverPlace,
    "lift": LiftPlace,
}


def place_of(node_type: str, site: str, seed: int) -> Place:
    """A place for a node of that type."""
    made = PLACES.get(node_type)
    if made is None:
        raise RigError(
            f"there is no virtual place for a node of type {node_type!r}; there is one for {', '.join(PLACES)}"
        )
    return made(site, seed)
