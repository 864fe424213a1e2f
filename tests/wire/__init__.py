"""Tests of protocols.wire."""
