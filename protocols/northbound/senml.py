"""SenML (RFC 8428, JSON): one record as one pack.

    [{"bn":"tidegate:0012:","bt":1790000000,"n":"id","vs":"0012.281474976710655.123.fresh"},
     {"n":"water_temperature","u":"Cel","v":7.48},{"n":"conductivity","u":"S/m","v":0.061},
     {"n":"turbidity","u":"NTU","v":310},{"n":"turbidity.q","v":3}]

Units are the primary ones of IANA's registry, which every reader of SenML knows, with the values converted: uS/cm to
S/m, mV to V, cm to m, mg/L and ug/L to kg/m3. (The registry has mg/l and ug/l as secondary units, RFC 8798; a pack with
those must say bver 26, and many readers then refuse it. mg/L with a capital is registered nowhere.) What has no
registered unit has no "u".

"id" names the record: node, epoch, seq and lane; "resent" is there, true, when the record may have come before. `.q` is
the QARTOD flag of a value that is not good; a missing value is left out and only its flag is there. Without a time
(tq 3) the time of reception stands for it, and "tq" says so.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from decimal import Decimal

from protocols.measurands import Measurand, registry
from protocols.northbound.format_json import EVENT_STATES, GOOD, LANES, OUTCOMES, Detail
from protocols.wire.codes import EVENT_NAMES

_NO_TIME = 3
# Values of one series that are remembered, about 150 bytes each; then it begins anew.
_PIECES_MAX = 2048


class _Pieces(dict[int, str]):
    """The SenML record of one value of one series, by its scaled integer; made when first asked for."""

    def __init__(self, measurand: Measurand) -> None:
        super().__init__()
        self.name = json.dumps(measurand.name)
        self.quality = json.dumps(measurand.name + ".q")
        unit, factor = "", Decimal(1)
        if measurand.senml is not None:
            unit, factor = f'"u":{json.dumps(measurand.senml.unit)},', Decimal(repr(measurand.senml.factor))
        self._unit = unit
        self._factor = factor.scaleb(-measurand.decimals)

    def __missing__(self, value: int) -> str:
        if len(self) >= _PIECES_MAX:
            self.clear()
        number = f"{self._factor * value:f}"
        if "." in number:
            number = number.rstrip("0").rstrip(".")
        piece = self[value] = f'{{"n":{self.name},{self._unit}"v":{number}}}'
        return piece


@functools.cache
def _series(schema: int) -> tuple[_Pieces, ...]:
    return tuple(_Pieces(measurand) for measurand in registry().of_schema(schema))


def reading(
    node: int, epoch: int, seq: int, backlog: int, resent: bool, time: int, tq: int, received_ms: int, schema: int,
    values: Sequence[int | None], flags: Sequence[int] | None, only: int | None = None,
) -> bytes:  # fmt: skip
    """One set, or with `only` the value of one series of it."""
    records = [_head(node, f"{epoch}.{seq}.{LANES[backlog]}", resent, time, tq, received_ms)]
    for index, (series, value) in enumerate(zip(_series(schema), values, strict=True)):
        if only is not None and index != only:
            continue
        if value is not None:
            records.append(series[value])
        if flags is not None and flags[index] != GOOD:
            records.append(f'{{"n":{series.quality},"v":{flags[index]}}}')
    return _pack(records)


def event(
    node: int, epoch: int, seq: int, resent: bool, time: int, tq: int, received_ms: int, code: int, state: int,
    detail: Detail,
) -> bytes:  # fmt: skip
    """An alarm or other happening."""
    head = _head(node, f"{epoch}.{seq}.event", resent, time, tq, received_ms)
    name = EVENT_NAMES.get(code, f"code_{code}")
    return _pack([head, _text("event", name), _text("state", EVENT_STATES[state]), *_detail(detail)])


def result(
    node: int, epoch: int, seq: int, resent: bool, time: int, tq: int, received_ms: int, command_id: int, outcome: int,
    detail: Detail,
) -> bytes:  # fmt: skip
    """What became of a command."""
    head = _head(node, f"{epoch}.{seq}.event", resent, time, tq, received_ms)
    command = f'{{"n":"command_id","v":{command_id}}}'
    return _pack([head, command, _text("outcome", OUTCOMES[outcome]), *_detail(detail)])


def _head(node: int, rest: str, resent: bool, time: int, tq: int, received_ms: int) -> str:
    base_s = str(time) if tq != _NO_TIME else f"{received_ms / 1000:.3f}"
    head = f'{{"bn":"tidegate:{node:04x}:","bt":{base_s},"n":"id","vs":"{node:04x}.{rest}"}}'
    if tq == _NO_TIME:
        head += f',{{"n":"tq","v":{tq}}}'
    return head + (',{"n":"resent","vb":true}' if resent else "")


def _text(name: str, text: str) -> str:
    return f'{{"n":"{name}","vs":{json.dumps(text, ensure_ascii=False)}}}'


def _detail(detail: Detail) -> list[str]:
    if detail is None:
        return []
    if isinstance(detail, int):
        return [f'{{"n":"detail","v":{detail}}}']
    return [_text("detail", detail if isinstance(detail, str) else json.dumps(list(detail)))]


def _pack(records: list[str]) -> bytes:
    return f"[{','.join(records)}]".encode()
