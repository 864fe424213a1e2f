"""How a node and its gateway agree on a new epoch: SPEC.md section 3.2, after RFC 8613 appendix B.2. No I/O:
both sides in memory.

    NodeJoin.start      hello, ID Context = r1          →  GatewayJoin.hello, .challenge
    NodeJoin.receive    ←  challenge, r2 ‖ r1
                        hello, r2 ‖ r3                  →  GatewayJoin.agree
    NodeJoin.receive    ←  ack, in the new epoch
    .agreed

Random bytes are passed in, 8 fresh ones each time: that they are fresh is what makes PIV 0 safe in every
step.
"""

import hashlib

from protocols.wire import envelope, messages
from protocols.wire.errors import DecodeError, FrameError
from protocols.wire.limits import CHALLENGE_LIFE_S, MAX_CHALLENGES, NONCE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protocols.wire.envelope import Header
    from protocols.wire.messages import Ack, Hello

_FIRST_PIV = 0
_ID_CONTEXT_SIZE = 2 * NONCE_SIZE


def epoch_number(id_context: bytes) -> int:
    """The 48-bit number by which records, hellos and acks name an epoch."""
    return int.from_bytes(hashlib.sha256(id_context).digest()[:6], "big")


class NodeJoin:
    """The node's side. Nothing here needs to survive a reset: a join that breaks off is begun again."""

    def __init__(self, master_secret: bytes, master_salt: bytes, address: int) -> None:
        self._secret = master_secret
        self._salt = master_salt
        self._kid = envelope.node_kid(address)
        self._gateway_kid = envelope.gateway_kid(address)
        self._r1 = b""
        self._offered = b""
        self.agreed = b""  # the ID Context, once both sides have it
        self.ack: "Ack | None" = None  # the first message of the new epoch, and the PIV that it came under
        self.ack_piv = -1

    def start(self, r1: bytes, hello: "Hello") -> bytes:
        """Step 1: the frame to send. Forgets what was under way."""
        _check_nonce(r1)
        self._r1 = r1
        self._offered = self.agreed = b""
        return self._seal_hello(r1, hello)

    def receive(self, header: "Header", frame: bytes, r3: bytes, hello: "Hello") -> "bytes | None":
        """The second hello, to be sent now, when this frame is the challenge; None when it is the ack: see
        `agreed`.

        FrameError or DecodeError when it is neither, and nothing has changed.
        """
        if header.kid != self._gateway_kid:
            raise FrameError("unknown_node", "kid %s is not this node's gateway" % header.kid.hex())
        if header.kid_context:
            return self._on_challenge(header, frame, r3, hello)
        self._on_ack(header, frame)
        return None

    def _on_challenge(self, header: "Header", frame: bytes, r3: bytes, hello: "Hello") -> bytes:
        r2 = header.kid_context
        if not self._r1 or len(r2) != NONCE_SIZE:
            raise FrameError("unknown_epoch", "a challenge that this node did not ask for")
        message = messages.decode_down(self._open(r2 + self._r1, header, frame))
        if not isinstance(message, messages.Challenge) or message.r2 != r2:
            raise DecodeError("a challenge must repeat its kid context as r2")
        _check_nonce(r3)
        self._r1 = b""  # one challenge per hello: a second one would be answered with a used r1
        self._offered = r2 + r3
        return self._seal_hello(self._offered, hello)

    def _on_ack(self, header: "Header", frame: bytes) -> None:
        if not self._offered:
            raise FrameError("unknown_epoch", "no join is that far")
        message = messages.decode_down(self._open(self._offered, header, frame))
        if not isinstance(message, messages.Ack):
            raise DecodeError("the first message of an epoch must be an ack")
        self.agreed = self._offered
        self._offered = b""
        self.ack = message
        self.ack_piv = header.piv

    def _open(self, id_context: bytes, header: "Header", frame: bytes) -> bytes:
        key = envelope.sender_key(self._secret, self._salt, id_context, self._gateway_kid)
        return envelope.open_(key, header, frame)

    def _seal_hello(self, id_context: bytes, hello: "Hello") -> bytes:
        key = envelope.sender_key(self._secret, self._salt, id_context, self._kid)
        return envelope.seal(key, _FIRST_PIV, messages.encode(hello), id_context)


class GatewayJoin:
    """The gateway's side, for one node. A restart forgets the challenges that are out; the node asks
    again.
    """

    def __init__(self, master_secret: bytes, master_salt: bytes, address: int) -> None:
        self._secret = master_secret
        self._salt = master_salt
        self._kid = envelope.node_kid(address)
        self._gateway_kid = envelope.gateway_kid(address)
        # r2, when it was made, and the r1 it answers; oldest first.
        self._challenges: "list[tuple[bytes, float, bytes]]" = []

    def hello(self, header: "Header", frame: bytes) -> "Hello":
        """Step 1, opened. It may be a recording: answer with a challenge, or with an ack in an epoch it
        names.
        """
        if len(header.kid_context) != NONCE_SIZE:
            raise FrameError("malformed", "a first hello has a kid context of %d bytes" % NONCE_SIZE)
        return self._open_hello(header, frame)

    def challenge(self, header: "Header", r2: bytes, now_s: float) -> bytes:
        """Step 2: the frame that answers the hello with this header. now_s is a monotonic clock's.

        A hello that comes again while its challenge is open gets the same one, to the byte: ``r2`` is not used.
        """
        _check_nonce(r2)
        for known, made_s, r1 in self._challenges:
            if r1 == header.kid_context and now_s - made_s <= CHALLENGE_LIFE_S:
                r2 = known
                break
        else:
            # A few at a time: recorded hellos played in between must not undo the challenge that the node is
            # answering; however often one of them is played, it takes one place.
            self._challenges.append((r2, now_s, header.kid_context))
            del self._challenges[:-MAX_CHALLENGES]
        key = envelope.sender_key(self._secret, self._salt, r2 + header.kid_context, self._gateway_kid)
        return envelope.seal(key, _FIRST_PIV, messages.encode(messages.Challenge(r2)), r2)

    def agree(self, header: "Header", frame: bytes, now_s: float) -> "tuple[Hello, bytes]":
        """Step 3: the hello and the new ID Context. Make that durable, then ack in it (step 4)."""
        if len(header.kid_context) != _ID_CONTEXT_SIZE:
            raise FrameError("malformed", "a second hello has a kid context of %d bytes" % _ID_CONTEXT_SIZE)
        r2 = header.kid_context[:NONCE_SIZE]
        open_challenges = [made for made in self._challenges if now_s - made[1] <= CHALLENGE_LIFE_S]
        if not any(made[0] == r2 for made in open_challenges):
            raise FrameError(
                "late", "no challenge with this r2 is open: never made, used, or older than 60 s"
            )
        hello = self._open_hello(header, frame)
        self._challenges = [made for made in open_challenges if made[0] != r2]
        return hello, header.kid_context

    def _open_hello(self, header: "Header", frame: bytes) -> "Hello":
        if header.kid != self._kid:
            raise FrameError("unknown_node", "kid %s is not this node" % header.kid.hex())
        if header.piv != _FIRST_PIV:
            raise FrameError("malformed", "PIV %d in a hello with a kid context: must be 0" % header.piv)
        key = envelope.sender_key(self._secret, self._salt, header.kid_context, self._kid)
        message = messages.decode_up(envelope.open_(key, header, frame))
        if not isinstance(message, messages.Hello):
            raise DecodeError("only a hello may come in a context that is not agreed")
        return message


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != NONCE_SIZE:
        raise ValueError("%d random bytes: must be %d" % (len(nonce), NONCE_SIZE))
