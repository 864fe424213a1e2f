"""Results of quality control reach every platform that the site is reported to; said again, they correct."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from gateway import civil
from gateway.commands import Commands
from gateway.errors import CommandError
from gateway.keys import Vault
from gateway.operations import Operations
from gateway.quality_checks import QualityChecks
from gateway.registry import By, Registry
from gateway.tokens import Tokens
from gateway.wishes import Wishes
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj1404
from protocols.northbound.hj212 import Hj212Error
from tests.northbound.hj_rig import MN, SITE, ZONE, Rig, in_world

AT_MS = civil.unix_ms("20260921230000", ZONE)
CHECK = {"Check": "8.11", "StandardValue": "8.00"}


async def offered(rig: Rig) -> Operations:
    known = Registry(rig.store, Vault(bytes(32)), rig.clock, "330106")
    await known.add_site(SITE, None, None, By("wang", "test"))
    operations = Operations(
        known, Commands(rig.store, known, rig.clock), Wishes(rig.store, known, rig.clock),
        Tokens(rig.store, rig.clock, os.urandom),
    )  # fmt: skip
    QualityChecks(rig.store, known, rig.clock, {"river-city": [SITE], "other": ["elsewhere"]}).serve(
        operations
    )
    return operations


def asked(**changed: Any) -> dict[str, Any]:
    return {
        "operation": "quality.add", "site": SITE, "kind": "standard", "measurand": "dissolved_oxygen", "at_ms": AT_MS,
        "fields": CHECK, **changed,
    }  # fmt: skip


def test_a_result_goes_to_the_platform_and_a_correction_goes_again(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await pass_s(1)  # connected: what is due from now on is fresh
        operations = await offered(rig)
        assert await operations.handle(asked(), "wang") == {"platforms": ["river-city"]}
        await operations.handle(
            asked(measurand="ph", fields={"Check": "6.9", "StandardValue": "6.86"}), "wang"
        )
        await pass_s(20)
        row = platform.rows[MN, "2062", "20260921230000"]
        assert row.items == {
            "w01001-Check": "6.9", "w01001-StandardValue": "6.86", "w01001-Flag": "N",
            "w01009-Check": "8.11", "w01009-StandardValue": "8.00", "w01009-Flag": "N",
        }  # fmt: skip
        assert not row.resent
        before = len(platform.arrivals)
        await operations.handle(asked(fields={"Check": "8.30", "StandardValue": "8.00"}, flag="D"), "wang")
        await pass_s(20)
        assert len(platform.arrivals) == before + 1
        row = platform.rows[MN, "2062", "20260921230000"]
        assert (row.items["w01009-Check"], row.items["w01009-Flag"], row.resent) == ("8.30", "D", True)
        assert rig.runner.status()["backlog"] == 0
        await rig.close()

    in_world(story())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"site": "lishui-4"}, "site 'lishui-4' is unknown. Known: lishui-3. Did you mean lishui-3?"),
        ({"kind": "standart"}, "Did you mean standard?"),
        ({"measurand": "disolved_oxygen"}, "Did you mean dissolved_oxygen?"),
        ({"flag": "X"}, "Known: N, D, B, T, C, M, F, S"),
        (
            {"fields": {"Check": "8.11"}},
            "StandardValue is missing: a standard check has Check, StandardValue",
        ),
        ({"fields": {**CHECK, "Chek": "1"}}, "'Chek' is unknown"),
        ({"fields": {**CHECK, "Check": "8,1"}}, "Check = '8,1' is not a number"),
        ({"fields": ["Check"]}, "must be a table of texts"),
        ({"at_ms": 1 << 60}, "in the future"),
        ({"at_ms": "now"}, "Allowed is a whole number"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    async def story() -> None:
        rig = Rig(tmp_path, HjPlatform())
        rig.open()
        operations = await offered(rig)
        with pytest.raises(CommandError) as caught:
            await operations.handle(asked(**changed), "wang")
        assert told in str(caught.value)
        await asyncio.sleep(0)
        await rig.close()

    in_world(story())


def test_every_kind_of_check_has_its_command_and_fields() -> None:
    assert {kind.cn for kind in hj1404.KINDS.values()} == {"2062", "2063", "2064", "2065", "2066"}
    time = {"WaterTime": "20260921230000"}
    hj1404.check_fields("parallel", {"Check": "1.0", "Water": "1.1", **time})
    hj1404.check_fields("zero", {"Check": "-0.01", "StandardValue": "0"})
    recovery = {"Check": "1.5", "Water": "1.0", "Chroma": "0.5", "Volume": "100", "DVolume": "1", **time}
    hj1404.check_fields("recovery", recovery)
    assert [key for key, _ in hj1404.group("recovery", "w21003", recovery, "N")] == [
        f"w21003-{name}" for name in ("Check", "WaterTime", "Water", "Chroma", "Volume", "DVolume", "Flag")
    ]
    with pytest.raises(Hj212Error, match="is not a time"):
        hj1404.check_fields("parallel", {"Check": "1.0", "Water": "1.1", "WaterTime": "noon"})
