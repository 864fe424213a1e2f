"""Alarms as work orders of a district's hotline platform (12345): JSON in the form that deployed platforms take.

    {"workordercode":"TG5N3C…","scene":"cover_open","workordercontent":"井盖…","place":"lid-1","area":"330110001001",
     "dispatchtime":"2026-09-22 10:13:20","processlimited":"2026-09-23","state":0,"workordertype":0,"attachments":[],
     "sendscene":"tidegate gw-07"}

The code is made from the record that the alarm began with, so whatever is sent again (after a kill, from a restored
database) is the same order. An order is sent again with each change: `state` 0 pending, 1 being dealt with, 2 done.
When it is done, an answer follows. Success is {"success":true,"code":10000} and nothing else.

What the platform's people do comes back as `resultData` of an answer (to a GET of the order, or to a post of it):

    {"success":true,"code":10000,"message":"","resultData":{"workordercode":"TG5N3C…","handlerid":"zhang-3",
     "disposaldeptid":"330106001","processtime":"2026-09-22 10:20:00","state":1}}
"""

from __future__ import annotations

import hashlib
import json
from base64 import b32encode
from typing import Any, NamedTuple

from protocols.alarm_rules import ORDER_TYPES

PENDING, DOING, DONE = 0, 1, 2
SUCCESS = 10000
SECONDS = "%Y-%m-%d %H:%M:%S"
CONTENT_CHARS_MAX = 500
HANDLER_CHARS_MAX = 64
CODE_CHARS = 20
_SEVERITIES = (("", ""), ("提示", "notice"), ("警告", "warning"), ("严重", "severe"), ("危险", "danger"))


class Order(NamedTuple):
    """What an order says, in civil time of the platform: ``dispatched`` yyyy-MM-dd HH:mm:ss, ``until`` yyyy-MM-dd."""

    code: str
    scene: str
    content: str
    place: str
    area: str
    dispatched: str
    until: str
    state: int
    kind: str
    sender: str


class Story(NamedTuple):
    """What a content is made from; ``tier`` is the area that is told, ``since`` civil time."""

    zh: str
    en: str
    severity: int
    place: str
    node: str
    since: str
    detail: str
    tier: str
    handler: str
    escalated: int
    is_late: bool
    is_flapping: bool
    position: str = ""  # of the place, degrees of WGS 84: "30.274000,120.155000"


class Disposal(NamedTuple):
    """What the platform says of an order; ``at`` is its civil time as it wrote it, "" when it wrote none."""

    state: int
    handler: str
    department: str
    at: str


class WorkOrderError(Exception):
    """The platform said something that can not be understood. The message is one line, however long what it said."""


def code_of(node: int, epoch: int, seq: int, rule: str) -> str:
    """20 characters, the same for the same record and rule."""
    digest = hashlib.blake2b(f"{node:04x}/{epoch}/{seq}/{rule}".encode(), digest_size=11).digest()
    return "TG" + b32encode(digest).decode()[:18]


def is_code(text: str) -> bool:
    """Whether it looks like one, in either case."""
    return len(text) == CODE_CHARS and text.isascii() and text.isalnum() and text.upper().startswith("TG")


def content(story: Story, language: str) -> str:
    """What a person at the hotline reads: Chinese, English or both."""
    texts = {"zh": [_zh(story)], "en": [_en(story)], "both": [_zh(story), _en(story)]}[language]
    text = " / ".join(texts)
    printable = "".join(char if char.isprintable() else " " for char in text)
    return printable[:CONTENT_CHARS_MAX]


def _zh(story: Story) -> str:
    parts = [f"【{_SEVERITIES[story.severity][0]}】{story.zh}", f"地点 {story.place}，设备 {story.node}"]
    if story.position:
        parts.append(f"坐标(WGS84) {story.position}")
    parts.append(f"发生于 {story.since}")
    if story.detail:
        parts.append(story.detail)
    if story.is_flapping:
        parts.append("反复告警")
    if story.is_late:
        parts.append("补报")
    if story.escalated:
        parts.append(f"无人确认，已升级至 {story.tier} {story.handler}".rstrip())
    return "，".join(parts)


def _en(story: Story) -> str:
    parts = [f"[{_SEVERITIES[story.severity][1]}] {story.en} at {story.place} (node {story.node})"]
    if story.position:
        parts.append(f"WGS84 {story.position}")
    parts.append(f"since {story.since}")
    if story.detail:
        parts.append(story.detail)
    if story.is_flapping:
        parts.append("it comes and goes")
    if story.is_late:
        parts.append("heard of late")
    if story.escalated:
        parts.append(f"nobody acknowledged, now for {story.tier} {story.handler}".rstrip())
    return ", ".join(parts)


def encode(order: Order) -> bytes:
    return _json(
        {
            "workordercode": order.code,
            "scene": order.scene,
            "workordercontent": order.content,
            "place": order.place,
            "area": order.area,
            "dispatchtime": order.dispatched,
            "processlimited": order.until,
            "state": order.state,
            "workordertype": ORDER_TYPES.index(order.kind),
            "attachments": [],
            "sendscene": order.sender,
        }
    )


def encode_answer(code: str, handler: str, department: str, at: str, state: int) -> bytes:
    """That an order is done."""
    return _json(
        {
            "workordercode": code,
            "handlerid": handler,
            "disposaldeptid": department,
            "processtime": at,
            "state": state,
        }
    )


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def refusal(status: int, body: bytes) -> str | None:
    """Why an answer is no success, cut to a line; None when it is one."""
    if status != 200:
        return f"HTTP {status}"
    try:
        return _refused(_object(body))
    except WorkOrderError as error:
        return str(error)


def disposal(body: bytes, code: str) -> Disposal | None:
    """What an answer says of the order; None when nobody has done anything yet. Raises WorkOrderError."""
    answer = _object(body)
    why = _refused(answer)
    if why is not None:
        raise WorkOrderError(why)
    found = answer.get("resultData")
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("workordercode") != code:
        raise WorkOrderError(f"resultData is not about order {code}: {found!r:.80}")
    state = found.get("state")
    if type(state) is not int or state not in (PENDING, DOING, DONE):
        raise WorkOrderError(f"state = {state!r:.40} is not 0, 1 or 2")
    if state == PENDING:
        return None
    return Disposal(
        state,
        _name(found.get("handlerid")),
        _name(found.get("disposaldeptid")),
        _name(found.get("processtime")),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise WorkOrderError(f"no JSON: {body[:60]!r}") from None
    if not isinstance(answer, dict):
        raise WorkOrderError(f"no JSON object: {body[:60]!r}")
    return answer


def _name(value: object) -> str:
    """Of a person or a department, as text that is safe to show; "" when it is neither text nor a number."""
    text = str(value) if isinstance(value, str) or (type(value) is int and abs(value) < 10**18) else ""
    return "".join(char if char.isprintable() else " " for char in text[:HANDLER_CHARS_MAX]).strip()


def _refused(answer: dict[str, Any]) -> str | None:
    success, code = answer.get("success"), answer.get("code")
    if success is True and type(code) is int and code == SUCCESS:
        return None
    return f"success={success!r:.20} code={code!r:.20} message={answer.get('message')!r:.100}"
