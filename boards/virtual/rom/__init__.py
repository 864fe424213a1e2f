"""What a chip's port of MicroPython has built in, for the unix port. Runs inside the node, never on the host."""
