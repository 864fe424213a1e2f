"""What every test shares: how hypothesis runs, and what a skip means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from hil_tests.conftest import own_logging

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["own_logging"]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# Derandomized: the same commit gives the same examples, so that ten runs in a row agree. No deadline: the
# time an example takes on two busy cores says nothing about the code.
settings.register_profile(
    "tidegate",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tidegate")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: what was to be proved there was not.

    A test whose subject can not exist in CI says so with `@pytest.mark.may_skip_in_ci("why")`.
    """
    report = yield
    excused = item.get_closest_marker("may_skip_in_ci") is not None or hasattr(report, "wasxfail")
    return report if excused else _fail_when_skipped_in_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself while it is imported."""
    return _fail_when_skipped_in_ci((yield))


def _fail_when_skipped_in_ci(report: Report) -> Report:
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where it must run: {report.longrepr}"
    return report
