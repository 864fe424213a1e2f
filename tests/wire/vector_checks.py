"""Runs the golden cases of protocols/vectors against protocols.wire, on any Python.

`run(name, data)` gives the names of the cases that passed and raises Mismatch at the first that does not. Used by
test_vectors.py (CPython), mpy_vectors.py (MicroPython, 64 bit) and tests/wasm/run_vectors.mjs (MicroPython, 32 bit).

How CBOR values stand in JSON: {"hex": …} is a byte string, {"map": [[key, value], …]} a map, the rest is itself.
"""

from protocols.wire import airtime, cbor, envelope, fragments, framing, identity, join, law, messages, update
from protocols.wire.errors import WireError
from tests.wire import ledger_play, readings_checks, update_checks


class Mismatch(Exception):
    """A golden case that this implementation does not reproduce."""


def unhex(text):
    return None if text is None else bytes.fromhex(text)


def from_json(value):
    """The CBOR value that a JSON value stands for."""
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        return {from_json(pair[0]): from_json(pair[1]) for pair in value["map"]}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


def same(got, wanted, what):
    if got != wanted or type(got) is not type(wanted):
        raise Mismatch(f"{what}: got {got!r}, wanted {wanted!r}")


def refused(reason, what, call, *args):
    """call must raise a WireError with this reason."""
    try:
        got = call(*args)
    except WireError as error:
        same(error.reason, reason, what)
        return
    raise Mismatch(f"{what}: accepted as {got!r}, must be refused as {reason}")


def check_cbor(case, what):
    data = unhex(case["hex"])
    if "value" not in case:
        refused("cbor", what, cbor.loads, data)
        return
    value = from_json(case["value"])
    same(cbor.loads(data), value, what)
    same(cbor.dumps(value), data, what)


def make_message(case):
    """The message that a case describes."""
    fields = [from_json(field) for field in case["fields"]]
    make = getattr(update if case["kind"].startswith("Update") else messages, case["kind"])
    if make is messages.Ack:
        fields[1] = tuple([tuple(run) for run in fields[1]])
    return make(*fields)


def check_messages(case, what):
    plain = unhex(case["hex"])
    decode = messages.decode_up if case["direction"] == "up" else messages.decode_down
    if "kind" not in case:
        refused(case["reason"], what, decode, plain)
        return
    message = make_message(case)
    same(messages.encode(message), plain, what)
    same(decode(plain), message, what)
    wrong_side = messages.decode_down if case["direction"] == "up" else messages.decode_up
    refused("message", what, wrong_side, plain)


def key_of(case):
    id_context = unhex(case["id_context"])
    return envelope.sender_key(unhex(case["secret"]), unhex(case["salt"]), id_context, unhex(case["kid"]))


def check_derive(case, what):
    id_context = unhex(case["id_context"])
    got = envelope.derive(unhex(case["secret"]), unhex(case["salt"]), id_context, unhex(case["kid"]))
    same(got, (unhex(case["key"]), unhex(case["common_iv"])), what)


def check_seal(case, what):
    key = key_of(case)
    piv = case["piv"]
    frame = unhex(case["frame"])
    plain = unhex(case["plain"])
    context = unhex(case["kid_context"])
    same(envelope.nonce_of(key, piv), unhex(case["nonce"]), what)
    same(envelope.aad_of(key, envelope.piv_bytes_of(piv)), unhex(case["aad"]), what)
    same(envelope.seal(key, piv, plain, context), frame, what)
    header = envelope.parse(frame, len(key.kid))
    same(tuple(header)[:3], (piv, key.kid, context), what)
    same(envelope.open_(key, header, frame), plain, what)


def check_refuse(case, what):
    """A frame that must not pass: on its face, or under the key that is given."""
    frame = unhex(case["frame"])
    if case["reason"] == "auth":
        key = key_of(case)
        refused("auth", what, envelope.open_, key, envelope.parse(frame, len(key.kid)), frame)
    else:
        refused(case["reason"], what, envelope.parse, frame, case["kid_bytes"])


def check_window(case, what):
    window = envelope.ReplayWindow(case["highest"], case["bitmap"])
    for piv, new in case["pivs"]:
        same(window.is_new(piv), new, f"{what}, PIV {piv}")
        if new:
            window.accept(piv)
    same((window.highest, window.bitmap), (case["highest_after"], case["bitmap_after"]), what)


def check_envelope(case, what):
    checks = {"derive": check_derive, "seal": check_seal, "refuse": check_refuse, "window": check_window}
    checks[case["check"]](case, what)


def check_framing(case, what):
    if "line" in case:
        same(framing.encode(unhex(case["payload"]), case["channel"]), unhex(case["line"]), what)
        pieces = [unhex(case["line"])]
        frames = [(case["channel"], unhex(case["payload"]))]
    else:
        pieces = [unhex(piece) for piece in case["pieces"]]
        frames = [(channel, unhex(payload)) for channel, payload in case["frames"]]
    line = b"".join(pieces)
    for cut in (pieces, [line[index : index + 1] for index in range(len(line))]):
        decoder = framing.Decoder()
        got = []
        for piece in cut:
            got.extend(decoder.feed(piece))
        same(got, frames, what)
        same(decoder.take_log(), case.get("log", []), what)
        counters = {name: getattr(decoder, name) for name in case.get("counters", {})}
        same(counters, case.get("counters", {}), what)


def check_fragments(case, what):
    if "taken" in case:
        collector = fragments.Collector(case["frames_max"])
        for now_s, packet, frame in case["taken"]:
            same(collector.take(unhex(packet), now_s), unhex(frame), what)
        same(collector.dropped, case["dropped"], what)
        return
    frame = unhex(case["frame"])
    inputs = frame, case["address"], case["tag"], case["room"]
    if case["packets"] is None:
        refused("message", what, fragments.split, *inputs)
        return
    packets = [unhex(packet) for packet in case["packets"]]
    same(fragments.split(*inputs), packets, what)
    if len(packets) > 1:
        collector = fragments.Collector(1)
        got = [collector.take(packet, 0) for packet in packets]
        same(got, [None] * (len(packets) - 1) + [frame], what)


def check_join(case, what):
    """A transcript of both sides, byte by byte."""
    secret, salt, address = unhex(case["secret"]), unhex(case["salt"]), case["address"]
    hello = make_message(case["hello"])
    node = join.NodeJoin(secret, salt, address)
    gateway = join.GatewayJoin(secret, salt, address)
    r1, r2, r3 = unhex(case["r1"]), unhex(case["r2"]), unhex(case["r3"])
    first = node.start(r1, hello)
    same(first, unhex(case["first_hello"]), what)
    header = envelope.parse(first, envelope.KID_UP)
    same(gateway.hello(header, first), hello, what)
    challenge = gateway.challenge(header, r2, 0)
    same(challenge, unhex(case["challenge"]), what)
    second = node.receive(envelope.parse(challenge, envelope.KID_DOWN), challenge, r3, hello)
    same(second, unhex(case["second_hello"]), what)
    agreed = gateway.agree(envelope.parse(second, envelope.KID_UP), second, 60)
    same(agreed, (hello, unhex(case["id_context"])), what)
    same(join.epoch_number(agreed[1]), case["epoch"], what)
    key = envelope.sender_key(secret, salt, agreed[1], envelope.gateway_kid(address))
    ack = envelope.seal(key, 0, messages.encode(make_message(case["ack"])))
    same(ack, unhex(case["ack_frame"]), what)
    same(node.receive(envelope.parse(ack, envelope.KID_DOWN), ack, r3, hello), None, what)
    same(node.agreed, agreed[1], what)


def check_identity(case, what):
    data = unhex(case["hex"])
    if "fields" not in case:
        refused(case["reason"], what, identity.decode, data)
        return
    fields = [from_json(field) for field in case["fields"]]
    wanted = identity.Identity(*[tuple(field) if isinstance(field, list) else field for field in fields])
    same(identity.decode(data), wanted, what)
    same(identity.encode(wanted), data, what)


def check_airtime(case, what):
    if "rows" in case:
        for cr, preamble, is_implicit, has_crc, has_ldro, size, us in case["rows"]:
            modulation = airtime.Modulation(
                case["sf"], case["bw_hz"], cr, preamble, is_implicit == 1, has_crc == 1, has_ldro == 1
            )
            same(airtime.time_on_air_us(modulation, size), us, what)
            # The largest payload of so many microseconds takes no less, and is no smaller.
            most = airtime.size_max(modulation, us)
            same(airtime.time_on_air_us(modulation, most), us, what)
            same(most >= size, True, what)
        return
    if "steps" in case:
        same(ledger_play.play(case["steps"]), case["outcomes"], what)
        return
    rule = None
    try:
        plan = law.Law(case["plan"], ledger_play.Kept())
        air_us = plan.check(0, case["freq_hz"], airtime.lora(case["sf"]), case["size"], case["dbm"])
        same(air_us, airtime.time_on_air_us(airtime.lora(case["sf"]), case["size"]), what)
    except airtime.AirRefused as exc:
        rule = exc.rule
    same(rule, case["rule"], what)


CHECKS = {
    "airtime": check_airtime,
    "cbor": check_cbor,
    "messages": check_messages,
    "envelope": check_envelope,
    "framing": check_framing,
    "fragments": check_fragments,
    "join": check_join,
    "identity": check_identity,
    "readings": readings_checks.check_readings,
    "quality": readings_checks.check_quality,
    "signatures": update_checks.check_signatures,
    "updates": update_checks.check_updates,
}


def run(name, data):
    """Check every case of the file ``name``; how many there were."""
    check = CHECKS[name]
    cases = data["cases"]
    for case in cases:
        check(case, name + ": " + case["name"])
    return len(cases)
