"""A frame of HJ 212 for people: every field, and every mistake that can be named, not just the first. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from protocols.measurands import Measurand, registry
from protocols.northbound import hj212
from protocols.northbound.aggregate import (
    CALIBRATING,
    FAULT,
    MAINTENANCE,
    MANUAL,
    NO_LINK,
    NORMAL,
    OUT_OF_RANGE,
    STOPPED,
)
from protocols.northbound.hj212 import AREA_MAX, HEAD, SEGMENT_MAX, TAIL, Frame, Hj212Error
from protocols.northbound.hj212_sm4 import Sealer, cipher_of
from protocols.northbound.sl651 import crc16 as modbus_crc16
from protocols.northbound.told import Line, Told

FLAGS = {
    NORMAL: ("normal", "正常"), STOPPED: ("stopped", "停运"), MAINTENANCE: ("maintenance", "维护"),
    MANUAL: ("entered by hand", "手工输入"), FAULT: ("fault", "故障"), CALIBRATING: ("calibrating", "校准"),
    OUT_OF_RANGE: ("out of range", "超测量上限"), NO_LINK: ("no link to the instrument", "通讯异常"),
}  # fmt: skip
SUFFIXES = {
    "Rtd": ("now", "实时值"), "Min": ("lowest", "最小值"), "Avg": ("mean", "平均值"), "Max": ("highest", "最大值"),
    "Cou": ("sum", "累计值"), "Flag": ("flag", "数据标记"), "Data": ("value", "数据"), "Check": ("found", "核查值"),
    "StandardValue": ("true value", "标准值"), "SpanValue": ("span", "跨度值"), "Water": ("of the water", "水样值"),
    "WaterTime": ("time of the sample", "水样时间"), "Volume": ("volume", "体积"), "DVolume": ("added", "加标体积"),
    "Chroma": ("concentration added", "加标浓度"), "Info": ("information", "信息"), "RS": ("state", "运行状态"),
    "RT": ("run time", "运行时间"), "SampleTime": ("time of sampling", "采样时间"), "EFlag": ("equipment", "设备标志"),
}  # fmt: skip
_TIMES = ("DataTime", "BeginTime", "EndTime", "SystemTime", "RestartTime", "WaterTime")
_RETURNS = {"QnRtn": hj212.QN_RETURNS, "ExeRtn": hj212.EXECUTION_RETURNS}
_YEARS = {0: "HJ/T 212-2005", 1: "HJ 212-2017", 2: "HJ 212-2025 or HJ 1404-2024"}


def tell(data: bytes, sm4_key: bytes | None = None) -> Told:
    """All that is to be said of one frame; `sm4_key` opens a data area that is encrypted."""
    told = Told("HJ 212", [], [], [])
    segment = _envelope(data, told)
    if segment is None:
        return told
    try:
        frame = hj212.decode(_framed(segment))
    except Hj212Error as error:
        told.problems.append(str(error))
        return told
    told.lines.extend(_head(frame))
    _check_head(frame, told)
    readable = _readable(frame, told, sm4_key)
    if readable is not None:
        _tell_area(readable, told)
    return told


def _readable(frame: Frame, told: Told, sm4_key: bytes | None) -> Frame | None:
    """The frame with what its data area says; None when that is not to be read."""
    data = cipher_of(frame.area)
    if data is None:
        if sm4_key is not None and frame.area:
            told.notes.append("the data area is not encrypted, the key was not needed")
        return frame
    told.lines.append(Line("CP", frame.area[:64] + "…" * (len(frame.area) > 64), f"{len(data)} bytes of SM4"))
    if sm4_key is None:
        told.notes.append("the data area is encrypted; --sm4-key FILE opens it")
        return None
    try:
        return Sealer(sm4_key).open(frame)
    except Hj212Error as error:
        told.problems.append(str(error))
        return None


# --- the envelope -------------------------------------------------------------------------------


def _framed(segment: bytes) -> bytes:
    """With a length and check sum that fit, so that the rest can be looked at."""
    return HEAD + b"%04d" % len(segment) + segment + b"%04X" % hj212.crc16(segment)


def _envelope(data: bytes, told: Told) -> bytes | None:
    """The data segment; None when there is none to be found."""
    at = data.find(HEAD)
    if at < 0:
        hint = ": this is SL 651, try tidegate inspect sl651" if data.startswith(b"\x7e\x7e") else ""
        if data[:4].upper() == b"7E7E":
            hint = ": this is SL 651, try tidegate inspect sl651"
        told.problems.append(f"begins with {data[:4]!r}, a frame begins with ##{hint}")
        return None
    if at:
        told.problems.append(f"{at} bytes stand before the ## with which a frame begins: {data[:at]!r:.60}")
    text = data[at:]
    text = text.rstrip(TAIL)
    match = re.match(rb"##([0-9]{4})", text)
    if match is None:
        told.problems.append(f"after ## come four digits of length, here {text[2:6]!r}")
        return None
    check = re.search(rb"[0-9A-Fa-f]{4}$", text[6:])
    if check is None:
        told.problems.append(f"it ends with {text[-4:]!r} in the place of the four digits of a check sum")
        segment = text[6:]
    else:
        segment = text[6:-4]
        _check_sum(check[0], segment, text, told)
    _check_length(int(match[1]), segment, told)
    if len(segment) > SEGMENT_MAX:
        told.problems.append(f"the data segment has {len(segment)} bytes, allowed are {SEGMENT_MAX}")
        return None
    return segment


def _check_length(said: int, segment: bytes, told: Told) -> None:
    found = len(segment)
    if said == found:
        return
    hint = ""
    if said == len(segment.decode("utf-8", "replace")):
        hint = ": it counts characters, and has to count bytes"
    for counted, extra in (("the check sum", 4), ("the check sum and CR LF", 6), ("the whole frame", 12)):
        if said == found + extra:
            hint = f": it counts {counted} too, and has to count the data segment alone"
    told.problems.append(f"the length says {said:04d}, the data segment has {found:04d} bytes{hint}")


def _check_sum(found: bytes, segment: bytes, text: bytes, told: Told) -> None:
    wanted = hj212.crc16(segment)
    value = int(found, 16)
    if value == wanted:
        if found != found.upper():
            told.notes.append("the check sum is in small letters, as many devices in the field have it")
        return
    swapped = wanted >> 8 | (wanted & 0xFF) << 8
    hints = {
        modbus_crc16(
            segment
        ): ": it would be right as a Modbus CRC, which has the same polynomial and another way",
        swapped: ": its bytes are in the other order",
        hj212.crc16(text[:-4]): ": it covers ## and the length, and has to cover the data segment alone",
        hj212.crc16(text[2:-4]): ": it covers the length, and has to cover the data segment alone",
    }
    # The low byte of a Modbus CRC mostly comes first.
    other = modbus_crc16(segment)
    hints.setdefault(other >> 8 | (other & 0xFF) << 8, hints[other])
    hint = hints.get(value, ": bytes were changed on the way, or left out")
    told.problems.append(f"check sum {found.decode()} found, {wanted:04X} expected{hint}")


# --- the head -----------------------------------------------------------------------------------


def _head(frame: Frame) -> Iterator[Line]:
    yield Line("QN", frame.qn, "request number: when it was made", "请求编码")
    english, chinese = hj212.SYSTEMS.get(frame.st, ("unknown system", ""))
    yield Line("ST", frame.st, english, chinese)
    english, chinese = hj212.COMMANDS.get(frame.cn, ("unknown command", ""))
    yield Line("CN", frame.cn, english, chinese)
    yield Line("PW", "*" * min(len(frame.pw), 9), "password, not shown", "访问密码")
    yield Line("MN", frame.mn, "station", "设备唯一标识")
    version = _YEARS.get(frame.version, f"version {frame.version}, unknown")
    ack = "an answer is wanted" if frame.wants_ack else "no answer is wanted"
    yield Line("Flag", str(frame.flag), f"{version}; {ack}", "拆分包及应答标志")
    if frame.pnum:
        yield Line("PNO", f"{frame.pno} of {frame.pnum}", "packet", "包号")


def _check_head(frame: Frame, told: Told) -> None:
    for name, code, known in (("ST", frame.st, hj212.SYSTEMS), ("CN", frame.cn, hj212.COMMANDS)):
        if code not in known:
            number = int(code) if code.isdecimal() and len(code) < 9 else 0
            near = sorted(known, key=lambda one: abs(int(one) - number))[:2]
            listed = " and ".join(f"{one} ({known[one][0]})" for one in sorted(near))
            told.problems.append(f"{name} = {code:.12} is not in the standard; next to it are {listed}")
    if frame.version not in _YEARS:
        told.problems.append(f"Flag {frame.flag}: its version {frame.version} is none; there are 0, 1 and 2")
    if frame.version and len(frame.qn) != 17:
        told.problems.append(f"QN has {len(frame.qn)} digits, it has 17: YYYYMMDDhhmmss and milliseconds")
    elif frame.qn:
        _check_time("QN", frame.qn, told)
    if len(frame.mn) != 24:
        told.notes.append(f"MN has {len(frame.mn)} characters, the standard's have 24")
    if frame.pnum and not 1 <= frame.pno <= frame.pnum:
        told.problems.append(f"packet {frame.pno} of {frame.pnum}")
    if len(frame.area.encode()) > AREA_MAX:
        told.problems.append(f"the data area has {len(frame.area.encode())} bytes, allowed are {AREA_MAX}")


def _check_time(name: str, text: str, told: Told) -> None:
    try:
        hj212.check_time(text)
    except Hj212Error as error:
        told.problems.append(f"{name}: {error}")


# --- the data area ------------------------------------------------------------------------------


def _tell_area(frame: Frame, told: Told) -> None:
    try:
        groups = hj212.groups_of(frame.area)
    except Hj212Error as error:
        told.problems.append(f"data area: {error}")
        told.lines.append(Line("CP", frame.area[:200], "as it is"))
        return
    seen: set[str] = set()
    for key, value in (item for group in groups for item in group):
        if key in seen:
            told.problems.append(f"data area: {key:.40} stands twice")
        seen.add(key)
        _tell_item(key, value, told)


def _tell_item(key: str, value: str, told: Told) -> None:
    if key in _TIMES:
        _check_time(key, value, told)
    for name in _TIMES:
        if key.lower() == name.lower() and key != name:
            told.problems.append(f"{key}: names have capitals and small letters, it is {name}")
    if key in _RETURNS:
        known = _RETURNS[key]
        meaning = known.get(int(value)) if value.isascii() and value.isdigit() and len(value) < 9 else None
        told.lines.append(Line(key, value, meaning or "unknown"))
        if meaning is None:
            told.problems.append(f"{key} = {value!r:.20} is none of {', '.join(map(str, known))}")
        return
    code, dash, suffix = key.partition("-")
    if not dash:
        told.lines.append(Line(key, value))
        return
    english, chinese = SUFFIXES.get(suffix, ("", ""))
    measurand = _measurand(code)
    label = measurand.label if measurand else ""
    if suffix == "Flag":
        meaning, chinese = FLAGS.get(value, ("unknown flag", ""))
        told.lines.append(Line(key, value, f"{label}: {meaning}" if label else meaning, chinese))
        if value not in FLAGS:
            told.notes.append(
                f"{key} = {value:.12} is none of the flags {' '.join(FLAGS)}: a platform's own?"
            )
        return
    told.lines.append(Line(key, value, f"{label}, {english}" if label else english, chinese))
    _check_item(key, code, suffix, value, measurand, told)


def _measurand(code: str) -> Measurand | None:
    found = (one for one in registry().by_name.values() if one.hj212 is not None and one.hj212.code == code)
    return next(found, None)


def _check_item(
    key: str, code: str, suffix: str, value: str, measurand: Measurand | None, told: Told
) -> None:  # fmt: skip
    if suffix not in SUFFIXES:
        near = difflib.get_close_matches(suffix, SUFFIXES, n=1, cutoff=0.5)
        told.notes.append(
            f"{key:.40}: -{suffix:.20} is not known here{f'; did you mean -{near[0]}?' if near else ''}"
        )
    if suffix not in ("Rtd", "Min", "Avg", "Max", "Cou"):
        return
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        told.problems.append(f"{key:.40} = {value!r:.20} is not a number")
    if measurand is None:
        if re.fullmatch(r"w[0-9]{5}", code):
            codes = [one.hj212.code for one in registry().by_name.values() if one.hj212 is not None]
            near = difflib.get_close_matches(code, codes, n=1, cutoff=0.7)
            listed = f"; near it is {near[0]} ({_label(near[0])})" if near else ""
            told.notes.append(f"{code} is none of the measurands known here{listed}")
        elif re.fullmatch(r"[0-9]{5}", code):
            told.notes.append(f"{code}: the w of water is missing, as in some examples of the standard")


def _label(code: str) -> str:
    found = _measurand(code)
    return found.label if found else ""
