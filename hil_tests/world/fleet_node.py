"""The life of an update on a light node: asked, received, installed, on trial, kept or given up.

The transfer is protocols/wire/ota.py itself; whether what came is an update, and what it makes of the program that
runs, is asked of manifest.py and delta.py, once for each pair of the two. What is written anew here is only when things
happen: the rules of the firmware's receiving life, of install.py and gate.py, whose numbers are imported. That the two
tell a gateway the same is what hil_tests/test_light_node.py is for.
"""

from __future__ import annotations

import functools
import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from firmware.gate import HEALTHY_S, PAUSE_S, SILENT_S, SILENT_TRIES
from firmware.install import _HEAD_BYTES as HEAD_BYTES
from hil_tests.world.light_node import LightNode
from protocols import delta as making
from protocols.wire import codes, delta, manifest, messages, ota, outcomes, release
from protocols.wire import update as passes
from protocols.wire.errors import WireError
from protocols.wire.update import Update, UpdateStatus

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from gateway.keys import NodeKeys
    from hil_tests.world.light_node import Line
    from hil_tests.world.sim_world import Event

ROOM = 128 * 1024
# What verifying, applying twice and reading back take on an ESP32, about.
INSTALL_S = 20.0
# A pass in which nobody says a word is over.
SILENCE_S = 30.0
_HOUR_S = 3600
# What is wrong with a node: its sensors do not answer under the next release; it loses its power for good while it is
# asked or receives.
HEALTHY, UNHEALTHY, VANISHES = "healthy", "unhealthy", "vanishes"
# Messages of an update after which a node vanishes, at most.
_VANISH_MAX = 8


@dataclass(frozen=True)
class Program:
    """A release as it lies in a slot."""

    files: tuple[tuple[str, bytes], ...]

    @functools.cached_property
    def said(self) -> release.Release:
        return release.decode(dict(self.files)[release.FILE])

    @property
    def sequence(self) -> int:
        return int(self.said.sequence)


class Made(NamedTuple):
    """What comes of an update. ``sequence`` 0: nothing of it was believed. ``refused``: "" or a name of OTA.md 4."""

    sequence: int
    refused: str
    program: Program | None


@functools.lru_cache(64)
def made_of(update: bytes, running: Program) -> Made:
    """As firmware/install.py finds out, in its order."""
    length = int.from_bytes(update[:HEAD_BYTES], "big")
    envelope, payload = update[HEAD_BYTES : HEAD_BYTES + length], update[HEAD_BYTES + length :]
    sequence = 0
    try:
        said = manifest.match(envelope, release.device(running.said, ROOM, ROOM), running.said.keys)
        sequence = said.sequence
        if (len(payload), hashlib.sha256(payload).digest()) != (said.payload_size, said.payload_digest):
            return Made(sequence, "payload", None)
        base = dict(running.files)
        if delta.base_of(payload[: delta.HEAD_BYTES]) not in (delta.NO_BASE, making.base_name(base)):
            return Made(sequence, "base", None)
        target = making.Memory()
        found = delta.apply(io.BytesIO(payload), making.Memory(base), target)
        if found != (said.size, said.digest):
            return Made(sequence, "image", None)
    except WireError as refused:
        return Made(sequence, str(refused.reason), None)
    return Made(sequence, "", Program(tuple(sorted(target.files.items()))))


class Pieces:
    """What firmware/pieces.py keeps on flash."""

    def __init__(self) -> None:
        self._put: dict[int, bytes] = {}

    def put(self, number: int, data: bytes) -> None:
        self._put[number] = data

    def get(self, number: int) -> bytes:
        return self._put[number]

    def numbers(self) -> Iterable[int]:
        return list(self._put)

    def clear(self) -> None:
        self._put.clear()


class FleetNode(LightNode):
    """``runs`` and ``endings`` are the truth that a report is held against."""

    def __init__(
        self, line: Line, address: int, keys: NodeKeys, rng: random.Random, report_s: float, runs: Program,
        fate: str = HEALTHY,
    ) -> None:  # fmt: skip
        super().__init__(line, address, keys, rng, report_s)
        self.confirmed = runs
        self.fate = fate
        self._vanishes_in = rng.randint(1, _VANISH_MAX)
        self.pieces = Pieces()
        self.trial: Program | None = None
        self._trial_since_s = 0.0
        self.is_installing = False
        self.tried_s: list[float] = []  # how long each trial took that was confirmed
        self.endings: list[tuple[int, int]] = []  # release and outcome, as events told it
        self.starts: list[int] = []  # the release of each
        # Durable, of a trial.
        self._hours = self._sent = 0
        self._is_healthy = False
        # Of this life.
        self._receiver: ota.OtaReceiver | None = None
        self._silence: Event | None = None
        self._sent_before = 0
        self._has_measured = False

    @property
    def is_receiving(self) -> bool:
        return self._receiver is not None

    @property
    def runs(self) -> Program:
        return self.confirmed if self.trial is None else self.trial

    @property
    def firmware(self) -> str:
        return f"{super().firmware}+r{self.runs.sequence}"

    # -- starts ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.starts.append(self.runs.sequence)
        self._receiver = None
        self._has_measured = False
        self._sent_before = self.frames_sent
        if self.trial is not None:
            self.after(_HOUR_S, self._hour_passed)
        super().start()

    def measured(self) -> None:
        super().measured()
        self._has_measured = True
        self._look()

    # -- on trial: gate.py -------------------------------------------------------------------------------------------

    def _hour_passed(self) -> None:
        """Hours of a trial are counted whole, and those of each life from its start."""
        if self.trial is None:
            return
        self._hours += 1
        self._sent += self.frames_sent - self._sent_before
        self._sent_before = self.frames_sent
        self.after(_HOUR_S, self._hour_passed)
        self._look()

    def _look(self) -> None:
        """Whether the release that is on trial may stay."""
        if self.trial is None:
            return
        if self._has_measured and self.fate != UNHEALTHY:
            self._is_healthy = True
        if self._is_healthy and not self.must_hello:
            self.confirmed, self.trial = self.trial, None
            self.tried_s.append(self.world.now_s - self._trial_since_s)
            self._end(self.confirmed.sequence, outcomes.INSTALLED)
        elif not self._is_healthy and self._hours * _HOUR_S >= HEALTHY_S:
            self._roll_back(outcomes.UNHEALTHY)
        elif self._hours * _HOUR_S >= SILENT_S and self._sent >= SILENT_TRIES:
            self._roll_back(outcomes.SILENT)

    def _roll_back(self, outcome: int) -> None:
        assert self.trial is not None
        sequence, self.trial = self.trial.sequence, None
        self.reset()
        self._end(sequence, outcome)

    def _end(self, sequence: int, outcome: int) -> None:
        self.endings.append((sequence, outcome))
        self.keep_event(codes.UPDATE, [sequence, outcome])

    # -- what a gateway says of updates ------------------------------------------------------------------------------

    def act(self, message: messages.Down) -> None:
        if self._receiver is not None:
            if isinstance(message, Update):
                self._take(message.session, message.command)
            return
        super().act(message)
        if self.trial is not None:
            self.after(self.rng.uniform(0, PAUSE_S), self._look)
        if isinstance(message, Update):
            self._take(message.session, message.command)

    def _take(self, session: int, command: bytes) -> None:
        if self.fate == VANISHES:
            self._vanishes_in -= 1
            if not self._vanishes_in:
                self.power_off()
                return
        if self._receiver is not None:
            self._receive(self._receiver, session, command)
            return
        kind = command[0]
        if kind == passes.WHO:
            self._answer(session, passes.I_AM)
        elif kind == ota.DELETE or (kind == ota.SETUP and self.trial is None):
            self._answer(session, self._opened().hear(session, command))
        elif kind == passes.COME:
            call = passes.decode_pass(command)
            if self.is_timely(call.answers):
                self._come(session, call)

    def _opened(self) -> ota.OtaReceiver:
        return ota.OtaReceiver(self.pieces, ROOM, lambda descriptor: descriptor > self.runs.sequence)

    def _answer(self, session: int, answer: bytes | None) -> None:
        if answer is not None:
            name = f"update {self.runs.sequence} {answer.hex()}"
            self.send(UpdateStatus(self.runs.sequence, session, answer), name)

    def _come(self, session: int, call: passes.Pass) -> None:
        code = passes.COMES
        held = self._opened()
        if held.session != session or held.setup is None:
            code = passes.NO_SESSION
        elif call.lasts_s > passes.LASTS_MAX_S:
            code = passes.TOO_LONG
        elif call.freq_hz:
            code = passes.NO_RADIO
        elif self.trial is not None or any(is_event for _, is_event, _ in self.waiting.values()):
            code = passes.NOT_NOW
        self._answer(session, bytes((passes.COME, code)))
        if code == passes.COMES:
            self.after(call.begins_in / 10, lambda: self._begin_pass(call.lasts_s))

    # -- receiving: a life of its own --------------------------------------------------------------------------------

    def _begin_pass(self, lasts_s: int) -> None:
        self._life += 1
        self._stop_waiting()
        self._receiver = self._opened()
        self.after(lasts_s, self.reset)
        self._wait_for_a_word()

    def _wait_for_a_word(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.after(SILENCE_S, self.reset)

    def _receive(self, receiver: ota.OtaReceiver, session: int, command: bytes) -> None:
        self._wait_for_a_word()
        try:
            self._answer(session, receiver.hear(session, command))
        except WireError:
            return
        if receiver.setup is not None and receiver.deficit() == 0:
            self._answer(session, receiver.status())
            while not receiver.work():
                pass
            self._life += 1  # nothing of this life happens any more
            self._receiver = None
            self.is_awake = False
            self.is_installing = True
            self.after(INSTALL_S, lambda: self._install(receiver))

    def _install(self, receiver: ota.OtaReceiver) -> None:
        self.is_installing = False
        setup = receiver.setup
        assert setup is not None
        update = b"".join(receiver.read(number) for number in range(1, setup.fragments + 1))
        made = made_of(update, self.confirmed)
        receiver.forget()
        if made.program is None:
            self.reset()
            self._end(made.sequence, outcomes.number(made.refused))
            return
        self.trial, self._trial_since_s = made.program, self.world.now_s
        self._hours = self._sent = 0
        self._is_healthy = False
        self.reset()
