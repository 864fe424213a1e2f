"""An SX1262 at the level of SPI commands: bytes in and out, BUSY, DIO1, and an antenna in some ether.

After Semtech's data sheet DS.SX1261-2.W.APP rev 2.2, with the TCXO and the antenna switch of the boards in boards/.
Commands and registers that a LoRa driver has to do with are there, and everything a driver gets wrong easily:
BUSY for as long as the chip takes, commands in the wrong mode, a TCXO that does not start until it is configured,
calibrations, what a sleep forgets, packets that end where the one before ended in the buffer. The command status is
what the data sheet says it is (boards in the field are less strict). What the chip would bear, but the data sheet
forbids, is counted in ``complaints``.

Left out: GFSK, RX duty cycle, continuous wave, DIO3 as anything but the TCXO's supply; their commands fail.
"""

import collections
import functools
import math
import random
import struct
from collections.abc import Callable
from typing import Protocol

from boards.virtual.chips import sx1262_tables as tables
from boards.virtual.chips.registers import Signal as Pin
from boards.virtual.chips.sx1262_settings import FIFO, Settings
from boards.virtual.chips.sx1262_tables import Error, Irq, Register, Status
from boards.virtual.ether import Ether, Reception


class Clock(Protocol):
    """The board's time; it need not take back what it was given."""

    def now_s(self) -> float: ...
    def call_later(self, delay_s: float, function: Callable[[], None], /) -> object: ...


class Deadline:
    """Something that will happen, unless it is cancelled before: not every clock takes back what it was given."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def due(self) -> None:
        if self._function is not None:
            self._function()

    def cancel(self) -> None:
        self._function = None


class Sx1262(Settings):
    """``tcxo_mv`` None: a plain crystal. ``dio2_switches``: the antenna switch hangs on DIO2.

    ``fault``, at any time: "dead" (no power, MISO low), "stuck" (BUSY stays high until a reset), "broken" (BUSY stays
    high whatever one does), "deaf" (all commands work, nothing is heard or sent).
    """

    def __init__(
        self, ether: Ether, *, tcxo_mv: int | None = 1800, dio2_switches: bool = True, seed: int = 0
    ) -> None:
        self._ether = ether
        self._tcxo_mv = tcxo_mv
        super().__init__(dio2_switches, random.Random(f"{seed} sx1262"))
        self._timers: Clock | None = None
        self.dio1 = Pin()
        self.complaints: collections.Counter[str] = collections.Counter()
        self.transfers = 0
        self.spent_s: dict[str, float] = collections.defaultdict(float)  # per mode
        self._fault: str | None = None
        self._selected = False
        self._is_on_air = False
        self._deadlines: list[Deadline] = []
        self._mode = "off"
        self._since_s = 0.0
        self._busy_until_s = 0.0
        self._rx_timer: Deadline | None = None
        self._forget()

    def _forget(self) -> None:
        """As after a reset."""
        self._forget_settings()
        self._irq = 0
        self._status = Status.NONE
        self._errors = 0
        self._stats = [0, 0, 0]
        self._next_at = self._received = self._received_at = 0
        self._packet_status = bytes(3)
        self._is_warm = False
        self._is_locked = self._is_continuous = False
        self._rx_timer = None
        self._raise()

    def connect(self, timers: Clock) -> None:
        """Solder it to a board. ``now_s()`` may be ahead of the ether's clock; what is called later is then called at
        its moment on the ether's.
        """
        self._timers = timers
        self._since_s = timers.now_s()
        self.power(True)

    def power(self, is_on: bool) -> None:
        if is_on:
            self.reset()
        else:
            self._enter("off")
            self._forget()

    def reset(self) -> None:
        """NRESET was low for a moment."""
        if self._fault == "stuck":
            self._fault = None
        self._enter("standby")
        self._forget()
        self._boot()
        self._busy(tables.BOOT_S)

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        if fault is not None and fault not in tables.FAULTS:
            raise ValueError(f"no fault {fault!r} of a radio; there are {', '.join(tables.FAULTS)}")
        self._fault = fault

    @property
    def mode(self) -> str:
        """ "off", "sleep", "standby", "xosc", "fs", "rx", "tx" or "cad"."""
        return self._mode

    @property
    def is_busy(self) -> bool:
        """The level of BUSY."""
        if self._fault == "dead" or self._mode == "off":
            return False
        if self._fault in ("stuck", "broken") or self._mode == "sleep":
            return True
        return self._now_s() < self._busy_until_s

    # ---- SPI -----------------------------------------------------------------------------------------------------

    def transfer(self, mosi: bytes) -> bytes:
        """NSS low, these bytes, NSS high; what came back meanwhile."""
        self.select()
        miso = self.exchange(mosi)
        self.deselect()
        return miso

    def select(self) -> None:
        self._selected = True
        self._mosi = bytearray()
        self._is_heard = True
        self.transfers += 1
        if self._mode == "sleep":
            self._is_heard = False  # this transaction only wakes it
            self._wake()
        elif self.is_busy or self._mode == "off" or self._fault == "dead":
            self._is_heard = False
            if self._fault is None:
                self.complaints["a transfer while BUSY was high"] += 1

    def exchange(self, mosi: bytes) -> bytes:
        if not self._selected or not self._is_heard:
            return bytes(len(mosi))
        start = len(self._mosi)
        self._mosi += mosi
        return self._miso()[start:]

    def deselect(self) -> None:
        was_selected, self._selected = self._selected, False
        if was_selected and self._is_heard and self._mosi:
            self._execute(bytes(self._mosi))

    def _miso(self) -> bytes:
        """The status with every byte, and data from where the command has them."""
        status = tables.STATUS_CODE[self._mode] << 4 | self._status << 1
        out = bytearray([status]) * len(self._mosi)
        found = tables.READS.get(self._mosi[0])
        if found is not None and len(self._mosi) > found[1]:
            data = getattr(self, found[0])(len(self._mosi) - found[1])
            out[found[1] : found[1] + len(data)] = data[: len(self._mosi) - found[1]]
        return bytes(out)

    def _execute(self, message: bytes) -> None:
        opcode, arguments = message[0], message[1:]
        if opcode in tables.READS:
            return
        found = tables.COMMANDS.get(opcode)
        self._busy(tables.STEP_S)
        if found is None or not found.least <= len(arguments) <= found.most:
            self._status = Status.INVALID
            return
        if self._mode not in found.modes:
            self._status = Status.FAILED
            return
        self._status = Status.OK
        status = getattr(self, found.method)(arguments)
        if status is not None:
            self._status = status

    # ---- what the host reads -------------------------------------------------------------------------------------

    def _read_status(self, count: int) -> bytes:
        return b""

    def _read_registers(self, count: int) -> bytes:
        first = int.from_bytes(self._mosi[1:3], "big")
        return bytes(self._register(first + i) for i in range(count))

    def _register(self, address: int) -> int:
        if Register.RANDOM <= address < Register.RANDOM + 4:
            return self._random.randrange(256) if self._mode == "rx" else 0
        return super()._register(address)

    def _read_buffer(self, count: int) -> bytes:
        return bytes(self._fifo[(self._mosi[1] + i) % FIFO] for i in range(count))

    def _read_irq(self, count: int) -> bytes:
        return self._irq.to_bytes(2, "big")

    def _read_packet_type(self, count: int) -> bytes:
        return bytes((self._packet_type,))

    def _read_rx_buffer(self, count: int) -> bytes:
        return bytes((self._received, self._received_at))

    def _read_packet_status(self, count: int) -> bytes:
        return self._packet_status

    def _read_rssi(self, count: int) -> bytes:
        if self._mode != "rx":
            return bytes((0xFF,))
        rssi_dbm = self._ether.rssi_dbm(self, self._freq_hz, self._bw_hz())
        return bytes((_clip(round(-2 * rssi_dbm), 0, 255),))

    def _read_errors(self, count: int) -> bytes:
        return self._errors.to_bytes(2, "big")

    def _read_stats(self, count: int) -> bytes:
        return struct.pack(">HHH", *self._stats)

    def _clear_irq(self, arguments: bytes) -> None:
        self._irq &= ~int.from_bytes(arguments, "big")
        self._raise()

    def _clear_errors(self, arguments: bytes) -> None:
        self._errors = 0

    def _clear_stats(self, arguments: bytes) -> None:
        self._stats = [0, 0, 0]

    # ---- modes ---------------------------------------------------------------------------------------------------

    def _set_sleep(self, arguments: bytes) -> None:
        self._enter("sleep")
        self._is_warm = bool(arguments[0] & 0x04)

    def _set_standby(self, arguments: bytes) -> int | None:
        return self._go("xosc" if arguments[0] else "standby")

    def _set_fs(self, arguments: bytes) -> int | None:
        return self._go("fs")

    def _set_tx(self, arguments: bytes) -> int | None:
        failed = self._check_radio() or self._check_pa() or self._go("tx")
        if failed is not None:
            return failed
        self._settled(functools.partial(self._transmit, int.from_bytes(arguments, "big")))
        return None

    def _transmit(self, steps: int) -> None:
        self._is_on_air = self._fault != "deaf"
        air_s = self._ether.transmit(self, self._signal()) if self._is_on_air else 0.01
        self._later(air_s, self._sent)
        if steps:
            self._later(steps * tables.STEP_S, self._timed_out)

    def _set_rx(self, arguments: bytes) -> int | None:
        failed = self._check_radio() or self._go("rx")
        if failed is not None:
            return failed
        self._settled(functools.partial(self._listen, int.from_bytes(arguments, "big")))
        return None

    def _listen(self, steps: int) -> None:
        self._is_continuous = steps == tables.CONTINUOUS
        self._is_locked = False
        self._next_at = self._rx_base
        if self._fault != "deaf" and (self._dio2 or not self._dio2_switches):
            self._ether.tune(self, self._tuning())
            self._is_on_air = True
        if steps and not self._is_continuous:
            self._rx_timer = self._later(steps * tables.STEP_S, self._timed_out)

    def _set_cad(self, arguments: bytes) -> int | None:
        failed = self._check_radio(tables.COMPLETE - {"packet"}) or self._go("cad")
        if failed is not None:
            return failed
        symbols = (1 << self._cad[0]) + 0.5
        self._settled(lambda: self._later(symbols * self._symbol_s(), self._cad_done))
        return None

    def _unmodelled(self, arguments: bytes) -> int:
        self.complaints["a command that this model leaves out"] += 1
        return Status.FAILED

    def _go(self, mode: str) -> int | None:
        """Change the mode and be busy for as long as that takes; what keeps it from it."""
        starts_s = 0.0
        if mode in tables.CLOCKED and self._mode not in tables.CLOCKED:
            starts_s = self._clock_starts_s()
            if starts_s == math.inf:
                self._errors |= Error.XOSC_START
                self._enter("standby")
                return Status.FAILED
            if mode != "xosc" and not self._is_calibrated:
                self._errors |= Error.PLL_LOCK
                return Status.FAILED
        settle_s = tables.SETTLE_S.get((self._mode, mode), 0.0)
        self._enter(mode)
        self._busy(starts_s + settle_s)
        return None

    def _clock_starts_s(self) -> float:
        """How long the 32 MHz take; for ever when the TCXO has no supply, or is not waited for."""
        if self._tcxo_mv is None:
            return 0.0
        if self._dio3 is None or self._dio3[0] < self._tcxo_mv or self._dio3[1] < tables.TCXO_START_S:
            return math.inf
        return self._dio3[1]

    def _check_radio(self, needed: set[str] = tables.COMPLETE) -> int | None:
        if self._packet_type != 1 or not needed <= self._configured:
            return Status.FAILED
        first_hz, last_hz = self._image_hz
        if not first_hz - 4_000_000 <= self._freq_hz <= last_hz + 4_000_000:
            self.complaints["the image was not calibrated for this band"] += 1
        is_wide = self._bw_hz() == 500_000
        if bool(self._register(Register.TX_MODULATION) & 0x04) == is_wide:
            self.complaints["15.1: the modulation quality is not set for this bandwidth"] += 1
        if bool(self._register(Register.IQ_POLARITY) & 0x04) == self._packet[4]:
            self.complaints["15.4: the IQ polarity is not optimised for this packet"] += 1
        return None

    def _check_pa(self) -> int | None:
        if self._register(Register.TX_CLAMP) & 0x1E != 0x1E:
            self.complaints["15.2: no better resistance against antenna mismatch"] += 1
        if self._pa is None or self._pa[2] != 0:
            self._errors |= Error.PA_RAMP  # no PA, or that of an SX1261
            return Status.FAILED
        if self._dbm() > 14 and self._register(Register.OCP) * 2.5 < 118:
            self._errors |= Error.PA_RAMP
            return Status.FAILED
        return None

    def _wake(self) -> None:
        if self._is_warm:
            kept = self._retained()
            for address in tables.LOST_IN_WARM_SLEEP - kept:
                self._registers[address] = tables.DEFAULTS[address]
            self._fifo = bytearray(FIFO)
            self._irq = 0
        else:
            self._forget()
            self._boot()
        self._enter("standby")
        self._busy(tables.WAKE_S[self._is_warm])

    def _boot(self) -> None:
        """The start-up calibration: a TCXO has no supply yet, which is told as an error."""
        self._is_calibrated = self._clock_starts_s() < math.inf
        if not self._is_calibrated:
            self._errors = Error.XOSC_START

    def _calibrate(self, arguments: bytes) -> int | None:
        starts_s = self._clock_starts_s()
        if starts_s == math.inf:
            self._errors |= Error.XOSC_START | tables.CALIBRATION_ERRORS
            return Status.FAILED
        if arguments[0] & 0x7F == 0x7F:
            self._is_calibrated = True
        self._busy(starts_s + tables.CALIBRATE_S)
        return None

    def _calibrate_image(self, arguments: bytes) -> int | None:
        first, last = arguments
        starts_s = self._clock_starts_s()
        if starts_s == math.inf or last < first:
            self._errors |= Error.IMAGE
            return Status.FAILED
        self._image_hz = (first * 4_000_000, last * 4_000_000)
        self._busy(starts_s + tables.CALIBRATE_S)
        return None

    # ---- the air -------------------------------------------------------------------------------------------------

    def detected(self) -> None:
        if self._mode != "rx" or self._is_locked:
            return
        self._is_locked = True
        self._happened(Irq.PREAMBLE)
        if self._stops_on_preamble:
            self._stop_rx_timer()
        else:  # the rest of the preamble, the sync word, and the header's eight symbols
            self._later((self._packet[0] - 4 + 4.25 + 8) * self._symbol_s(), self._stop_rx_timer)

    def heard(self, reception: Reception) -> None:
        if self._mode != "rx":
            return
        self._is_locked = False
        self._stop_rx_timer()
        if not reception.has_header or reception.signal.is_implicit != self._packet[1]:
            self._stats[2] += 1
            self._happened(Irq.HEADER_ERROR)
            return  # it goes on listening, without its timer
        is_bad = reception.signal.has_crc and not reception.is_intact
        payload = bytearray(reception.signal.payload)
        if not reception.is_intact and payload:
            payload[self._random.randrange(len(payload))] ^= 1 << self._random.randrange(8)
        self._keep(payload, reception)
        self._stats[1 if is_bad else 0] += 1
        if not self._is_continuous:
            self._enter(self._fallback)
        self._status = Status.DATA
        self._happened(Irq.HEADER_VALID | Irq.RX_DONE | (Irq.CRC_ERROR if is_bad else 0))

    def _keep(self, payload: bytearray, reception: Reception) -> None:
        """In the buffer, behind what came before it."""
        self._received, self._received_at = len(payload), self._next_at
        for i, value in enumerate(payload):
            self._fifo[(self._next_at + i) % FIFO] = value
        self._next_at = (self._next_at + len(payload)) % FIFO
        rssi = _clip(round(-2 * reception.rssi_dbm), 0, 255)
        snr = _clip(round(4 * reception.snr_db), -128, 127)
        self._packet_status = struct.pack(">BbB", rssi, snr, rssi)

    def _sent(self) -> None:
        self._is_on_air = False  # there is nothing left to break off
        self._enter(self._fallback)
        self._status = Status.SENT
        self._happened(Irq.TX_DONE)

    def _cad_done(self) -> None:
        is_active = self._fault != "deaf" and self._ether.is_active(self, self._tuning())
        leave = self._cad[3]
        self._enter("standby")
        self._happened(Irq.CAD_DONE | (Irq.CAD_DETECTED if is_active else 0))
        if leave == 0x01 and is_active and self._go("rx") is None:
            self._settled(lambda: self._listen(self._cad[4]))
        elif leave == 0x10 and not is_active:
            self._set_tx(self._cad[4].to_bytes(3, "big"))

    def _timed_out(self) -> None:
        self._enter(self._fallback if self._mode == "tx" else "standby")
        self._status = Status.TIMEOUT
        self._happened(Irq.TIMEOUT)

    def _stop_rx_timer(self) -> None:
        if self._rx_timer is not None:
            self._rx_timer.cancel()
            self._rx_timer = None

    def _happened(self, irq: int) -> None:
        self._irq |= irq & self._irq_mask
        self._raise()

    def _raise(self) -> None:
        self.dio1.set(int(self._irq & self._dio1_mask != 0))

    # ---- time ----------------------------------------------------------------------------------------------------

    def _now_s(self) -> float:
        return self._timers.now_s() if self._timers is not None else 0.0

    def _busy(self, seconds: float) -> None:
        self._busy_until_s = max(self._busy_until_s, self._now_s() + seconds)

    def _settled(self, function: Callable[[], object]) -> None:
        """Once it is in the mode that it was sent to."""
        self._later(max(0.0, self._busy_until_s - self._now_s()), function)

    def _later(self, delay_s: float, function: Callable[[], object]) -> Deadline:
        """Unless the mode changes before."""
        if self._timers is None:
            raise RuntimeError("the radio is on no board: attach it first")
        deadline = Deadline(function)
        self._timers.call_later(delay_s, deadline.due)
        self._deadlines.append(deadline)
        return deadline

    def _enter(self, mode: str) -> None:
        """Leave the mode for another: what it was doing ends here."""
        for timer in self._deadlines:
            timer.cancel()
        self._deadlines.clear()
        self._rx_timer = None
        if self._is_on_air and self._mode == "rx":
            self._ether.tune(self, None)
        elif self._is_on_air and self._mode == "tx":
            self._ether.stop(self)
        self._is_on_air = False
        now_s = self._now_s()
        self.spent_s[self._mode] += now_s - self._since_s
        self._mode, self._since_s = mode, now_s


def _clip(value: int, least: int, most: int) -> int:
    return max(least, min(most, value))
