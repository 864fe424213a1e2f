"""What an enemy with a cable can do: replay, delay, cut, flip, forge. All is refused and counted, and changes nothing.

The gateway and the node are real and have a history; the frames are recordings of it. "Nothing" is compared in full:
every row of every table and everything the gateway knows in memory; every byte of the node's flash and its session.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware import records, telling
from firmware.outbox import READINGS
from gateway.intervals import Intervals
from hil_tests.sim_rig import SimRig
from hil_tests.world.sim_node import SimNode
from protocols.wire import cbor, codes, envelope, framing, messages
from protocols.wire.join import NodeJoin
from protocols.wire.limits import MAX_BODY

SEED = 7
# SPEC.md section 2.3.
SUPPLY_LOW = 5
Snapshot = dict[str, Any]


class Scene:
    """A street with some history, everything that went over its cables, and tools of the trade."""

    def __init__(self, folder: Path) -> None:
        self.rig = SimRig(folder, stations=2, interval_s=2, seed=SEED)
        self.recorded: dict[tuple[str, str], list[bytes]] = {}
        for name, line in self.rig.lines.items():
            for way in ("up", "down"):
                self.recorded[name, way] = []
            line.tap = self._tap(name)
        self.name, self.other = self.rig.nodes
        self.rig.wait_until(lambda: len(self.rig.judge.records) >= 30, 120, "a history")

    def _tap(self, name: str) -> Any:
        decoders = {"up": framing.Decoder(), "down": framing.Decoder()}

        def tap(way: str, data: bytes) -> None:
            self.recorded[name, way] += [frame for _, frame in decoders[way].feed(data)]

        return tap

    @property
    def station(self) -> SimNode:
        return self.rig.stations[self.name]

    def up(self, name: str | None = None) -> list[bytes]:
        """Every frame that this node ever sent."""
        return list(self.recorded[name or self.name, "up"])

    def down(self, name: str | None = None) -> list[bytes]:
        """Every frame that was ever sent to this node."""
        return list(self.recorded[name or self.name, "down"])

    def silence_nodes(self) -> None:
        """The nodes have no power, and everything that was under way has arrived."""
        self.rig.settle().balance()
        for station in self.rig.stations.values():
            station.power_off()
        self.rig.run_s(30)

    # -- the gateway ------------------------------------------------------------------------------------------

    def play_to_gateway(self, frames: list[bytes], name: str | None = None) -> Counter[str]:
        """Send frames up a cable; what the gateway counted as refused."""
        before = self.refused()
        line = self.rig.lines[name or self.name]
        for frame in frames:
            assert line.to_gateway is not None
            line.to_gateway(framing.encode(frame))
        self.rig.run_s(10)
        return self.refused() - before

    def refused(self) -> Counter[str]:
        gateway = self.rig.alive
        counts = Counter(gateway.ingest.refused)
        for link in gateway.links:
            counts.update(link.refused)
        return counts

    def gateway_state(self) -> Snapshot:
        """Every row, and what the gateway knows in memory of nodes and their epochs."""
        gateway = self.rig.alive
        store = gateway.store
        rows = store.read(every_row)
        epochs = [
            (
                epoch.number,
                epoch.ledger.cum,
                list(epoch.ledger.runs),
                epoch.ledger.highest,
                epoch.ledger.highest_set,
                dict(epoch.ledger.pending),
                epoch.window.highest,
                epoch.window.bitmap,
                epoch.dn_reserved,
                epoch.dn_hold,
            )
            for epoch in store.epochs.values()
        ]
        channels = {
            kid: [(channel.number, channel._next, channel._limit, channel.pivs_left) for channel in node.open]
            for kid, node in gateway.channels.by_kid.items()
        }
        seen = {
            address: repr(gateway.presence.of(address))
            for address in (int(name, 16) for name in self.rig.nodes)
        }
        routes = {name: gateway.routes.link_to(int(name, 16)) for name in self.rig.nodes}
        return {
            "rows": rows,
            "epochs": epochs,
            "channels": channels,
            "presence": seen,
            "routes": routes,
            "latest": {address: entry.piv for address, entry in gateway.downlink._last.items()},
            "open commands": gateway.commands.nodes(),
            "batch": store.batch.is_empty(),
            "sent": {name: len(self.down(name)) for name in self.rig.nodes},
            "city": len(self.rig.judge.records),
        }

    # -- the node ---------------------------------------------------------------------------------------------

    def play_to_node(self, frames: list[bytes]) -> Counter[str]:
        """Put frames into the node's port and let it act on them, without letting time pass; what it refused."""
        node = self.station.node
        before = Counter(node.health.refusals)
        for frame in frames:
            self.station.station.from_gateway(framing.encode(frame))
            node._listen()
        return Counter(node.health.refusals) - before

    def node_state(self) -> Snapshot:
        """The flash, byte for byte, and everything the session and its neighbours keep in RAM."""
        node = self.station.node
        session, channel, outbox = node.session, node.session.channel, node.outbox
        return {
            "flash": self.station.flash.image,
            "epoch": session.epoch,
            "pivs": (channel.next_up, channel.bound, dict(channel.heard), dict(channel.ahead)),
            "latest": (session.latest_piv, session.latest_at_s, session.latest_at_ms),
            "senders": sorted(session._senders),
            "join": session._join and (session._join._r1, session._join._offered),
            "outbox": (
                outbox.next_seq,
                [list(lane.runs.runs) for lane in outbox._shelf.lanes],
                outbox.evicted,
            ),
            "clock": (node.hal.clock._offset_s, node.hal.clock._offset_ms, node.hal.clock._is_set),
            "settings": (node.settings.version, node.settings.document()),
            "commands": (node.commands._store.latest, list(node.commands._queue), node.commands.reboot_at_s),
            "sent": len(self.up()),
        }


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    try:
        yield made
    finally:
        made.rig.close()


def every_row(db: sqlite3.Connection) -> dict[str, list[str]]:
    """Table: its rows, as text, sorted. Not `alive`: the gateway notes every minute that it is there."""
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    names.remove("alive")
    return {name: sorted(map(repr, db.execute(f"SELECT * FROM {name}"))) for name in names}


def differences(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What changed: for a message that names it."""
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def flips(frame: bytes) -> list[bytes]:
    """The frame with each of its bits wrong, one at a time."""
    return [
        frame[:at] + bytes((frame[at] ^ 1 << bit,)) + frame[at + 1 :]
        for at in range(len(frame))
        for bit in range(8)
    ]


def kid_context_of(frame: bytes, kid_bytes: int = envelope.KID_UP) -> bytes:
    return envelope.parse(frame, kid_bytes).kid_context


# -- at the gateway --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
def test_replayed_uplinks_are_refused_and_change_nothing(scene: Scene, restarted: bool) -> None:
    """Every frame a node ever sent, again: also to a gateway that was killed and has only its database to remember."""
    scene.silence_nodes()
    if restarted:
        scene.rig.kill_gateway()
        scene.rig.start_gateway()
        scene.rig.run_s(5)
    scene.play_to_gateway([])
    frames = [frame for frame in scene.up() if not kid_context_of(frame)]
    assert len(frames) > 10
    scene.play_to_gateway(frames[:1])  # a node that was not heard since the start has its keys derived now
    before = scene.gateway_state()
    assert scene.play_to_gateway(frames) == {"replay": len(frames)}
    assert differences(before, scene.gateway_state()) == {}


def test_replayed_joins_agree_on_nothing(scene: Scene) -> None:
    """The first hello of a join may be a recording: it draws an answer and moves nothing. The second is late."""
    scene.silence_nodes()
    first = [frame for frame in scene.up() if len(kid_context_of(frame)) == 8]
    second = [frame for frame in scene.up() if len(kid_context_of(frame)) == 16]
    assert first
    assert second
    scene.rig.run_s(120)
    before = scene.gateway_state()
    assert scene.play_to_gateway(second * 3) == {"late": 3 * len(second)}
    assert differences(before, scene.gateway_state()) == {}
    assert not scene.play_to_gateway(first * 20)
    changed = differences(before, scene.gateway_state())
    assert changed.keys() == {"sent"}, changed
    address = int(scene.name, 16)
    node = scene.rig.alive.channels.node(address)
    assert node is not None
    assert len(node.join._challenges) <= 4


def test_a_frame_with_any_bit_wrong_is_refused(scene: Scene) -> None:
    """Every bit of a set, of an event and of a status, never heard before: not one of the flips gets through."""
    scene.silence_nodes()
    station = scene.station
    station.power_on()
    node = station.node
    time, tq = node.record_time()
    seq = node.outbox.keep(
        records.SET, next(payload for kind, payload in station.promises.kept.values() if kind == 1)
    )
    kept = node.outbox.next_unacked(READINGS, seq - 1)
    assert kept is not None
    assert node.session.epoch is not None
    measured, _ = telling.readings_message(node.outbox, kept, node.session.epoch, READINGS, True, MAX_BODY)
    fresh = [
        node.session.seal(measured),
        node.session.seal(messages.Event(9_999, 0, 1_790_000_000, 1, 1, messages.RAISED, 123, None)),
        node.session.seal(messages.Status(0, time, tq, {0: 1})),
    ]
    station.power_off()
    scene.rig.run_s(30)
    before = scene.gateway_state()
    for frame in fresh:
        broken = flips(frame)
        refused = scene.play_to_gateway(broken)
        assert refused.total() == len(broken), refused
        assert refused.keys() <= {"auth", "version", "malformed", "unknown_node", "replay"}
        assert refused["auth"] > len(broken) // 2
    assert differences(before, scene.gateway_state()) == {}
    assert not scene.play_to_gateway(fresh), "the frames themselves are good"


def test_a_frame_cut_anywhere_is_refused(scene: Scene) -> None:
    """Every prefix of a frame, and the frame with more behind it."""
    scene.silence_nodes()
    station = scene.station
    station.power_on()
    frame = station.node.session.seal(
        messages.Event(9_999, 0, 1_790_000_000, 1, 1, messages.RAISED, 123, None)
    )
    station.power_off()
    scene.rig.run_s(30)
    before = scene.gateway_state()
    broken = [frame[:size] for size in range(1, len(frame))] + [frame + b"\0", frame + frame]
    refused = scene.play_to_gateway(broken)
    assert refused.total() == len(broken), refused
    assert refused.keys() <= {"auth", "malformed"}
    assert differences(before, scene.gateway_state()) == {}


def test_foreign_frames_are_refused(scene: Scene) -> None:
    """A node that is not enrolled; another node's frames under this address; this address under another key."""
    scene.silence_nodes()
    mine, others = scene.station, scene.rig.stations[scene.other]
    secret, salt = mine.identity.master_secret, mine.identity.master_salt
    others.power_on()
    session = others.node.session
    event = messages.Event(9_999, 0, 1_790_000_000, 1, 1, messages.RAISED, 1, None)
    theirs = session.seal(event)
    others.power_off()
    scene.rig.run_s(30)
    address = mine.identity.address
    kid = envelope.node_kid(address)
    at = theirs.index(envelope.node_kid(others.identity.address))
    renamed = theirs[:at] + kid + theirs[at + 2 :]
    unknown_context = envelope.sender_key(secret, salt, bytes(16), kid)
    downlink_key = envelope.sender_key(secret, salt, bytes(16), envelope.gateway_kid(address))
    stranger = envelope.sender_key(bytes(16), bytes(8), bytes(16), envelope.node_kid(0x7777))
    plain = messages.encode(event)
    hello = NodeJoin(bytes(16), salt, address).start(
        bytes(8), messages.Hello(0, None, 1, 1, "river", "x", "x", 1, 1)
    )
    before = scene.gateway_state()
    assert scene.play_to_gateway([renamed]) == {"auth": 1}
    assert scene.play_to_gateway([envelope.seal(unknown_context, 10**6, plain)]) == {"auth": 1}
    assert scene.play_to_gateway([envelope.seal(stranger, 1, plain)]) == {"unknown_node": 1}
    assert scene.play_to_gateway([hello]) == {"auth": 1}
    reflected = scene.play_to_gateway([envelope.seal(downlink_key, 10**6, plain), *scene.down()[-5:]])
    assert reflected.total() == 6, reflected
    assert differences(before, scene.gateway_state()) == {}


def test_frames_of_an_epoch_that_ended_are_refused(scene: Scene) -> None:
    """A node lost its state and agreed a new epoch: what it sent in the old one is still only worth a refusal."""
    old = [frame for frame in scene.up() if not kid_context_of(frame)]
    epoch = scene.station.node.session.epoch
    scene.rig.erase_state(scene.name)
    scene.rig.wait_until(
        lambda: scene.station.is_on and scene.station.node.session.epoch not in (None, epoch), 60, "epoch"
    )
    scene.silence_nodes()
    before = scene.gateway_state()
    refused = scene.play_to_gateway(old)
    assert refused.total() == len(old), refused
    assert refused.keys() <= {"replay", "auth"}
    assert differences(before, scene.gateway_state()) == {}


def test_a_node_that_the_gateway_never_met_has_no_epoch_there(scene: Scene) -> None:
    """The database is new and the node enrolled: a recording of its former life is of an unknown epoch."""
    frames = [frame for frame in scene.up() if not kid_context_of(frame)]
    scene.silence_nodes()
    scene.rig.kill_gateway()
    for file in scene.rig.data.glob("*.db*"):
        file.unlink()
    scene.rig.start_gateway()
    scene.rig.enrol()
    scene.rig.run_s(10)
    before = scene.gateway_state()
    assert scene.play_to_gateway(frames) == {"unknown_epoch": len(frames)}
    after = scene.gateway_state()
    assert set(differences(before, after)) <= {"channels"}  # the node's keys are looked up: no epoch is open
    assert all(not channels for channels in after["channels"].values())


def test_an_id_with_other_content_is_a_conflict(scene: Scene) -> None:
    """Authentic, under a new PIV, and it says otherwise: kept for a person, counted, not acknowledged or delivered."""
    scene.silence_nodes()
    station = scene.station
    station.power_on()
    seq, (_, payload) = next(iter(station.promises.kept.items()))
    assert payload
    frame = station.node.session.seal(messages.Event(seq, 0, 1_790_000_000, 1, 1, messages.RAISED, 99, None))
    station.power_off()
    scene.rig.run_s(30)
    before = scene.gateway_state()
    assert scene.play_to_gateway([frame]) == {"conflict": 1}
    after = scene.gateway_state()
    changed = differences(before, after)
    assert changed.keys() == {"rows", "epochs"}, changed.keys()  # the conflict, and the PIV that is used up
    tables = {name for name in before["rows"] if before["rows"][name] != after["rows"][name]}
    assert tables == {"conflict", "epoch"}
    assert len(after["rows"]["conflict"]) == 1
    assert scene.play_to_gateway([frame]) == {"replay": 1}
    assert differences(after, scene.gateway_state()) == {}


# -- at the node -----------------------------------------------------------------------------------------------


def test_downlinks_that_come_again_are_refused(scene: Scene) -> None:
    """Everything the gateway ever said to a node, again: at once, and after a reboot that forgot all RAM."""
    scene.rig.run_s(20)
    frames = [frame for frame in scene.down() if not kid_context_of(frame, envelope.KID_DOWN)]
    assert len(frames) > 10
    for _ in range(2):
        before = scene.node_state()
        assert scene.play_to_node(frames) == {"replay": len(frames)}
        assert differences(before, scene.node_state()) == {}
        scene.station.power_off()
        scene.station.power_on()


def test_downlinks_of_another_epoch_are_refused(scene: Scene) -> None:
    """A node with a new epoch: nothing that was said to it in the old one opens, whatever its PIV."""
    frames = scene.down()
    epoch = scene.station.node.session.epoch
    scene.rig.erase_state(scene.name)
    scene.rig.wait_until(
        lambda: scene.station.is_on and scene.station.node.session.epoch not in (None, epoch), 60, "epoch"
    )
    before = scene.node_state()
    refused = scene.play_to_node(frames)
    assert refused.total() == len(frames), refused
    assert refused.keys() <= {"auth", "replay", "unknown_epoch"}
    assert differences(before, scene.node_state()) == {}


def test_a_delayed_downlink_that_would_change_something_is_late(scene: Scene) -> None:
    """The time, a command, settings: held back, and the node has spoken since or ten seconds have passed."""
    channel = scene.rig.alive.channels.node(int(scene.name, 16))
    assert channel is not None
    assert channel.current is not None
    node = scene.station.node
    latest = node.session.latest_piv

    def held_back(answers: int) -> list[bytes]:
        said = (
            messages.Time(answers, 1_700_000_000, 0),
            messages.Command(answers, 4_000_000_000, 60, codes.REBOOT, None),
            messages.Settings(answers, 9, {0: 1}),
        )
        assert channel.current is not None
        frames = [channel.current.seal(messages.encode(message)) for message in said]
        return [frame for frame in frames if frame is not None]

    overtaken = held_back(latest - 1)
    in_time = held_back(latest)
    assert len(overtaken) == len(in_time) == 3
    before = scene.node_state()
    assert scene.play_to_node(overtaken) == {"late": 3}
    assert differences(before, scene.node_state()) == {}
    scene.rig.unplug(scene.name)
    scene.station.station.clock.spend(10_001)
    before = scene.node_state()
    assert scene.play_to_node(in_time) == {"late": 3}
    assert differences(before, scene.node_state()) == {}


def test_a_downlink_with_any_bit_wrong_or_cut_anywhere_is_refused(scene: Scene) -> None:
    """An ack, the time, a command, settings and a ping never heard before: every flip and every prefix of each."""
    channel = scene.rig.alive.channels.node(int(scene.name, 16))
    assert channel is not None
    assert channel.current is not None
    latest = scene.station.node.session.latest_piv
    said = (
        messages.Ack(1, ((5, 2),), None),
        messages.Time(latest, 1_700_000_000, 0),
        messages.Command(latest, 4_000_000_000, 60, codes.REBOOT, None),
        messages.Settings(latest, 9, {0: 1}),
        messages.Ping(1),
    )
    for message in said:
        frame = channel.current.seal(messages.encode(message))
        assert frame is not None
        broken = flips(frame) + [frame[:size] for size in range(1, len(frame))]
        before = scene.node_state()
        refused = scene.play_to_node(broken)
        assert refused.total() == len(broken), refused
        assert differences(before, scene.node_state()) == {}


def test_downlinks_of_other_gateways_and_for_other_nodes_are_refused(scene: Scene) -> None:
    """Another node's downlink, a gateway that knows the address and not the key, one that claims another g."""
    identity = scene.station.identity
    secret, salt = identity.master_secret, identity.master_salt
    context = scene.station.node.session.channel.id_context
    plain = messages.encode(messages.Ack(0, (), None))
    gateway = envelope.gateway_kid(identity.address)
    good = envelope.sender_key(secret, salt, context, envelope.gateway_kid(identity.address, 3))
    claimed = bytearray(envelope.seal(good, 10**6, plain))
    at = bytes(claimed).index(envelope.gateway_kid(identity.address, 3))
    claimed[at + 2] = envelope.OWNER
    forged = [
        envelope.seal(envelope.sender_key(bytes(16), salt, context, gateway), 10**6, plain),
        envelope.seal(envelope.sender_key(secret, salt, bytes(16), gateway), 10**6, plain),
        bytes(claimed),
    ]
    before = scene.node_state()
    assert scene.play_to_node(forged) == {"auth": 3}
    assert scene.play_to_node(scene.down(scene.other)) == {"unknown_node": len(scene.down(scene.other))}
    own_words = scene.up()[-5:]
    assert scene.play_to_node(own_words).total() == 5, "what a node said itself comes back"
    assert differences(before, scene.node_state()) == {}


def test_a_recorded_challenge_leads_nowhere(scene: Scene) -> None:
    """Outside of a join a challenge is refused; inside of one it must answer this very hello."""
    challenges = [frame for frame in scene.down() if kid_context_of(frame, envelope.KID_DOWN)]
    assert challenges
    before = scene.node_state()
    refused = scene.play_to_node(challenges)
    assert refused.total() == len(challenges)
    assert differences(before, scene.node_state()) == {}
    scene.rig.unplug(scene.name)
    node = scene.station.node
    node.session.start_join(node._hello())
    before = scene.node_state()
    assert scene.play_to_node(challenges) == {"auth": len(challenges)}
    assert differences(before, scene.node_state()) == {}


# -- hostile circumstances -------------------------------------------------------------------------------------


def test_ten_thousand_evicted_records_hold_nothing_up(scene: Scene) -> None:
    """Months without a gateway: the alarm behind the gap arrives first, is acknowledged at once, the rest follows."""
    rig, station = scene.rig, scene.station
    rig.unplug(scene.name)
    rig.run_s(5)
    node = station.node
    measured = cbor.loads(next(payload for kind, payload in station.promises.kept.values() if kind == 1))
    while node.outbox.evicted < 10_000:
        measured[1] += 900
        node.outbox.keep(1, cbor.dumps(measured))
    evicted = node.outbox.evicted
    node._keep_event(SUPPLY_LOW, messages.RAISED, 10_900)
    alarm = node.outbox.next_seq - 1
    epoch = node.session.epoch
    arrived: list[tuple[str, int]] = []
    take = rig.judge.take

    def note(record: dict[str, Any]) -> None:
        if record["node"] == scene.name:
            arrived.append((record["lane"], record["seq"]))
        take(record)

    rig.judge.take = note  # type: ignore[method-assign]
    rig.replug(scene.name)
    rig.wait_until(lambda: (scene.name, epoch, alarm) in rig.judge.records, 120, "the alarm")
    assert arrived.index(("event", alarm)) == sum(1 for lane, _ in arrived if lane == "event") - 1
    assert not [one for one in arrived[: arrived.index(("event", alarm))] if one[0] != "event"]
    rig.run_s(2)
    record = node.outbox.next_unacked(1, alarm - 1)
    assert record is None or record.seq != alarm, "the alarm was not acknowledged at once"
    rig.wait_until(lambda: node.outbox.count(READINGS) == 0, 600, "the backlog")
    ledger = next(e.ledger for e in rig.alive.store.epochs.values() if e.number == epoch)
    assert isinstance(ledger.runs, Intervals)
    assert ledger.cum >= alarm
    lost = rig.alive.store.read(
        lambda db: db.execute("SELECT sum(last - first + 1) FROM lost WHERE elsewhere = 0").fetchone()[0]
    )
    assert evicted <= lost <= node.outbox.evicted


def test_an_event_overtakes_the_backlog_on_every_hop(scene: Scene) -> None:
    """A node with a backlog, behind a gateway with a backlog: the alarm is first on the line, and first at the city."""
    rig, station = scene.rig, scene.station
    rig.stop_broker()
    rig.run_s(60)
    rig.unplug(scene.name)
    rig.run_s(120)
    node = station.node
    assert node.outbox.count(READINGS) > 20
    node._keep_event(SUPPLY_LOW, messages.RAISED, 10_900)
    alarm = node.outbox.next_seq - 1
    ingested: list[tuple[str, int]] = []
    rig.alive.store.on_commit.append(
        lambda batch: ingested.extend(
            (type(record).__name__, record.seq)
            for record in batch.records()
            if record.ledger.number == node.session.epoch
        )
    )
    arrived: list[dict[str, Any]] = []
    take = rig.judge.take

    def note(record: dict[str, Any]) -> None:
        arrived.append(record)
        take(record)

    rig.judge.take = note  # type: ignore[method-assign]
    rig.replug(scene.name)
    rig.wait_until(lambda: ("Event", alarm) in ingested, 120, "the alarm at the gateway")
    assert ingested.index(("Event", alarm)) == 0, "the alarm is the first record on the line"
    rig.wait_until(lambda: node.outbox.count(READINGS) == 0, 120, "the backlog at the gateway")
    rig.start_broker()
    rig.wait_until(lambda: len(arrived) > 60, 30, "the city")
    lanes = [record["lane"] for record in arrived]
    assert sum(record["resent"] for record in arrived) > 20
    events = [at for at, lane in enumerate(lanes) if lane == "event"]
    assert (scene.name, alarm) in [(arrived[at]["node"], arrived[at]["seq"]) for at in events]
    assert events == list(range(len(events))), "every event before the first reading"
