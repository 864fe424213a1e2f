"""An update brought to a node by cable (OTA.md sections 6 and 7): a release of its program, or MicroPython itself.

The node answers what it is, takes the session in, and goes into a pass, in which it does nothing but receive; what it
has is durable, so whatever is cut off goes on where it was, also another day. It installs, or refuses, by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flash_tools import release_micropython
from flash_tools.bench import Bench
from flash_tools.errors import BenchError
from flash_tools.release_book import Payload, Release
from protocols.wire import codes, interpreter, messages, ota, outcomes, parity, update

FRAGMENT = 200
# So many rows are sent before the node is asked what it has: they fit the buffer of its port.
ROWS_AT_ONCE = 8
PIECE = 400
_NOWHERE = (1 << 24) - 1
ANSWER_S = 3.0
# A reset, and the start into the pass.
START_S = 90.0
# A verification takes seconds, an installation up to a minute.
END_S = 180.0
_PASS_S = update.LASTS_MAX_S
_TRIES = 4
_REFUSALS = (
    (ota.NO_ROOM, "it has no room for it"),
    (ota.NO_INDEX, "it takes a MicroPython by cable only"),
    (ota.NO_CODING, "it does not know how it is coded"),
    (ota.NOT_WANTED, "it is not newer than what runs, or another update was begun since"),
)
_CODES = {
    update.NO_RADIO: "it has no radio for it",
    update.NOT_NOW: "it is busy: an alarm is raised, a record waits to be acknowledged, or an update is under way",
    update.NO_SESSION: "it has no such session",
    update.TOO_LONG: "it takes no pass that long",
}


class Told(NamedTuple):
    """How it went. ``is_on_trial``: it runs, and is confirmed once its gateway has answered it."""

    outcome: str
    is_on_trial: bool


class Updating:
    """``bench`` has found its node. ``moved`` is told what is done, and bytes of how many."""

    def __init__(
        self, bench: Bench, monotonic: Callable[[], float], moved: Callable[[str, int, int], None]
    ) -> None:
        self._bench = bench
        self._monotonic = monotonic
        self._moved = moved
        self._session = 0
        # Of which release event 24 is looked for, and whether it is a MicroPython.
        self._awaited_end = (0, False)
        self._has_begun = False
        # Records that waited for a gateway before this began.
        self._earlier: set[tuple[int | None, int]] = set()
        self._ended: list[int] = []  # outcomes

    def bring(self, release: Release) -> Told:
        """All of it; BenchError says what went wrong, and what was reached."""
        self._check_class(release)
        self._awaited_end = (release.sequence, release_micropython.is_one(release))
        running = self._ask(bytes((update.WHO,)), update.WHO, "who it is").release
        if release_micropython.is_one(release):
            return self._bring_micropython(release)
        if running >= release.sequence:
            raise BenchError(
                f"node {self._name} runs release {running} already; {release.label} is not newer"
            )
        payload = best(release, running)
        self._has_begun = True
        self._take_in(_whole(release, payload, with_payload=True), release.sequence)
        return self._outcome(lambda: self._release_runs(release.sequence))

    # -- MicroPython itself ---------------------------------------------------------------------------------

    def _bring_micropython(self, release: Release) -> Told:
        awaited, _, runs = self._micropython()
        if runs >= release.sequence:
            raise BenchError(
                f"node {self._name} runs MicroPython {runs} already; {release.label} is not newer"
            )
        payload = release.payloads[0]
        image = release.payload(payload)
        self._has_begun = True
        if awaited != release.sequence:
            self._take_in(_whole(release, payload, with_payload=False), interpreter.IS_ONE | release.sequence)
            self._wait(lambda: self._micropython()[0] == release.sequence, "verify the manifest")
        else:
            self._session = self._latest_session()
        self._fill(image, release.sequence)
        return self._outcome(lambda: self._micropython()[2] == release.sequence)

    def _micropython(self) -> tuple[int, int, int]:
        said = self._ask(interpreter.question(), interpreter.FILL, "which MicroPython it runs").answer
        return interpreter.decode_answer(said)

    def _fill(self, image: bytes, sequence: int) -> None:
        """Block by block, through as many passes as it takes."""
        at = self._awaited(sequence)
        while at < len(image):
            self._come()
            self._wait(self._is_filling, "begin to receive")
            while at < len(image):
                end = min(
                    len(image),
                    at // interpreter.BLOCK_BYTES * interpreter.BLOCK_BYTES + interpreter.BLOCK_BYTES,
                )
                for first in range(at, end, PIECE):
                    self._say(interpreter.piece(first, image[first : min(first + PIECE, end)]))
                said = self._answer(interpreter.FILL, ANSWER_S)
                if said is None:  # the pass is over, or a piece of it was lost
                    break
                at = interpreter.decode_answer(said.answer)[1]
                self._moved("image", at, len(image))
            if at < len(image):
                at = self._awaited(sequence)

    def _awaited(self, sequence: int) -> int:
        awaited, at, _ = self._micropython()
        if awaited != sequence:
            raise BenchError(f"node {self._name} does not await that image any more: {self._how()}")
        return at

    def _is_filling(self) -> bool:
        """A node at work says nothing to a piece; one in a pass, to one that does not follow, what would."""
        return self._try(interpreter.piece(_NOWHERE, b"\0"), interpreter.FILL) is not None

    def _is_receiving(self) -> bool:
        said = self._try(bytes((ota.STATUS, 1)), ota.STATUS)
        return said is not None

    # -- a session -------------------------------------------------------------------------------------------

    def _take_in(self, data: bytes, descriptor: int) -> None:
        """The byte string of a session, whatever of it the node has already."""
        count = -(-len(data) // FRAGMENT)
        setup = ota.Setup(count, FRAGMENT, count * FRAGMENT - len(data), descriptor, 0)
        data += bytes(setup.padding)
        self._session = self._latest_session()
        if not self._session or self._refusal(setup):  # else it has begun with this very one before
            self._session += 1
            refusal = self._refusal(setup)
            if refusal:
                why = next((text for bit, text in _REFUSALS if refusal & bit), f"refusal {refusal}")
                raise BenchError(f"node {self._name} does not take it: {why}")
        self._come()
        self._wait(self._is_receiving, "begin to receive")
        self._send_missing(data, count)

    def _latest_session(self) -> int:
        """The last one it knows. It refuses what is too large, and says with that whether the session is new."""
        low, high = 0, 0xFFFF
        probe = ota.Setup(parity.MAX_ROW, 255, 0, interpreter.IS_ONE - 1, 0)
        while low < high:
            middle = (low + high + 1) // 2
            said = self._ask(probe.encode(), ota.SETUP, "which update it has", middle)
            low, high = (middle, high) if said.answer[1] & ota.NOT_WANTED else (low, middle - 1)
        return low

    def _refusal(self, setup: ota.Setup) -> int:
        return self._ask(setup.encode(), ota.SETUP, "whether it wants it").answer[1]

    def _send_missing(self, data: bytes, count: int) -> None:
        """Whatever it says it has not, until it has all. One that has all says so once, and is gone."""
        silent = 0
        while silent < _TRIES:
            rows = self._missing(count)
            if rows is None:
                silent += 1
                continue
            silent = 0
            for at in range(0, len(rows), ROWS_AT_ONCE):
                for row in rows[at : at + ROWS_AT_ONCE]:
                    self._say(ota.data_fragment(row, data[(row - 1) * FRAGMENT : row * FRAGMENT]))
                said = self._try(bytes((ota.STATUS, 1)), ota.STATUS)
                if said is None:
                    if rows[at : at + ROWS_AT_ONCE][-1] == count:
                        return  # as far as can be known here it had all, and was gone
                    break
                done = min(int.from_bytes(said.answer[1:3], "little"), count)
                self._moved("update", done * FRAGMENT, count * FRAGMENT)
                if not said.answer[3]:
                    return
        raise BenchError(
            f"node {self._name} fell silent while it received; the same command goes on from there"
        )

    def _missing(self, count: int) -> list[int] | None:
        """The next rows that it has not; None when it does not say."""
        first = 1
        while first <= count:
            said = self._try(bytes((ota.MISSING,)) + first.to_bytes(2, "little"), ota.MISSING)
            if said is None:
                return None
            bitmap = int.from_bytes(said.answer[3:], "little")
            if bitmap:
                return [first + bit for bit in parity.members(bitmap)]
            first += 8 * ota.BITMAP
        return None

    def _come(self) -> None:
        for _ in range(_TRIES):
            piv = self._bench.latest_piv
            one = update.encode_pass(update.Pass(max(piv, 0), 0, _PASS_S, 0, 0, b""))
            said = self._try(one, update.COME)
            if said is None or said.answer[1] == update.NOT_NOW:
                self._bench.watch(ANSWER_S)
                continue
            if said.answer[1]:
                raise BenchError(
                    f"node {self._name} does not come: {_CODES.get(said.answer[1], said.answer[1])}"
                )
            return
        raise BenchError(f"node {self._name} does not come: {_CODES[update.NOT_NOW]}")

    # -- how it ends -----------------------------------------------------------------------------------------

    def _outcome(self, runs: Callable[[], bool]) -> Told:
        end_s = self._monotonic() + END_S
        while self._monotonic() < end_s:
            if self._ended:
                return Told(self._how(), False)
            try:
                if runs():
                    return Told("", True)
            except BenchError:
                continue
        raise BenchError(f"node {self._name} has it, and did not tell within {END_S:.0f} s what came of it")

    def _release_runs(self, sequence: int) -> bool:
        return bool(self._ask(bytes((update.WHO,)), update.WHO, "who it is").release == sequence)

    def _how(self) -> str:
        if not self._ended:
            return "it did not say why"
        outcome = self._ended[-1]
        return (
            outcomes.OUTCOMES[outcome][0] if 0 <= outcome < len(outcomes.OUTCOMES) else f"outcome {outcome}"
        )

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        end_s = self._monotonic() + START_S
        while self._monotonic() < end_s:
            if self._ended:
                raise BenchError(f"node {self._name} refused it: {self._how()}")
            try:
                if done():
                    return
            except BenchError:
                continue
        raise BenchError(
            f"node {self._name} did not {what} within {START_S:.0f} s; the same command tries again"
        )

    # -- words -----------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"{self._bench.address:04x}"

    def _ask(self, command: bytes, kind: int, what: str, session: int | None = None) -> update.UpdateStatus:
        for _ in range(_TRIES):
            said = self._try(command, kind, session)
            if said is not None:
                return said
        raise BenchError(
            f"node {self._name} does not say {what}: its firmware may be older than updates by cable"
        )

    def _try(self, command: bytes, kind: int, session: int | None = None) -> update.UpdateStatus | None:
        """Say it once; the answer, None when there is none in time."""
        self._say(command, session)
        said = self._answer(kind, ANSWER_S, session)
        if said is None:
            self._bench.skip_ahead()
        return said

    def _say(self, command: bytes, session: int | None = None) -> None:
        self._bench.say(update.Update(self._session if session is None else session, command))

    def _answer(self, kind: int, seconds: float, session: int | None = None) -> update.UpdateStatus | None:
        wanted = self._session if session is None else session
        end_s = self._monotonic() + seconds
        while self._monotonic() < end_s:
            for message in self._bench.take():
                self._look(message)
                if not isinstance(message, update.UpdateStatus) or message.session != wanted:
                    continue
                if message.answer[0] == kind:
                    return message
        return None

    def _look(self, message: Any) -> None:
        """Whether it says how this update ended. Without a gateway, what became of earlier ones is told as well."""
        if not isinstance(message, messages.Event) or message.code != codes.UPDATE:
            return
        detail = message.detail
        if not isinstance(detail, list) or len(detail) not in (2, 3):
            return
        if (int(detail[0]), len(detail) == 3) != self._awaited_end:
            return
        record = (message.epoch, message.seq)
        if not self._has_begun:
            self._earlier.add(record)
        elif record not in self._earlier:
            self._ended.append(int(detail[1]))

    def _check_class(self, release: Release) -> None:
        hello = self._bench.hello
        if hello is None:
            return
        wanted = (release.record["node_type"], release.record["board"])
        is_one = release_micropython.is_one(release)
        if (hello.board != wanted[1]) or (not is_one and hello.node_type != wanted[0]):
            raise BenchError(
                f"{release.label} is for {'every node' if is_one else wanted[0]} on {wanted[1]}; node {self._name} is "
                f"a {hello.node_type} on {hello.board}"
            )


def best(release: Release, running: int) -> Payload:
    """The smallest payload that such a node can use."""
    fitting = [one for one in release.payloads if one.base in (None, running)]
    return min(fitting, key=lambda one: one.size)


def _whole(release: Release, payload: Payload, *, with_payload: bool) -> bytes:
    envelope = release.envelope(payload)
    if envelope is None:
        raise BenchError(f"{release.label} is not signed: tidegate release sign {release.label} --key FILE")
    return len(envelope).to_bytes(2, "big") + envelope + (release.payload(payload) if with_payload else b"")
