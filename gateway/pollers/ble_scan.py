"""One scanner that goes on for ever: passive where it can be, watched, and started anew when it has gone deaf.

    start (passive; active where passive is refused) → adverts → every few seconds: is the adapter there, did
    anything come? → no: stop, start again

Stacks stop scanning without a word: a controller that was reset, a BlueZ that lost its discovery state, an adapter
that was unplugged and came back as another object. Only the silence tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from gateway import limits
from gateway.clock import Clock
from gateway.log import Logger
from gateway.pollers.ble_advert import Advert, Repeats, advert_of
from gateway.pollers.ble_backend import Backend, ScanMode
from gateway.pollers.ble_faults import (
    ADAPTER,
    BUSY,
    DENIED,
    OTHER,
    STACK_ERRORS,
    TIMEOUT,
    Backoff,
    BleFault,
    classify,
    explain,
    text_of,
)

if TYPE_CHECKING:
    from bleak import BleakScanner
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

WantedMode = Literal["auto", "passive", "active"]


class ScanCounters:
    """What a scanner counts; columns of the metrics."""

    __slots__ = ("adverts", "news", "oversize", "resets", "restarts", "start_errors", "starts")

    def __init__(self) -> None:
        self.adverts = 0
        self.news = 0
        self.oversize = 0
        self.starts = 0
        self.start_errors = 0
        self.restarts = 0  # by the watchdog
        self.resets = 0  # of the adapter


class Scanner:
    """Calls `on_heard` for each advert and `on_news` for those whose bytes are new. Bounded, whoever advertises."""

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        log: Logger,
        *,
        mode: WantedMode = "auto",
        on_heard: Callable[[BLEDevice, Advert], None],
        on_news: Callable[[Advert], None],
        on_progress: Callable[[], None] = lambda: None,
        who: Callable[[Advert], str] | None = None,
        may_reset: Callable[[bool], bool] = lambda is_stuck: False,
    ) -> None:
        """`may_reset`: whether the adapter may be switched off and on; told whether it is stuck, or only deaf."""
        self.backend = backend
        self.counters = ScanCounters()
        self.is_scanning = False
        self.mode: ScanMode = "active" if mode == "active" else "passive"
        self.last_error = ""
        self.repeats = Repeats()
        self._wanted = mode
        self._clock = clock
        self._log = log.bind(adapter=backend.name)
        self._on_heard = on_heard
        self._on_news = on_news
        self._on_progress = on_progress
        self._who = who
        self._heard_s = float("-inf")
        self._silence_s = limits.BLE_SILENCE_MIN_S
        self._backoff = Backoff()
        self._may_reset = may_reset
        self._reset_s = float("-inf")
        self._deaf_in_a_row = 0

    def quiet_s(self) -> float:
        """Seconds since the last advert of anybody."""
        return self._clock.monotonic() - self._heard_s

    async def run(self) -> None:
        """Scan until cancelled; every trouble is told once, counted, and tried again."""
        while True:
            try:
                await self.session()
            except STACK_ERRORS as exc:
                pause_s = self._failed(exc)
            else:
                pause_s = 0.0
            await self._reset_if_stuck()
            await self._pause(pause_s)

    async def _reset_if_stuck(self) -> None:
        """Some adapters and drivers get into a state that only ends with their power."""
        is_stuck = self._backoff.kind == BUSY and self._backoff.in_a_row >= limits.BLE_STUCK_AFTER
        is_deaf = self._deaf_in_a_row >= 2  # in both modes, where both are allowed
        now_s = self._clock.monotonic()
        if not (is_stuck or is_deaf) or now_s - self._reset_s < limits.BLE_RESET_PAUSE_S:
            return
        if not self._may_reset(is_stuck):
            return
        self._reset_s = now_s
        self.counters.resets += 1
        self.mode = "active" if self._wanted == "active" else "passive"
        self._log.warning("ble_adapter_reset", reason=self.last_error)
        try:
            async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
                await self.backend.reset()
        except STACK_ERRORS as exc:
            self._log.warning("ble_adapter_reset_failed", reason=explain(exc, "power cycle"))

    async def session(self) -> None:
        """One scanner from its start until it is deaf; raises when it cannot start or its adapter is gone."""
        scanner = await self._start()
        self.is_scanning = True
        self.counters.starts += 1
        if self._backoff.kind:  # why it could not start is over
            self.last_error = ""
        try:
            self._log.info("ble_scan_started", mode=self.mode)
            await self._watch()
        finally:
            self.is_scanning = False
            await self._stop(scanner)

    async def _start(self) -> BleakScanner:
        if self._wanted != "active" and self.mode == "passive":
            try:
                return await self._begin("passive")
            except STACK_ERRORS as exc:
                if classify(exc) in (ADAPTER, DENIED):
                    raise
                kind = classify(exc)
                if kind in (BUSY, TIMEOUT) and self._backoff.in_a_row < limits.BLE_STUCK_AFTER:
                    raise  # that passes, and says nothing of passive scans
                if self._wanted == "passive":
                    raise BleFault(
                        kind if kind in (BUSY, TIMEOUT) else OTHER, _no_passive(text_of(exc))
                    ) from exc
                self._log.warning("ble_scan_active", reason=_no_passive(text_of(exc)))
                self.mode = "active"
        return await self._begin(self.mode)

    async def _begin(self, mode: ScanMode) -> BleakScanner:
        async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
            await self.backend.prepare()
            scanner = self.backend.scanner(self._advert, mode)
            try:
                await scanner.start()
            except BaseException:
                await self._stop(scanner)
                raise
        return scanner

    async def _stop(self, scanner: BleakScanner) -> None:
        """Stop as well as it goes: of an adapter that is gone nothing can be stopped."""
        try:
            async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
                await scanner.stop()
        except STACK_ERRORS as exc:
            self._log.debug("ble_scan_stop", error=text_of(exc))

    async def _watch(self) -> None:
        """Return when nothing was heard for too long; raise when the adapter is gone."""
        started_s = self._clock.monotonic()
        heard_before = self.counters.adverts
        while True:
            await asyncio.sleep(limits.BLE_CHECK_S)
            async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
                await self.backend.check()
            self._on_progress()
            if self.counters.adverts != heard_before:
                self._works()
            if self._clock.monotonic() - max(self._heard_s, started_s) < self._silence_s:
                continue
            self._deaf(self.counters.adverts != heard_before)
            return

    def _works(self) -> None:
        self._backoff.worked()
        self._silence_s = limits.BLE_SILENCE_MIN_S
        self._deaf_in_a_row = 0
        self.last_error = ""

    def _deaf(self, heard_any: bool) -> None:
        self.counters.restarts += 1
        self.last_error = f"nothing heard for {self._silence_s:.0f} s ({self.mode} scan)"
        self._log.warning("ble_scan_deaf", quiet_s=round(self._silence_s), mode=self.mode)
        if not heard_any:
            self._deaf_in_a_row += 1
            self._silence_s = min(self._silence_s * 2, limits.BLE_SILENCE_MAX_S)
            if (
                self._wanted == "auto"
            ):  # a passive scan that is granted and finds nothing: old kernels do that
                self.mode = "active" if self.mode == "passive" else "passive"

    def _failed(self, error: BaseException) -> float:
        """Count a scanner that could not start or lost its adapter; log it once, not for the whole weekend."""
        self.counters.start_errors += 1
        message = explain(error, f"no scan on {self.backend.name}")
        if message != self.last_error:
            self._log.warning("ble_scan_unavailable", reason=message)
            self.last_error = message
        pause_s = self._backoff.failed(classify(error))
        return min(max(pause_s, limits.BLE_SCAN_RETRY_MIN_S), limits.BLE_SCAN_RETRY_MAX_S)

    async def _pause(self, seconds: float) -> None:
        """Sleep in steps that show the supervisor that we are alive."""
        until_s = self._clock.monotonic() + seconds
        while (left_s := until_s - self._clock.monotonic()) > 0:
            self._on_progress()
            await asyncio.sleep(min(left_s, limits.BLE_CHECK_S))

    # --- adverts ---------------------------------------------------------------------------------

    def _advert(self, device: BLEDevice, data: AdvertisementData) -> None:
        self.counters.adverts += 1
        self._heard_s = self._clock.monotonic()
        advert = advert_of(device, data, self._heard_s)
        size = sum(map(len, advert.service_data.values())) + sum(map(len, advert.manufacturer_data.values()))
        if size > limits.BLE_ADVERT_BYTES_MAX:
            self.counters.oversize += 1
            return
        if self._who is not None:
            advert = advert._replace(who=self._who(advert))
        self._on_heard(device, advert)
        if self.repeats.is_news(advert):
            self.counters.news += 1
            self._on_news(advert)


def _no_passive(reason: str) -> str:
    return (
        f"passive scanning was refused ({reason.rstrip('.')}). It needs BlueZ 5.56 or newer run with --experimental "
        "(`systemctl edit bluetooth`, ExecStart=…/bluetoothd --experimental) and Linux 5.10. Scanning actively "
        "instead also works; it makes every device answer, and BlueZ write what it learns to disk."
    )
