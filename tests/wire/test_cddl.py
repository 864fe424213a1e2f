"""tidegate.cddl says what the encoders do: checked by zcbor, which knows nothing of our code."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings

from protocols.wire import cbor, messages, update
from protocols.wire.errors import DecodeError
from tests.wire import interpreters, strategies
from tests.wire.message_cases import DOWN, NO_MESSAGE, UP

if not hasattr(cbor2, "CBORDecodeValueError"):
    # zcbor 0.9 imports names that cbor2 6 no longer has; it needs them only to catch them.
    cbor2.CBORDecodeValueError = cbor2.CBORDecodeError  # type: ignore[attr-defined]

from zcbor.zcbor.zcbor import CddlValidationError, DataTranslator

CDDL = (interpreters.ROOT / "protocols" / "tidegate.cddl").read_text(encoding="utf-8")
TYPES = DataTranslator.from_cddl(cddl_string=CDDL, default_max_qty=64).my_types

KINDS = {
    "up": ("hello", "readings", "event", "result", "status", "settings-report", "update-status"),
    "down": ("ack", "time", "command", "settings", "challenge", "ping", "update"),
}
# What only SPEC.md says, because CDDL cannot.
BEYOND_CDDL = {
    "readings: held as large as seq",
    "hello: oldest above next_seq",
    "result: text of 66 bytes in 22 characters",
    "ack: run not above cum",
    "ack: runs overlap",
    "ack: oldest run first",
    "ack: run beyond 32 bits",
}


def valid(rule: str, plain: bytes) -> bool:
    try:
        TYPES[rule].validate_str(plain)
    except CddlValidationError:
        return False
    return True


def rule_of(message: Any) -> str:
    named: dict[Any, str] = {
        messages.SettingsReport: "settings-report",
        messages.UpdateStatus: "update-status",
    }
    return named.get(type(message), type(message).__name__.lower())


@pytest.mark.parametrize("direction", ["up", "down"])
def test_each_message_matches_its_own_rule_and_no_other(direction: str) -> None:
    for _, message in {"up": UP, "down": DOWN}[direction]:
        plain = messages.encode(message)
        assert [rule for rules in KINDS.values() for rule in rules if valid(rule, plain)] == [
            rule_of(message)
        ]
        assert valid(direction, plain)


@settings(max_examples=300)
@given(strategies.up)
def test_whatever_a_node_encodes_is_in_the_schema(message: Any) -> None:
    assert valid(rule_of(message), messages.encode(message))


@settings(max_examples=300)
@given(strategies.down)
def test_whatever_the_gateway_encodes_is_in_the_schema(message: Any) -> None:
    assert valid(rule_of(message), messages.encode(message))


@pytest.mark.parametrize(("name", "direction", "items"), NO_MESSAGE, ids=[name for name, _, _ in NO_MESSAGE])
def test_what_the_decoders_refuse_is_not_in_the_schema(name: str, direction: str, items: Any) -> None:
    plain = cbor.dumps(items)
    with pytest.raises(DecodeError):
        (messages.decode_up if direction == "up" else messages.decode_down)(plain)
    if name not in BEYOND_CDDL:
        assert not any(valid(rule, plain) for rule in KINDS[direction])


def test_every_kind_has_a_rule() -> None:
    kinds = [kind for table in (messages._UP, messages._DOWN) for kind in table]
    kinds += [update.UpdateStatus.KIND, update.Update.KIND]
    assert len(kinds) == sum(len(rules) for rules in KINDS.values())


def test_the_identity_file_matches_its_rule() -> None:
    cases = json.loads((interpreters.ROOT / "protocols/vectors/identity.json").read_text(encoding="utf-8"))[
        "cases"
    ]
    matches = {case["name"]: valid("identity", bytes.fromhex(case["hex"])[:-4]) for case in cases[:-3]}
    assert matches == {case["name"]: "fields" in case for case in cases[:-3]}
