"""A pass: the word that calls to it, and the envelope of what goes to everybody who came."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire import group_checks, interpreters


@pytest.mark.parametrize("check", group_checks.CHECKS)
def test_here(check: Callable[[], None]) -> None:
    check()


def test_on_micropython() -> None:
    assert interpreters.micropython("tests/wire/group_checks.py") == f"checks={len(group_checks.CHECKS)}\n"
