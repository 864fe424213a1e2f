"""HJ 212 frames: what a pollution source or a river station says to an environmental platform. Pure: bytes and text.

    ##0101QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&RtdInterval=30&&1C80

Four digits say how long the data segment is, four hexadecimal digits are its check sum, CR LF ends it. The data area
(CP) has items `key=value`; those of one pollutant are separated by `,`, groups by `;`.

Sources: HJ 212-2017 chapters 6 and 7, annexes A to C; of HJ 212-2025 and HJ 1404-2024 what differs (version bits, RF,
CN 9015) as field software has it. Reading is lenient where the standard's own examples are wrong (spaces around the
data area, a check sum in small letters, CR LF left out); writing is strict. A wrong length or check sum is refused.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

VERSION_2005, VERSION_2017, VERSION_2025 = 0, 1, 2
VERSIONS = {"2005": VERSION_2005, "2017": VERSION_2017, "2025": VERSION_2025, "1404": VERSION_2025}

# Of the data segment, of the data area, of a frame's frame (chapter 6.3.1).
SEGMENT_MAX = 1024
AREA_MAX = 950
HEAD, TAIL = b"##", b"\r\n"
_OVERHEAD = len(HEAD) + 4 + 4 + len(TAIL)
FRAME_MAX = SEGMENT_MAX + _OVERHEAD
PACKETS_MAX = 9999
# One message put together of packets: a day of minute rows of a large station is 200 kB.
JOINED_MAX = 1024 * 1024

# Command numbers (CN) that we speak.
SET_TIMEOUT, GET_TIME, SET_TIME, TIME_REQUEST = "1000", "1011", "1012", "1013"
GET_RTD_INTERVAL, SET_RTD_INTERVAL, GET_MINUTE_INTERVAL, SET_MINUTE_INTERVAL = "1061", "1062", "1063", "1064"
SET_PASSWORD = "1072"
REAL_TIME, REAL_TIME_STOP, STATE_TIME, STATE_STOP = "2011", "2012", "2021", "2022"
DAY, RUN_TIME, MINUTE, HOUR = "2031", "2041", "2051", "2061"
STANDARD_CHECK, RECOVERY, PARALLEL, ZERO_CHECK, SPAN_CHECK = "2062", "2063", "2064", "2065", "2066"
BOOT = "2081"
DEVICE_ID, INFO, SET_PARAMETER = "3019", "3020", "3021"
REQUEST_ACK, EXECUTED, NOTICE_ACK, DATA_ACK, HEARTBEAT = "9011", "9012", "9013", "9014", "9015"
COMMANDS = {
    SET_TIMEOUT: ("set timeout and resends", "设置超时时间及重发次数"),
    GET_TIME: ("get time", "提取现场机时间"),
    SET_TIME: ("set time", "设置现场机时间"),
    TIME_REQUEST: ("request to set time", "现场机时间校准请求"),
    GET_RTD_INTERVAL: ("get real-time interval", "提取实时数据间隔"),
    SET_RTD_INTERVAL: ("set real-time interval", "设置实时数据间隔"),
    GET_MINUTE_INTERVAL: ("get minute interval", "提取分钟数据间隔"),
    SET_MINUTE_INTERVAL: ("set minute interval", "设置分钟数据间隔"),
    SET_PASSWORD: ("set password", "设置现场机密码"),
    REAL_TIME: ("real-time data", "实时数据"),
    REAL_TIME_STOP: ("stop real-time data", "停止察看实时数据"),
    STATE_TIME: ("equipment state", "污染治理设施运行状态"),
    STATE_STOP: ("stop equipment state", "停止察看设备运行状态"),
    DAY: ("day data", "日数据"),
    RUN_TIME: ("run time of a day", "设备运行时间日历史数据"),
    MINUTE: ("minute data", "分钟数据"),
    HOUR: ("hour data", "小时数据"),
    STANDARD_CHECK: ("standard check", "标样核查数据"),
    RECOVERY: ("recovery by added standard", "加标回收数据"),
    PARALLEL: ("parallel sample", "平行样测试数据"),
    ZERO_CHECK: ("zero check", "零点核查数据"),
    SPAN_CHECK: ("span check", "跨度核查数据"),
    BOOT: ("logger has started", "数采仪开机时间"),
    "3011": ("calibrate zero and span", "零点校准量程校准"),
    "3012": ("sample now", "即时采样"),
    "3013": ("clean", "启动清洗/反吹"),
    "3014": ("compare", "比对采样"),
    "3015": ("retain a sample", "超标留样"),
    "3016": ("set sampling period", "设置采样时间周期"),
    "3017": ("get sampling period", "提取采样时间周期"),
    "3018": ("get sampling duration", "提取出样时间"),
    DEVICE_ID: ("device id", "提取设备唯一标识"),
    INFO: ("site information", "现场机信息"),
    SET_PARAMETER: ("set parameter", "设置现场机参数"),
    REQUEST_ACK: ("answer to a request", "请求应答"),
    EXECUTED: ("result of a request", "执行结果"),
    NOTICE_ACK: ("notice confirmed", "通知应答"),
    DATA_ACK: ("data confirmed", "数据应答"),
    HEARTBEAT: ("heartbeat", "心跳"),
}
# Systems (ST).
SYSTEM = "91"
SYSTEMS = {
    "21": ("surface water quality", "地表水质量监测"),
    "22": ("ambient air quality", "空气质量监测"),
    "23": ("environmental noise", "声环境质量监测"),
    "24": ("groundwater quality", "地下水质量监测"),
    "25": ("soil quality", "土壤质量监测"),
    "26": ("sea water quality", "海水质量监测"),
    "27": ("volatile organic compounds", "挥发性有机物监测"),
    "31": ("air pollution source", "大气环境污染源"),
    "32": ("water pollution source", "地表水体环境污染源"),
    "39": ("construction dust", "工地扬尘污染源"),
    "41": ("electromagnetic radiation", "电磁辐射"),
    "44": ("power of treatment plant", "用电监管"),
    "51": ("flue gas process", "烟气排放过程监控"),
    "52": ("waste water process", "污水排放过程监控"),
    SYSTEM: ("between the systems", "系统交互"),
}
QN_RETURNS = {
    1: "ready", 2: "refused", 3: "wrong password", 4: "wrong MN", 5: "wrong ST", 6: "wrong Flag", 7: "wrong QN",
    8: "wrong CN", 9: "wrong check sum", 100: "unknown",
}  # fmt: skip
EXECUTION_RETURNS = {
    1: "done", 2: "failed, reason unknown", 3: "failed, a condition is not met", 4: "timed out", 5: "busy",
    6: "failed, system fault", 100: "no data",
}  # fmt: skip


class Hj212Error(ValueError):
    """Bytes that are no frame, or words that none can carry; the message says what was found and what is allowed."""


class Frame(NamedTuple):
    """One packet. `area` is the text between the && of CP; `pnum` and `pno` are 0 where it is not one of several."""

    qn: str
    st: str
    cn: str
    pw: str
    mn: str
    version: int = VERSION_2017
    wants_ack: bool = False
    area: str = ""
    pnum: int = 0
    pno: int = 0

    @property
    def flag(self) -> int:
        """Version in the upper six bits, D (it has PNUM and PNO), A (an answer is wanted)."""
        return self.version << 2 | (self.pnum > 0) << 1 | self.wants_ack


Group = tuple[tuple[str, str], ...]


def _eight_shifts(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


# What the eight shifts make of the low byte; the high one only moves down. Bit by bit it was half of a row's time.
_SHIFTED = tuple(map(_eight_shifts, range(256)))


def crc16(data: bytes) -> int:
    """The check sum of annex A: NOT that of Modbus, although it has its polynomial."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ byte
        crc = crc >> 8 ^ _SHIFTED[crc & 0xFF]
    return crc


# --- data area ----------------------------------------------------------------------------------


def area_of(groups: Iterable[Group]) -> str:
    """The text of a data area. Raises Hj212Error for what the separators would tear apart."""
    return ";".join(",".join(f"{_word(key)}={_word(value)}" for key, value in group) for group in groups)


_TEARS = re.compile("[;,=&]")


def _word(text: str) -> str:
    if _TEARS.search(text) or not text.isprintable():
        raise Hj212Error(
            f"{text!r:.60} can not be in a data area: it holds one of ; , = & or a control character"
        )
    return text


def groups_of(area: str) -> list[Group]:
    """The groups of a data area. Raises Hj212Error."""
    return [
        tuple(_item(item) for item in text.split(",") if item.strip())
        for text in area.split(";")
        if text.strip()
    ]


def _item(text: str) -> tuple[str, str]:
    key, equals, value = text.strip().partition("=")
    if not equals or not key:
        raise Hj212Error(f"{text!r:.60} is not key=value")
    return key.strip(), value.strip()


def items_of(area: str) -> dict[str, str]:
    """All items by key. Raises Hj212Error when one stands twice."""
    items: dict[str, str] = {}
    for group in groups_of(area):
        for key, value in group:
            if key in items:
                raise Hj212Error(f"{key} stands twice in the data area")
            items[key] = value
    return items


# --- frames -------------------------------------------------------------------------------------

_QN = re.compile(r"[0-9]{17}")
_ST = re.compile(r"[0-9]{2}")
_CN = re.compile(r"[0-9]{4}")
_PW = re.compile(r"[!-%'-+\--:<>-~]{1,16}")
_MN = re.compile(r"[A-Za-z0-9]{1,24}")


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises Hj212Error when a field is not as the standard has it, or it is too long."""
    _check(frame)
    segment = _segment_of(frame)
    if len(segment) > SEGMENT_MAX:
        raise Hj212Error(f"the data segment has {len(segment)} bytes; allowed are {SEGMENT_MAX}: split it")
    return HEAD + b"%04d" % len(segment) + segment + b"%04X" % crc16(segment) + TAIL


def _segment_of(frame: Frame) -> bytes:
    parts = [f"QN={frame.qn}", f"ST={frame.st}", f"CN={frame.cn}", f"PW={frame.pw}", f"MN={frame.mn}"]
    parts.append(f"Flag={frame.flag}")
    if frame.pnum:
        parts += [f"PNUM={frame.pnum}", f"PNO={frame.pno}"]
    parts.append(f"CP=&&{frame.area}&&")
    return ";".join(parts).encode()


def area_room(frame: Frame, *, numbered: bool = True) -> int:
    """Bytes that its data area may have: beside a long MN and numbers of packets, 950 do not fit into 1024."""
    number = PACKETS_MAX if numbered else 0
    return min(AREA_MAX, SEGMENT_MAX - len(_segment_of(frame._replace(area="", pnum=number, pno=number))))


def _check(frame: Frame) -> None:
    for name, value, form in (
        ("QN", frame.qn, _QN), ("ST", frame.st, _ST), ("CN", frame.cn, _CN), ("PW", frame.pw, _PW),
        ("MN", frame.mn, _MN),
    ):  # fmt: skip
        if not form.fullmatch(value):
            shown = "*" * len(value) if name == "PW" else repr(value)
            raise Hj212Error(f"{name} = {shown:.60} is not as the standard has it")
    if not 0 <= frame.pno <= frame.pnum <= PACKETS_MAX or (frame.pnum > 0) != (frame.pno > 0):
        raise Hj212Error(f"packet {frame.pno} of {frame.pnum} is not possible")
    if len(frame.area.encode()) > AREA_MAX:
        raise Hj212Error(
            f"the data area has {len(frame.area.encode())} bytes; allowed are {AREA_MAX}: split it"
        )


def decode(data: bytes) -> Frame:
    """The frame that `data` is, whole. Raises Hj212Error."""
    segment = _segment(data)
    try:
        text = segment.decode()
    except UnicodeDecodeError:
        text = segment.decode("gb18030", "replace")  # of loggers from before UTF-8 was asked for
    head, marker, rest = text.partition("CP=")
    area = rest.strip()
    if not marker or not area.startswith("&&") or not area.endswith("&&") or len(area) < 4:
        raise Hj212Error("there is no data area: CP=&&…&& is missing")
    fields = _fields(head)
    flag = _number(fields, "Flag", 255, needed=False)
    pnum, pno = (_number(fields, key, 99_999, needed=False) for key in ("PNUM", "PNO"))
    return Frame(
        _text(fields, "QN", needed=False), _text(fields, "ST"), _text(fields, "CN"), _text(fields, "PW", needed=False),
        _text(fields, "MN"), flag >> 2, bool(flag & 1), area[2:-2].strip(), pnum, pno,
    )  # fmt: skip


def _segment(data: bytes) -> bytes:
    """The data segment of a frame whose length and check sum are right."""
    if not data.startswith(HEAD):
        raise Hj212Error(f"a frame begins with ##, this with {data[:4]!r}")
    digits = data[2:6]
    if len(digits) < 4 or not digits.isdigit():
        raise Hj212Error(f"after ## come four digits of length, here {digits!r}")
    size = int(digits)
    if size > SEGMENT_MAX:
        raise Hj212Error(f"it says that its data segment has {size} bytes; allowed are {SEGMENT_MAX}")
    segment, check, rest = data[6 : 6 + size], data[6 + size : 10 + size], data[10 + size :]
    if len(segment) < size or len(check) < 4:
        raise Hj212Error(f"it says that its data segment has {size} bytes, and it ends after {len(data) - 6}")
    if rest not in (b"", TAIL, b"\n", b"\r"):
        raise Hj212Error(f"after the check sum comes CR LF, here {rest[:8]!r}: is the length {size} right?")
    found = crc16(segment)
    if check.upper() != b"%04X" % found:
        raise Hj212Error(f"check sum {check.decode('ascii', 'replace')}: it would be {found:04X}")
    return segment


def _fields(head: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for text in head.split(";"):
        if not text.strip():
            continue
        key, value = _item(text)
        if key in fields:
            raise Hj212Error(f"{key} stands twice")
        fields[key] = value
    return fields


def _text(fields: dict[str, str], key: str, *, needed: bool = True) -> str:
    value = fields.get(key, "")
    if needed and not value:
        raise Hj212Error(f"{key} is missing")
    return value


def _number(fields: dict[str, str], key: str, highest: int, *, needed: bool = True) -> int:
    text = _text(fields, key, needed=needed)
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) > highest:
        raise Hj212Error(f"{key} = {text!r:.20} is not a number up to {highest}")
    return int(text)


_BEGIN = re.compile(rb"##[0-9]{4}")


class Splitter:
    """Finds frames in a stream. A broken one costs itself only: the search goes on behind its ##, also inside of it."""

    def __init__(self) -> None:
        self._held = b""
        self.skipped = 0  # bytes that belonged to no frame

    def feed(self, data: bytes) -> list[Frame | Hj212Error]:
        """What is whole now: frames, and why others are none."""
        held = self._held + data
        found: list[Frame | Hj212Error] = []
        at = 0
        while match := _BEGIN.search(held, at):
            self.skipped += match.start() - at
            at = match.start()
            size = int(match[0][2:])
            end = at + (size + _OVERHEAD if size <= SEGMENT_MAX else len(match[0]))
            if len(held) < end:
                self._held = held[at:]
                return found
            try:
                found.append(decode(held[at:end]))
                at = end
            except Hj212Error as error:
                found.append(error)
                self.skipped += len(HEAD)
                at += len(HEAD)
        # What is left may end in the begin of a begin.
        keep = max(at, len(held) - 5)
        self.skipped += keep - at
        self._held = held[keep:]
        return found


# --- several packets ----------------------------------------------------------------------------


# What stands at the head of each packet of a message: the time that it is about, and that it is sent late or again.
HEAD_KEYS = ("DataTime", "RF")


def split(frame: Frame, groups: Sequence[Group], area_max: int = AREA_MAX) -> list[Frame]:
    """`frame` with these groups, in as many packets as it takes; each begins with the first group (DataTime) and RF.

    A packet is numbered only when there are several. Raises Hj212Error for a group that fits none.
    """
    whole = area_of(groups)
    if len(whole.encode()) <= min(area_max, area_room(frame, numbered=False)):
        return [frame._replace(area=whole, pnum=0, pno=0)]
    area_max = min(area_max, area_room(frame))
    count = 2 if len(groups) > 1 and groups[1][0][0] in HEAD_KEYS else 1
    head = area_of(groups[:count])
    areas, now = [], head
    for group in groups[count:]:
        text = area_of([group])
        if len(now.encode()) + 1 + len(text.encode()) > area_max:
            if now != head:
                areas.append(now)
                now = head
            if len(now.encode()) + 1 + len(text.encode()) > area_max:
                raise Hj212Error(
                    f"a group of {len(text.encode())} bytes does not fit into {area_max} beside {head}"
                )
        now += f";{text}"
    areas.append(now)
    if len(areas) == 1:
        return [frame._replace(area=areas[0], pnum=0, pno=0)]
    if len(areas) > PACKETS_MAX:
        raise Hj212Error(f"{len(areas)} packets are needed; allowed are {PACKETS_MAX}")
    return [frame._replace(area=area, pnum=len(areas), pno=index + 1) for index, area in enumerate(areas)]


def split_area(frame: Frame, area: str, *, resent: bool = False, area_max: int = AREA_MAX) -> list[Frame]:
    """As `split`, of a data area that `area_of` made; `resent` puts RF=1 behind its first group. Raises Hj212Error."""
    head, semicolon, rest = area.partition(";")
    marked = f"{head};RF=1{semicolon}{rest}" if resent else area
    if len(marked.encode()) <= min(area_max, area_room(frame, numbered=False)):  # nearly all are
        return [frame._replace(area=marked, pnum=0, pno=0)]
    return split(frame, groups_of(marked), area_max)


def _without_head(area: str, first: str) -> str:
    """The groups of a further packet without the first one's head, which each repeats."""
    texts, heads = area.split(";"), first.split(";")[:2]
    del texts[0]
    if texts and len(heads) == 2 and texts[0] == heads[1] and texts[0].partition("=")[0].strip() in HEAD_KEYS:
        del texts[0]
    return ";".join(texts)


class Joiner:
    """Puts packets of one message together again. Bounded: a message that does not end gives way to the next ones."""

    def __init__(self, messages_max: int = 4) -> None:
        self._messages_max = messages_max
        self._open: dict[tuple[str, str, str], dict[int, Frame]] = {}

    def take(self, frame: Frame) -> Frame | None:
        """The whole message, when `frame` was its last packet. Raises Hj212Error for one that belongs to none."""
        if frame.pnum <= 1:
            return frame._replace(pnum=0, pno=0)
        if not 1 <= frame.pno <= frame.pnum <= PACKETS_MAX:
            raise Hj212Error(f"packet {frame.pno} of {frame.pnum} is not possible")
        # Some loggers give every packet a QN of its own; the first group says what they are about.
        key = (frame.mn, frame.cn, frame.area.split(";", 1)[0])
        packets = self._open.setdefault(key, {})
        if packets and next(iter(packets.values())).pnum != frame.pnum:
            packets.clear()
        packets[frame.pno] = frame
        if sum(len(packet.area) for packet in packets.values()) > JOINED_MAX:
            del self._open[key]
            raise Hj212Error(f"a message of more than {JOINED_MAX} bytes")
        if len(packets) < frame.pnum:
            while len(self._open) > self._messages_max:
                del self._open[next(iter(self._open))]
            return None
        del self._open[key]
        first = packets[1]
        areas = [first.area]
        areas += [_without_head(packets[number].area, first.area) for number in range(2, frame.pnum + 1)]
        return first._replace(area=";".join(area for area in areas if area), pnum=0, pno=0)


# --- values and times ---------------------------------------------------------------------------

_FORMAT = re.compile(r"N([0-9]{1,2})(?:\.([0-9]))?")


def number(value: float, form: str) -> str:
    """A number as table B.1 has it: N3.1 is up to three digits before the point and one behind it.

    Raises Hj212Error when it does not fit: a regulator's figure is not cut.
    """
    match = _FORMAT.fullmatch(form)
    if match is None:
        raise Hj212Error(f"{form!r:.20} is not a number format such as N3.1")
    digits, decimals = int(match[1]), int(match[2] or 0)
    text = f"{value:.{decimals}f}"
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]  # no minus zero
    if not text.lstrip("-")[0].isdigit() or len(text.lstrip("-").partition(".")[0]) > digits:
        raise Hj212Error(f"{value:g} does not fit {form}")
    return text


_TIME = re.compile(
    r"([0-9]{4})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])([0-9]{3})?"
)


def check_time(text: str) -> str:
    """A DataTime, BeginTime or QN (with milliseconds), civil time. Raises Hj212Error unless it is one."""
    match = _TIME.fullmatch(text)
    if match is None or int(match[3]) > monthrange(int(match[1]), int(match[2]))[1]:
        raise Hj212Error(f"{text!r:.30} is not a time: YYYYMMDDhhmmss")
    return text


# --- answers ------------------------------------------------------------------------------------


def data_ack(frame: Frame, cn: str = DATA_ACK) -> Frame:
    """What a platform answers to data (9014) or to a notice (9013): the QN of what it got."""
    return Frame(frame.qn, SYSTEM, cn, frame.pw, frame.mn, frame.version)


def request_ack(frame: Frame, code: int) -> Frame:
    """What a station answers to a request at once (9011)."""
    return data_ack(frame, REQUEST_ACK)._replace(area=f"QnRtn={code}")


def executed(frame: Frame, code: int) -> Frame:
    """What a station says when a request is done (9012)."""
    return data_ack(frame, EXECUTED)._replace(area=f"ExeRtn={code}")


def named(frame: Frame) -> Iterator[tuple[str, str, str]]:
    """Field, value, meaning: for people."""
    yield "QN", frame.qn, "request number: when it was made"
    yield "ST", frame.st, " ".join(SYSTEMS.get(frame.st, ("unknown system",)))
    yield "CN", frame.cn, " ".join(COMMANDS.get(frame.cn, ("unknown command",)))
    yield "PW", "*" * len(frame.pw), "password, not shown"
    yield "MN", frame.mn, "station"
    years = {VERSION_2005: "HJ/T 212-2005", VERSION_2017: "HJ 212-2017", VERSION_2025: "HJ 212-2025"}
    version = years.get(frame.version, f"version {frame.version}, unknown")
    ack = "an answer is wanted" if frame.wants_ack else "no answer is wanted"
    yield "Flag", str(frame.flag), f"{version}; {ack}"
    if frame.pnum:
        yield "PNO", f"{frame.pno} of {frame.pnum}", "packet"
