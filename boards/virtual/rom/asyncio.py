# mypy: ignore-errors
"""Refused: the unix port's task queue is written in C and reads the host's ticks, not this board's."""

raise ImportError("asyncio of the unix port keeps its own time and can not run on the virtual board")
