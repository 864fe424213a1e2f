"""The outbox against a model that keeps everything in a dict: any order of calls and restarts, the same answers."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from firmware.outbox import EVENTS, READINGS, Outbox
from firmware.runs import RunSet
from firmware.segment import SEGMENT_BYTES
from hil_tests.world.flash import LittleFs, formatted
from protocols.wire.limits import MAX_ACK_RUNS

SEQS = st.integers(0, 120)


class OutboxMachine(RuleBasedStateMachine):
    """`kept` is what keep() returned; `have` is what the gateway says it has, per epoch; removals are checked, not
    predicted: what is gone must be the acknowledged first, then the oldest readings, and be counted."""

    @initialize()
    def begin(self) -> None:
        self.flash, self.fs = formatted(40)
        self.box = Outbox(self.fs, "/outbox", 5 * SEGMENT_BYTES)
        self.kept: dict[int, tuple[int, int | None, bytes]] = {}
        self.have: set[int] = set()
        self.unsaved: set[int] = set()
        self.epoch: int | None = None
        self.gone = 0
        self.calls = 0

    @rule(kind=st.sampled_from([1, 1, 1, 2, 3]), size=st.integers(1, 200), count=st.integers(1, 30))
    def keep(self, kind: int, size: int, count: int) -> None:
        for _ in range(count):
            self.calls += 1
            payload = (self.calls.to_bytes(4, "big") * 50)[:size]
            seq = self.box.keep(kind, payload)
            assert seq == len(self.kept) + self.gone + 1
            self.kept[seq] = (kind, self.epoch, payload)
            self._forget_removed()

    @rule()
    def join(self) -> None:
        self.epoch = (self.epoch or 0) + 7
        self.box.begin_epoch(self.epoch)
        for seq, (kind, epoch, payload) in self.kept.items():
            if epoch is None:
                self.kept[seq] = (kind, self.epoch, payload)

    @rule(back=SEQS, runs=st.lists(st.tuples(SEQS, st.integers(1, 9)), max_size=MAX_ACK_RUNS - 1))
    def acknowledge(self, back: int, runs: list[tuple[int, int]]) -> None:
        if self.epoch is None:
            return
        cum = max(self.box.next_seq - back, 0)
        spans = [(max(cum + 1, self.box.next_seq - a), n) for a, n in runs]
        self.box.acknowledge(self.epoch, cum, spans)
        for seq, (_, epoch, _) in self.kept.items():
            if epoch == self.epoch:
                covered = seq <= cum or any(a <= seq < a + n for a, n in spans)
                (self.have.add if covered else self.have.discard)(seq)

    @rule()
    def restart(self) -> None:
        self.box.flush()
        lacking = set(self.kept) - self.have
        self.fs = LittleFs(self.flash)
        self.box = Outbox(self.fs, "/outbox", 5 * SEGMENT_BYTES)
        if self.epoch is not None:
            self.box.begin_epoch(self.epoch)
        # A mark holds a few runs only: the rest is forgotten, and offered again.
        offered = self._offered()
        assert lacking <= offered
        self.have -= offered

    @invariant()
    def offers_exactly_what_the_gateway_lacks(self) -> None:
        assert self._offered() == set(self.kept) - self.have
        for lane in (READINGS, EVENTS):
            kinds = (1,) if lane == READINGS else (2, 3)
            lacking = [s for s in self.kept if s not in self.have and self.kept[s][0] in kinds]
            assert self.box.count(lane) == len(lacking)

    @invariant()
    def oldest_is_never_above_what_is_offered(self) -> None:
        for seq in self._offered():
            assert self.box.held(seq) >= 0
        assert self.box.oldest_in(self.epoch) <= self.box.next_seq

    def _offered(self) -> set[int]:
        out: set[int] = set()
        for lane in (READINGS, EVENTS):
            after = 0
            while (record := self.box.next_unacked(lane, after)) is not None:
                assert self.kept[record.seq] == (record.kind, record.epoch, record.payload)
                assert record.seq > after
                after = record.seq
                out.add(after)
        return out

    def _held(self) -> set[int]:
        return {seq for seq in self.kept if self.box.has(seq)}

    def _forget_removed(self) -> None:
        """A segment was removed: acknowledged ones first, else oldest readings; the rest is counted."""
        removed = set(self.kept) - self._held()
        lost = removed - self.have
        if lost:
            rest = [s for s in self.kept if s not in removed and self.kept[s][0] == 1]
            lost_readings = [s for s in lost if self.kept[s][0] == 1]
            assert not lost_readings or not rest or max(lost_readings) < min(rest)
        self.gone += len(removed)
        for seq in removed:
            del self.kept[seq]
        self.have -= removed
        self.evicted = getattr(self, "evicted", 0) + len(lost)
        assert self.box.evicted == self.evicted


OutboxMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, derandomize=True, deadline=None
)
TestOutboxAgainstItsModel = OutboxMachine.TestCase


class RunSetMachine(RuleBasedStateMachine):
    """RunSet against a set of ints."""

    @initialize()
    def begin(self) -> None:
        self.runs = RunSet()
        self.model: set[int] = set()

    @rule(start=SEQS, size=st.integers(0, 30))
    def add(self, start: int, size: int) -> None:
        self.runs.add(start, start + size)
        self.model |= set(range(start, start + size))

    @rule(start=SEQS, size=st.integers(0, 30))
    def remove(self, start: int, size: int) -> None:
        self.runs.remove(start, start + size)
        self.model -= set(range(start, start + size))

    @rule(runs_max=st.integers(1, 6))
    def bound(self, runs_max: int) -> None:
        self.runs.bound(runs_max)
        assert len(self.runs.runs) <= 2 * runs_max
        self.model &= {k for k in self.model if self.runs.gap(k) != k}

    @invariant()
    def agrees(self) -> None:
        flat = self.runs.runs
        assert flat == sorted(set(flat))
        for k in range(160):
            gap = next(j for j in range(k, 400) if j not in self.model)
            assert self.runs.gap(k) == gap
            end = next((j for j in range(k + 1, 400) if j in self.model), 400)
            if k not in self.model:
                assert self.runs.end_of_gap(k, 400) == end
            assert self.runs.overlaps(k, k + 5) == any(j in self.model for j in range(k, k + 5))


RunSetMachine.TestCase.settings = settings(max_examples=60, derandomize=True, deadline=None)
TestRunSetAgainstASet = RunSetMachine.TestCase
