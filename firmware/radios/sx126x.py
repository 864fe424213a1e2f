"""The SX1262 over SPI: says what to do and asks what came of it; nothing here waits for the air.

    radio = Sx126x(hal.radio(), law, hal.clock)
    radio.begin()                                         after power on and after a deep sleep
    radio.start_send(freq_hz, sf, dbm, payload, False)    AirRefused when the plan forbids it, and then nothing happens
    radio.start_listen(freq_hz, sf, True, 120)            0 ms: for ever
    event = radio.poll()                                  None, or what came of it: one Event per start_*
    radio.sleep()                                         keeps its settings; the next start_* wakes it

After Semtech's data sheet DS.SX1261-2 rev 2.2, application note AN1200.48 for channel activity detection, and what
drivers in the field had to learn (README.md). A fault is an Event, a count in ``errors``, and a reset of the chip:
nothing but AirRefused is raised. The law is asked right before the one command that transmits, in `_transmit`, and
where it needs the channel to be free that has been found out just before.
"""

from firmware.radios import BAD, BUSY, FAULT, FREE, HEARD, SENT, SILENCE, Event
from protocols.wire.airtime import AirRefused, lora, needs_ldro, symbol_us, time_on_air_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import RadioPort
    from firmware.hal.clock import Clock
    from protocols.wire.law import Law

_SET_SLEEP = 0x84
_SET_STANDBY = 0x80
_SET_TX = 0x83
_SET_RX = 0x82
_SET_CAD = 0xC5
_STOP_TIMER_ON_PREAMBLE = 0x9F
_SET_REGULATOR = 0x96
_CALIBRATE = 0x89
_CALIBRATE_IMAGE = 0x98
_SET_PA = 0x95
_WRITE_REGISTER = 0x0D
_READ_REGISTER = 0x1D
_WRITE_BUFFER = 0x0E
_READ_BUFFER = 0x1E
_SET_IRQ = 0x08
_GET_IRQ = 0x12
_CLEAR_IRQ = 0x02
_SET_DIO2 = 0x9D
_SET_DIO3 = 0x97
_SET_FREQUENCY = 0x86
_SET_PACKET_TYPE = 0x8A
_SET_POWER = 0x8E
_SET_MODULATION = 0x8B
_SET_PACKET = 0x8C
_SET_CAD_PARAMS = 0x88
_SET_BASES = 0x8F
_GET_STATUS = 0xC0
_GET_RX_BUFFER = 0x13
_GET_PACKET = 0x14
_GET_ERRORS = 0x17
_CLEAR_ERRORS = 0x07

_IRQ_TX_DONE = 0x001
_IRQ_RX_DONE = 0x002
_IRQ_HEADER_ERROR = 0x020
_IRQ_CRC_ERROR = 0x040
_IRQ_CAD_DONE = 0x080
_IRQ_CAD_DETECTED = 0x100
_IRQ_TIMEOUT = 0x200
_IRQS = 0x3E3

_REG_RETENTION = 0x029F
_REG_IQ = 0x0736
_REG_SYNC_WORD = 0x0740
_REG_TX_MODULATION = 0x0889
_REG_RX_GAIN = 0x08AC
_REG_TX_CLAMP = 0x08D8
_REG_OCP = 0x08E7

_BOOSTED = 0x96
_OCP_140_MA = 0x38
# DIO3's voltages, in mV, by their number; what a TCXO gets to become steady, in steps of 1/64 ms.
_TCXO_MV = (1600, 1700, 1800, 2200, 2400, 2700, 3000, 3300)
_TCXO_MS = 5
_STEPS_PER_MS = 64
_STEPS_MAX = 0xFFFFFE
_FOR_EVER = 0xFFFFFF
# Bands for the calibration of the image, in 4 MHz as the command wants them (data sheet, table 9-2).
_BANDS = ((0x6B, 0x6F), (0x75, 0x81), (0xC1, 0xC5), (0xD7, 0xDB), (0xE1, 0xE9))
# The PA: most dBm, and the duty cycle and size that do it with the least (data sheet, table 13-21).
_PAS = ((14, 2, 2), (17, 2, 3), (20, 3, 5), (22, 4, 7))
# Channel activity detection at 125 kHz, from SF7 on: symbols (as a power of two), peak (AN1200.48).
_CAD = ((1, 22), (1, 22), (2, 23), (2, 24), (2, 25), (2, 28))
_CAD_LEAST = 10
# A preamble is seen after so many of its symbols.
_SYMBOLS_SEEN = 6
# The longest that BUSY is high is a calibration with the TCXO's start, below 10 ms.
_BUSY_MS = 30
# What a chip may be late: SPI, its modes, and a node that looks now and then.
_LATE_MS = 50
# A radio that listens for ever is asked this often whether it still does.
_CHECK_MS = 10000

_IDLE = 0
_ASLEEP = 1
_CADDING = 2
_HELD = 3  # it is not time yet
_SENDING = 4
_LISTENING = 5

_MODE_RX = 5
_TICKS_US = (1 << 30) - 1


class Sx126x:
    def __init__(self, port: "RadioPort", law: "Law", clock: "Clock") -> None:
        self._port = port
        self._law = law
        self._clock = clock
        self.errors = 0  # faults of the chip, each answered by a reset
        self.bad = 0  # packets whose header or CRC was wrong
        self.raised_us = 0  # the port's ticks when the latest event was seen
        self.is_ready = False
        self._state = _IDLE
        self._lost = False  # it did not answer: nothing more is said to it before a reset
        self._pending: "Event | None" = None
        self._job: "tuple[int, int, int, int, int | None] | None" = None
        self._may_send = False  # the channel of the job, as far as the law wants to know
        self._forget()

    def _forget(self) -> None:
        """What the chip has been told is not so any more."""
        self._freq_hz = self._sf = self._cad_sf = self._size = -1
        self._dbm = -128
        self._iq = 0x0D
        self._is_inverted: "bool | None" = None
        self._is_endless = False
        self._band: "tuple[int, int] | None" = None
        self._since_ms = self._patience_ms = 0

    def begin(self) -> bool:
        """Reset the chip and set it up; whether it is as it should be then."""
        self._port.reset()
        self._forget()
        self._lost = False
        self._state = _IDLE
        self._send(_SET_STANDBY, 0)
        tcxo_mv = self._port.tcxo_mv
        if tcxo_mv is not None:
            steps = _TCXO_MS * _STEPS_PER_MS
            self._send(_SET_DIO3, _TCXO_MV.index(tcxo_mv), 0, steps >> 8, steps & 0xFF)
            self._send(_CLEAR_ERRORS, 0, 0)  # it could not start before
        self._send(_CALIBRATE, 0x7F)
        if self._port.dio2_switches:
            self._send(_SET_DIO2, 1)
        self._send(_SET_REGULATOR, 1)  # DC-DC
        self._send(_SET_PACKET_TYPE, 1)
        self._send(_SET_BASES, 0, 0)
        self._send(_STOP_TIMER_ON_PREAMBLE, 1)
        self._send(_SET_IRQ, _IRQS >> 8, _IRQS & 0xFF, _IRQS >> 8, _IRQS & 0xFF, 0, 0, 0, 0)
        self._set_registers()
        self._calibrate_image(self._law.freq_hz(0))
        self.is_ready = self._is_as_told()
        if not self.is_ready:
            self.errors += 1
        return self.is_ready

    def sleep(self) -> None:
        """Until the next start_*; what it is doing is broken off."""
        if self._state == _ASLEEP or not self.is_ready:
            return
        self._calm()
        self._send(_SET_SLEEP, 0x04)
        self._state = _ASLEEP
        self._check()

    def start_cad(self, freq_hz: int, sf: int) -> None:
        """Is somebody sending there? Ends in BUSY or FREE."""
        self._job = None
        if self._rouse():
            self._tune(freq_hz, sf)
            self._cad(sf)
        self._check()

    def start_send(
        self,
        freq_hz: int,
        sf: int,
        dbm: int,
        payload: "bytes | bytearray",
        is_inverted: bool,
        at_us: "int | None" = None,
    ) -> None:
        """Ends in SENT, or in BUSY when the law wants the channel to be free and it is not.

        ``at_us``: the port's ticks at which to begin, `lead_us` from now or later; None: at once.
        """
        dbm = min(dbm, self._port.dbm_max)
        self._law.check(self._clock.uptime_s(), freq_hz, lora(sf), len(payload), dbm)
        self._job = (freq_hz, sf, dbm, len(payload), at_us)
        if self._rouse():
            self._do(bytearray((_WRITE_BUFFER, 0)) + payload)
            self._tune(freq_hz, sf)
            self._frame(len(payload), is_inverted)
            self._power(dbm)
            self._may_send = not self._law.needs_listening
            self._hold()
        self._check()

    def start_listen(self, freq_hz: int, sf: int, is_inverted: bool, timeout_ms: int) -> None:
        """Ends in HEARD, BAD, or SILENCE when nothing began in that time; 0 ms: HEARD and BAD until something else
        is started.
        """
        if self._rouse():
            self._tune(freq_hz, sf)
            self._frame(0xFF, is_inverted)
            self._port.switch(True)
            steps = _FOR_EVER
            if timeout_ms:
                # What begins at the last moment is only seen after some symbols.
                timeout_ms += (_SYMBOLS_SEEN * symbol_us(lora(sf)) + 999) // 1000
                steps = min(timeout_ms * _STEPS_PER_MS, _STEPS_MAX)
            self._send(_SET_RX, steps >> 16, steps >> 8 & 0xFF, steps & 0xFF)
            self._is_endless = not timeout_ms
            # The chip's timer stops when a preamble begins, and a preamble may have been noise.
            longest_ms = time_on_air_us(lora(sf), 0xFF) // 1000
            self._enter(_LISTENING, timeout_ms + longest_ms if timeout_ms else _CHECK_MS)
        self._check()

    def poll(self) -> "Event | None":
        """What has come of what was started; call it often. None: nothing yet."""
        event, self._pending = self._pending, None
        if event is not None or self._state <= _ASLEEP:
            return event
        if self._state == _HELD:
            self._hold()
        elif self._port.is_raised():
            self.raised_us = self._port.ticks_us()
            event = self._raised(self._clock.ticks_ms())
        elif self._clock.ticks_diff(self._clock.ticks_ms(), self._since_ms) > self._patience_ms:
            event = self._overdue()
        self._check()
        if self._pending is not None:
            event, self._pending = self._pending, None
        return event

    def lead_us(self, sf: int) -> int:
        """From start_send to the first symbol, at most: set up, listen, start."""
        lead_us = (2 * _TCXO_MS + 10) * 1000
        if self._law.needs_listening:
            lead_us += _cad_us(sf)
        return lead_us

    # -- what it came to -------------------------------------------------------------------------------------

    def _raised(self, at_ms: int) -> "Event | None":
        irq = self._irq()
        state = self._state
        if self._lost:
            return None
        if state == _CADDING and irq & _IRQ_CAD_DONE:
            self._state = _IDLE
            self._port.switch(False)
            if irq & _IRQ_CAD_DETECTED:
                return Event(BUSY, at_ms, b"", 0, 0)
            if self._job is None:
                return Event(FREE, at_ms, b"", 0, 0)
            self._may_send = True
            self._hold()
            return None
        if state == _SENDING and irq & _IRQ_TX_DONE:
            self._state = _IDLE
            return Event(SENT, at_ms, b"", 0, 0)
        if state == _LISTENING and irq & (_IRQ_RX_DONE | _IRQ_HEADER_ERROR):
            return self._heard(irq, at_ms)
        if state == _LISTENING and irq & _IRQ_TIMEOUT:
            self._silent()
            return Event(SILENCE, at_ms, b"", 0, 0)
        self._lost = True  # nothing that it was told, or a transmission without an end
        return None

    def _heard(self, irq: int, at_ms: int) -> "Event | None":
        is_bad = irq & (_IRQ_HEADER_ERROR | _IRQ_CRC_ERROR)
        event = None
        if is_bad:
            self.bad += 1
            event = Event(BAD, at_ms, b"", 0, 0)
        else:
            found = self._read(_GET_RX_BUFFER, 4)
            size, start = found[2], found[3]
            found = self._read(_GET_PACKET, 5)
            packet = bytearray(3 + size)
            packet[0], packet[1] = _READ_BUFFER, start
            self._do(packet)
            # Both signed; the chip counts in halves of a dBm below 0 and in quarters of a dB.
            rssi_dbm = -(found[2] >> 1)
            snr_quarters = found[3] - 256 if found[3] & 0x80 else found[3]
            if not self._lost:
                event = Event(HEARD, at_ms, bytes(packet[3:]), rssi_dbm, snr_quarters * 5 // 2)
        if self._is_endless:
            self._since_ms = at_ms
        else:
            self._silent()
        return event

    def _overdue(self) -> "Event | None":
        if self._state != _LISTENING or self._read(_GET_STATUS, 2)[1] >> 4 & 7 != _MODE_RX:
            self._lost = True  # a receiver that was without power for a moment listens no more
            return None
        self._since_ms = self._clock.ticks_ms()
        if self._is_endless:
            return None
        self._silent()
        return Event(SILENCE, self._since_ms, b"", 0, 0)

    def _silent(self) -> None:
        """The end of a window. After a wrong header and a preamble that was none the chip itself would go on."""
        self._send(_SET_STANDBY, 0)
        self._port.switch(False)
        self._state = _IDLE

    def _check(self) -> None:
        """The end of every call: a chip that did not answer begins anew."""
        if self._lost:
            self.errors += 1
            self.is_ready = False
            self._state = _IDLE
            self._port.switch(False)
            self._pending = Event(FAULT, self._clock.ticks_ms(), b"", 0, 0)
            self.begin()
            self._lost = False

    # -- what it is told -------------------------------------------------------------------------------------

    def _rouse(self) -> bool:
        """Whatever it does: it is calm and awake now. False: it can not be set up, and a FAULT will tell."""
        self._pending = None
        if not self.is_ready and not self.begin():
            self._lost = False
            self._pending = Event(FAULT, self._clock.ticks_ms(), b"", 0, 0)
            return False
        if self._state == _ASLEEP:
            self._port.transfer(bytearray((_GET_STATUS, 0)))  # wakes it, and is not understood
            self._state = _IDLE
        self._calm()
        return True

    def _calm(self) -> None:
        if self._state != _IDLE:
            self._send(_SET_STANDBY, 0)
            self._send(_CLEAR_IRQ, 0xFF, 0xFF)
            self._port.switch(False)
            self._state = _IDLE

    def _hold(self) -> None:
        """Listen, and transmit, when it is time: a channel that was free some seconds ago says nothing."""
        if self._job is None:
            return
        _, sf, _, _, at_us = self._job
        if at_us is not None:
            starts_us = 0 if self._port.tcxo_mv is None else _TCXO_MS * 1000
            ahead_us = starts_us if self._may_send else self.lead_us(sf)
            left_us = (at_us - ahead_us - self._port.ticks_us()) & _TICKS_US
            if 0 < left_us < _TICKS_US >> 1:
                self._enter(_HELD, left_us // 1000)
                return
        if self._may_send:
            self._transmit()
        else:
            self._cad(sf)

    def _transmit(self) -> None:
        """The only place that transmits: the law is asked, told, and only then obeyed."""
        job, self._job = self._job, None
        if job is None:
            return
        freq_hz, sf, dbm, size, _ = job
        now_s = self._clock.uptime_s()
        try:
            air_us = self._law.check(now_s, freq_hz, lora(sf), size, dbm)
        except AirRefused:  # not while it listened; who tries again hears why
            self._state = _IDLE
            self._pending = Event(BUSY, self._clock.ticks_ms(), b"", 0, 0)
            return
        self._law.sent(now_s, freq_hz, air_us)
        steps = (air_us // 1000 + _LATE_MS // 2) * _STEPS_PER_MS
        self._send(_SET_TX, steps >> 16, steps >> 8 & 0xFF, steps & 0xFF)
        self._enter(_SENDING, air_us // 1000 + _LATE_MS)

    def _cad(self, sf: int) -> None:
        symbols, peak = _CAD[sf - 7]
        if sf != self._cad_sf:
            self._send(_SET_CAD_PARAMS, symbols, peak, _CAD_LEAST, 0, 0, 0, 0)
            self._cad_sf = sf
        self._port.switch(True)
        self._send(_SET_CAD)
        self._enter(_CADDING, _cad_us(sf) // 1000 + _LATE_MS)

    def _tune(self, freq_hz: int, sf: int) -> None:
        if freq_hz != self._freq_hz:
            self._calibrate_image(freq_hz)
            # The nearest to freq_hz * 2^25 / 32 MHz, in small integers.
            word = (freq_hz // 15625 << 14) + ((freq_hz % 15625 << 14) + 7812) // 15625
            self._send(_SET_FREQUENCY, word >> 24, word >> 16 & 0xFF, word >> 8 & 0xFF, word & 0xFF)
            self._freq_hz = freq_hz
        if sf != self._sf:
            self._send(_SET_MODULATION, sf, 0x04, 1, needs_ldro(sf, 125000))  # 125 kHz, 4/5
            self._sf = sf

    def _frame(self, size: int, is_inverted: bool) -> None:
        """Packets of this size and IQ; with header, CRC and a preamble of 8 symbols."""
        if is_inverted != self._is_inverted:
            # Data sheet 15.4: bit 2 is 0 with inverted IQ, or long packets are lost.
            self._write(_REG_IQ, self._iq & ~0x04 if is_inverted else self._iq | 0x04)
            self._size = -1
        if size != self._size:
            self._send(_SET_PACKET, 0, 8, 0, size, 1, is_inverted)
        self._size, self._is_inverted = size, is_inverted

    def _power(self, dbm: int) -> None:
        """The smallest PA for this much, and the rest by its power."""
        if dbm == self._dbm:
            return
        most, duty, size = next(pa for pa in _PAS if dbm <= pa[0])
        self._send(_SET_PA, duty, size, 0, 1)
        self._write(_REG_OCP, _OCP_140_MA)  # after the PA, which brings a limit of its own
        self._send(_SET_POWER, max(dbm + 22 - most, -9) & 0xFF, 0x04)  # ramp 200 us
        self._dbm = dbm

    def _set_registers(self) -> None:
        self._write(_REG_TX_CLAMP, self._register(_REG_TX_CLAMP) | 0x1E)  # 15.2: a mismatched antenna
        self._write(_REG_TX_MODULATION, self._register(_REG_TX_MODULATION) | 0x04)  # 15.1: below 500 kHz
        self._iq = self._register(_REG_IQ)
        self._write(_REG_RX_GAIN, _BOOSTED)
        self._write(_REG_SYNC_WORD, 0x14)  # 12h, private
        self._write(_REG_SYNC_WORD + 1, 0x24)
        # What a sleep would not keep by itself.
        names = bytearray((_WRITE_REGISTER, _REG_RETENTION >> 8, _REG_RETENTION & 0xFF, 3))
        for register in (_REG_RX_GAIN, _REG_TX_MODULATION, _REG_IQ):
            names.append(register >> 8)
            names.append(register & 0xFF)
        self._do(names)

    def _calibrate_image(self, freq_hz: int) -> None:
        at = freq_hz // 4000000
        for band in _BANDS:
            if band[0] <= at <= band[1] and band != self._band:
                self._send(_CALIBRATE_IMAGE, band[0], band[1])
                self._band = band

    def _is_as_told(self) -> bool:
        """Whether somebody is there, understood, and has no error to tell."""
        found = self._read(_GET_ERRORS, 4)
        return (
            not self._lost
            and not found[2]
            and not found[3]
            and self._register(_REG_SYNC_WORD) == 0x14
            and not self._lost
        )

    # -- SPI -------------------------------------------------------------------------------------------------

    def _send(self, *message: int) -> None:
        self._do(bytearray(message))

    def _write(self, register: int, value: int) -> None:
        self._send(_WRITE_REGISTER, register >> 8, register & 0xFF, value)

    def _register(self, register: int) -> int:
        message = bytearray(5)
        message[0], message[1], message[2] = _READ_REGISTER, register >> 8, register & 0xFF
        self._do(message)
        return message[4]

    def _read(self, command: int, size: int) -> bytearray:
        message = bytearray(size)
        message[0] = command
        self._do(message)
        return message

    def _irq(self) -> int:
        """What has happened, and that is known now."""
        found = self._read(_GET_IRQ, 4)
        irq = found[2] << 8 | found[3]
        if not irq or irq & ~_IRQS:
            self._lost = True
        self._send(_CLEAR_IRQ, found[2], found[3])
        return irq

    def _do(self, message: bytearray) -> None:
        if not self._lost and self._is_free():
            self._port.transfer(message)

    def _is_free(self) -> bool:
        """Wait until BUSY is low: tens of microseconds, or some milliseconds after a start."""
        port = self._port
        for _ in range(20):
            if not port.is_busy():
                return True
        for _ in range(_BUSY_MS):
            self._clock.sleep_ms(1)
            if not port.is_busy():
                return True
        self._lost = True
        return False

    def _enter(self, state: int, patience_ms: int) -> None:
        self._state = state
        self._since_ms = self._clock.ticks_ms()
        self._patience_ms = patience_ms


def _cad_us(sf: int) -> int:
    return (2 * (1 << _CAD[sf - 7][0]) + 1) * symbol_us(lora(sf)) // 2
