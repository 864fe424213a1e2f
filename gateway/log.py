"""Structured logs: one event name and its facts per line, JSON for machines, columns for a person at a
terminal.

What stands in a log ends up in mails and screenshots, so values whose name sounds like a secret are cut
here, whoever logs them; bytes are shown as their length only. Texts from outside (console lines of nodes,
brokers' reasons) lose their control characters, so that nothing a node says can move the cursor of
whoever reads along.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

# structlog draws rich in for coloured tracebacks, which cost a daemon 4 MB and 40 ms and suit no journal.
# Without it, structlog does what is wanted here; `rich` itself stays importable for whoever prints tables.
_had_rich = "rich" in sys.modules
if not _had_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]  # this is how an import is refused
import structlog  # noqa: E402

if not _had_rich:
    del sys.modules["rich"]

Logger = structlog.typing.FilteringBoundLogger

SECRET_WORDS = ("secret", "salt", "password", "master_key", "token", "credential", "private")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# sd-daemon(3), of the levels that structlog names.
PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
# A longer text says nothing more to a person, and a flood must not fill the journal with it.
TEXT_CHARS_MAX = 500


def setup(level: str = "info", style: str = "auto", stream: TextIO | None = None) -> Logger:
    """Configure logging for this process and return its root logger. `style` is auto, json or console."""
    out = stream or sys.stderr
    console = style == "console" or (style == "auto" and out.isatty())
    processors: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        sanitise,
        structlog.processors.format_exc_info,
    ]
    if console:
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
        processors.remove(structlog.processors.format_exc_info)
    else:
        processors.append(structlog.processors.JSONRenderer(ensure_ascii=False))
        if out is sys.stderr and "JOURNAL_STREAM" in os.environ:
            processors[-1] = _prioritised(structlog.processors.JSONRenderer(ensure_ascii=False))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [Forward()]
    root.setLevel(LEVELS[level])
    return get()


def _prioritised(render: Callable[..., Any]) -> Callable[..., str]:
    """Lines as sd-daemon(3) wants them, so that `journalctl -p warning` finds what its name says."""

    def rendered(logger: object, method: str, facts: MutableMapping[str, Any]) -> str:
        return f"<{PRIORITIES.get(str(facts.get('level')), 6)}>{render(logger, method, facts)}"

    return rendered


class Forward(logging.Handler):
    """Lines of libraries that use the standard logging, in the same shape as ours."""

    def emit(self, record: logging.LogRecord) -> None:
        get(source=record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def get(**facts: Any) -> Logger:
    """A logger that adds `facts` to every line."""
    logger: Logger = structlog.get_logger(**facts)
    return logger


def sanitise(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop secrets, shorten texts, and leave no control character in them."""
    for key, value in facts.items():
        if key in ("exc_info", "stack_info"):
            continue
        if any(word in key for word in SECRET_WORDS):
            facts[key] = "(hidden)"
        elif isinstance(value, (bytes, bytearray, memoryview)):
            facts[key] = f"({len(value)} bytes)"
        elif isinstance(value, str):
            facts[key] = printable(value)
    return facts


def printable(text: str) -> str:
    """`text` with control characters shown as escapes, cut at TEXT_CHARS_MAX."""
    cut = text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
