"""A test that runs a whole command sets up the logging of its process; the next one begins without that."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway import log


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What `gateway.log.setup` changes ends with the test: the output of a command that was run in it is closed."""
    root = logging.getLogger()
    level = root.level
    yield
    if structlog.is_configured() or any(isinstance(one, log.Forward) for one in root.handlers):
        root.handlers[:] = [one for one in root.handlers if not isinstance(one, log.Forward)]
        root.setLevel(level)
        structlog.reset_defaults()
