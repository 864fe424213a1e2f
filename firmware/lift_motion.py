"""From acceleration and air pressure to trips: when the car moves, how fast, how far. Integers, bounded state.

Fed with a batch (about 10 samples, 100 ms) at a time. Velocity is the integral of what the vertical axis shows beyond
its reading at rest, from the first unrest on; a trip is a velocity that stays. When the velocity has settled near zero
the car stands (zero velocity update): what is left of it is drift, and is taken out of the distance along the way. The
barometer gives a second distance, and has the last word on whether the car stands at all.

Units: acceleration in 1/64 mg, velocity in µm/s, distance in µm while it adds up (160 m and 5 m/s stay small integers
on a chip), pressure in 1/100 Pa. Up is positive.
"""

from array import array

RESTING, UNREST, MOVING = range(3)

PERIOD_US = 10000  # between two samples, at 100 Hz
# Fractions of a mg that a vertical acceleration counts.
_MG = 64
_UNIT = 1024  # length of the unit vector along gravity
# What standing people do to the car stays below; a lift begins with at least twice that.
_UNREST = 10 * _MG
# The reading at rest follows its samples with this shift (13 s), from those that are no unrest.
_REST_SHIFT = 7
_REST_BAND = 6 * _MG
# A trip: this fast for so long; people who jump in the car make less than that, or for less long.
_TRIP_UM_S = 150000
_TRIP_MS = 500
_TRIP_AT_ONCE_UM_S = 400000
# Unrest ends when the velocity has been this small for so long.
_CALM_UM_S = 60000
_CALM_MS = 600
# A velocity is steady when it stays within this for so long: it stands, or runs at its speed, or creeps to the floor.
_STEADY_UM_S = 40000
STEADY_MS = 800
# What drift may leave: a constant and so much for each second of the trip. Beyond it the barometer is asked.
_DRIFT_UM_S = 30000
_DRIFT_UM_S_PER_S = 1000
_DOUBT_UM_S = 180000
_DOUBT_MS = 2500
# An open door is proof as well, once a creeping car would have arrived.
_DOOR_MS = 1500
_SLOPE_UM_S_MAX = 120000
# A wrong reading at rest makes the velocity run away slowly: within this for so long, and the air says it stands.
_LEVEL_UM_S = 150000
_LEVEL_MS = 4000
# Pressures kept for the slope: half a second at the end against half a second two seconds before.
_RING = 32
_SLOPE_COUNT = 8
_SLOPE_BACK = 20
# A pause in the samples during which a trip may have been missed, and the height that shows it.
_GAP_MS = 1000
_GAP_MM = 1500
_MS_MAX = 1 << 28
_GRAVITY_BATCHES = 10


def isqrt(square: int) -> int:
    """The largest integer whose square is not above."""
    root = square
    guess = (square + 1) // 2
    while guess < root:
        root = guess
        guess = (root + square // root) // 2
    return root


class Motion:
    """``feed()`` a batch; then ``state``, and for one batch ``started``, ``stopped``, ``dropped``.

    After ``stopped``: ``distance_mm`` by the accelerometer, ``baro_mm`` by the barometer (None without one),
    ``told_ms`` from start to standstill, ``speed_max_mm_s``, ``rough`` when samples were missing or the drift is beyond
    what can be corrected: then the barometer's distance is the better one.
    """

    def __init__(self) -> None:
        self.state = RESTING
        self.started = False
        self.stopped = False
        self.dropped = False
        self.rough = False
        self.door_open = False  # as far as anybody knows; set from outside
        self.distance_mm = 0
        self.baro_mm: "int | None" = None
        self.duration_ms = 0  # since the unrest began
        self.told_ms = 0
        self.speed_max_mm_s = 0
        self.gx = self.gy = self.gz = 0  # unit vector along gravity, 0 until it is known
        self.rest = 0  # the vertical reading at rest, 1/64 mg
        self.steady_ms = 0
        self.v_um_s = 0
        self.x_um = 0
        self._rest_q = 0  # with 8 more bits
        self._rest_shift = 2
        self._rest_count = 0
        self._before = self._lately = 0  # what the two latest batches at rest had beyond it
        self._gravity = [0, 0, 0, 0]  # sums, and how many batches
        self._period_us = 0
        self._gain = 0
        self._fast_ms = 0
        self._calm_ms = 0
        self._steady_um_s = self._level_um_s = 0
        self._level_ms = 0
        self._ring = array("i", [0] * _RING)
        self._ring_at = 0
        self._ring_count = 0
        self._pressure_q = 0  # at rest, with 4 more bits; 0: none yet
        self._sum = 0  # of pressures since the velocity is steady
        self._count = 0
        self._mm_q = 867  # height of 1/100 Pa in 1/1024 mm
        self.set_period(PERIOD_US)

    # -- what is set from time to time ----------------------------------------------------------------------

    def set_period(self, period_us: int) -> None:
        """How far samples really are apart: an accelerometer's clock is off by several percent."""
        self._period_us = period_us
        self._gain = (period_us * 3923 + 50000) // 100000  # 9806.65 / 64 * 256 / 10^6

    def set_air(self, pressure: int, temperature_centi_c: int) -> None:
        """The height of a pascal in this air: R T / (M g p)."""
        self._mm_q = (temperature_centi_c + 27315) * 2997 // (pressure // 100)

    # -- a batch --------------------------------------------------------------------------------------------

    def feed(self, count: int, sx: int, sy: int, sz: int, pressure: "int | None") -> int:
        """Take the sums of ``count`` samples in mg; milliseconds that they took."""
        ms = count * self._period_us // 1000
        self.started = self.stopped = self.dropped = False
        if not self._rest_q and not self._learn_gravity(count, sx, sy, sz):
            return ms
        # Per sample: the vertical axis beyond its reading at rest.
        excess = ((sx * self.gx + sy * self.gy + sz * self.gz) >> 4) - (count * self._rest_q >> 8)
        deviation = excess // count
        if self.state == RESTING:
            if -_UNREST < deviation < _UNREST:
                self._before, self._lately = self._lately, excess
                self._follow_rest(deviation)
                if pressure is not None:
                    self._follow_pressure(pressure)
                return ms
            self._begin_unrest()
        v = self.v_um_s
        self.v_um_s = v + (excess * self._gain >> 8)
        self.x_um += ((v + self.v_um_s) >> 1) * ms // 1000
        self.duration_ms = min(self.duration_ms + ms, _MS_MAX)
        self._note_steady(ms, pressure)
        if self.state == UNREST:
            self._judge_unrest(ms)
        else:
            self._judge_trip()
        return ms

    def gap(self, ms: int, pressure: "int | None") -> None:
        """Samples are missing for that long: nobody knows what the car did, but for the air."""
        self.started = self.stopped = self.dropped = False
        if self.state != RESTING:
            self.x_um += self.v_um_s // 1000 * ms
            self.duration_ms = min(self.duration_ms + ms, _MS_MAX)
            self.rough = True
        elif ms >= _GAP_MS and pressure is not None and self._pressure_q:
            moved_mm = self._height_mm(pressure - (self._pressure_q >> 4))
            if abs(moved_mm) >= _GAP_MM:
                self.rough = self.stopped = True
                self.distance_mm = self.baro_mm = moved_mm
                self.told_ms = ms
                self.speed_max_mm_s = 0
                self._pressure_q = pressure << 4

    # -- at rest --------------------------------------------------------------------------------------------

    def _learn_gravity(self, count: int, sx: int, sy: int, sz: int) -> bool:
        """The direction of gravity, which a lift's own movement does not turn."""
        sums = self._gravity
        sums[0] += (sx << 4) // count
        sums[1] += (sy << 4) // count
        sums[2] += (sz << 4) // count
        sums[3] += 1
        if sums[3] < _GRAVITY_BATCHES:
            return False
        x, y, z = sums[0] // sums[3], sums[1] // sums[3], sums[2] // sums[3]
        sums[0] = sums[1] = sums[2] = sums[3] = 0
        length = isqrt(x * x + y * y + z * z)
        if length < 8000:  # half of gravity: not an accelerometer that works
            return False
        self.gx = x * _UNIT // length
        self.gy = y * _UNIT // length
        self.gz = z * _UNIT // length
        self.rest = (x * self.gx + y * self.gy + z * self.gz) >> 8
        self._rest_q = self.rest << 8
        self._rest_shift = 2
        return True

    def _follow_rest(self, deviation: int) -> None:
        if -_REST_BAND < deviation < _REST_BAND:
            self._rest_q += (deviation << 8) >> self._rest_shift
            self.rest = self._rest_q >> 8
            if self._rest_shift < _REST_SHIFT:
                self._rest_count += 1
                if self._rest_count >> self._rest_shift:
                    self._rest_shift += 1

    def _follow_pressure(self, pressure: int) -> None:
        if self._pressure_q:
            self._pressure_q += ((pressure << 4) - self._pressure_q) >> 3
        else:
            self._pressure_q = pressure << 4

    # -- unrest and trips -----------------------------------------------------------------------------------

    def _begin_unrest(self) -> None:
        self.state = UNREST
        # It began a little before it was seen: without those two batches every trip would be a centimetre short.
        self.v_um_s = (self._before + self._lately) * self._gain >> 8
        self.x_um = 0
        self.duration_ms = 0
        self.speed_max_mm_s = 0
        self.rough = False
        self._fast_ms = self._calm_ms = 0
        self.steady_ms = 0
        self._steady_um_s = self._level_um_s = 0
        self._level_ms = 0
        self._sum = self._count = 0
        self._ring_count = 0

    def _judge_unrest(self, ms: int) -> None:
        speed = abs(self.v_um_s)
        self._fast_ms = self._fast_ms + ms if speed >= _TRIP_UM_S else 0
        self._calm_ms = self._calm_ms + ms if speed < _CALM_UM_S else 0
        if self._fast_ms >= _TRIP_MS or speed >= _TRIP_AT_ONCE_UM_S:
            self.state = MOVING
            self.started = True
        elif self._calm_ms >= _CALM_MS and self.steady_ms >= _CALM_MS:
            self.state = RESTING
            self.dropped = True
        elif self._level_ms >= _LEVEL_MS and self._stands():
            self._restart_rest()
            self.dropped = True

    def _note_steady(self, ms: int, pressure: "int | None") -> None:
        if abs(self.v_um_s - self._steady_um_s) > _STEADY_UM_S:
            self._steady_um_s = self.v_um_s
            self.steady_ms = 0
            self._sum = self._count = 0
        else:
            self.steady_ms += ms
        if abs(self.v_um_s - self._level_um_s) > _LEVEL_UM_S:
            self._level_um_s = self.v_um_s
            self._level_ms = 0
        else:
            self._level_ms += ms
        if pressure is not None:
            if self._count < _RING:  # the first seconds: the door may open after them, and the air change
                self._sum += pressure
                self._count += 1
            self._ring[self._ring_at] = pressure
            self._ring_at = (self._ring_at + 1) % _RING
            self._ring_count += 1

    def _judge_trip(self) -> None:
        speed = abs(self.v_um_s)
        if speed > self.speed_max_mm_s * 1000:
            self.speed_max_mm_s = speed // 1000
        if speed > _DOUBT_UM_S:
            if self._level_ms >= _LEVEL_MS and self._stands():
                self.rough = True
                self._stop()
                self._restart_rest()
        elif self.steady_ms < STEADY_MS:
            return
        elif (
            speed <= _DRIFT_UM_S + self.duration_ms // 1000 * _DRIFT_UM_S_PER_S
            or (self.door_open and self.steady_ms >= _DOOR_MS)
            or (self.steady_ms >= _DOUBT_MS and self._stands())
        ):
            self._stop()
        elif self._level_ms >= _LEVEL_MS and self._stands():
            self._stop()
            self._restart_rest()

    def _stop(self) -> None:
        """The car stands: the velocity that is left grew along the way, so half of it was in the distance."""
        drift_um = (self.v_um_s >> 1) // 1000 * self.duration_ms
        self.distance_mm = (self.x_um - drift_um) // 1000
        self.told_ms = self.duration_ms - self.steady_ms
        self.baro_mm = None
        if self._count and self._pressure_q:
            after = self._sum // self._count
            self.baro_mm = self._height_mm(after - (self._pressure_q >> 4))
            self._pressure_q = after << 4
        self.state = RESTING
        self.stopped = True
        self.v_um_s = 0
        self._before = self._lately = 0

    def _restart_rest(self) -> None:
        """What was taken for the reading at rest was not: learn it anew, quickly."""
        self.state = RESTING
        self.v_um_s = 0
        self._rest_q = 0
        self._rest_count = 0

    def _stands(self) -> bool:
        """Whether the air says so: its slope over the last seconds."""
        if self._ring_count < _RING:
            return False
        late = early = 0
        for back in range(1, _SLOPE_COUNT + 1):
            late += self._ring[(self._ring_at - back) % _RING]
            early += self._ring[(self._ring_at - back - _SLOPE_BACK) % _RING]
        span_ms = _SLOPE_BACK * 10 * self._period_us // 1000
        slope_mm = self._height_mm((late - early) // _SLOPE_COUNT)
        return abs(slope_mm) * 1000 // span_ms * 1000 < _SLOPE_UM_S_MAX

    def _height_mm(self, pressure: int) -> int:
        """How much higher the car is where the pressure is that much more."""
        return -pressure * self._mm_q >> 10
