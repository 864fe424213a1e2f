"""The other end of the line for tests of the node: as much of a gateway as SPEC.md asks of one, in memory.

Runs on CPython and on MicroPython. It answers at once, keeps every record it hears, and can be told to be deaf, mute, or
forgetful.
"""

from protocols.wire import envelope, framing, join, messages
from protocols.wire.envelope import ReplayWindow
from protocols.wire.errors import WireError
from protocols.wire.messages import Ack, Event, Hello, Readings, Result, Time


class Epoch:
    """One agreed context: keys, counters, and what was received in it."""

    def __init__(self, identity, id_context):
        secret, salt = identity.master_secret, identity.master_salt
        self.number = join.epoch_number(id_context)
        self.up = envelope.sender_key(secret, salt, id_context, envelope.node_kid(identity.address))
        self.down = envelope.sender_key(secret, salt, id_context, envelope.gateway_kid(identity.address))
        self.window = ReplayWindow()
        self.next_piv = 0
        self.received = set()

    def seal(self, message):
        frame = envelope.seal(self.down, self.next_piv, messages.encode(message))
        self.next_piv += 1
        return frame


class Peer:
    """feed(bytes from the node) -> bytes for the node."""

    def __init__(self, identity, random, count_sets):
        self.identity = identity
        self.decoder = framing.Decoder()
        self.random = random
        self.count_sets = count_sets  # Readings -> how many sets are in it
        self.joining = join.GatewayJoin(identity.master_secret, identity.master_salt, identity.address)
        self.epochs = {}
        self.current = None
        self.messages = []  # everything authentic and new, in order
        self.records = {}  # (epoch, first seq): message
        self.refused = {}
        self.conflicts = 0
        self.pivs = set()  # (epoch, piv) of every frame that opened
        self.latest_piv = -1
        self.unix_s = None  # the time that is sent with the answer to a hello; None: none
        self.deaf = False
        self.mute = False
        self.acks = True
        self.now_s = 0

    def feed(self, data):
        out = b""
        for _, frame in self.decoder.feed(bytes(data)):
            if self.deaf:
                continue
            try:
                replies = self._frame(frame)
            except WireError as exc:
                self.refused[exc.reason] = self.refused.get(exc.reason, 0) + 1
                continue
            if not self.mute:
                for reply in replies:
                    out += framing.encode(reply)
        return out

    def send(self, message):
        """The bytes of one message down, in the current epoch."""
        return framing.encode(self.current.seal(message))

    def ack(self, epoch=None):
        """The whole of what is known of an epoch, the current one unless another is named."""
        received = self.current.received if epoch is None else self.epochs[epoch].received
        cum = 0
        while cum + 1 in received:
            cum += 1
        runs = []
        for seq in sorted(received):
            if seq <= cum:
                continue
            if runs and runs[-1][0] + runs[-1][1] == seq:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((seq, 1))
        return Ack(cum, tuple(runs[::-1][:8]), epoch)

    def of(self, kind):
        """The messages of one kind, for example Status."""
        return [message for message in self.messages if isinstance(message, kind)]

    def _frame(self, frame):
        header = envelope.parse(frame, envelope.KID_UP)
        if len(header.kid_context) == 8:
            self.messages.append(self.joining.hello(header, frame))
            return [self.joining.challenge(header, self.random(8), self.now_s)]
        if header.kid_context:
            hello, id_context = self.joining.agree(header, frame, self.now_s)
            self.current = Epoch(self.identity, id_context)
            self.epochs[self.current.number] = self.current
            self.current.window.accept(0)
            self.latest_piv = 0
            self.messages.append(hello)
            return self._answers(hello)
        return self._in_epoch(header, frame)

    def _in_epoch(self, header, frame):
        for epoch in self.epochs.values():
            try:
                message = messages.decode_up(envelope.open_(epoch.up, header, frame))
            except WireError:
                continue
            assert (epoch.number, header.piv) not in self.pivs or not epoch.window.is_new(header.piv), (
                "PIV reused"
            )
            if not epoch.window.is_new(header.piv):
                self.refused["replay"] = self.refused.get("replay", 0) + 1
                return []
            epoch.window.accept(header.piv)
            self.pivs.add((epoch.number, header.piv))
            self.current = epoch
            self.latest_piv = header.piv
            self.messages.append(message)
            self._keep(message)
            return self._answers(message)
        self.refused["auth"] = self.refused.get("auth", 0) + 1
        return []

    def _keep(self, message):
        if not isinstance(message, (Readings, Event, Result)):
            return
        number = self.current.number if message.epoch is None else message.epoch
        count = self.count_sets(message) if isinstance(message, Readings) else 1
        content = message[3:-1] if isinstance(message, Event) else message[4:-1]
        for seq in range(message.seq, message.seq + count):
            if number in self.epochs:
                self.epochs[number].received.add(seq)
        key = (number, message.seq, count)
        known = self.records.setdefault(key, content)
        if known != content:
            self.conflicts += 1

    def _answers(self, message):
        if isinstance(message, Hello):
            self.current.next_piv = max(
                self.current.next_piv, message.dn_piv + 1 if message.boots and self.current.next_piv else 0
            )
            replies = [self.current.seal(self.ack())]
            if self.unix_s is not None:
                replies.append(self.current.seal(Time(self.latest_piv, int(self.unix_s()), 0)))
            return replies
        if isinstance(message, (Readings, Event, Result)) and self.acks and message.epoch in (None, *self.epochs):
            return [self.current.seal(self.ack(message.epoch))]
        return []
