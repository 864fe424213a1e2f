"""A node at the other end of a cable: the bench as a sender of its own (SPEC.md section 3.3).

It knocks until the node has told its epoch, then asks; a node changes something only in answer to its latest uplink, so
what is asked is said again after each until it is answered (a command id is executed at most once). It acknowledges
nothing. A line is anything with `read` and `write`, time and randomness come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from flash_tools.bench_numbers import Numbers
from flash_tools.errors import BenchError
from protocols.inspection.frames import Secrets
from protocols.wire import codes, envelope, framing, messages
from protocols.wire.errors import WireError
from protocols.wire.join import GatewayJoin, epoch_number
from protocols.wire.limits import NONCE_SIZE

# A node answers no knock within a second of its latest uplink.
KNOCK_EVERY_S = 1.2
# Until somebody at a cable gives up: a node that boots, formats its flash or measures is back by then.
FIND_S = 30.0
ANSWER_S = 15.0
# What an uplink may be answered with (SPEC.md section 2.2), less the way there.
FRESH_S = 8.0
PING_EVERY_S = 1.5
_READ_S = 0.1
# Knocks in a row without a pause: their bytes fit the smallest receive buffer of a chip.
_KNOCKS_AT_ONCE = 3
# Of a bench that does not know which node it has before it: more keys than these, and it must be told.
NODES_MAX = 500
_LINES_KEPT = 50

_OUTCOMES = (
    "done",
    "refused",
    "failed",
    "expired before it began",
    "is of an operation that it does not know",
)

T = TypeVar("T")


class Line(Protocol):
    """A serial port."""

    def read(self, seconds: float) -> bytes:
        """What has come; waits so long for the first byte."""

    def write(self, data: bytes) -> None: ...


class Bench:
    """``told`` is called with each console line, ``heard`` with each message (and its PIV), ``closed`` with each frame
    that is not opened here.
    """

    def __init__(
        self,
        line: Line,
        secrets: Mapping[int, Secrets],
        numbers_of: Callable[[int], Numbers],
        monotonic: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self.told: Callable[[str], None] = lambda text: None
        self.heard: Callable[[Any, int], None] = lambda message, piv: None
        self.closed: Callable[[bytes], None] = lambda frame: None
        self.may_join = True  # with a node that has no epoch; who only watches does not
        self.frames_closed = 0
        self.address = 0
        self.hello: messages.Hello | None = None
        self.console: list[str] = []
        self._line = line
        self._secrets = secrets
        self._numbers_of = numbers_of
        self._monotonic = monotonic
        self._random = random
        self._decoder = framing.Decoder()
        self._numbers: Numbers | None = None
        self._id_context = b""
        self._join: GatewayJoin | None = None
        self._r2 = b""  # of the challenge that is out
        self._latest_piv = -1
        self._latest_s = float("-inf")
        self._strangers: set[int] = set()
        self._radios = 0

    @property
    def epoch(self) -> int:
        return epoch_number(self._id_context)

    # --- finding it -----------------------------------------------------------------------------

    def find(self, address: int | None = None, seconds: float = FIND_S) -> messages.Hello:
        """Knock until the node (that one, or whichever has a key here) has said hello; it is asked from then on."""
        wanted = self._wanted(address)
        end_s = self._monotonic() + seconds
        while self._monotonic() < end_s:
            self._knock(wanted)
            next_s = self._monotonic() + KNOCK_EVERY_S
            while self._monotonic() < next_s:
                self._poll()
                if self.hello is not None and self._latest_piv >= 0:
                    return self.hello
            if self._id_context:  # agreed in a join; whether the node has heard so, its answer tells
                self._say(messages.Ping(0))
        raise BenchError(self._why_not_found(address, wanted, seconds))

    def _wanted(self, address: int | None) -> list[int]:
        if address is not None:
            if address not in self._secrets:
                known = ", ".join(f"{one:04x}" for one in sorted(self._secrets)[:20]) or "none"
                raise BenchError(f"no key of node {address:04x} is there. There are keys of: {known}")
            return [address]
        if not self._secrets:
            raise BenchError("there is no key at all: name what minting wrote with --keys")
        if len(self._secrets) > NODES_MAX:
            raise BenchError(
                f"there are keys of {len(self._secrets)} nodes; say which one it is: its address stands on the label"
            )
        return sorted(self._secrets)

    def _knock(self, wanted: list[int]) -> None:
        if self.address:
            wanted = [self.address]
        for at, address in enumerate(wanted):
            r = self._random(NONCE_SIZE)
            key = self._key(address, r, envelope.BENCH)
            self._write(envelope.seal(key, 0, messages.encode(messages.Ping(0)), r))
            if at % _KNOCKS_AT_ONCE == _KNOCKS_AT_ONCE - 1:
                self._poll(0.02)

    def _why_not_found(self, address: int | None, wanted: list[int], seconds: float) -> str:
        whom = (
            f"node {address:04x}"
            if address is not None
            else f"any of {len(wanted)} nodes whose keys are here"
        )
        head = f"{whom} did not answer within {seconds:.0f} s"
        if self._radios:
            return f"{head}: on this port is a bridge, a gateway's radio. It has no readings and no settings"
        if self._strangers:
            others = ", ".join(f"{one:04x}" for one in sorted(self._strangers))
            return f"{head}: on this port is node {others}. Give the keys that were minted for it with --keys"
        if self.console:
            return (
                f"{head}; its console says: {self.console[-1]!r:.120}. A node on the air speaks by its radio only: ask "
                "it with --gateway, and watch it here with `tidegate node console`"
            )
        return (
            f"{head}, and nothing came at all: is it the right port, is the board on, is it asleep? "
            "`tidegate node console` shows what comes"
        )

    @property
    def can_knock(self) -> bool:
        """Whether there is a key for what is on the line, and its epoch is not known."""
        return bool(self._secrets) and not self._id_context and len(self._secrets) <= NODES_MAX

    def knock(self, address: int | None = None) -> None:
        """Ask for the epoch once, for whoever only watches."""
        self._knock(self._wanted(address))

    # --- asking ---------------------------------------------------------------------------------

    def command(self, op: int, args: messages.Args, seconds: float = ANSWER_S) -> messages.Result:
        """Have the node carry out an operation; its result, or BenchError when it has not done it."""
        number = self._my_numbers().command_id()

        def answer(message: Any) -> messages.Result | None:
            is_it = isinstance(message, messages.Result) and message.command_id == number
            return message if is_it else None

        ttl_s = min(int(seconds) + 1, 0xFFFF)
        return self._check(
            self._ask(lambda piv: messages.Command(piv, number, ttl_s, op, args), answer, seconds)
        )

    def read(self, seconds: float) -> messages.Readings:
        """Have the node measure; the message with that set."""
        number = self._my_numbers().command_id()
        sets: dict[int, messages.Readings] = {}
        ended: list[messages.Result] = []

        def answer(message: Any) -> messages.Readings | None:
            if isinstance(message, messages.Readings):
                sets[message.seq] = message
            elif isinstance(message, messages.Result) and message.command_id == number:
                self._check(message)
                ended.append(message)
            seq = ended[-1].detail if ended else None
            return sets.get(seq) if isinstance(seq, int) else None

        ttl_s = min(int(seconds) + 1, 0xFFFF)
        return self._ask(
            lambda piv: messages.Command(piv, number, ttl_s, codes.READ_NOW, None), answer, seconds
        )

    def _check(self, result: messages.Result) -> messages.Result:
        if result.outcome != messages.DONE:
            how = _OUTCOMES[result.outcome]
            raise BenchError(f"node {self.address:04x}: the command {how}: {result.detail}")
        return result

    def status(self) -> messages.Status:
        found: messages.Status = self._ask(None, _is(messages.Status), ANSWER_S)
        return found

    def settings(self) -> messages.SettingsReport:
        """What is in force. The report comes before the result of the command that asked for it."""
        reports: list[messages.SettingsReport] = []
        before, self.heard = self.heard, lambda message, piv: _keep(reports, message, before, piv)
        try:
            self.command(codes.REPORT_SETTINGS, None)
            while not reports:
                reports.append(self._ask(None, _is(messages.SettingsReport), ANSWER_S))
        finally:
            self.heard = before
        return reports[-1]

    def set(self, document: Mapping[int, int]) -> messages.SettingsReport:
        """Give it a whole document; what it says is in force then."""

        def make(piv: int) -> messages.Settings:
            return messages.Settings(piv, 0, dict(document))

        report: messages.SettingsReport = self._ask(make, _is(messages.SettingsReport), ANSWER_S)
        return report

    def _ask(self, make: Callable[[int], Any] | None, answer: Callable[[Any], T | None], seconds: float) -> T:
        """Say it in answer to the latest uplink, again after each later one, until `answer` finds what it wants."""
        end_s = self._monotonic() + seconds
        said_for = -1
        wait_s, next_ping_s = PING_EVERY_S, float("-inf")
        while self._monotonic() < end_s:
            now_s = self._monotonic()
            is_fresh = now_s - self._latest_s < FRESH_S
            if make is not None and is_fresh and self._latest_piv != said_for:
                said_for = self._latest_piv
                self._say(make(said_for))
                next_ping_s = now_s + wait_s
            elif now_s >= next_ping_s:  # it has nothing to say: have it say something that can be answered
                self._say(messages.Ping(int.from_bytes(self._random(4), "big")))
                next_ping_s, wait_s = now_s + wait_s, min(2 * wait_s, FRESH_S)
            for message in self._poll():
                found = answer(message)
                if found is not None:
                    return found
        raise BenchError(
            f"node {self.address:04x} did not answer within {seconds:.0f} s"
            + (
                "; it was heard meanwhile"
                if self._monotonic() - self._latest_s < seconds
                else ", nor was it heard"
            )
        )

    # --- the line -------------------------------------------------------------------------------

    def watch(self, seconds: float = _READ_S) -> None:
        """Take in what has come, for whoever only looks."""
        self._poll(seconds)

    def take(self, seconds: float = _READ_S) -> list[Any]:
        """The messages that have come."""
        return self._poll(seconds)

    def say(self, message: Any) -> None:
        """One that needs no fresh uplink before it."""
        self._say(message)

    def skip_ahead(self) -> None:
        """The node may have been reset: what is said from now on is above all that it reserved for what it heard."""
        self._my_numbers().skip_ahead()

    @property
    def latest_piv(self) -> int:
        """Of the uplink that was heard last; -1: none was."""
        return self._latest_piv

    def _poll(self, seconds: float = _READ_S) -> list[Any]:
        found = []
        for channel, frame in self._decoder.feed(self._line.read(seconds)):
            if channel != framing.SEALED:
                self._radios += 1
                self.closed(frame)
                continue
            message = self._open(frame)
            if message is not None:
                found.append(message)
            else:
                self.frames_closed += 1
                self.closed(frame)
        for text in self._decoder.take_log():
            self.console = [*self.console[-_LINES_KEPT:], text]
            self.told(text)
        return found

    def _open(self, frame: bytes) -> Any:
        """The message in a frame of the node; None for what can not be opened, and is not of this talk."""
        try:
            header = envelope.parse(frame, envelope.KID_UP)
            address = int.from_bytes(header.kid, "big")
            if address not in self._secrets or (self.address and address != self.address):
                self._strangers.add(address)
                return None
            if header.kid_context:
                return self._open_hello(address, header, frame)
            if not self._id_context:
                return None
            plain = envelope.open_(self._key(address, self._id_context), header, frame)
            return self._took(messages.decode_up(plain), header.piv)
        except WireError:
            return None  # of another epoch, or spoilt on the way

    def _open_hello(self, address: int, header: envelope.Header, frame: bytes) -> Any:
        if self._join is not None and header.kid_context[:NONCE_SIZE] == self._r2:
            hello, id_context = self._join.agree(header, frame, self._monotonic())
            self._begin(address, id_context, hello)
            gateway = self._key(address, id_context, envelope.OWNER)
            self._write(envelope.seal(gateway, 0, messages.encode(messages.Ack(0, (), None))))
            return self._took(hello, -1)
        key = self._key(address, header.kid_context)
        said = messages.decode_up(envelope.open_(key, header, frame))
        if not isinstance(said, messages.Hello):
            return None
        if len(header.kid_context) == NONCE_SIZE:
            return self._answer_join(address, header, said)
        self._begin(address, header.kid_context, said)
        return self._took(said, header.piv)

    def _answer_join(self, address: int, header: envelope.Header, hello: messages.Hello) -> Any:
        """A node that has an epoch tells it when it is knocked at; only one that has none is joined with."""
        if hello.epoch is None and self.may_join:
            secret, salt = self._secrets[address]
            self._join = GatewayJoin(secret, salt, address)
            self._r2 = self._random(NONCE_SIZE)
            self._write(self._join.challenge(header, self._r2, self._monotonic()))
        self.heard(hello, header.piv)
        return hello

    def _begin(self, address: int, id_context: bytes, hello: messages.Hello) -> None:
        self.address, self._id_context, self.hello = address, id_context, hello
        self._join, self._latest_piv = None, -1

    def _took(self, message: Any, piv: int) -> Any:
        if piv >= 0:
            self._latest_piv, self._latest_s = piv, self._monotonic()
        self.heard(message, piv)
        return message

    def _say(self, message: Any) -> None:
        key = self._key(self.address, self._id_context, envelope.BENCH)
        self._write(envelope.seal(key, self._my_numbers().piv(), messages.encode(message)))

    def _my_numbers(self) -> Numbers:
        if self._numbers is None:
            self._numbers = self._numbers_of(self.address)
        return self._numbers

    def _key(self, address: int, id_context: bytes, g: int = 0) -> envelope.SenderKey:
        secret, salt = self._secrets[address]
        kid = envelope.gateway_kid(address, g) if g else envelope.node_kid(address)
        return envelope.sender_key(secret, salt, id_context, kid)

    def _write(self, frame: bytes) -> None:
        self._line.write(framing.encode(frame))


def _is(kind: type[T]) -> Callable[[Any], T | None]:
    return lambda message: message if isinstance(message, kind) else None


def _keep(reports: list[Any], message: Any, further: Callable[[Any, int], None], piv: int) -> None:
    if isinstance(message, messages.SettingsReport):
        reports.append(message)
    further(message, piv)
