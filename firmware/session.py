"""The sealed channel between this node and whoever sends to it: keys, epoch, what may be believed.

Everything in SPEC.md section 3 and the rule of section 2.2 about downlinks that change something. No I/O but the
durable counters in `Channel`.
"""

from collections import namedtuple

from firmware.durable import Channel
from firmware.modules import forget
from protocols.wire import envelope, messages
from protocols.wire.errors import FrameError, WireError
from protocols.wire.limits import NONCE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NamedTuple

    from firmware.hal.clock import Clock
    from protocols.wire.envelope import Header, SenderKey
    from protocols.wire.join import NodeJoin
    from protocols.wire.messages import Down, Hello, Up

    class Identity(NamedTuple):
        """What minting gave this node, less what it never uses. It holds the keys: not for the console."""

        address: int
        master_secret: bytes
        master_salt: bytes
        node_type: str
        board: str
        radio: "tuple[int, int, int, int] | None"

else:
    Identity = namedtuple(
        "Identity", ("address", "master_secret", "master_salt", "node_type", "board", "radio")
    )

# A downlink that changes something is believed this long after the uplink that it answers.
WINDOW_MS = 10000


class Session:
    """``epoch`` is None until the node has joined once."""

    def __init__(
        self, fs: "Any", identity: "Identity", clock: "Clock", random: "Callable[[int], bytes]"
    ) -> None:
        self._identity = identity
        self.clock = clock
        self._random = random
        self._kid = envelope.node_kid(identity.address)
        self.channel = Channel(fs)
        self._join: "NodeJoin | None" = None
        self.latest_piv = -1
        self.latest_at_s = 0
        self.latest_at_ms = 0
        self.epoch: "int | None" = None
        self.is_bench = False  # who sent what was accepted last
        self._take_epoch()

    @property
    def dn_piv(self) -> int:
        """The highest downlink PIV of the owning gateway, or a durable bound above it, for hello and status."""
        return max(0, self.channel.highest(envelope.OWNER))

    # -- up -------------------------------------------------------------------------------------------------

    def seal(self, message: "Up", kid_context: bytes = b"") -> bytes:
        """The frame of one message in the current epoch. StorageError when no PIV can be had: then nothing is sent."""
        piv = self.channel.next_piv()
        self.sent(piv)
        return envelope.seal(self._key, piv, messages.encode(message), kid_context)

    def forget(self) -> None:
        """Give the epoch up, durably: what was numbered in it is lost, so nothing may be sent in it again."""
        self.channel.forget()
        self.epoch = None

    def start_join(self, hello: "Hello") -> bytes:
        """The first hello of a join. It costs no flash, however often it goes unanswered."""
        if self._join is None:
            from protocols.wire import join  # once in a node's life, if all goes well

            identity = self._identity
            self._join = join.NodeJoin(identity.master_secret, identity.master_salt, identity.address)
        return self._join.start(self._random(NONCE_SIZE), hello)

    # -- down -----------------------------------------------------------------------------------------------

    def open(self, frame: bytes, hello: "Callable[[], Hello]") -> "tuple[Down | None, bytes | None]":
        """(message, reply): what an authentic, new and timely frame says, and a frame that must be sent at once.

        WireError for anything else; then nothing has changed. StorageError when the flash does not take what must be
        durable before the message may be acted upon. ``hello`` makes the hello that a challenge asks for.
        """
        header = envelope.parse(frame, envelope.KID_DOWN)
        if header.kid[: envelope.KID_UP] != self._kid:
            raise FrameError(
                "unknown_node", "frame for node %s, this is %s" % (header.kid[:2].hex(), self._kid.hex())
            )
        if header.kid_context and header.kid[envelope.KID_UP] == envelope.BENCH:
            from firmware import bench  # seldom there

            reply = bench.answer_knock(self, self._identity, self.channel, header, frame, hello)
            forget("firmware.bench")
            return None, reply
        if self._join is not None:
            try:
                return self._open_join(self._join, header, frame, hello)
            except WireError:
                # Not of the join: the old epoch stays in use until the new one is agreed.
                if header.kid_context or self.epoch is None:
                    raise
        if header.kid_context or self.epoch is None:
            raise FrameError("unknown_epoch", "a frame outside the epoch, and no join is under way")
        return self._open_current(header, frame), None

    def _open_current(self, header: "Header", frame: bytes) -> "Down":
        g = header.kid[envelope.KID_UP]
        if header.piv <= self.channel.highest(g):
            raise FrameError("replay", "PIV %d of sender %d is not new" % (header.piv, g))
        key = self._sender(g)
        message = messages.decode_down(envelope.open_(key, header, frame))
        if isinstance(message, messages.Challenge):
            raise FrameError("malformed", "a challenge belongs into a join")
        answers = getattr(message, "answers", None)
        if answers is not None and not self.is_timely(answers):
            raise FrameError("late", "it answers uplink %d, the latest is %d" % (answers, self.latest_piv))
        if not self.channel.accept(g, header.piv):
            raise FrameError("replay", "PIV %d: too many senders speak to this node" % header.piv)
        self._senders[g] = key
        self.is_bench = g == envelope.BENCH
        self._end_join()  # whoever answers in this epoch knows it
        return message

    def _open_join(
        self, joining: "NodeJoin", header: "Header", frame: bytes, hello: "Callable[[], Hello]"
    ) -> "tuple[Down | None, bytes | None]":
        r3 = self._random(NONCE_SIZE) if header.kid_context else b""
        reply = joining.receive(header, frame, r3, hello())
        if reply is not None:
            # It is answered in the new epoch only: PIV 0 of the old one is not what was just sent.
            self.sent(-1)
            return None, reply
        # PIV 0 of the new epoch was used by the hello in step 3.
        self.channel.begin(joining.agreed, 1, {envelope.OWNER: joining.ack_piv})
        if self.latest_piv < 0:
            self.latest_piv = 0
        self._end_join()
        self._take_epoch()
        return joining.ack, None

    def _end_join(self) -> None:
        if self._join is not None:
            self._join = None
            forget("protocols.wire.join")

    def _take_epoch(self) -> None:
        self._senders: "dict[int, SenderKey]" = {}
        id_context = self.channel.id_context
        if id_context is None:
            return
        identity = self._identity
        from protocols.wire.join import epoch_number

        self.epoch = epoch_number(id_context)
        forget("protocols.wire.join")
        self._key = envelope.sender_key(identity.master_secret, identity.master_salt, id_context, self._kid)
        self._senders[envelope.OWNER] = self._sender(envelope.OWNER)

    def _sender(self, g: int) -> "SenderKey":
        """The key of who sends as g; kept only once a frame proved that somebody does."""
        known = self._senders.get(g)
        if known is not None:
            return known
        identity = self._identity
        kid = envelope.gateway_kid(identity.address, g)
        return envelope.sender_key(identity.master_secret, identity.master_salt, self.channel.id_context, kid)

    def sent(self, piv: int) -> None:
        """The uplink with this PIV has just been sent: what answers it is believed for a while."""
        self.latest_piv = piv
        self.latest_at_s = self.clock.uptime_s()
        self.latest_at_ms = self.clock.ticks_ms()

    def is_timely(self, answers: int) -> bool:
        """Whether what answers that uplink may change something."""
        if answers != self.latest_piv or self.clock.uptime_s() - self.latest_at_s > WINDOW_MS // 1000 + 1:
            return False  # the seconds first: ticks wrap
        return self.clock.ticks_diff(self.clock.ticks_ms(), self.latest_at_ms) < WINDOW_MS
