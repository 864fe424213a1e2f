"""Bytes and meaning: no I/O, no clock, no randomness; they are passed in."""
