"""The count of failed starts and what is told of safe mode, with a power cut at every flash operation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from firmware import records
from firmware.hal import CAUSE_HARD_RESET, CAUSE_POWER_ON, CAUSE_WATCHDOG
from firmware.outbox import EVENTS, Outbox
from firmware.steady import steady
from firmware.trials import FAILED_MAX, Trials
from hil_tests.world.cutflash import BLOCK_BYTES, VARIANTS, CutFlash, PowerCut
from hil_tests.world.flash import LittleFs
from protocols.wire import cbor
from protocols.wire.messages import CLEARED, RAISED

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKS = 16
SEED = 31


class Chip:
    """A flash that loses power in one operation, and what a start finds on it."""

    def __init__(self, image: bytes, cut_at: int = -1, variant: int = 0) -> None:
        self.flash = CutFlash(bytearray(image), seed=SEED)
        self.flash.cut_at = cut_at
        self.flash.variant = variant
        self.cause = CAUSE_POWER_ON
        self.alive = True

    def start(self, life: Callable[[Trials, Any], None]) -> None:
        """One life, from the start that `cause` says to a reset."""
        steady(self.flash)
        fs = LittleFs(self.flash)
        hal = SimpleNamespace(state_fs=fs, reset_cause=self.cause, log=lambda text: None)
        trials = Trials(hal)  # type: ignore[arg-type]
        outbox = Outbox(fs, "/outbox", 4 * BLOCK_BYTES)
        node = SimpleNamespace(
            outbox=outbox, record_time=lambda: (0, 3), uplink=SimpleNamespace(hurry=lambda: None)
        )
        trials.recover(outbox)
        life(trials, node)
        self.cause = CAUSE_HARD_RESET


def fails(trials: Trials, node: Any) -> None:
    trials.started(node)
    trials.failed_again()


def is_good(trials: Trials, node: Any) -> None:
    trials.started(node)
    if not trials.is_safe:
        trials.succeeded(node)


def is_asked_to_reboot(trials: Trials, node: Any) -> None:
    trials.started(node)
    trials.try_again()


STORY = (fails, fails, fails, is_asked_to_reboot, fails, is_asked_to_reboot, is_good, is_good)


def fresh() -> bytes:
    flash = CutFlash(bytearray(b"\xff" * (BLOCKS * BLOCK_BYTES)), seed=SEED)
    LittleFs.mkfs(flash)
    chip = Chip(bytes(flash.image))
    chip.start(is_good)
    return bytes(chip.flash.image)


def tell(chip: Chip) -> None:
    """The story, and after a power cut what is left of it."""
    for life in STORY:
        try:
            chip.start(life)
        except PowerCut:
            chip.flash.dead = False
            chip.flash.cut_at = -1
            chip.cause = CAUSE_POWER_ON
            chip.start(life)


def told(chip: Chip) -> list[int]:
    """The states of the events that are kept, in order."""
    outbox = Outbox(LittleFs(chip.flash), "/outbox", 4 * BLOCK_BYTES)
    states = []
    seq = 0
    while (record := outbox.next_unacked(EVENTS, seq)) is not None:
        assert record.kind == records.EVENT
        states.append(cbor.loads(record.payload)[3])
        seq = record.seq
    return states


def test_safe_mode_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    chip = Chip(fresh())
    tell(chip)
    assert told(chip) == [RAISED, CLEARED]


def sweep(share: int) -> tuple[int, int]:
    """Every share-th cut; (cuts, operations)."""
    image = fresh()
    whole = Chip(image)
    tell(whole)
    cuts = 0
    for cut in range(whole.flash.ops):
        for variant in range(len(VARIANTS)):
            if (cut * len(VARIANTS) + variant) % share:
                continue
            chip = Chip(image, cut, variant)
            tell(chip)
            chip.start(is_good)
            where = f"cut {cut} as {VARIANTS[variant]}, seed {SEED}"
            # A cut may spare the node its safe mode, or bring it back once; but begin and end alternate.
            states = told(chip)
            assert states in ([], [RAISED, CLEARED], [RAISED, CLEARED] * 2), f"{where}: {states}"
            chip.start(lambda trials, node: None)
            chip.start(
                lambda trials, node, where=where: (
                    pytest.fail(where)  # type: ignore[misc]
                    if trials.failed
                    else None
                )
            )
            cuts += 1
    return cuts, whole.flash.ops


def test_a_power_cut_anywhere_repeats_no_event_and_leaves_no_failure_behind() -> None:
    cuts, operations = sweep(share=3)
    print(f"cuts={cuts} operations={operations} seed={SEED}")
    assert cuts > 50


@pytest.mark.soak
def test_a_power_cut_at_every_operation_repeats_no_event_and_leaves_no_failure_behind() -> None:
    cuts, operations = sweep(share=1)
    print(f"cuts={cuts} operations={operations} seed={SEED}")
    assert cuts == operations * len(VARIANTS)


def test_a_watchdog_reset_counts_and_a_power_cut_does_not() -> None:
    chip = Chip(fresh())
    counts = []
    for cause in (CAUSE_WATCHDOG, CAUSE_POWER_ON, CAUSE_WATCHDOG, CAUSE_HARD_RESET, CAUSE_WATCHDOG):
        chip.cause = cause
        chip.start(lambda trials, node: counts.append(trials.failed))
    assert counts == [1, 1, 2, 2, FAILED_MAX]
    chip.cause = CAUSE_POWER_ON
    chip.start(lambda trials, node: counts.append(trials.failed))
    assert counts[-1] == FAILED_MAX - 1, "somebody switched it off and on: one try"


def test_a_flash_that_takes_nothing_does_not_keep_a_node_from_counting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chip = Chip(fresh())
    monkeypatch.setattr("firmware.durable.write_file", lambda *_: (_ for _ in ()).throw(OSError(5)))
    counts = []

    def life(trials: Trials, node: Any) -> None:
        trials.failed_again()
        counts.append(trials.failed)

    chip.start(life)
    assert counts == [1]
