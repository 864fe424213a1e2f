"""A node gets another key: the site goes on without a gap in its ids, and what holds the old key is a stranger."""

from __future__ import annotations

from pathlib import Path

import pytest

from flash_tools.mint import MINT_FILE, Minted, mint
from gateway import node_file
from gateway.errors import RegistryError
from gateway.registry import By
from hil_tests.sim_rig import SimRig, identity_on
from hil_tests.world.river import River
from hil_tests.world.sim_node import SimNode

BY = By("rig", "its key was on a lost laptop")


def minted_again(rig: SimRig, folder: Path) -> Minted:
    """The same address on the bench, with another key."""
    return mint(
        out=folder, address=int(rig.nodes[0], 16), node_type="river", area="330110001001", site="bridge-1",
        settings=rig.settings,
        random=rig.random("mint again").randbytes,
    )  # fmt: skip


def taken_in(rig: SimRig, folder: Path, *, replace: bool) -> None:
    lines = node_file.parse((folder / MINT_FILE).read_text(encoding="utf-8"), MINT_FILE)
    rig.ask(lambda gateway: gateway.registry.import_nodes(lines, BY, replace=replace))


def refused(rig: SimRig) -> int:
    return sum(rig.alive.ingest.refused.values())


def test_a_node_with_a_new_key_goes_on_and_its_old_key_is_worth_nothing(tmp_path: Path) -> None:
    with SimRig(tmp_path / "rig", stations=1) as rig:
        name = rig.nodes[0]
        rig.wait_until(lambda: len(rig.judge.records) >= 5, 60, "five records")
        before = rig.settle()
        before.balance()
        old_epochs = {epoch for _, epoch, _ in before.delivered}
        old = rig.stations[name]
        old.power_off()

        # On the bench: minted, flashed, imported in place of what the registry has.
        again = minted_again(rig, tmp_path / "bench")
        image = again.state_image.read_bytes()
        taken_in(rig, tmp_path / "bench", replace=True)
        station = SimNode(
            identity_on(image),
            image,
            rig.world,
            rig.lines[name],
            River(rig.seed).quantities,
            f"{rig.seed} again",
        )
        rig.stations[name] = station
        station.power_on()
        rig.wait_until(
            lambda: len(rig.judge.records) >= len(before.delivered) + 5, 120, "records under the new key"
        )
        assert not old_epochs & {epoch for _, epoch, seq in set(rig.judge.records) - before.delivered}
        assert {record["site"] for record in rig.judge.records.values()} == {"bridge-1"}

        # The old flash turns up again, on the same line: everything it says is refused, and nothing of it is kept.
        station.power_off()
        counted, taken = len(rig.judge.records), refused(rig)
        old.power_on()
        rig.run_s(60)
        assert len(rig.judge.records) == counted
        assert refused(rig) > taken
        old.power_off()

        station.power_on()
        rig.wait_until(lambda: len(rig.judge.records) > counted, 120, "records after the stranger has gone")
        books = rig.settle()
        assert not books.problems
        assert not {record for record in books.missing if record[1] not in old_epochs}


def test_another_key_for_an_address_is_not_taken_in_by_accident(tmp_path: Path) -> None:
    with SimRig(tmp_path / "rig", stations=1) as rig:
        rig.wait_until(lambda: len(rig.judge.records) >= 2, 60, "two records")
        minted_again(rig, tmp_path / "bench")
        with pytest.raises(RegistryError, match="--replace"):
            taken_in(rig, tmp_path / "bench", replace=False)
        count = len(rig.judge.records)
        rig.wait_until(lambda: len(rig.judge.records) > count, 60, "records under the key that there was")
