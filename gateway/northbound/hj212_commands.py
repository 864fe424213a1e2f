"""What a platform asks of its stations by HJ 212, and what they answer.

A request is answered by 9011 at once and by 9012 when it is done; what it asked for comes between, under its QN. A
notice (2012, 2022) is answered by 9013. Intervals, time-outs and real-time on or off are taken over and kept. Two
things a platform can not have: the clock (this machine has one from NTP; the difference is told in the log and in the
status) and, unless the settings allow it, another password.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from gateway import civil, report_rows
from gateway.clock import Clock
from gateway.errors import GatewayError, StoreError
from gateway.limits import HISTORY_ROWS_MAX, ROWS_PER_TURN
from gateway.northbound.hj212_report import Hj212Report, Told
from gateway.northbound.hj212_settings import Hj212Settings
from gateway.northbound.seldom import Seldom
from gateway.records import Reading
from gateway.report_rows import Key
from gateway.store import Store
from protocols.northbound import hj212
from protocols.northbound.hj212 import Frame, Hj212Error

log = logging.getLogger(__name__)
READY, REFUSED, WRONG_PASSWORD, WRONG_MN, WRONG_CN = 1, 2, 3, 4, 8
DONE, FAILED, NOT_MET, BUSY, NO_DATA = 1, 2, 3, 5, 100
HISTORY = (hj212.MINUTE, hj212.HOUR, hj212.DAY)
# Requests that change how a station reports.
SETS = (
    hj212.SET_TIMEOUT, hj212.SET_RTD_INTERVAL, hj212.SET_MINUTE_INTERVAL, hj212.REAL_TIME, hj212.REAL_TIME_STOP,
)  # fmt: skip
NOTICES = (hj212.REAL_TIME_STOP, hj212.STATE_STOP)
# Of 1000, as gateway.toml has them: the standard's 99999 s and 99 times would let one lost answer hold up a place for
# months.
TIMEOUT_S, RESENDS = range(1, 601), range(11)
# What HJ 212-2017 allows.
RTD_S = range(30, 3601)
MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)

Write = Callable[[Frame, Sequence[hj212.Group]], None]


class Refused(Exception):
    """The request is answered with this code of 9011."""

    def __init__(self, code: int) -> None:
        super().__init__(hj212.QN_RETURNS[code])
        self.code = code


class Desk:
    """Answers what a platform asks; one for each northbound, over all its sessions."""

    def __init__(
        self, settings: Hj212Settings, told: Told, report: Hj212Report, store: Store, clock: Clock,
        readings: Callable[[Key, int], list[Reading]],
    ) -> None:  # fmt: skip
        self.clock_off_s: float | None = None
        self.seldom = Seldom(log, clock.monotonic)
        self._settings = settings
        self._told = told
        self._report = report
        self._store = store
        self._clock = clock
        self._readings = readings
        self._sites = {mn: site for site, mn in settings.report.stations.items()}
        self._busy_with: str | None = None
        if settings.may_set:
            self._take_over()

    def _take_over(self) -> None:
        """What the platform set before the last restart; it goes before gateway.toml, so it is told."""
        name, told = self._settings.name, self._told
        kept = self._store.read(functools.partial(report_rows.settings, northbound=name))
        for key, text in kept.items():
            before = getattr(told, key, None)
            if before is None or not text.isdigit():
                continue
            value = type(before)(int(text))
            setattr(told, key, value)
            if value != before:
                log.warning(
                    "%s: %s is %s, as the platform has set it; gateway.toml has %s. may_set = false would keep to that",
                    name, key, value, before,
                )  # fmt: skip

    async def answer(self, request: Frame, write: Write) -> None:
        """Answer one request. Nothing that a platform sends raises."""
        notice = request.cn in NOTICES
        try:
            work = self._accepted(request)
        except Refused as refused:
            why = hj212.QN_RETURNS[refused.code]
            told = "%s: request %s was refused: %s"
            self.seldom.warning(refused.code, told, self._settings.name, request.cn, why)
            write(hj212.request_ack(request, refused.code), ())
            return
        if notice:
            try:
                await work(request, write)
            except StoreError as error:  # without its 9013 the platform tells it again
                self.seldom.warning(
                    "failed", "%s: notice %s failed: %s", self._settings.name, request.cn, error
                )
                return
            if request.wants_ack:
                write(hj212.data_ack(request, hj212.NOTICE_ACK), ())
            return
        if request.wants_ack:
            write(hj212.request_ack(request, READY), ())
        try:
            code = await work(request, write)
        except StoreError as error:  # a full disk: the platform asks again, and the rows go on
            self.seldom.warning("failed", "%s: request %s failed: %s", self._settings.name, request.cn, error)
            code = FAILED
        write(hj212.executed(request, code), ())

    def _accepted(self, request: Frame) -> Callable[[Frame, Write], Any]:
        if request.pw != self._settings.password:
            raise Refused(WRONG_PASSWORD)
        if request.mn not in self._sites:
            raise Refused(WRONG_MN)
        if request.cn == hj212.SET_TIME:
            self._tell_time(request)
            raise Refused(REFUSED)
        work = {
            hj212.SET_TIMEOUT: self._set_timeout,
            hj212.GET_TIME: self._get_time,
            hj212.GET_RTD_INTERVAL: self._get_rtd,
            hj212.SET_RTD_INTERVAL: self._set_rtd,
            hj212.GET_MINUTE_INTERVAL: self._get_minutes,
            hj212.SET_MINUTE_INTERVAL: self._set_minutes,
            hj212.SET_PASSWORD: self._set_password,
            hj212.REAL_TIME: self._start,
            hj212.REAL_TIME_STOP: self._stop,
            hj212.STATE_TIME: self._nothing,
            hj212.STATE_STOP: self._nothing,
            hj212.DEVICE_ID: self._nothing,
            hj212.INFO: self._nothing,
            **dict.fromkeys(HISTORY, self._history),
        }.get(request.cn)
        if work is None:
            raise Refused(WRONG_CN)
        if request.cn in SETS and not self._settings.may_set:
            raise Refused(REFUSED)
        if request.cn == hj212.SET_PASSWORD and self._settings.set_password is None:
            raise Refused(REFUSED)
        return work

    # ---- time ----------------------------------------------------------------------------------------------------

    async def _get_time(self, request: Frame, write: Write) -> int:
        now = civil.text(self._clock.unix_ms(), self._settings.report.zone)
        self._data(request, write, [(("SystemTime", now),)])
        return DONE

    def _tell_time(self, request: Frame) -> None:
        try:
            text = hj212.check_time(hj212.items_of(request.area).get("SystemTime", ""))
        except Hj212Error:
            return
        platform_ms = civil.unix_ms(text, self._settings.report.zone)
        self.clock_off_s = (self._clock.unix_ms() - platform_ms) / 1000
        self.seldom.warning(
            "clock",
            "%s: the platform wants to set the clock; by its time ours is off by %.1f s. This machine's clock is "
            "kept by NTP and was not changed",
            self._settings.name, self.clock_off_s,
        )  # fmt: skip

    # ---- settings ------------------------------------------------------------------------------------------------

    async def _set_timeout(self, request: Frame, write: Write) -> int:
        timeout_s, resends = self._whole(request, "OverTime"), self._whole(request, "ReCount")
        if timeout_s not in TIMEOUT_S or resends not in RESENDS:
            return NOT_MET
        await self._keep(timeout_s=timeout_s, resends=resends)
        return DONE

    async def _get_rtd(self, request: Frame, write: Write) -> int:
        self._data(request, write, [(("RtdInterval", str(self._told.real_time_s)),)])
        return DONE

    async def _set_rtd(self, request: Frame, write: Write) -> int:
        seconds = self._whole(request, "RtdInterval")
        if seconds not in RTD_S:
            return NOT_MET
        await self._keep(real_time_s=seconds)
        return DONE

    async def _get_minutes(self, request: Frame, write: Write) -> int:
        self._data(request, write, [(("MinInterval", str(self._told.minute_s // 60)),)])
        return DONE

    async def _set_minutes(self, request: Frame, write: Write) -> int:
        minutes = self._whole(request, "MinInterval")
        if minutes not in MINUTES:
            return NOT_MET
        await self._keep(minute_s=minutes * 60)
        return DONE

    async def _set_password(self, request: Frame, write: Write) -> int:
        new = self._item(request, "NewPW")
        set_password = self._settings.set_password
        if set_password is None or not new or len(new) > 16 or not new.isascii() or not new.isalnum():
            return NOT_MET
        try:
            set_password(new)
        except GatewayError as error:
            log.error("%s: the new password could not be kept: %s", self._settings.name, error)
            return FAILED
        self._settings.password = new
        return DONE

    async def _start(self, request: Frame, write: Write) -> int:
        await self._keep(real_time_on=True)
        return DONE

    async def _stop(self, request: Frame, write: Write) -> int:
        await self._keep(real_time_on=False)
        return DONE

    async def _nothing(self, request: Frame, write: Write) -> int:
        """A station of ours has no treatment plant whose state it could tell, and keeps no log for platforms."""
        return NO_DATA

    async def _keep(self, **changed: int) -> None:
        """Durable before it is told as done."""

        def work(connection: Any) -> None:
            for key, value in changed.items():
                report_rows.keep_setting(connection, self._settings.name, key, str(int(value)))

        await self._store.write(work)
        is_new = any(getattr(self._told, key) != value for key, value in changed.items())
        for key, value in changed.items():
            setattr(self._told, key, value)
        if is_new:
            log.info("%s: the platform set %s", self._settings.name, changed)

    # ---- history -------------------------------------------------------------------------------------------------

    async def _history(self, request: Frame, write: Write) -> int:
        """The rows that begin from BeginTime to EndTime, worked out anew."""
        if self._busy_with is not None:
            return BUSY
        zone = self._settings.report.zone
        try:
            begin, end = (hj212.check_time(self._item(request, key)) for key in ("BeginTime", "EndTime"))
            begin_ms, end_ms = civil.unix_ms(begin, zone), civil.unix_ms(end, zone)
        except (Hj212Error, ValueError):
            return NOT_MET
        self._busy_with = request.qn
        try:
            sent = await self._send_history(request, write, begin_ms, min(end_ms, self._clock.unix_ms()))
        finally:
            self._busy_with = None
        return DONE if sent else NO_DATA

    async def _send_history(self, request: Frame, write: Write, begin_ms: int, end_ms: int) -> int:
        period_s = self._report.period_s(request.cn)
        site = self._sites[request.mn]
        # "Everything that there is" gets the newest; there was nothing before 1970.
        begin_ms = max(begin_ms, end_ms - HISTORY_ROWS_MAX * period_s * 1000)
        if not 0 <= begin_ms <= end_ms:
            return 0
        start_ms = civil.period_start_ms(begin_ms, period_s, self._settings.report.zone)
        sent = 0
        for looked_at in range(HISTORY_ROWS_MAX):
            if start_ms > end_ms:
                break
            until_ms = civil.period_end_ms(start_ms, period_s, self._settings.report.zone)
            key = Key(site, request.cn, start_ms)
            area = self._report.message(key, until_ms, self._readings(key, until_ms))
            if area is not None and start_ms >= begin_ms:
                self._data(request, write, hj212.groups_of(area.decode()))
                sent += 1
            start_ms = until_ms
            if looked_at % ROWS_PER_TURN == 0:
                await asyncio.sleep(0)
        return sent

    # ---- small things --------------------------------------------------------------------------------------------

    def _data(self, request: Frame, write: Write, groups: Sequence[hj212.Group]) -> None:
        settings = self._settings
        frame = Frame(request.qn, settings.st, request.cn, settings.password, request.mn, settings.version)
        write(frame, groups)

    @staticmethod
    def _item(request: Frame, key: str) -> str:
        try:
            return hj212.items_of(request.area).get(key, "")
        except Hj212Error:
            return ""

    def _whole(self, request: Frame, key: str) -> int:
        text = self._item(request, key)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else -1
