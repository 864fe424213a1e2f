"""SL 651-2014 in words: functions, classes of stations, elements, status bits, control characters. Data, no code.

Numbers and Chinese names are the standard's (tables of its annexes B and C, as implementations of it agree on them).
What a measurand of ours is called there is said in measurands.toml.
"""

from __future__ import annotations

from typing import NamedTuple

STX, SYN = 0x02, 0x16
ETX, ETB = 0x03, 0x17
ENQ, ACK, NAK, EOT, ESC = 0x05, 0x06, 0x15, 0x04, 0x1B

STARTS = {STX: "STX: text of one packet", SYN: "SYN: text of several packets"}
ENDS_UP = {ETX: "ETX: nothing follows", ETB: "ETB: more follows"}
ENDS_DOWN = {
    ENQ: "ENQ: a question",
    ACK: "ACK: taken, go on",
    NAK: "NAK: not taken, send again",
    EOT: "EOT: taken, hang up",
    ESC: "ESC: taken, stay on line",
}

LINK_KEEP, TEST, UNIFORM, TIMED, ADDED, HOURLY, MANUAL, PICTURE = range(0x2F, 0x37)
QUERY_NOW, QUERY_SPAN, QUERY_MANUAL, QUERY_ELEMENTS = range(0x37, 0x3B)
SET_BASIC, GET_BASIC, SET_RUNNING, GET_RUNNING, GET_PUMPS, GET_VERSION, GET_STATUS = range(0x40, 0x47)
CLEAR_STORE, FACTORY_RESET, SET_PASSWORD, SET_CLOCK = range(0x47, 0x4B)
GET_EVENTS, GET_CLOCK = 0x50, 0x51

FUNCTIONS: dict[int, tuple[str, str]] = {
    0x2F: ("链路维持报", "link keep"),
    0x30: ("测试报", "test report"),
    0x31: ("均匀时段水文信息报", "report of even periods"),
    0x32: ("遥测站定时报", "timed report"),
    0x33: ("遥测站加报报", "added report (an event)"),
    0x34: ("遥测站小时报", "hourly report"),
    0x35: ("遥测站人工置数报", "report entered by hand"),
    0x36: ("遥测站图片报", "picture"),
    0x37: ("中心站查询遥测站实时数据", "query of values now"),
    0x38: ("中心站查询遥测站时段数据", "query of a span of time"),
    0x39: ("中心站查询遥测站人工置数", "query of what was entered by hand"),
    0x3A: ("中心站查询遥测站指定要素数据", "query of named elements"),
    0x40: ("中心站修改遥测站基本配置表", "basic settings are changed"),
    0x41: ("中心站读取遥测站基本配置表", "basic settings are read"),
    0x42: ("中心站修改遥测站运行参数配置表", "running parameters are changed"),
    0x43: ("中心站读取遥测站运行参数配置表", "running parameters are read"),
    0x44: ("查询水泵电机实时工作数据", "query of pump motors"),
    0x45: ("查询遥测终端软件版本", "query of the software version"),
    0x46: ("查询遥测站状态和报警信息", "query of status and alarms"),
    0x47: ("初始化固态存储数据", "the store of the station is cleared"),
    0x48: ("恢复终端出厂设置", "reset to how it left the factory"),
    0x49: ("修改密码", "the password is changed"),
    0x4A: ("设置遥测站时钟", "the clock is set"),
    0x4B: ("设置遥测终端IC卡状态", "state of the IC card is set"),
    0x4C: ("控制水泵开关命令", "pumps are switched"),
    0x4D: ("控制阀门开关命令", "valves are switched"),
    0x4E: ("控制闸门开关命令", "gates are moved"),
    0x4F: ("水量定值控制命令", "quota of water"),
    0x50: ("中心站查询遥测站事件记录", "query of counted events"),
    0x51: ("中心站查询遥测站时钟", "query of the clock"),
}

CLASSES: dict[int, tuple[str, str]] = {
    0x50: ("降水", "precipitation"),
    0x48: ("河道", "river"),
    0x4B: ("水库（湖泊）", "reservoir or lake"),
    0x5A: ("闸坝", "sluice or dam"),
    0x44: ("泵站", "pumping station"),
    0x54: ("潮汐", "tide"),
    0x4D: ("墒情", "soil moisture"),
    0x47: ("地下水", "groundwater"),
    0x51: ("水质", "water quality"),
    0x49: ("取水口", "water intake"),
    0x4F: ("排水口", "outfall"),
}


class Known(NamedTuple):
    """An element: its letters in the ASCII form, Chinese name, English name, unit."""

    letters: str
    chinese: str
    english: str
    unit: str


OBSERVED, STATION, BY_HAND, PICTURE_DATA = 0xF0, 0xF1, 0xF2, 0xF3
RAIN_OF_HOUR = 0xF4
LEVELS_OF_HOUR = range(0xF5, 0xFD)
FLOW_BULK = 0xFD
EXTENDED = 0xFF
STEP = 0x04
STATUS = 0x45
SUPPLY = 0x38

ELEMENTS: dict[int, Known] = {
    0x01: Known("AC", "断面面积", "area of the cross section", "m2"),
    0x02: Known("AI", "瞬时气温", "air temperature", "Cel"),
    0x03: Known("C", "瞬时水温", "water temperature", "Cel"),
    0x04: Known("DRxnn", "时间步长码", "step of time", ""),
    0x05: Known("DT", "时段长", "length of a period", "h"),
    0x06: Known("ED", "日蒸发量", "evaporation of the day", "mm"),
    0x07: Known("EJ", "当前蒸发", "evaporation now", "mm"),
    0x08: Known("FL", "气压", "air pressure", "hPa"),
    0x09: Known("GH", "闸门开启高度", "opening of a gate", "m"),
    0x0A: Known("GN", "输水设备、闸门(组)编号", "number of a gate", ""),
    0x0B: Known("GS", "输水设备类别", "kind of conduit", ""),
    0x0C: Known("GT", "闸门开启孔数", "gates that are open", ""),
    0x0D: Known("GTP", "地温", "ground temperature", "Cel"),
    0x0E: Known("H", "地下水瞬时埋深", "depth to groundwater", "m"),
    0x0F: Known("HW", "波浪高度", "height of waves", "m"),
    0x18: Known("MST", "湿度", "humidity", "%"),
    0x19: Known("NS", "开机台数", "machines running", ""),
    0x1A: Known("P1", "1小时时段降水量", "precipitation of 1 h", "mm"),
    0x1B: Known("P2", "2小时时段降水量", "precipitation of 2 h", "mm"),
    0x1C: Known("P3", "3小时时段降水量", "precipitation of 3 h", "mm"),
    0x1D: Known("P6", "6小时时段降水量", "precipitation of 6 h", "mm"),
    0x1E: Known("P12", "12小时时段降水量", "precipitation of 12 h", "mm"),
    0x1F: Known("PD", "日降水量", "precipitation of the day", "mm"),
    0x20: Known("PJ", "当前降水量", "precipitation so far today", "mm"),
    0x21: Known("PN01", "1分钟时段降水量", "precipitation of 1 min", "mm"),
    0x22: Known("PN05", "5分钟时段降水量", "precipitation of 5 min", "mm"),
    0x23: Known("PN10", "10分钟时段降水量", "precipitation of 10 min", "mm"),
    0x24: Known("PN30", "30分钟时段降水量", "precipitation of 30 min", "mm"),
    0x25: Known("PR", "暴雨量", "precipitation of a rainstorm", "mm"),
    0x26: Known("PT", "降水量累计值", "precipitation, counted", "mm"),
    0x27: Known("Q", "瞬时流量", "discharge", "m3/s"),
    0x30: Known("QA", "总出库流量", "discharge in all", "m3/s"),
    0x31: Known("QZ", "输水设备流量", "discharge of a gate", "m3/s"),
    0x32: Known("SW", "输沙量", "sediment discharge", ""),
    0x33: Known("UC", "风向", "wind direction", ""),
    0x34: Known("UE", "风力(级)", "wind force", ""),
    0x35: Known("US", "风速", "wind speed", "m/s"),
    0x36: Known("VA", "断面平均流速", "mean velocity", "m/s"),
    0x37: Known("VJ", "当前瞬时流速", "velocity", "m/s"),
    0x38: Known("VT", "电源电压", "supply voltage", "V"),
    0x39: Known("Z", "瞬时河道水位、潮位", "water level", "m"),
    0x3A: Known("ZB", "库(闸、站)下水位", "level below the dam", "m"),
    0x3B: Known("ZU", "库(闸、站)上水位", "level above the dam", "m"),
    0x44: Known("SQ", "含沙量", "sediment", "kg/m3"),
    0x45: Known("ZT", "遥测站状态及报警信息", "status and alarms", ""),
    0x46: Known("pH", "pH值", "pH", ""),
    0x47: Known("DO", "溶解氧", "dissolved oxygen", "mg/L"),
    0x48: Known("COND", "电导率", "conductivity", "uS/cm"),
    0x49: Known("TURB", "浊度", "turbidity", "度"),
    0x4A: Known("CODMN", "高锰酸盐指数", "permanganate index", "mg/L"),
    0x4B: Known("REDOX", "氧化还原电位", "redox potential", "mV"),
    0x4C: Known("NH4N", "氨氮", "ammonia nitrogen", "mg/L"),
    0x4D: Known("TP", "总磷", "total phosphorus", "mg/L"),
    0x4E: Known("TN", "总氮", "total nitrogen", "mg/L"),
    0x4F: Known("TOC", "总有机碳", "total organic carbon", "mg/L"),
    0x50: Known("CU", "铜", "copper", "mg/L"),
    0x51: Known("ZN", "锌", "zinc", "mg/L"),
    0x52: Known("SE", "硒", "selenium", "mg/L"),
    0x53: Known("AS", "砷", "arsenic", "mg/L"),
    0x54: Known("THG", "总汞", "mercury", "mg/L"),
    0x55: Known("CD", "镉", "cadmium", "mg/L"),
    0x56: Known("PB", "铅", "lead", "mg/L"),
    0x57: Known("CHLA", "叶绿素a", "chlorophyll a", "mg/L"),
    0x70: Known("VTA", "交流A相电压", "voltage of phase A", "V"),
    0x71: Known("VTB", "交流B相电压", "voltage of phase B", "V"),
    0x72: Known("VTC", "交流C相电压", "voltage of phase C", "V"),
    0x73: Known("VIA", "交流A相电流", "current of phase A", "A"),
    0x74: Known("VIB", "交流B相电流", "current of phase B", "A"),
    0x75: Known("VIC", "交流C相电流", "current of phase C", "A"),
    0xF2: Known("RGZS", "人工置数", "entered by hand", ""),
    0xF3: Known("PIC", "图片信息", "picture", ""),
    0xF4: Known("DRP", "1小时内每5分钟时段雨量", "rain of each 5 min of the hour", "mm"),
}
ELEMENTS |= {
    0x10 + index: Known(f"M{depth}", f"{depth}厘米处土壤含水量", f"soil moisture at {depth} cm", "%")
    for index, depth in enumerate((10, 20, 30, 40, 50, 60, 80, 100))
}
for _index in range(8):
    _number = _index + 1
    ELEMENTS |= {
        0x28 + _index: Known(f"Q{_number}", f"取(排)水口流量{_number}", f"discharge of outlet {_number}", "m3/s"),
        0x3C + _index: Known(f"Z{_number}", f"取(排)水口水位{_number}", f"level of outlet {_number}", "m"),
        0x58 + _index: Known(f"WP{_number}", f"水压{_number}", f"water pressure {_number}", "kPa"),
        0x60 + _index: Known(f"SYL{_number}", f"水表{_number}剩余水量", f"water left of meter {_number}", "m3"),
        0x68 + _index: Known(f"SBL{_number}", f"水表{_number}每小时水量", f"water of meter {_number} an hour", "m3/h"),
        0xF5 + _index: Known(
            f"DRZ{_number}", f"1小时内5分钟间隔相对水位{_number}", f"level {_number} each 5 min of the hour", "m"
        ),
    }  # fmt: skip

# Settings of functions 40H to 43H that appear in the field; the others are shown by their number.
SETTINGS: dict[int, tuple[str, str]] = {
    0x01: ("中心站地址", "addresses of the centres"),
    0x02: ("遥测站地址", "address of the station"),
    0x03: ("密码", "password"),
    0x0C: ("工作方式", "mode"),
    0x0D: ("采集要素设置", "elements that are measured"),
    0x0F: ("遥测站通信设备识别号", "number of the modem"),
    0x20: ("定时报时间间隔", "interval of timed reports"),
    0x21: ("加报时间间隔", "interval of added reports"),
    0x25: ("雨量计分辨力", "resolution of the rain gauge"),
    0x28: ("水位基值1", "zero of level 1"),
    0x30: ("水位修正值1", "correction of level 1"),
}


class Bit(NamedTuple):
    """A bit of ZT (45H): what is looked at, and what 0 and 1 say."""

    chinese: str
    english: str
    zero: str
    one: str


# By the number of the bit. The door is the other way round than the rest: 0 is open. So is the pump: 0 is running.
STATUS_BITS = (
    Bit("交流电充电状态", "mains", "on", "off"),
    Bit("蓄电池电压状态", "battery", "normal", "low"),
    Bit("水位超限报警状态", "water level", "normal", "alarm"),
    Bit("流量超限报警状态", "discharge", "normal", "alarm"),
    Bit("水质超限报警状态", "water quality", "normal", "alarm"),
    Bit("流量仪表状态", "flow meter", "normal", "fault"),
    Bit("水位仪表状态", "level gauge", "normal", "fault"),
    Bit("终端箱门状态", "door", "open", "closed"),
    Bit("存储器状态", "storage", "normal", "fault"),
    Bit("IC卡功能", "IC card", "off", "on"),
    Bit("水泵工作状态", "pump", "running", "stopped"),
    Bit("剩余水量报警", "water left", "normal", "quota used up"),
)
DOOR_CLOSED = 1 << 7
