"""Modules that only a board with a time_scale has."""
