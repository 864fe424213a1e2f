"""`pytest hil_tests --rig=unix|sim`: which world the scenarios run in. Several may be named: `--rig=unix,sim`."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import log
from hil_tests.system import System

RIGS = ("unix", "sim")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rig",
        default="unix",
        help="unix: real MicroPython, real daemon, real Mosquitto (default). sim: one process on a virtual clock.",
    )
    parser.addoption("--seed", type=int, default=1, help="seed of everything random in the simulated street")


def _rigs(config: pytest.Config) -> list[str]:
    named = [name.strip() for name in str(config.getoption("--rig")).split(",")]
    for name in named:
        if name not in RIGS:
            raise pytest.UsageError(
                f"--rig={name}: there is no such rig. Allowed: {', '.join(RIGS)}, or several with commas."
            )
    return named


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "system" in metafunc.fixturenames:
        marks = {"unix": pytest.mark.xdist_group("real_time")}
        rigs = [pytest.param(name, marks=marks.get(name, ())) for name in _rigs(metafunc.config)]
        metafunc.parametrize("system", rigs, indirect=True)


@pytest.fixture
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """A whole Tidegate on the rig of this run, with two river stations that sample every second."""
    seed = int(request.config.getoption("--seed"))
    if request.param == "unix":
        from hil_tests.unix_rig import UnixRig

        rig: UnixRig | SimRig = UnixRig(tmp_path, seed=seed)
    else:
        from hil_tests.sim_rig import SimRig

        rig = SimRig(tmp_path, seed=seed)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What `gateway.log.setup` changes ends with the test: the output of a command run in it is closed by then."""
    root = logging.getLogger()
    level = root.level
    yield
    if structlog.is_configured() or any(isinstance(one, log.Forward) for one in root.handlers):
        root.handlers[:] = [one for one in root.handlers if not isinstance(one, log.Forward)]
        root.setLevel(level)
        structlog.reset_defaults()


@pytest.fixture
def base_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run; the nth run of a sweep takes the nth after it."""
    return int(request.config.getoption("--seed"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure in the simulated world says how to see it again, to the byte."""
    report = yield
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    if report.failed and (params.get("system") == "sim" or "nth" in params):
        seed = int(item.config.getoption("--seed")) + int(params.get("nth", 0))
        name = item.name.partition("[")[0]
        which = f"{name}[0]" if "nth" in params else name
        soak = " -m soak" if item.get_closest_marker("soak") else ""
        report.sections.append(
            ("to replay", f"pytest hil_tests --rig=sim --seed {seed}{soak} -k '{which}'  # seed {seed}")
        )
    return report
