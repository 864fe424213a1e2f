"""Chips and probes that can be wired to a virtual board. They live in the supervisor, outside the node's heap."""
