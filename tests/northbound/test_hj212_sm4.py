"""Data areas encrypted by SM4: a platform with the key reads every row, nobody else reads one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj212, hj212_told
from protocols.northbound.hj212 import Frame, Hj212Error, Joiner
from protocols.northbound.hj212_sm4 import Form, Sealer, cipher_of, key_of
from protocols.northbound.sm4 import Sm4Error
from tests.northbound.hj_rig import MN, START_S, Rig, in_world

KEY = bytes.fromhex("0123456789abcdeffedcba9876543210")
FRAME = Frame("20261128061700123", "21", hj212.HOUR, "123456", MN, hj212.VERSION_2025, True)


@given(st.text("abcDEF012=;,.-站", min_size=1, max_size=150), st.sampled_from(("hex", "base64")))
def test_what_is_sealed_comes_back_and_fits_a_frame(area: str, form: Form) -> None:
    sealer = Sealer(KEY, form)
    sealed = sealer.seal(FRAME._replace(area=area))
    assert hj212.decode(hj212.encode(sealed)) == sealed
    assert Sealer(KEY).open(sealed).area == area, "read is either form"


@pytest.mark.parametrize("form", ["hex", "base64"])
def test_the_longest_area_fits_and_one_byte_more_would_not(form: Form) -> None:
    sealer = Sealer(KEY, form)
    numbered = FRAME._replace(pw="x" * 16, pnum=hj212.PACKETS_MAX, pno=hj212.PACKETS_MAX)
    longest = "x" * sealer.text_max(numbered)
    hj212.encode(sealer.seal(numbered._replace(area=longest)))
    assert len(sealer.seal(FRAME._replace(area=longest + "x")).area) > hj212.area_room(numbered)


@pytest.mark.parametrize("form", ["hex", "base64"])
def test_a_message_of_several_packets_is_sealed_packet_by_packet(form: Form) -> None:
    sealer, joiner = Sealer(KEY, form), Joiner()
    groups = (f"w{number:05}-Avg={number}.5,w{number:05}-Flag=N" for number in range(80))
    area = ";".join(["DataTime=20261128060000", *groups])
    packets = hj212.split_area(FRAME, area, area_max=sealer.text_max(FRAME))
    assert len(packets) > 2
    carried = [hj212.decode(hj212.encode(sealer.seal(packet))) for packet in packets]
    assert {packet.pnum for packet in carried} == {len(packets)}, "readable, to put them together"
    whole = [joiner.take(Sealer(KEY).open(packet)) for packet in carried][-1]
    assert whole is not None
    assert whole.area == area


def test_the_standards_block_in_a_data_area() -> None:
    """GB/T 32907's example, and the block of padding that PKCS #7 adds."""
    plain = bytes.fromhex("681edf34d206965e86b3e94f536e4246")
    assert cipher_of(plain.hex().upper()) == plain
    sealed = Sealer(KEY).seal(FRAME._replace(area="DataTime=2026112"))
    assert len(sealed.area) == 64
    assert Sealer(KEY).open(sealed).area == "DataTime=2026112"


def test_readable_areas_are_not_taken_for_encrypted_ones() -> None:
    for area in ("", "DataTime=20261128060000;w01001-Rtd=7.4", "QnRtn=1", "ABCDEF", "ab" * 15):
        assert cipher_of(area) is None
        assert Sealer(KEY).open(FRAME._replace(area=area)).area == area
    with pytest.raises(Hj212Error, match="2061 can not be decrypted: the padding is wrong"):
        Sealer(bytes(16)).open(Sealer(KEY).seal(FRAME._replace(area="DataTime=20261128060000")))


def test_a_key_is_32_digits() -> None:
    assert key_of(" 01234567:89abcdef fedcba98-76543210\n") == KEY
    with pytest.raises(Sm4Error, match="32 hexadecimal digits; 6 characters were found"):
        key_of("secret")


@pytest.mark.parametrize("form", ["hex", "base64"])
def test_rows_requests_and_answers_go_encrypted(tmp_path: Path, form: Form) -> None:
    async def story() -> None:
        platform = HjPlatform(sealer=Sealer(KEY, form))
        rig = Rig(tmp_path, platform, sealer=Sealer(KEY, form))
        rig.open()
        await rig.live(3600)
        await pass_s(90)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600)
        assert rig.got(hj212.MINUTE) == rig.expected(hj212.MINUTE, 600, START_S + 3600)
        platform.ask(hj212.SET_RTD_INTERVAL, MN, "20260922010000001", "RtdInterval=120")
        await pass_s(1)
        assert platform.answers_to("20260922010000001") == [("9011", "QnRtn=1"), ("9012", "ExeRtn=1")]
        assert rig.told.real_time_s == 120
        assert platform.bad_frames == []
        await rig.close()

    in_world(story())


@pytest.mark.parametrize("key", [None, bytes(16)])
def test_a_gateway_without_the_key_delivers_nothing_and_keeps_it(tmp_path: Path, key: bytes | None) -> None:
    async def story() -> None:
        platform = HjPlatform(sealer=Sealer(KEY))
        rig = Rig(tmp_path, platform, sealer=None if key is None else Sealer(key))
        rig.open()
        await rig.live(1200)
        await pass_s(90)
        assert platform.bad_frames
        assert not platform.rows
        assert rig.runner.counters["delivered"] == 0
        assert rig.runner.status()["backlog"] == 2
        await rig.close()

    in_world(story())


def test_an_inspector_opens_it_with_the_key_only() -> None:
    data = hj212.encode(Sealer(KEY).seal(FRAME._replace(area="DataTime=20261128060000;w01001-Avg=7.48")))
    told = hj212_told.tell(data)
    assert not told.problems
    assert told.notes == ["the data area is encrypted; --sm4-key FILE opens it"]
    assert ("CP", "48 bytes of SM4") in [(line.field, line.meaning) for line in told.lines]
    told = hj212_told.tell(data, KEY)
    assert not told.problems
    assert ("w01001-Avg", "7.48") in [(line.field, line.value) for line in told.lines]
    assert "can not be decrypted" in hj212_told.tell(data, bytes(16)).problems[0]
