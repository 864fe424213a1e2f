"""Read Device Identification: a frame of a maker's manual, devices that tell it in parts, and those that lie."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pollers import modbus_identity
from gateway.pollers.modbus_gate import Gate
from gateway.pollers.modbus_identity import Identity, part_of, size
from gateway.pollers.modbus_ports import PortSettings
from gateway.pollers.modbus_scan import Finding, Scan
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import ANSWERED, IDENTIFY, REFUSED, SILENT, SPOILT, Outcome, Request
from gateway.profiles import Identification, Profile
from hil_tests.world.modbus_slave import Manner, Slave, rtu
from tests.pollers.test_modbus_join import METER
from tests.pollers.test_modbus_real import KINDS, PATIENCE_S, Medium, slave

ASK = Request(1, IDENTIFY, 0, 1)
# KBR multicomp F144-3, manual 25359_EDEBDA0279-2320-1_EN, chapter 15.
MAKERS = bytes.fromhex(
    "012b0e010100000300084b425220476d624801126d756c7469636f6d7020463134342d332020020920322e3030723031 36cddb"
)


def test_the_answer_of_a_makers_manual_is_understood() -> None:
    assert rtu(1, bytes([43, 14, 1, 0])).hex() == "012b0e01007077", "the request as the manual has it"
    pdu = MAKERS[1:-2]
    assert size(pdu) == len(pdu)
    assert part_of(pdu) == (False, None, {0: b"KBR GmbH", 1: b"multicomp F144-3  ", 2: b" 2.00r016"})
    ear = Gate(is_numbered=False)
    ear.expect(ASK)
    ear.sent(bytes.fromhex("012b0e01007077"))
    for count in range(len(MAKERS)):
        assert ear.answer(MAKERS[:count]) == b""
    assert ear.answer(b"\x01\x2b" + MAKERS) == MAKERS
    assert ear.pdu == pdu


def read(one: Slave) -> tuple[Identity, list[Request]]:
    asked = []

    async def ask(request: Request) -> Outcome:
        asked.append(request)
        answer, _manner = one.serve(bytes([43, 14, request.quantity, request.address]), 0.0)
        if answer is None:
            return Outcome(SILENT)
        return Outcome(REFUSED, code=answer[1]) if answer[0] & 0x80 else Outcome(ANSWERED, tuple(answer))

    return asyncio.run(modbus_identity.read(ask, one.unit)), asked


def test_a_device_that_tells_it_in_parts_is_asked_until_it_has_told_all() -> None:
    one = Slave(1)
    one.identity = {0: b"Acme" + b"e" * 60, 1: b"L200", 2: b"V1.2", 4: b"Level", 5: b"L200-A"}
    one.identity_room = 40
    found, asked = read(one)
    assert found == Identity("Acme" + "e" * 60, "L200", "V1.2", "L200-A")
    assert [(request.quantity, request.address) for request in asked] == [(1, 0), (1, 1), (2, 3)]
    assert str(found).endswith("L200 V1.2 (L200-A)")


def test_a_device_without_it_costs_one_question() -> None:
    assert read(Slave(1)) == (Identity(), [ASK])


def test_one_that_always_says_that_more_follows_is_left() -> None:
    asked = []

    async def ask(request: Request) -> Outcome:
        asked.append(request)
        following = request.address + 1 if len(asked) < 90 else 0
        return Outcome(ANSWERED, (43, 14, 1, 0x81, 0xFF, following % 256, 1, request.address, 1, 65))

    assert asyncio.run(modbus_identity.read(ask, 1)).vendor == "A"
    assert len(asked) == modbus_identity.PARTS_MAX


def test_what_a_terminal_would_obey_is_written_out() -> None:
    one = Slave(1)
    one.identity = {0: b"\x1b[2Jevil", 1: b"[red]x[/red]\0\0", 2: b"\xff"}
    found, _asked = read(one)
    assert str(found) == "\\x1b[2Jevil [red]x[/red] ÿ"


@given(st.binary(max_size=300))
def test_nothing_that_arrives_makes_it_raise(data: bytes) -> None:
    for pdu in (data, bytes([43, 14, 1, 0x81]) + data):
        if pdu and size(pdu) == len(pdu):
            part_of(pdu)
    ear = Gate(is_numbered=False)
    ear.expect(ASK)
    ear.sent(bytes.fromhex("012b0e01007077"))
    ear.answer(data)
    ear.answer(b"\x01\x2b\x0e" + data)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_on_every_medium_beside_the_rest(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        device = slave()
        device.identity = {0: b"Acme", 1: b"L200", 2: b"V1.2"}
        async with Medium(kind, tmp_path, [device]) as medium:
            await medium.client.open()
            device.misbehave(Manner("split", delay_s=0.002, size=3))

            async def ask(request: Request) -> Outcome:
                return await medium.client.exchange(request, PATIENCE_S)

            assert await modbus_identity.read(ask, 7) == Identity("Acme", "L200", "V1.2")
            assert (await ask(Request(7, 3, 100, 1))).kind == ANSWERED
            device.misbehave(Manner("crc"))
            if kind != "tcp":
                assert (await medium.client.exchange(Request(7, IDENTIFY, 0, 1), 0.1)).kind == SPOILT

    asyncio.run(main())


def named(vendor: str = "", product: str = "") -> Profile:
    assert METER.modbus is not None
    told = Identification(vendor=vendor, product=product)
    return METER.model_copy(update={"modbus": METER.modbus.model_copy(update={"identification": told})})


def test_a_profile_that_a_device_names_itself_goes_first_and_one_that_it_contradicts_goes_last(
    tmp_path: Path,
) -> None:
    profiles = {
        "a_plain": METER,
        "b_other": named("Other"),
        "c_named": named("acme", "l2"),
        "d_more": named("Acme", "L3"),
    }

    async def main() -> Finding:
        device = slave()
        device.identity = {0: b"ACME Ltd", 1: b"L200", 2: b"V1.2"}
        device.maps[4] = {0: 100, 1: 0x4148, 2: 0, 40: 712}
        device.maps[3][9] = 712
        async with Medium("tcp", tmp_path, [device]) as medium:
            await medium.client.open()
            work = Scan(lambda settings: Line(), time.monotonic, 1.0)
            finding = Finding(7, PortSettings())
            await work.identify(medium.client, finding, profiles)
            return finding

    finding = asyncio.run(main())
    assert str(finding.says) == "ACME Ltd L200 V1.2"
    assert [fit.profile for fit in finding.fits] == ["c_named", "a_plain", "b_other", "d_more"]
    assert [fit.is_said for fit in finding.fits] == [True, False, False, False]
    assert [fit.plausible for fit in finding.fits] == [3, 3, 0, 0], "712 is no pH"
